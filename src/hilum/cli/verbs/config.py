"""Verb `config`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import PIPELINE, Json

GROUP, ORDER = PIPELINE, 120
SHORT_HELP = "List or write the settings of a recipe"
EXAMPLE = "Examples: hilum config; hilum config --init > recipe.toml"


def verb(
    init: Annotated[
        bool, typer.Option("--init", help="Print a complete recipe with every default, to edit.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List every key of a recipe with its default and meaning, or print a complete recipe.

    The settings of models are listed with `--init`, those of the default models.
    """
    from dataclasses import asdict

    from hilum.config import default_recipe_toml, describe_settings

    settings = describe_settings()
    if init:
        typer.echo(default_recipe_toml().encode(), nl=False)  # TOML is UTF-8 on any terminal
    elif as_json:
        console.echo(json.dumps([asdict(one) for one in settings], indent=1))
    else:
        lines = (
            f"[{one.section}] {one.key} = {one.toml_default}  # {one.meaning}" for one in settings
        )
        console.echo("\n".join(lines))
