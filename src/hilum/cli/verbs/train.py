"""Verb `train`."""

from __future__ import annotations

from hilum.cli._app import PIPELINE, Json, Quick, Source, To, perform

GROUP, ORDER = PIPELINE, 80
SHORT_HELP = "Train the classifier and anomaly model"
EXAMPLE = "Example: hilum train data/chest --out runs/chest"


def verb(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Train the classifier and the anomaly model on the crops of the training part."""
    perform(source, to, quick, "train", as_json)
