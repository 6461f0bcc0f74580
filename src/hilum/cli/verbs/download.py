"""Verb `download`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import DATA, Json, written_to

GROUP, ORDER = DATA, 90
SHORT_HELP = "Download a data set, or say how to get it"
EXAMPLE = "Example: hilum download kermany --out data/kermany --accept"


def verb(
    name: Annotated[
        str, typer.Argument(help="A data set's name, see `hilum datasets`.", show_default=False)
    ],
    to: Annotated[
        Path | None, written_to("The folder for it; data/NAME where it is not given.")
    ] = None,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Accept the licence that is shown, without a question."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a data set and its licence, and download it where anybody may."""
    from hilum.dataset import catalog
    from hilum.dataset import download as step

    about, folder = catalog.entry(name), to or Path("data") / name
    console.echo(step.terms(about), err=as_json)
    ask = bool(about.files) and not accept and at_a_terminal()
    accepted = accept or (
        ask and typer.confirm("\nDo you accept the licence, and shall this be fetched?", err=True)
    )
    fetched = step.fetch(about, folder, accepted=accepted, watch=console.watch)
    console.echo(json.dumps(fetched, indent=1) if as_json else step.summary(fetched))


def at_a_terminal() -> bool:
    """Return whether somebody is there to give consent."""
    return sys.stdin.isatty()
