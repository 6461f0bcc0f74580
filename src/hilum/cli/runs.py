"""Runs that are judged: looked at again, and beside one another."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli import console
from hilum.cli._app import IMAGES_HELP, Json, Quick, app, performed

if TYPE_CHECKING:
    import polars as pl

    from hilum.run_folder import Run

Judged = Annotated[Path, typer.Argument(help="The folder of a finished run.", show_default=False)]


@app.command(epilog="Example: hilum compare runs/whole runs/masked")
def compare(first: Judged, second: Judged, as_json: Json = False) -> None:
    """Set two runs' figures side by side on the test images that both have, and tell whether they differ by more than chance."""
    from hilum.run_folder import Run
    from hilum.runs import compare as step

    found = step.compare(Run(first), Run(second))
    if as_json:
        console.echo(
            json.dumps(
                {
                    "first": str(first),
                    "second": str(second),
                    "told": found.notes,
                    "figures": console.plain(found.table),
                },
                indent=1,
            )
        )
        return
    console.echo(console.columns(step.lines(found, str(first), str(second))))
    for told in found.notes:
        console.echo(f"note: {told}")


@app.command(epilog="Example: hilum reproduce runs/chest --images 200")
def reproduce(
    run: Judged,
    images: Annotated[
        int,
        typer.Option(
            "--images", min=0, help="Score only so many pictures again, drawn at random; 0: all."
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Score a run's pictures again with its stored models, compute its figures again, and say whether they hold. Needs no PyTorch."""
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
        text = "\n".join(
            f"{check.what:8} {'holds' if check.holds else 'DOES NOT HOLD':13}  {check.report if check.holds else ''}".rstrip()
            for check in checks
        )
    console.summarised(text, faults)


@app.command(epilog="Example: hilum shortcuts runs/chest")
def shortcuts(run: Judged, as_json: Json = False) -> None:
    """Can the source, sex, age and finding be told from the border, from outside of the lungs, from the region? Of training images alone."""
    from hilum.pipeline import shortcuts as step

    judged = _judged(run, "shortcuts", step)
    probes = judged.table("shortcuts", step.FILE)
    if as_json:
        console.echo(json.dumps(console.plain(probes), indent=1))
        return
    asked = probes.filter(probes["reason"] == "")
    if asked.height:
        console.echo(console.columns(step.columns(asked)))
        console.echo(
            f"AUROC, 0.5 is chance; before the region step: whole, after it: {step.seen(judged.recipe().crop)}, which is what the models are shown"
        )
    _told_of(probes, step)


def _told_of(probes: pl.DataFrame, step: ModuleType) -> None:
    for target, within, why in (
        probes.filter(probes["reason"] != "")
        .select("target", "within", "reason")
        .unique(maintain_order=True)
        .iter_rows()
    ):
        console.echo(
            f"{target}{'' if within == step.ALL else ' within ' + within} is not asked about: {why}"
        )
    if not probes.height:
        console.echo("no training image could be read, so there is nothing to compare")
    for warning in step.warnings(probes):
        console.echo(f"warning: {warning}")


@app.command(
    epilog="Examples: hilum explain runs/chest; hilum explain runs/chest new/a.png 'more/*.dcm' --out out"
)
def explain(
    run: Judged,
    images: Annotated[
        list[str] | None,
        typer.Argument(help=f"To explain the run's scores of: {IMAGES_HELP}", show_default=False),
    ] = None,
    to: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Given images, where overlays and explain.csv are written."
        ),
    ] = Path("explain"),
    as_json: Json = False,
) -> None:
    """Where does the finding model look? Saliency maps, and how much of them lies in the lungs.

    Of some test images, or of images that are given.
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

    judged = _judged(run, "explain", step)
    figures, without = (judged.table("explain", name) for name in (step.AVERAGES, step.COVERS))
    if as_json:
        console.echo(
            json.dumps(
                {"maps": console.plain(figures), "covered": console.plain(without)}, indent=1
            )
        )
        return
    console.echo(
        console.columns(step.lines(figures))
        if figures.height
        else "no finding was learnt, so there is nowhere to look"
    )
    for row in without.iter_rows(named=True):
        without_lungs = f"; {row['left_out']} without found lungs left out" * bool(row["left_out"])
        console.echo(
            f"AUROC {row['shown']}: {row['value']:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f}), "
            f"{row['images']} test images, {row['positives']} positive{without_lungs}"
        )


def _judged(folder: Path, name: str, step: ModuleType) -> Run:
    """The run with the optional step done, at once where it was done already."""
    from hilum.run_folder import Run

    judged = Run(folder)
    recipe = judged.recipe()
    with judged.locked():
        made_from = step.made_from(judged, recipe)
        if judged.done(name) and (damage := judged.damage(name)):
            typer.secho(f"note: {damage}; it is done again", fg="yellow", err=True)
        if not judged.finished(name, made_from):
            with console.watch(name) as progress:
                made, summary = step.make(judged, recipe, progress)
            judged.finish(name, made_from, made, summary)
    return judged


@app.command(
    epilog="Example: hilum cross-evaluate shenzhen.toml montgomery.toml runs/chest --out runs/matrix"
)
def cross_evaluate(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Two recipes, folders of radiographs or runs, or more; what is not finished is done.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path,
        typer.Option("--out", "-o", help="Where the table, the page and the scores are written."),
    ] = Path("runs/matrix"),
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Measure every run's models on every run's pictures, with the threshold carried over and chosen again."""
    from hilum.runs import cross_evaluate as step
    from hilum.runs import cross_evaluation_page, dataset_overlap

    places = dataset_overlap.places(sources, None)
    members = [
        step.FinishedRun(name, performed(source, place, quick, step.UNTIL, as_json)[1])
        for source, (name, place) in zip(sources, places, strict=True)
    ]
    table = step.cross_evaluate(members, to, console.watch)
    console.echo(
        json.dumps(console.plain(table), indent=1)
        if as_json
        else f"\n{console.columns(cross_evaluation_page.shown(table))}\n\npage: {(to / step.PAGE).resolve()}"
    )
