"""Verbs of single images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import IMAGES, Images, Json, app


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
            help="A lung model of your own; else the one that comes with Hilum.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Segment the lungs: masks in the file's own pixels, overlays, and a table with areas and the
    estimated quality of the masks. Needs no PyTorch.
    """
    from hilum.inference import segment_images as step

    rows, faults = step.segment_images(
        images, to, model=model, watch=console.watch, say=console.say
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
    scores: Annotated[
        bool,
        typer.Option(
            "--scores",
            help="Give the scores too, also where there is no call; they are no probabilities "
            "there.",
        ),
    ] = False,
    site: Annotated[
        Path | None,
        typer.Option(
            "--site",
            help="A file of `hilum calibrate`: its model alone is applied, at the threshold and "
            "within the domain of that site.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Classify images with the pretrained models: findings called present or absent, or no call
    with the reason, where a model cannot know; refuses what the models were not made for.
    """
    from hilum.inference import classify_images as step
    from hilum.inference.site import Site

    of_site = Site.read(site) if site else None
    found, faults = step.classify_images(
        images,
        to,
        scores=scores,
        site=of_site,
        watch=console.watch,
        say=console.say,
    )
    console.summarised(
        json.dumps([one.reported(scores=scores) for one in found], indent=1)
        if as_json
        else step.lines(
            found, to, scores=scores, notes=list(of_site.drift(found)) if of_site else ()
        ),
        faults,
    )


@app.command(
    short_help="Calibrate a pretrained model for a site",
    rich_help_panel=IMAGES,
    epilog="Example: hilum calibrate tuberculosis data/our-hospital -o site.json; "
    "hilum classify new/*.dcm --site site.json",
)
def calibrate(
    model: Annotated[
        str,
        typer.Argument(
            help="Name of a pretrained model (`hilum models`), or a model file.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            help="The site's own images, 30 to 200; labelled, where a threshold is wanted.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path, typer.Option("--out", "-o", help="The file to write, for `hilum classify --site`.")
    ] = Path("site.json"),
    max_false_positives: Annotated[
        float,
        typer.Option(
            "--max-false-positives",
            help="The largest fraction of the images without the finding to call present.",
        ),
    ] = 0.1,
    confidence: Annotated[
        float, typer.Option("--confidence", help="With which that is promised.")
    ] = 0.95,
    as_json: Json = False,
) -> None:
    """Choose a threshold that keeps a promised false positive rate at one site, from some of its
    labelled images, and describe what its images are like. Refuses where there are too few.
    """
    from hilum.runs import calibrate_site as step

    made = step.calibrate_site(
        model,
        folder,
        max_false_positives=max_false_positives,
        confidence=confidence,
        watch=console.watch,
    )
    made.site.write(to)
    if as_json:
        console.echo(json.dumps({"site": str(to), "notes": made.notes}, indent=1))
    else:
        console.echo("\n".join([*made.notes, f"written: {to.resolve()}"]))


@app.command(
    short_help="Show the cards of the pretrained models",
    rich_help_panel=IMAGES,
    epilog="Example: hilum models --json",
)
def models(as_json: Json = False) -> None:
    """Show the cards of the pretrained models."""
    from hilum.inference import model_cards as step
    from hilum.inference import pretrained

    found = pretrained.pretrained_models()
    console.echo(json.dumps(step.cards(found), indent=1) if as_json else step.card_lines(found))
