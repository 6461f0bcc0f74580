"""Verb `synthesize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import DATA

GROUP, ORDER = DATA, 70
SHARDED = True
SHORT_HELP = "Write a made-up copy of a data set"
EXAMPLE = "Example: hilum synthesize kaggle_masks demo/data --images 120 --seed 1"


def verb(
    dataset: Annotated[
        str, typer.Argument(help="A data set's name, see `hilum datasets`.", show_default=False)
    ],
    folder: Annotated[
        Path,
        typer.Argument(help="Where to write it; must be empty or not there.", show_default=False),
    ],
    images: Annotated[int, typer.Option("--images", min=4, help="How many images.")] = 24,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="The same seed gives the same files.")
    ] = 0,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=64,
            help="Longer side of an image in pixels.",
            show_default="the set's own",
        ),
    ] = None,
) -> None:
    """Write a made-up copy of a data set's layout: invented images, exact masks, reports."""
    from hilum.pipeline import ingest as step

    step.example(dataset, folder, images=images, seed=seed, size=size)
    console.echo(f"{images} made-up images in the layout of {dataset}: {folder}")
