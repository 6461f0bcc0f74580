"""Runs that are judged: looked at again, and beside one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum import printed
from hilum.cli._app import Json, Quick, app, performed


@app.command(epilog="Example: hilum matrix shenzhen.toml montgomery.toml runs/chest --to runs/matrix")
def matrix(
    sources: Annotated[list[Path], typer.Argument(help="Two recipes, folders of radiographs or runs, or more; what is not finished is done.", show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="Where the table, the page and the scores are written.")] = Path("runs/matrix"),
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Measure every run's models on every run's pictures, with the threshold carried over and chosen again."""
    from hilum.steps import between
    from hilum.steps import matrix as step

    places = between.places(sources, None)
    members = [
        step.Member(name, performed(source, place, quick, step.UNTIL, as_json)[1]) for source, (name, place) in zip(sources, places, strict=True)
    ]
    table = step.matrix(members, to, printed.watch)
    typer.echo(json.dumps(step.plain(table), indent=1) if as_json else f"\n{printed.columns(step.shown(table))}\n\npage: {(to / step.PAGE).resolve()}")
