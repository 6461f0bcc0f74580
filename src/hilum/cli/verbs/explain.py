"""Verb `explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import IMAGES_HELP, RUNS, Json, written_to
from hilum.cli._judged import Judged, judged_with

GROUP, ORDER = RUNS, 50
SHARDED = True
SHORT_HELP = "Show where the finding model attends"
EXAMPLE = (
    "Examples: hilum explain runs/chest; hilum explain runs/chest new/a.png 'more/*.dcm' --out out"
)


def verb(
    run: Judged,
    images: Annotated[
        list[str] | None,
        typer.Argument(help=f"To explain the run's scores of: {IMAGES_HELP}", show_default=False),
    ] = None,
    to: Annotated[
        Path, written_to("Given images, where overlays and explain.csv are written.")
    ] = Path("explain"),
    as_json: Json = False,
) -> None:
    """Show where the finding model attends: saliency maps of test images with controls, or, given
    images, maps laid over these.
    """
    if images:
        from hilum.runs import explain_images

        rows, faults = explain_images.explain_images(
            run, images, to, watch=console.watch, say=console.say
        )
        console.summarised(
            json.dumps(rows, indent=1) if as_json else explain_images.lines(rows, to), faults
        )
        return
    from hilum.pipeline import explain as step
    from hilum.pipeline import explanation_figures

    judged = judged_with(run, "explain", step)
    figures, without = (judged.table("explain", name) for name in (step.AVERAGES, step.COVERS))
    if as_json:
        console.echo(
            json.dumps(
                {"maps": console.plain(figures), "covered": console.plain(without)}, indent=1
            )
        )
        return
    console.echo(
        console.columns(explanation_figures.lines(figures))
        if figures.height
        else "no finding model was trained, so there is nothing to explain"
    )
    for row in without.iter_rows(named=True):
        without_lungs = f"; {row['left_out']} without found lungs left out" * bool(row["left_out"])
        console.echo(
            f"AUROC {row['shown']}: {row['value']:.3f} "
            f"({row['ci_low']:.3f} to {row['ci_high']:.3f}), "
            f"{row['images']} test images, {row['positives']} positive{without_lungs}"
        )
