"""Verbs of finished runs: reproduce, compare, explain, test for shortcuts, cross-evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli import console
from hilum.cli._app import IMAGES_HELP, RUNS, Json, Quick, app, chain_of, performed

if TYPE_CHECKING:
    import polars as pl

    from hilum.run_folder import Run
    from hilum.runs.reproduce import Check

Judged = Annotated[Path, typer.Argument(help="The folder of a finished run.", show_default=False)]


@app.command(
    short_help="Compare two runs on shared test images",
    rich_help_panel=RUNS,
    epilog="Example: hilum compare runs/whole runs/masked",
)
def compare(first: Judged, second: Judged, as_json: Json = False) -> None:
    """Compare two runs on the test images that both have, and test whether they differ by more than
    chance.
    """
    from hilum.run_folder import Run
    from hilum.runs import compare as step

    found = step.compare(Run(first), Run(second))
    if as_json:
        console.echo(
            json.dumps(
                {
                    "first": str(first),
                    "second": str(second),
                    "notes": found.notes,
                    "figures": console.plain(found.table),
                },
                indent=1,
            )
        )
        return
    console.echo(console.columns(step.lines(found, str(first), str(second))))
    for note in found.notes:
        console.echo(f"note: {note}")


@app.command(
    short_help="Recompute a run and check its figures",
    rich_help_panel=RUNS,
    epilog="Example: hilum reproduce runs/chest --images 200",
)
def reproduce(
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


@app.command(
    short_help="Test for shortcuts outside of the lungs",
    rich_help_panel=RUNS,
    epilog="Example: hilum shortcuts runs/chest",
)
def shortcuts(run: Judged, as_json: Json = False) -> None:
    """Test whether source, sex, age and finding can be predicted from parts of the images that have
    nothing to do with the finding.
    """
    from hilum.pipeline import shortcuts as step

    judged = _judged(run, "shortcuts", step)
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


@app.command(
    short_help="Show where the finding model attends",
    rich_help_panel=RUNS,
    epilog="Examples: hilum explain runs/chest; hilum explain runs/chest new/a.png 'more/*.dcm' "
    "--out out",
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


def _line(check: Check) -> str:
    """Return a check on one line; what does not hold is reported on standard error."""
    state = "holds" if check.holds else "DOES NOT HOLD"
    return f"{check.what:8} {state:13}  {check.report if check.holds else ''}".rstrip()


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
    short_help="Evaluate every run on every data set",
    rich_help_panel=RUNS,
    epilog="Example: hilum cross-evaluate shenzhen.toml montgomery.toml runs/chest --out "
    "runs/matrix",
)
def cross_evaluate(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Two recipes, folders of radiographs or runs, or more; what is not finished "
            "is done.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path,
        typer.Option("--out", "-o", help="Where the table, the page and the scores are written."),
    ] = Path("runs/matrix"),
    leave_out: Annotated[
        bool,
        typer.Option(
            "--leave-out",
            help="Also train on all sets together but one source, and evaluate there, in turn.",
        ),
    ] = False,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Evaluate every run's models on every run's images, with thresholds transferred and
    reoptimised.
    """
    from hilum.run_folder import Run
    from hilum.runs import cross_evaluate as step
    from hilum.runs import cross_evaluation_page, dataset_overlap, leave_one_out

    places = dataset_overlap.places(sources, None)
    members = [
        step.FinishedRun(name, performed(source, place, quick, step.UNTIL, as_json)[1])
        for source, (name, place) in zip(sources, places, strict=True)
    ]
    table = step.cross_evaluate(members, to, console.watch)
    if leave_out:
        import polars as pl

        run = Run(to / leave_one_out.FOLDER)
        chain_of(leave_one_out.recipe_of(members), run, "report", as_json)
        table = pl.concat([table, leave_one_out.table_of(run, to)])
    console.echo(
        json.dumps(console.plain(table), indent=1)
        if as_json
        else f"\n{console.columns(cross_evaluation_page.shown(table))}\n\n"
        f"page: {(to / step.PAGE).resolve()}"
    )
