"""Verb `classify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from hilum.cli import console
from hilum.cli._app import IMAGES, Images, Json, written_to

GROUP, ORDER = IMAGES, 40
SHORT_HELP = "Classify images with pretrained models"
EXAMPLE = "Examples: hilum classify image.dcm --out out; hilum classify data/chest 'more/*.png'"


def verb(
    images: Images,
    to: Annotated[
        Path, written_to("Where overlays and the table classify.csv are written.")
    ] = Path("classify"),
    as_json: Json = False,
) -> None:
    """Classify images with the pretrained models: findings, calibrated and warned about; refuses
    what the models were not made for.
    """
    from hilum.inference import classify_images as step

    found, faults = step.classify_images(images, to, watch=console.watch, say=console.say)
    console.summarised(
        json.dumps([one.as_dict() for one in found], indent=1)
        if as_json
        else step.lines(found, to),
        faults,
    )
