"""Verbs of data sets: describe, list, download, merge, export, correct."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from hilum import plugins
from hilum.cli import console
from hilum.cli._app import (
    DATA,
    FileNames,
    Json,
    KeepIdentifiers,
    Quick,
    Readings,
    Source,
    To,
    app,
    chain_of,
    meant,
    performed,
    print_steps,
    sharing,
)
from hilum.safety.path_names import as_text


@app.command(
    short_help="Show where labels come from",
    rich_help_panel=DATA,
    epilog="Examples: hilum labels data/montgomery data/shenzhen; hilum labels data/chest --map "
    "infiltration=consolidation",
)
def labels(
    folder: Annotated[Path, typer.Argument(help="A folder of radiographs.", show_default=False)],
    other: Annotated[
        Path | None,
        typer.Argument(
            help="A second one, to lay its words beside the first one's.", show_default=False
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            help="Every label of this image, with the words it was read from.",
            show_default=False,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="TERM=CONCEPT", help="Try another mapping, and see what it changes."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show where labels come from: the ledger, those of one image, the crosswalk of two data sets,
    or what another mapping would change.
    """
    from hilum.dataset import label_provenance as step
    from hilum.pipeline import ingest as reading

    pairs = [change.partition("=") for change in changes or ()]
    if not all(concept for _, _, concept in pairs):
        raise typer.BadParameter("expected TERM=CONCEPT", param_hint="--map")
    manifest = reading.ingest(folder)
    if pairs:
        table = step.remapped(manifest, {term: concept for term, _, concept in pairs})
    elif image:
        table = step.cells(manifest, image)
    else:
        table = step.crosswalk(manifest, reading.ingest(other)) if other else step.ledger(manifest)
    console.echo(json.dumps(table.to_dicts(), indent=1) if as_json else console.columns(table))


@app.command(
    short_help="Show how a folder would be read",
    rich_help_panel=DATA,
    epilog="Examples: hilum describe data/chest; hilum describe data/chest --toml > "
    "data/chest/hilum.toml",
)
def describe(
    folder: Annotated[Path, typer.Argument(help="A folder of radiographs.", show_default=False)],
    toml: Annotated[
        bool,
        typer.Option(
            "--toml", help="Print it as a complete hilum.toml, to edit and to put into the folder."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how a folder would be read: what each file, column and word is taken for, why, and what
    is not used. Writes nothing.
    """
    from hilum.pipeline import ingest as step

    if toml:
        typer.echo(step.settings_of(folder).encode(), nl=False)  # TOML is UTF-8 on any terminal
        return
    described = step.describe_folder(folder)
    if as_json:
        console.echo(
            json.dumps(
                {**described.account.as_dict(), "questions": list(described.questions)}, indent=1
            )
        )
    else:
        console.echo(described.screen)
    if described.refusal:
        console.echo(f"hilum: {described.refusal}", err=True)
        raise typer.Exit(1)


@app.command(
    short_help="Join several data sets in one table",
    rich_help_panel=DATA,
    epilog="Example: hilum merge data/montgomery data/shenzhen --out runs/both",
)
def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of radiographs, in any order.", show_default=False)
    ],
    to: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="The run's folder; `hilum run` on it goes on from there.",
            show_default=False,
        ),
    ],
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Write one table of several data sets, with aligned labels; patients keep the name of their
    data set.
    """
    from hilum.config import Data, Recipe
    from hilum.run_folder import Run

    folder, *also = (as_text(path.resolve()) for path in folders)
    recipe = Recipe(data=Data(folder=folder, also=tuple(also)))
    steps = chain_of(recipe.quick() if quick else recipe, Run(to), "ingest", as_json)
    if as_json:
        print_steps(Run(to), steps)


@app.command(
    short_help="Export a data set to other programs",
    rich_help_panel=DATA,
    epilog="Example: hilum export coco runs/chest exported/chest",
)
def export(
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help=f"One of {', '.join(plugins.names('writers'))}.",
            show_default=False,
        ),
    ],
    source: Source,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Where to write it; must be empty or not there.", show_default=False
        ),
    ],
    keep_identifiers: KeepIdentifiers = None,
    file_names: FileNames = None,
    readings: Readings = None,
    as_json: Json = False,
) -> None:
    """Write the table, and with it the images, in a form that other programs read; by part where
    the source is a run with a split.
    """
    from hilum.runs import export as step

    summary = step.export(form, source, folder, sharing(keep_identifiers, file_names, readings))
    console.echo(json.dumps(summary, indent=1) if as_json else f"{folder}  {console.line(summary)}")


@app.command(
    short_help="Propose corrections of the issues",
    rich_help_panel=DATA,
    epilog="Examples: hilum propose-fixes runs/chest; hilum propose-fixes runs/chest --rule "
    "image-unreadable --rule duplicate-file --out fixes.toml",
)
def propose_fixes(
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
    to: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file of corrections to write.", show_default=False),
    ] = None,
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


@app.command(
    short_help="Write the data card",
    rich_help_panel=DATA,
    epilog="Example: hilum datacard data/chest --out runs/chest",
)
def datacard(
    source: Source,
    to: To = None,
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help="Add sample images of each class; mind the licence before you pass the card on.",
        ),
    ] = False,
    quick: Quick = False,
    keep_identifiers: KeepIdentifiers = None,
    file_names: FileNames = None,
    readings: Readings = None,
    as_json: Json = False,
) -> None:
    """Write the data card, for readers and machines, into the run's folder `card`, with what
    published cards state beside what was found.
    """
    from hilum.reporting import data_card as step

    recipe, run, steps = performed(source, to, quick, step.UNTIL, as_json)
    recipe = recipe.sharing(sharing(keep_identifiers, file_names, readings))
    written = step.write(run, recipe, images=images)
    console.echo(f"{'card':9} {'':>8}  {console.line(written.summary)}", err=as_json)
    if as_json:
        print_steps(run, {**steps, "card": written.as_dict()})


@app.command(
    short_help="Write a made-up copy of a data set",
    rich_help_panel=DATA,
    epilog="Example: hilum synthesize kaggle_masks demo/data --images 120 --seed 1",
)
def synthesize(
    dataset: Annotated[
        str, typer.Argument(help="A data set's name, see `hilum datasets`.", show_default=False)
    ],
    folder: Annotated[
        Path,
        typer.Argument(help="Where to write it; must be empty or not there.", show_default=False),
    ],
    images: Annotated[int, typer.Option("--images", min=4, help="How many images.")] = 24,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="The same seed gives the same files.")
    ] = 0,
) -> None:
    """Write a made-up copy of a data set's layout: invented images, exact masks, reports."""
    from hilum.pipeline import ingest as step

    step.example(dataset, folder, images=images, seed=seed)
    console.echo(f"{images} made-up images in the layout of {dataset}: {folder}")


@app.command(
    short_help="List the known data sets",
    rich_help_panel=DATA,
    epilog="Examples: hilum datasets kermany; hilum datasets --json",
)
def datasets(
    name: Annotated[
        str | None,
        typer.Argument(help="One set's name, for all that is known of it.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the data sets that are read and others that are known, with what distinguishes them."""
    from dataclasses import asdict

    from hilum.dataset import catalog
    from hilum.dataset import download as step

    entries = [catalog.entry(one) for one in ([name] if name else catalog.names())]
    if as_json:
        console.echo(json.dumps({about.name: asdict(about) for about in entries}, indent=1))
    elif name:
        console.echo(step.describe(entries[0]))
    else:
        console.echo(
            "\n".join(map(step.line, entries))
            + "\n\nAll of one: hilum datasets NAME. To get it: hilum download NAME"
        )


@app.command(
    short_help="Download a data set, or say how to get it",
    rich_help_panel=DATA,
    epilog="Example: hilum download kermany --out data/kermany --accept",
)
def download(
    name: Annotated[
        str, typer.Argument(help="A data set's name, see `hilum datasets`.", show_default=False)
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The folder for it; data/NAME where it is not given.",
            show_default=False,
        ),
    ] = None,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Accept the licence that is shown, without a question."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a data set and its licence, and download it where anybody may."""
    from hilum.dataset import catalog
    from hilum.dataset import download as step

    about, folder = catalog.entry(name), to or Path("data") / name
    console.echo(step.terms(about), err=as_json)
    ask = bool(about.files) and not accept and at_a_terminal()
    accepted = accept or (
        ask and typer.confirm("\nDo you accept the licence, and shall this be fetched?", err=True)
    )
    fetched = step.fetch(about, folder, accepted=accepted, watch=console.watch)
    console.echo(json.dumps(fetched, indent=1) if as_json else step.summary(fetched))


def at_a_terminal() -> bool:
    return sys.stdin.isatty()
