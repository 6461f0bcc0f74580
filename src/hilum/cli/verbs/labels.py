"""Verb `labels`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import DATA, DataFolder, Json
from hilum.safety import addresses

GROUP, ORDER = DATA, 10
SHORT_HELP = "Show where labels come from"
EXAMPLE = (
    "Examples: hilum labels data/montgomery data/shenzhen; hilum labels data/chest --map "
    "infiltration=consolidation"
)


def verb(
    folder: DataFolder,
    other: Annotated[
        Path | None,
        typer.Argument(
            help="A second one, to lay its words beside the first one's.",
            parser=addresses.located,
            metavar="FOLDER",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            help="Every label of this image, with the words it was read from.",
            show_default=False,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="TERM=CONCEPT", help="Try another mapping, and see what it changes."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show where labels come from: the ledger, those of one image, the crosswalk of two data sets,
    or what another mapping would change.
    """
    from hilum.dataset import label_provenance as step
    from hilum.pipeline import ingest as reading

    pairs = [change.partition("=") for change in changes or ()]
    if wrong := [term for term, _, concept in pairs if not concept]:
        raise typer.BadParameter(f"expected TERM=CONCEPT, got '{wrong[0]}'", param_hint="--map")
    manifest = reading.ingest(folder)
    if pairs:
        table = step.remapped(manifest, {term: concept for term, _, concept in pairs})
    elif image:
        table = step.cells(manifest, image)
    else:
        table = step.crosswalk(manifest, reading.ingest(other)) if other else step.ledger(manifest)
    console.echo(json.dumps(table.to_dicts(), indent=1) if as_json else console.columns(table))
