"""Verb `segment`."""

from __future__ import annotations

from hilum.cli._app import PIPELINE, Json, Quick, Source, To, perform

GROUP, ORDER = PIPELINE, 60
SHARDED = True
SHORT_HELP = "Train a lung segmenter and find the lungs"
EXAMPLE = "Example: hilum segment data/chest --out runs/chest"


def verb(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Train the lung segmenter and find the lungs of every image, out of fold in the training
    part.
    """
    perform(source, to, quick, "segment", as_json)
