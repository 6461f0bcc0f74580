"""Verb `run`."""

from __future__ import annotations

from hilum.cli import console
from hilum.cli._app import (
    PIPELINE,
    FileNames,
    Fixes,
    Json,
    KeepIdentifiers,
    Quick,
    Readings,
    Source,
    To,
    perform,
    sharing,
)

GROUP, ORDER = PIPELINE, 10
SHARDED = True
SHORT_HELP = "Do all steps, from a folder to a report"
EXAMPLE = "Example: hilum run data/chest --out runs/chest --quick"


def verb(
    source: Source,
    to: To = None,
    fixes: Fixes = None,
    quick: Quick = False,
    keep_identifiers: KeepIdentifiers = None,
    file_names: FileNames = None,
    readings: Readings = None,
    as_json: Json = False,
) -> None:
    """Do the whole job, from a folder to a report; go on where an earlier run stopped."""
    share = sharing(keep_identifiers, file_names, readings)
    folder = perform(source, to, quick, "report", as_json, fixes, share)
    if not as_json:
        console.echo(f"\nreport: {(folder / 'report.html').resolve()}")
