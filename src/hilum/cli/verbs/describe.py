"""Verb `describe`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import DATA, DataFolder, Json

GROUP, ORDER = DATA, 20
SHORT_HELP = "Show how a folder would be read"
EXAMPLE = (
    "Examples: hilum describe data/chest; hilum describe data/chest --toml > data/chest/hilum.toml"
)


def verb(
    folder: DataFolder,
    toml: Annotated[
        bool,
        typer.Option(
            "--toml", help="Print it as a complete hilum.toml, to edit and to put into the folder."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how a folder would be read: what each file, column and word is taken for, why, and what
    is not used. Writes nothing.
    """
    from hilum.pipeline import ingest as step

    if toml:
        typer.echo(step.settings_of(folder).encode(), nl=False)  # TOML is UTF-8 on any terminal
        return
    described = step.describe_folder(folder)
    if as_json:
        console.echo(
            json.dumps(
                {**described.account.as_dict(), "questions": list(described.questions)}, indent=1
            )
        )
    else:
        console.echo(described.screen)
    if described.refusal:
        console.echo(f"hilum: {described.refusal}", err=True)
        raise typer.Exit(1)
