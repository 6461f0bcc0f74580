"""Verb `cross-evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import RUNS, Json, Quick, chain_of, performed, written_to

GROUP, ORDER = RUNS, 60
SHORT_HELP = "Evaluate every run on every data set"
EXAMPLE = (
    "Example: hilum cross-evaluate shenzhen.toml montgomery.toml runs/chest --out runs/crossed"
)


def verb(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Two recipes, folders of radiographs or runs, or more; what is not finished "
            "is done.",
            show_default=False,
        ),
    ],
    to: Annotated[Path, written_to("Where the table, the page and the scores are written.")] = Path(
        "runs/crossed"
    ),
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

    step.refuse_fewer_than_two(sources)  # before the steps of one run are done in vain
    places = dataset_overlap.places(sources, None)
    members = [
        step.FinishedRun(name, performed(source, place, quick, step.UNTIL, as_json)[1])
        for source, (name, place) in zip(sources, places, strict=True)
    ]
    table = step.cross_evaluate(members, to, console.watch)
    if leave_out:
        run = Run(to / leave_one_out.FOLDER)
        chain_of(leave_one_out.recipe_of(members), run, "report", as_json)
        table = table.vstack(leave_one_out.table_of(run, to))
    console.echo(
        json.dumps(console.plain(table), indent=1)
        if as_json
        else f"\n{console.columns(cross_evaluation_page.shown(table))}\n\n"
        f"page: {(to / step.PAGE).resolve()}"
    )
