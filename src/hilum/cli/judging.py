"""Runs that are judged: looked at again, and beside one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum import printed
from hilum.cli._app import Json, app

Judged = Annotated[Path, typer.Argument(help="The folder of a finished run.", show_default=False)]


@app.command(epilog="Example: hilum compare runs/whole runs/masked")
def compare(first: Judged, second: Judged, as_json: Json = False) -> None:
    """Set two runs' figures side by side on the test images that both have, and tell whether they differ by more than chance."""
    from hilum.run import Run
    from hilum.steps import compare as step

    found = step.compare(Run(first), Run(second))
    if as_json:
        typer.echo(json.dumps({"first": str(first), "second": str(second), "told": found.told, "figures": printed.plain(found.table)}, indent=1))
        return
    typer.echo(printed.columns(step.lines(found, str(first), str(second))))
    for told in found.told:
        typer.echo(f"note: {told}")


@app.command(epilog="Example: hilum verify runs/chest --images 200")
def verify(
    run: Judged,
    images: Annotated[int, typer.Option("--images", min=0, help="Score only so many pictures again, drawn at random; 0: all.")] = 0,
    as_json: Json = False,
) -> None:
    """Score a run's pictures again with its stored models, compute its figures again, and say whether they hold. Needs no PyTorch."""
    from hilum.run import Run
    from hilum.steps import verify as step

    with printed.watch("verify") as progress:
        checks = step.verify(Run(run), images=images, progress=progress)
    faults = [f"{check.what}: {check.told}" for check in checks if not check.holds]
    if as_json:
        text = json.dumps({"holds": not faults, "checks": [check._asdict() for check in checks]}, indent=1)
    else:
        text = "\n".join(f"{check.what:8} {'holds' if check.holds else 'DOES NOT HOLD':13}  {check.told if check.holds else ''}".rstrip() for check in checks)
    printed.told(text, faults)
