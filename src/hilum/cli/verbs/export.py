"""Verb `export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum import plugins
from hilum.cli import console
from hilum.cli._app import DATA, FileNames, Json, KeepIdentifiers, Readings, Source, sharing

GROUP, ORDER = DATA, 40
SHARDED = True
SHORT_HELP = "Export a data set to other programs"
EXAMPLE = "Example: hilum export coco runs/chest exported/chest"


def verb(
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help=f"One of {', '.join(plugins.names('writers'))}.",
            show_default=False,
        ),
    ],
    source: Source,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Where to write it; must be empty or not there.", show_default=False
        ),
    ],
    keep_identifiers: KeepIdentifiers = None,
    file_names: FileNames = None,
    readings: Readings = None,
    as_json: Json = False,
) -> None:
    """Write the table, and with it the images, in a form that other programs read; by part where
    the source is a run with a split.
    """
    from hilum.runs import export as step

    summary = step.export(form, source, folder, sharing(keep_identifiers, file_names, readings))
    console.echo(json.dumps(summary, indent=1) if as_json else f"{folder}  {console.line(summary)}")
