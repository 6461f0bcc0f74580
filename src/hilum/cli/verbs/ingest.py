"""Verb `ingest`."""

from __future__ import annotations

from hilum.cli._app import PIPELINE, Json, Quick, Source, To, perform

GROUP, ORDER = PIPELINE, 20
SHARDED = True
SHORT_HELP = "Read a folder into a table"
EXAMPLE = "Example: hilum ingest data/chest --out runs/chest"


def verb(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Recognise the data set and write its table of images, patients and labels."""
    perform(source, to, quick, "ingest", as_json)
