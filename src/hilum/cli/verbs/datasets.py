"""Verb `datasets`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import DATA, Json

GROUP, ORDER = DATA, 80
SHORT_HELP = "List the known data sets"
EXAMPLE = "Examples: hilum datasets kermany; hilum datasets --json"


def verb(
    name: Annotated[
        str | None,
        typer.Argument(help="One set's name, for all that is known of it.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the data sets that are read and others that are known, with what distinguishes them."""
    from dataclasses import asdict

    from hilum.dataset import catalog
    from hilum.dataset import download as step

    entries = [catalog.entry(one) for one in ([name] if name else catalog.names())]
    if as_json:
        console.echo(json.dumps({about.name: asdict(about) for about in entries}, indent=1))
    elif name:
        console.echo(step.describe(entries[0]))
    else:
        console.echo(
            "\n".join(map(step.line, entries))
            + "\n\nAll of one: hilum datasets NAME. To get it: hilum download NAME"
        )
