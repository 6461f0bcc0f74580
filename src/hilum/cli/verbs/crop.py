"""Verb `crop`."""

from __future__ import annotations

from hilum.cli._app import PIPELINE, Json, Quick, Source, To, perform

GROUP, ORDER = PIPELINE, 70
SHARDED = True
SHORT_HELP = "Crop every image to its lungs"
EXAMPLE = "Example: hilum crop data/chest --out runs/chest"


def verb(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Crop every image to its lungs, or to one of them, as [crop] of the recipe says."""
    perform(source, to, quick, "crop", as_json)
