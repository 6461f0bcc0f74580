"""Verb `datacard`."""

from __future__ import annotations

from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import (
    DATA,
    FileNames,
    Json,
    KeepIdentifiers,
    Quick,
    Readings,
    Source,
    To,
    performed,
    print_steps,
    sharing,
)

GROUP, ORDER = DATA, 60
SHORT_HELP = "Write the data card"
EXAMPLE = "Example: hilum datacard data/chest --out runs/chest"


def verb(
    source: Source,
    to: To = None,
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help="Add sample images of each class; mind the licence before you pass the card on.",
        ),
    ] = False,
    quick: Quick = False,
    keep_identifiers: KeepIdentifiers = None,
    file_names: FileNames = None,
    readings: Readings = None,
    as_json: Json = False,
) -> None:
    """Write the data card, for readers and machines, into the run's folder `card`, with what
    published cards state beside what was found.
    """
    from hilum.reporting import data_card as step

    recipe, run, steps = performed(source, to, quick, step.UNTIL, as_json)
    recipe = recipe.sharing(sharing(keep_identifiers, file_names, readings))
    written = step.write(run, recipe, images=images)
    console.echo(f"{'card':9} {'':>8}  {console.line(written.summary)}", err=as_json)
    if as_json:
        print_steps(run, {**steps, "card": written.as_dict()})
