"""Verb `calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import IMAGES, Json, written_to

GROUP, ORDER = IMAGES, 45
SHORT_HELP = "Calibrate a pretrained model for a site"
EXAMPLE = (
    "Example: hilum calibrate tuberculosis data/our-hospital -o site.json; "
    "hilum classify new/*.dcm --site site.json"
)


def verb(
    model: Annotated[
        str,
        typer.Argument(
            help="Name of a pretrained model (`hilum models`), or the file of one; then give the "
            "file to `hilum classify --model` too. Not a run's own models.",
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
    to: Annotated[Path, written_to("The file to write, for `hilum classify --site`.")] = Path(
        "site.json"
    ),
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

    step.refuse_place(to, folder)
    site = step.calibrate_site(
        model,
        folder,
        max_false_positives=max_false_positives,
        confidence=confidence,
        watch=console.watch,
    )
    site.write(to)
    if as_json:
        console.echo(json.dumps({"site": str(to), "notes": site.notes}, indent=1))
    else:
        console.echo("\n".join([*site.notes, f"written: {to.resolve()}"]))
