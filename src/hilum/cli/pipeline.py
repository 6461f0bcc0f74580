"""The run: a verb a step, and `run` for all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import (
    IMAGES,
    PIPELINE,
    RUNS,
    FailOn,
    FileNames,
    Fixes,
    Images,
    Json,
    KeepIdentifiers,
    Level,
    Others,
    Quick,
    Readings,
    Source,
    To,
    app,
    perform,
    performed,
    print_steps,
    sharing,
)


def _step(name: str, short_help: str, description: str) -> None:
    """Add the verb of a step that takes no arguments but those of every step."""

    def verb(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
        perform(source, to, quick, name, as_json)

    verb.__doc__ = description
    example = f"Example: hilum {name} data/chest --out runs/chest"
    app.command(name, short_help=short_help, rich_help_panel=PIPELINE, epilog=example)(verb)


@app.command(
    short_help="Do all steps, from a folder to a report",
    rich_help_panel=PIPELINE,
    epilog="Example: hilum run data/chest --out runs/chest --quick",
)
def run(
    source: Source,
    to: To = None,
    fixes: Fixes = None,
    quick: Quick = False,
    keep_identifiers: KeepIdentifiers = None,
    file_names: FileNames = None,
    readings: Readings = None,
    as_json: Json = False,
) -> None:
    """Do the whole job, from a folder to a report; go on where an earlier run stopped."""
    share = sharing(keep_identifiers, file_names, readings)
    folder = perform(source, to, quick, "report", as_json, fixes, share)
    if not as_json:
        console.echo(f"\nreport: {(folder / 'report.html').resolve()}")


_step(
    "ingest",
    "Read a folder into a table",
    "Recognise the data set and write its table of images, patients and labels.",
)

_step(
    "cache",
    "Decode every image once",
    "Decode every image once, and note what its file states.",
)


@app.command(
    short_help="Check that cached images are intact",
    rich_help_panel=RUNS,
    epilog="Example: hilum verify-cache runs/chest --files",
)
def verify_cache(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="The run to check.", show_default=False)
    ],
    files: Annotated[bool, typer.Option("--files", help="Check the image files too.")] = False,
    as_json: Json = False,
) -> None:
    """Check that the cached images are still what was written."""
    from hilum.pipeline import cache as step
    from hilum.run_folder import Run

    images, wrong = step.verify(Run(folder), files=files)
    if as_json:
        found = [{"image_id": image_id, "what": what} for image_id, what in wrong]
        console.echo(json.dumps({"images": images, "wrong": found}, indent=1))
    else:
        console.echo(
            "\n".join(
                [
                    *(f"{image_id}: {what}" for image_id, what in wrong),
                    f"{images} images checked, {len(wrong)} do not fit",
                ]
            )
        )
    if wrong:
        console.echo(f"hilum: `hilum cache {folder}` reads these files again", err=True)
        raise typer.Exit(1)


@app.command(
    short_help="Find issues: leaks, duplicates, bad masks",
    rich_help_panel=PIPELINE,
    epilog="Examples: hilum audit data/chest --fail-on error; hilum audit data/montgomery "
    "data/shenzhen",
)
def audit(
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

    findings = segmenting.findings(made, recipe)
    if as_json:
        print_steps(made, steps)
    else:
        console.issues(findings)
        console.echo(f"\npage: {(made.folder / step.PAGE).resolve()}")
    if step.failing(findings, fail_on.value):
        raise typer.Exit(1)


_step(
    "split",
    "Divide the patients into parts",
    "Divide the patients into train, tune (validation) and test, once for all stages.",
)

_step(
    "segment",
    "Train a lung segmenter and find the lungs",
    "Train the lung segmenter and find the lungs of every image, out of fold in the training part.",
)

_step(
    "crop",
    "Crop every image to its lungs",
    "Crop every image to its lungs, or to one of them, as [crop] of the recipe says.",
)

_step(
    "train",
    "Train the classifier and anomaly model",
    "Train the classifier and the anomaly model on the crops of the training part.",
)

_step(
    "predict",
    "Score the tune and test parts",
    "Score the tune and test parts. Needs no PyTorch.",
)


@app.command(
    short_help="Score images with a finished run",
    rich_help_panel=IMAGES,
    epilog="Example: hilum apply runs/chest new/a.png 'more/*.dcm' --out out",
)
def apply(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run.", show_default=False)
    ],
    images: Images,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Where apply.csv and, below masks/, lung masks and anomaly maps are written.",
            show_default=False,
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            "--masks", help="Write lung masks and anomaly maps here instead.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score images with the models of a finished run.

    Images that `hilum classify` refuses are refused here too. Needs no PyTorch.
    """
    from hilum.inference import classify_images
    from hilum.runs import predict_images

    found, faults = predict_images.predict_images(
        folder, images, masks, to=to, watch=console.watch, say=console.say
    )
    if as_json:
        console.summarised(json.dumps([one.as_dict() for one in found], indent=1), faults)
    else:
        console.summarised(
            classify_images.lines(found, to or masks, "written to", scores=True), faults
        )


_step(
    "evaluate",
    "Compute metrics with their intervals",
    "Compute the metrics with their intervals, after proving that no stage was trained on "
    "a test image.",
)


@app.command(
    short_help="Write the report, one HTML file",
    rich_help_panel=PIPELINE,
    epilog="Example: hilum report data/chest --out runs/chest",
)
def report(
    source: Source,
    to: To = None,
    quick: Quick = False,
    keep_identifiers: KeepIdentifiers = None,
    file_names: FileNames = None,
    readings: Readings = None,
    as_json: Json = False,
) -> None:
    """Write the report, one HTML file that needs nothing else."""
    share = sharing(keep_identifiers, file_names, readings)
    perform(source, to, quick, "report", as_json, share=share)


@app.command(
    short_help="List or write the settings of a recipe",
    rich_help_panel=PIPELINE,
    epilog="Examples: hilum config; hilum config --init > recipe.toml",
)
def config(
    init: Annotated[
        bool, typer.Option("--init", help="Print a complete recipe with every default, to edit.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List every key of a recipe with its default and meaning, or print a complete recipe."""
    from dataclasses import asdict

    from hilum.config import default_recipe_toml, describe_settings

    settings = describe_settings()
    if init:
        typer.echo(default_recipe_toml().encode(), nl=False)  # TOML is UTF-8 on any terminal
    elif as_json:
        console.echo(json.dumps([asdict(one) for one in settings], indent=1))
    else:
        lines = (f"[{one.section}] {one.key} = {one.default!r}: {one.meaning}" for one in settings)
        console.echo("\n".join(lines))
