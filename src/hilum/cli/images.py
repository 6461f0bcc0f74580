"""Single pictures, without a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import IMAGES_HELP, Images, Json, app


@app.command(
    epilog="Examples: hilum show image.dcm --to picture.png; "
    "hilum show data/chest 'more/*.dcm' --to shown"
)
def show(
    images: Images,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help="A folder for the drawn images and the table show.csv, else shown; "
            "for one image also a PNG.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell what image files say and what is applied to their values, and draw them: bright is
    dense.
    """
    from hilum.imaging import describe as step

    shown, faults = step.describe_images(images, to, watch=console.watch, say=console.say)
    console.summarised(json.dumps(shown, indent=1) if as_json else step.lines(shown), faults)


@app.command(
    epilog="Examples: hilum lungs image.png --to out; "
    "hilum lungs data/chest 'more/*.dcm' --to out --json"
)
def lungs(
    images: Images,
    to: Annotated[
        Path,
        typer.Option("--to", help="Where masks, overlays and the table lungs.csv are written."),
    ] = Path("lungs"),
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            help="A lung model of your own; else the one that comes with Hilum.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the lungs in pictures: masks in the file's own pixels, overlays, and a table of areas,
    widths and quality. Needs no PyTorch.
    """
    from hilum.inference import segment_images as step

    rows, faults = step.segment_images(
        images, to, model=model, watch=console.watch, say=console.say
    )
    console.summarised(json.dumps(rows, indent=1) if as_json else step.lines(rows, to), faults)


@app.command(
    epilog="Examples: hilum read image.dcm --to out; hilum read data/chest 'more/*.png' --json; "
    "hilum read"
)
def read(
    images: Annotated[
        list[str] | None,
        typer.Argument(help=f"{IMAGES_HELP} None: tell of the models.", show_default=False),
    ] = None,
    to: Annotated[
        Path, typer.Option("--to", help="Where overlays and the table read.csv are written.")
    ] = Path("read"),
    as_json: Json = False,
) -> None:
    """Say what the models that come with Hilum see in pictures: findings, calibrated and warned
    about; refuses what they were not made for.
    """
    from hilum.inference import classify_images as step
    from hilum.inference import pretrained

    if not images:
        models = pretrained.pretrained_models()
        console.echo(
            json.dumps(step.cards(models), indent=1) if as_json else step.card_lines(models)
        )
        return
    found, faults = step.classify_images(images, to, watch=console.watch, say=console.say)
    console.summarised(
        json.dumps([one.as_dict() for one in found], indent=1)
        if as_json
        else step.lines(found, to),
        faults,
    )
