"""What the verbs of finished runs share: the run's argument, and the doing of an optional step."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli import console

if TYPE_CHECKING:
    from hilum.run_folder import Run

Judged = Annotated[Path, typer.Argument(help="The folder of a finished run.", show_default=False)]


def judged_with(folder: Path, name: str, step: ModuleType) -> Run:
    """Return the run with the optional step done, at once where it was done already."""
    from hilum.run_folder import Run

    judged = Run(folder)
    recipe = judged.recipe()
    with judged.locked():
        made_from = step.made_from(judged, recipe)
        if judged.done(name) and (damage := judged.damage(name)):
            typer.secho(f"note: {damage}; it is done again", fg="yellow", err=True)
        if not judged.finished(name, made_from):
            with console.watch(name) as progress:
                made, summary = step.make(judged, recipe, progress)
            judged.finish(name, made_from, made, summary)
    return judged
