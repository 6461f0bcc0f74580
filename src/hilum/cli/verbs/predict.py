"""Verb `predict`."""

from __future__ import annotations

from hilum.cli._app import PIPELINE, Json, Quick, Source, To, perform

GROUP, ORDER = PIPELINE, 90
SHARDED = True
SHORT_HELP = "Score the tune and test parts"
EXAMPLE = "Example: hilum predict data/chest --out runs/chest"


def verb(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Score the tune and test parts. Needs no PyTorch."""
    perform(source, to, quick, "predict", as_json)
