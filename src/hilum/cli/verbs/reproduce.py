"""Verb `reproduce`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli import console
from hilum.cli._app import RUNS, Json
from hilum.cli._judged import Judged

if TYPE_CHECKING:
    from hilum.runs.reproduce import Check

GROUP, ORDER = RUNS, 30
SHORT_HELP = "Recompute a run and check its figures"
EXAMPLE = "Example: hilum reproduce runs/chest --images 200"


def verb(
    run: Judged,
    images: Annotated[
        int,
        typer.Option(
            "--images", min=0, help="Score only so many images again, drawn at random; 0: all."
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Score a run's images again with its stored models, compute its metrics again, and say whether
    they hold. Needs no PyTorch.
    """
    from hilum.run_folder import Run
    from hilum.runs import reproduce as step

    with console.watch("reproduce") as progress:
        checks = step.reproduce(Run(run), images=images, progress=progress)
    faults = [f"{check.what}: {check.report}" for check in checks if not check.holds]
    if as_json:
        text = json.dumps(
            {"holds": not faults, "checks": [check._asdict() for check in checks]}, indent=1
        )
    else:
        text = "\n".join(_line(check) for check in checks)
    console.summarised(text, faults)


def _line(check: Check) -> str:
    """Return a check on one line; what does not hold is reported on standard error."""
    state = "holds" if check.holds else "DOES NOT HOLD"
    return f"{check.what:8} {state:13}  {check.report if check.holds else ''}".rstrip()
