"""Verb `report`."""

from __future__ import annotations

from hilum.cli._app import (
    PIPELINE,
    FileNames,
    Json,
    KeepIdentifiers,
    Quick,
    Readings,
    Source,
    To,
    perform,
    sharing,
)

GROUP, ORDER = PIPELINE, 110
SHORT_HELP = "Write the report, one HTML file"
EXAMPLE = "Example: hilum report data/chest --out runs/chest"


def verb(
    source: Source,
    to: To = None,
    quick: Quick = False,
    keep_identifiers: KeepIdentifiers = None,
    file_names: FileNames = None,
    readings: Readings = None,
    as_json: Json = False,
) -> None:
    """Write the report, one HTML file that needs nothing else."""
    share = sharing(keep_identifiers, file_names, readings)
    perform(source, to, quick, "report", as_json, share=share)
