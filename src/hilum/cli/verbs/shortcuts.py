"""Verb `shortcuts`."""

from __future__ import annotations

import json
from types import ModuleType
from typing import TYPE_CHECKING

from hilum.cli import console
from hilum.cli._app import RUNS, Json
from hilum.cli._judged import Judged, judged_with

if TYPE_CHECKING:
    import polars as pl

GROUP, ORDER = RUNS, 40
SHORT_HELP = "Test for shortcuts outside of the lungs"
EXAMPLE = "Example: hilum shortcuts runs/chest"


def verb(run: Judged, as_json: Json = False) -> None:
    """Test whether source, sex, age and finding can be predicted from parts of the images that have
    nothing to do with the finding.
    """
    from hilum.pipeline import shortcuts as step

    judged = judged_with(run, "shortcuts", step)
    probes = judged.table("shortcuts", step.FILE)
    if as_json:
        console.echo(json.dumps(console.plain(probes), indent=1))
        return
    evaluated = probes.filter(probes["reason"] == "")
    if evaluated.height:
        console.echo(console.columns(step.columns(evaluated)))
        console.echo(
            "AUROC, 0.5 is chance; before the step crop: whole, after it: "
            f"{step.seen(judged.recipe().crop)}, which is what the models are given"
        )
    _print_notes(probes, step)


def _print_notes(probes: pl.DataFrame, step: ModuleType) -> None:
    for target, within, why in (
        probes.filter(probes["reason"] != "")
        .select("target", "within", "reason")
        .unique(maintain_order=True)
        .iter_rows()
    ):
        console.echo(
            f"{target}{'' if within == step.ALL else ' within ' + within} is not evaluated: {why}"
        )
    if not probes.height:
        console.echo("no training image could be read, so there is nothing to compare")
    for warning in step.warnings(probes):
        console.echo(f"warning: {warning}")
