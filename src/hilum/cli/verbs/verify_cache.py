"""Verb `verify-cache`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import RUNS, Json

GROUP, ORDER = RUNS, 10
SHORT_HELP = "Check that cached images are intact"
EXAMPLE = "Example: hilum verify-cache runs/chest --files"


def verb(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="The run to check.", show_default=False)
    ],
    files: Annotated[bool, typer.Option("--files", help="Check the image files too.")] = False,
    as_json: Json = False,
) -> None:
    """Check that the cached images are still what was written."""
    from hilum.pipeline import cache as step
    from hilum.run_folder import Run

    images, wrong = step.verify(Run(folder), files=files)
    if as_json:
        found = [{"image_id": image_id, "what": what} for image_id, what in wrong]
        console.echo(json.dumps({"images": images, "wrong": found}, indent=1))
    else:
        console.echo(
            "\n".join(
                [
                    *(f"{image_id}: {what}" for image_id, what in wrong),
                    f"{images} images checked, {len(wrong)} do not fit",
                ]
            )
        )
    if wrong:
        console.echo(f"hilum: `hilum cache {folder}` reads these files again", err=True)
        raise typer.Exit(1)
