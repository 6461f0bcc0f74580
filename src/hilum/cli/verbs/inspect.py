"""Verb `inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from hilum.cli import console
from hilum.cli._app import IMAGES, Images, Json, written_to

GROUP, ORDER = IMAGES, 20
SHARDED = True
SHORT_HELP = "Show what image files contain"
EXAMPLE = (
    "Examples: hilum inspect image.dcm --out image.png; "
    "hilum inspect data/chest 'more/*.dcm' --out shown"
)


def verb(
    images: Images,
    to: Annotated[
        Path | None,
        written_to(
            "A folder for the images as PNG and the table inspect.csv; for one image also a PNG. "
            "[default: shown]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what image files state, what is applied to their values, and the image itself."""
    from hilum.imaging import describe as step

    shown, faults = step.describe_images(images, to, watch=console.watch, say=console.say)
    console.summarised(json.dumps(shown, indent=1) if as_json else step.lines(shown), faults)
