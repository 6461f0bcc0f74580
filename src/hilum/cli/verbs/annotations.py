"""Verb `annotations`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import DATA, Json

GROUP, ORDER = DATA, 55
SHORT_HELP = "Log, exchange and verify corrections"
EXAMPLE = (
    "Examples: hilum annotations log runs/chest; hilum annotations export runs/chest masks.json; "
    "hilum annotations import masks.json runs/chest --author Ann"
)


class Action(StrEnum):
    """What to do with the corrections of a run."""

    log = "log"
    export = "export"
    take_in = "import"
    diff = "diff"
    verify = "verify"


def verb(
    action: Annotated[
        Action,
        typer.Argument(
            help="log RUN: every revision. export RUN FILE: what stands, as corrections (.toml), "
            "masks of COCO (.json) or a folder of masks (PNG). import FILE RUN: such a file, or "
            "another run's corrections. diff RUN OTHER: where two runs' corrections differ. "
            "verify RUN: whether the journal and its masks are whole.",
            show_default=False,
        ),
    ],
    first: Annotated[Path, typer.Argument(help="A run, or what to import.", show_default=False)],
    second: Annotated[
        Path | None,
        typer.Argument(help="Where to, or the other run.", show_default=False),
    ] = None,
    author: Annotated[
        str | None,
        typer.Option("--author", help="Whose corrections a file without names holds."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let what is imported stand where both differ.")
    ] = False,
    until: Annotated[
        int | None, typer.Option("--until", help="Up to this revision; of diff, of the first run.")
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="In the log, this image alone.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show, hand on, take in, compare or check the corrections that readers made with
    `hilum serve`.
    """
    from hilum.runs import exchange_annotations as step

    if second is None and action in (Action.export, Action.take_in):
        raise typer.BadParameter(f"`annotations {action.value}` needs a second place")
    if action is Action.log:
        table = step.log(first, image, until)
        console.echo(json.dumps(table.to_dicts(), indent=1) if as_json else console.columns(table))
    elif action is Action.diff:
        table = step.diff(first, second or first, until)
        shown = console.columns(table) if table.height else "no difference"
        console.echo(json.dumps(table.to_dicts(), indent=1) if as_json else shown)
    else:
        if action is Action.verify:
            summary = step.verify(first)
        elif action is Action.export:
            summary = step.export(first, second or first, until)
        else:
            summary = step.take_in(first, second or first, author, replacing=replace)
        console.echo(json.dumps(summary, indent=1) if as_json else console.line(summary))
