"""Verb `split`."""

from __future__ import annotations

from hilum.cli._app import PIPELINE, Json, Quick, Source, To, perform

GROUP, ORDER = PIPELINE, 50
SHORT_HELP = "Divide the patients into parts"
EXAMPLE = "Example: hilum split data/chest --out runs/chest"


def verb(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Divide the patients into train, tune (validation) and test, once for all stages."""
    perform(source, to, quick, "split", as_json)
