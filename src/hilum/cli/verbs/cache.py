"""Verb `cache`."""

from __future__ import annotations

from hilum.cli._app import PIPELINE, Json, Quick, Source, To, perform

GROUP, ORDER = PIPELINE, 30
SHARDED = True
SHORT_HELP = "Decode every image once"
EXAMPLE = "Example: hilum cache data/chest --out runs/chest"


def verb(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Decode every image once, and note what its file states."""
    perform(source, to, quick, "cache", as_json)
