"""Verb `propose-fixes`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import DATA, Json, Source, chain_of, meant, written_to

GROUP, ORDER = DATA, 50
SHORT_HELP = "Propose corrections of the issues"
EXAMPLE = (
    "Examples: hilum propose-fixes runs/chest; hilum propose-fixes runs/chest --rule "
    "image-unreadable --rule duplicate-file --out fixes.toml"
)


def verb(
    source: Source,
    rules: Annotated[
        list[str] | None,
        typer.Option("--rule", help="Issues of this rule; may be given again.", show_default=False),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--image", help="Issues of this image; may be given again.", show_default=False
        ),
    ] = None,
    to: Annotated[Path | None, written_to("The file of corrections to write.")] = None,
    as_json: Json = False,
) -> None:
    """Turn issues of the audit into a file of corrections to review, change and give to `hilum
    run`; without rules or images, list what could be corrected.
    """
    from hilum.runs import propose_corrections as step

    recipe, run = meant(source, None, False)
    chain_of(recipe, run, "audit", True)
    proposed = step.propose_corrections(run, source, rules or (), images or (), to)
    console.echo(
        json.dumps(proposed.to_dicts(), indent=1) if as_json else console.columns(proposed)
    )
