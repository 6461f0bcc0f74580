"""Verbs of single images."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import IMAGES, Images, Json, app


class LungProtocol(StrEnum):
    """The values of --protocol, see `hilum.annotations.lung_masks`."""

    AIR = "air"
    FULL = "full"


@app.command(
    short_help="Show what image files contain",
    rich_help_panel=IMAGES,
    epilog="Examples: hilum inspect image.dcm --out image.png; "
    "hilum inspect data/chest 'more/*.dcm' --out shown",
)
def inspect(
    images: Images,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A folder for the drawn images and the table inspect.csv, else shown; "
            "for one image also a PNG.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what image files state, what is applied to their values, and the image itself."""
    from hilum.imaging import describe as step

    shown, faults = step.describe_images(images, to, watch=console.watch, say=console.say)
    console.summarised(json.dumps(shown, indent=1) if as_json else step.lines(shown), faults)


@app.command(
    short_help="Segment the lungs in images",
    rich_help_panel=IMAGES,
    epilog="Examples: hilum lungs image.png --out out; "
    "hilum lungs data/chest 'more/*.dcm' --out out --json",
)
def lungs(
    images: Images,
    to: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Where masks, overlays and the table lungs.csv are written."
        ),
    ] = Path("lungs"),
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            help="A lung model of your own, or lungs_ccby: the bundled one that was trained "
            "without non-commercial masks.",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        LungProtocol,
        typer.Option(
            "--protocol",
            help="What counts as lung. air: what is seen as air; full: also the lung behind the "
            "heart and the diaphragm.",
        ),
    ] = LungProtocol.AIR,
    as_json: Json = False,
) -> None:
    """Segment the lungs: masks in the file's own pixels, overlays, and a table with areas and the
    estimated quality of the masks. Needs no PyTorch.
    """
    from hilum.inference import segment_images as step

    rows, faults = step.segment_images(
        images,
        to,
        model=model,
        protocol=protocol.value,
        watch=console.watch,
        say=console.say,
    )
    console.summarised(json.dumps(rows, indent=1) if as_json else step.lines(rows, to), faults)


@app.command(
    short_help="Classify images with pretrained models",
    rich_help_panel=IMAGES,
    epilog="Examples: hilum classify image.dcm --out out; hilum classify data/chest 'more/*.png'",
)
def classify(
    images: Images,
    to: Annotated[
        Path,
        typer.Option("--out", "-o", help="Where overlays and the table classify.csv are written."),
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


@app.command(
    short_help="Show the cards of the pretrained models",
    rich_help_panel=IMAGES,
    epilog="Example: hilum models --json",
)
def models(as_json: Json = False) -> None:
    """Show the cards of the pretrained models."""
    from hilum.inference import classify_images as step
    from hilum.inference import pretrained

    found, lungs = pretrained.pretrained_models(), pretrained.lung_cards()
    console.echo(
        json.dumps([*step.cards(found), *lungs], indent=1)
        if as_json
        else "\n\n".join([step.card_lines(found), *map(step.card_text, lungs)])
    )
