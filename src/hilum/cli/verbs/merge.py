"""Verb `merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli._app import DATA, Json, Quick, chain_of, print_steps, written_to
from hilum.safety.path_names import as_text

GROUP, ORDER = DATA, 30
SHORT_HELP = "Join several data sets in one table"
EXAMPLE = "Example: hilum merge data/montgomery data/shenzhen --out runs/both"


def verb(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of radiographs, in any order.", show_default=False)
    ],
    to: Annotated[Path, written_to("The run's folder; `hilum run` on it goes on from there.")],
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Write one table of several data sets, with aligned labels; patients keep the name of their
    data set.
    """
    from hilum.config import Data, Recipe
    from hilum.run_folder import Run

    folder, *also = (as_text(path.resolve()) for path in folders)
    recipe = Recipe(data=Data(folder=folder, also=tuple(also)))
    steps = chain_of(recipe.quick() if quick else recipe, Run(to), "ingest", as_json)
    if as_json:
        print_steps(Run(to), steps)
