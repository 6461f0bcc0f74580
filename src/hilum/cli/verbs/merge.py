"""Verb `merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli._app import DATA, Json, Quick, chain_of, print_steps, written_to
from hilum.safety import addresses

GROUP, ORDER = DATA, 30
SHORT_HELP = "Join several data sets in one table"
EXAMPLE = "Example: hilum merge data/montgomery data/shenzhen --out runs/both"


def verb(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of radiographs or their addresses, in any order.",
            parser=addresses.located,
            metavar="FOLDERS",
            show_default=False,
        ),
    ],
    to: Annotated[Path, written_to("The run's folder; `hilum run` on it goes on from there.")],
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Write one table of several data sets, with aligned labels; patients keep the name of their
    data set.
    """
    from hilum.config import Recipe
    from hilum.run_folder import Run

    recipe = Recipe.of_folders(folders)
    steps = chain_of(recipe.quick() if quick else recipe, Run(to), "ingest", as_json)
    if as_json:
        print_steps(Run(to), steps)
