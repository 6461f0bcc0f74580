"""Verb `audit`."""

from __future__ import annotations

import typer

from hilum.cli import console
from hilum.cli._app import (
    PIPELINE,
    FailOn,
    FileNames,
    Fixes,
    Json,
    KeepIdentifiers,
    Level,
    Others,
    Quick,
    Readings,
    Source,
    To,
    performed,
    print_steps,
    sharing,
)

GROUP, ORDER = PIPELINE, 40
SHARDED = True
SHORT_HELP = "Find issues: leaks, duplicates, bad masks"
EXAMPLE = (
    "Examples: hilum audit data/chest --fail-on error; hilum audit data/montgomery data/shenzhen"
)


def verb(
    source: Source,
    others: Others = None,
    to: To = None,
    fixes: Fixes = None,
    quick: Quick = False,
    keep_identifiers: KeepIdentifiers = None,
    file_names: FileNames = None,
    readings: Readings = None,
    as_json: Json = False,
    fail_on: FailOn = Level.never,
) -> None:
    """Find what spoils a study: broken files and masks, duplicates, contradictions, leaks of an
    official split, images that several data sets share.
    """
    share = sharing(keep_identifiers, file_names, readings)
    if others:
        from hilum.runs import dataset_overlap

        found = dataset_overlap.audited(
            [source, *others],
            to,
            lambda one, place: performed(one, place, quick, "audit", as_json, fixes, share)[1],
        )
        console.several(found, as_json)
        if dataset_overlap.failing(found, fail_on.value):
            raise typer.Exit(1)
        return
    recipe, made, steps = performed(source, to, quick, "audit", as_json, fixes, share)
    from hilum.pipeline import audit as step
    from hilum.pipeline import segment as segmenting

    issues = segmenting.issues(made, recipe)
    if as_json:
        print_steps(made, steps)
    else:
        console.issues(issues)
        console.echo(f"\npage: {(made.folder / step.PAGE).resolve()}")
    if step.failing(issues, fail_on.value):
        raise typer.Exit(1)
