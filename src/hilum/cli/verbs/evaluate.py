"""Verb `evaluate`."""

from __future__ import annotations

from hilum.cli._app import PIPELINE, Json, Quick, Source, To, perform

GROUP, ORDER = PIPELINE, 100
SHORT_HELP = "Compute metrics with their intervals"
EXAMPLE = "Example: hilum evaluate data/chest --out runs/chest"


def verb(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Compute the metrics with their intervals, after proving that no stage was trained on a test
    image.
    """
    perform(source, to, quick, "evaluate", as_json)
