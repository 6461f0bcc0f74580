"""The command line: a verb a step, and `run` for all of them. Each verb parses, calls one step, and prints; nothing is decided here.

Steps are imported when a verb needs them, so that `hilum --help` is quick.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hilum import __version__, printed

if TYPE_CHECKING:
    from hilum.recipe import Recipe
    from hilum.run import Run

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None,
    help="Folders of chest radiographs in; checked data, patient-safe splits, lung masks, findings, anomaly maps and honest figures out.",
)  # fmt: skip

Source = Annotated[Path, typer.Argument(help="A folder of radiographs, a recipe (.toml), or the folder of a run.", show_default=False)]
Others = Annotated[list[Path] | None, typer.Argument(help="More sets, audited too and compared with it and one another.", show_default=False)]
To = Annotated[Path | None, typer.Option("--to", help="The run's folder; runs/NAME where it is not given.", show_default=False)]
Quick = Annotated[bool, typer.Option("--quick", help="The same job in a fraction of the time, with weaker models.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON; progress goes to standard error in any case.")]

Fixes = Annotated[Path | None, typer.Option("--fixes", help="A file of corrections, as `hilum fix` writes it.", show_default=False)]


class Level(StrEnum):
    never = "never"
    error = "error"
    warning = "warning"
    info = "info"


FailOn = Annotated[Level, typer.Option("--fail-on", help="Exit with code 1 where the audit has findings of this severity or worse.")]


@app.command(epilog="Example: hilum run data/chest --to runs/chest --quick")
def run(source: Source, to: To = None, fixes: Fixes = None, quick: Quick = False, as_json: Json = False) -> None:
    """Do the whole job, from a folder to a report; go on where an earlier run stopped."""
    folder = _perform(source, to, quick, "report", as_json, fixes)
    if not as_json:
        typer.echo(f"\nreport: {(folder / 'report.html').resolve()}")


@app.command(epilog="Example: hilum ingest data/chest --to runs/chest")
def ingest(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Recognise the data set and write its table of images, patients and labels."""
    _perform(source, to, quick, "ingest", as_json)


@app.command(epilog="Examples: hilum labels data/montgomery data/shenzhen; hilum labels data/chest --map infiltration=consolidation")
def labels(
    folder: Annotated[Path, typer.Argument(help="A folder of radiographs.", show_default=False)],
    other: Annotated[Path | None, typer.Argument(help="A second one, to lay its words beside the first one's.", show_default=False)] = None,
    image: Annotated[str | None, typer.Option("--image", help="Every label of this image, with the words it was read from.", show_default=False)] = None,
    changes: Annotated[list[str] | None, typer.Option("--map", metavar="TERM=CONCEPT", help="Try another mapping, and see what it changes.")] = None,
    as_json: Json = False,
) -> None:
    """Tell where labels come from: the ledger, one image's, the crosswalk of two sets, or what a change of mapping changes."""
    from hilum.steps import ingest as reading
    from hilum.steps import labels as step

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
    typer.echo(json.dumps(table.to_dicts(), indent=1) if as_json else printed.columns(table))


@app.command(epilog="Example: hilum merge data/montgomery data/shenzhen --to runs/both")
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders of radiographs, in any order.", show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="The run's folder; `hilum run` on it goes on from there.", show_default=False)],
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Write one table of several data sets, with aligned labels; patients keep their data set's name."""
    from hilum.recipe import Data, Recipe
    from hilum.run import Run

    folder, *also = (str(path.resolve()) for path in folders)
    recipe = Recipe(data=Data(folder=folder, also=tuple(also)))
    told = _chain(recipe.quick() if quick else recipe, Run(to), "ingest", as_json)
    if as_json:
        _print_steps(Run(to), told)


@app.command(epilog="Example: hilum export coco runs/chest exported/chest")
def export(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="coco, imagefolder, tables (CSV) or xrv (TorchXRayVision).", show_default=False)],
    source: Source,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write it; must be empty or not there.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Write the table, and with it the pictures, in a form that other programs read; by part where the source is a run with a split."""
    from hilum.steps import export as step

    told = step.export(form, source, folder)
    typer.echo(json.dumps(told, indent=1) if as_json else f"{folder}  {printed.line(told)}")


@app.command(epilog="Examples: hilum cache data/chest --to runs/chest; hilum cache verify runs/chest --files")
def cache(
    source: Annotated[Path, typer.Argument(help="A folder of radiographs, a recipe (.toml), the folder of a run; or the word verify.", show_default=False)],
    verified: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="After `verify`: the run to check.", show_default=False)] = None,
    files: Annotated[bool, typer.Option("--files", help="With verify: check the picture files too.")] = False,
    to: To = None,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Decode every picture once, noting what is seen of each file; or verify that all is still as it was written."""
    if verified is None and not files:
        _perform(source, to, quick, "cache", as_json)
        return
    if verified is None or str(source) != "verify":
        raise typer.BadParameter("expected `hilum cache verify RUN`", param_hint="SOURCE")
    from hilum.run import Run
    from hilum.steps import cache as step

    images, wrong = step.verify(Run(verified), files=files)
    if as_json:
        typer.echo(json.dumps({"images": images, "wrong": [{"image_id": image_id, "what": what} for image_id, what in wrong]}, indent=1))
    else:
        typer.echo("\n".join([*(f"{image_id}: {what}" for image_id, what in wrong), f"{images} images checked, {len(wrong)} do not fit"]))
    if wrong:
        typer.echo(f"hilum: `hilum cache {verified}` reads these files again", err=True)
        raise typer.Exit(1)


@app.command(epilog="Examples: hilum audit data/chest --fail-on error; hilum audit data/montgomery data/shenzhen")
def audit(
    source: Source, others: Others = None, to: To = None, fixes: Fixes = None, quick: Quick = False, as_json: Json = False, fail_on: FailOn = Level.never
) -> None:
    """Look for what spoils a study: broken files and masks, duplicates, contradictions, leaks of a given split, pictures that sets share."""
    if others:
        from hilum.steps import between

        found = between.audited([source, *others], to, lambda one, place: _performed(one, place, quick, "audit", as_json, fixes)[1])
        printed.several(found, as_json)
        if between.failing(found, fail_on.value):
            raise typer.Exit(1)
        return
    folder = _perform(source, to, quick, "audit", as_json, fixes)
    from hilum import store
    from hilum.steps import audit as step

    findings = store.read_table(folder / "findings.parquet")
    if not as_json:
        printed.findings(findings)
        typer.echo(f"\npage: {(folder / step.PAGE).resolve()}")
    if step.failing(findings, fail_on.value):
        raise typer.Exit(1)


@app.command(epilog="Examples: hilum fix runs/chest; hilum fix runs/chest --rule image-unreadable --rule duplicate-file --to fixes.toml")
def fix(
    source: Source,
    rules: Annotated[list[str] | None, typer.Option("--rule", help="Findings of this rule; may be given again.", show_default=False)] = None,
    images: Annotated[list[str] | None, typer.Option("--image", help="Findings of this image; may be given again.", show_default=False)] = None,
    to: Annotated[Path | None, typer.Option("--to", help="The file of corrections to write.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Turn findings of the audit into a file of corrections to look at, change and give to `hilum run`; or list what could be fixed."""
    from hilum.steps import fix as step

    recipe, run = _meant(source, None, False)
    _chain(recipe, run, "audit", True)
    told = step.fix(run, source, rules or (), images or (), to)
    typer.echo(json.dumps(told.to_dicts(), indent=1) if as_json else printed.columns(told))


@app.command(epilog="Example: hilum card data/chest --to runs/chest")
def card(
    source: Source,
    to: To = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="Add sample pictures of each class; mind the licence before you pass the card on.")] = False,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Write the data card, for readers and machines, into the run's folder `card`, with what published cards state beside what was found."""
    from hilum.steps import card as step

    recipe, run, told = _performed(source, to, quick, step.UNTIL, as_json)
    written = step.write(run, recipe, pictures=pictures)
    typer.echo(f"{'card':9} {'':>8}  {printed.line(written.summary)}", err=as_json)
    if as_json:
        _print_steps(run, {**told, "card": written.as_dict()})


@app.command(epilog="Example: hilum split data/chest --to runs/chest")
def split(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Divide the patients into train, tune and test, once for all stages."""
    _perform(source, to, quick, "split", as_json)


@app.command(epilog="Example: hilum segment data/chest --to runs/chest")
def segment(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Train the lung segmenter and find the lungs of every picture, out of fold in the training part."""
    _perform(source, to, quick, "segment", as_json)


@app.command(epilog="Example: hilum region data/chest --to runs/chest")
def region(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Cut the lungs out of every picture."""
    _perform(source, to, quick, "region", as_json)


@app.command(epilog="Example: hilum train data/chest --to runs/chest")
def train(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Train the classifier and the anomaly model on the training part's regions."""
    _perform(source, to, quick, "train", as_json)


@app.command(epilog="Examples: hilum predict data/chest --to runs/chest; hilum predict runs/chest new/a.png new/b.png --masks out")
def predict(
    source: Source,
    images: Annotated[list[Path] | None, typer.Argument(help="Pictures to score with a finished run's models.", show_default=False)] = None,
    to: To = None,
    masks: Annotated[Path | None, typer.Option("--masks", help="Write the pictures' lung masks and anomaly maps here.", show_default=False)] = None,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Score the tune and test parts; or, given a run and pictures, score the pictures. Needs no PyTorch."""
    if not images:
        _perform(source, to, quick, "predict", as_json)
        return
    from hilum.steps import ask

    told, faults = ask.ask(source, images, masks)
    printed.told(json.dumps(told, indent=1) if as_json else "\n".join(printed.line(about) for about in told), faults)


@app.command(epilog="Example: hilum show image.dcm --to picture.png")
def show(
    image: Annotated[Path, typer.Argument(help="A DICOM, PNG, JPEG or TIFF file.", show_default=False)],
    to: Annotated[Path | None, typer.Option("--to", help="The PNG to draw; else NAME.shown.png, here.", show_default=False)] = None, as_json: Json = False,
) -> None:
    """Tell what a picture's file says and what is applied to its values, and draw it: bright is dense."""
    from hilum.steps import show as step

    typer.echo(step.show(image, to, as_json))


@app.command(epilog="Examples: hilum lungs image.png --to out; hilum lungs data/chest 'more/*.dcm' --to out --json")
def lungs(
    images: Annotated[list[str], typer.Argument(help="PNG, JPEG, TIFF or DICOM files, folders of them, or patterns in quotes.", show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="Where masks, overlays and the table lungs.csv are written.")] = Path("lungs"),
    model: Annotated[Path | None, typer.Option("--model", help="A lung model of your own; else the one that comes with Hilum.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Find the lungs in pictures: masks in the file's own pixels, overlays, and a table of areas, widths and quality. Needs no PyTorch."""
    from hilum.steps import lungs as step

    rows, faults = step.find(images, to, model=model, watch=printed.watch)
    printed.told(json.dumps(rows, indent=1) if as_json else step.lines(rows, to), faults)


@app.command(epilog="Example: hilum evaluate data/chest --to runs/chest")
def evaluate(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Compute the figures with their intervals, after proving that no stage was trained on a test image."""
    _perform(source, to, quick, "evaluate", as_json)


@app.command(epilog="Example: hilum report data/chest --to runs/chest")
def report(source: Source, to: To = None, quick: Quick = False, as_json: Json = False) -> None:
    """Write the report, one HTML file."""
    _perform(source, to, quick, "report", as_json)


@app.command(epilog="Example: hilum example kaggle_masks demo/data --images 120 --seed 1")
def example(
    dataset: Annotated[str, typer.Argument(help="A data set's name, see `hilum datasets`.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Where to write it; must be empty or not there.", show_default=False)],
    images: Annotated[int, typer.Option("--images", min=4, help="How many pictures.")] = 24,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same files.")] = 0,
) -> None:
    """Write a made-up copy of a data set's layout: invented pictures, exact masks, readings."""
    from hilum.steps import ingest as step

    step.example(dataset, folder, images=images, seed=seed)
    typer.echo(f"{images} made-up pictures in the layout of {dataset}: {folder}")


@app.command(epilog="Examples: hilum datasets kermany; hilum datasets --json")
def datasets(
    name: Annotated[str | None, typer.Argument(help="One set's name, for all that is known of it.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """The data sets that are read, and others that are only known, with what a person needs to choose among them."""
    from dataclasses import asdict

    from hilum import known
    from hilum.steps import fetch as step

    told = [known.known(one) for one in ([name] if name else known.names())]
    if as_json:
        typer.echo(json.dumps({about.name: asdict(about) for about in told}, indent=1))
    elif name:
        typer.echo(step.describe(told[0]))
    else:
        typer.echo("\n".join(map(step.line, told)) + "\n\nAll of one: hilum datasets NAME. To get it: hilum fetch NAME")


@app.command(epilog="Example: hilum fetch kermany --to data/kermany --accept")
def fetch(
    name: Annotated[str, typer.Argument(help="A data set's name, see `hilum datasets`.", show_default=False)],
    to: Annotated[Path | None, typer.Option("--to", help="The folder for it; data/NAME where it is not given.", show_default=False)] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Accept the licence that is shown, without being asked.")] = False,
    as_json: Json = False,
) -> None:
    """Show a data set and its licence, fetch it where anybody may, and say what else there is to do."""
    from hilum import known
    from hilum.steps import fetch as step

    about, folder = known.known(name), to or Path("data") / name
    typer.echo(step.terms(about), err=as_json)
    ask = bool(about.files) and not accept and at_a_terminal()
    accepted = accept or (ask and typer.confirm("\nDo you accept the licence, and shall this be fetched?", err=True))
    told = step.fetch(about, folder, accepted=accepted, watch=printed.watch)
    typer.echo(json.dumps(told, indent=1) if as_json else step.told(told))


def at_a_terminal() -> bool:
    return sys.stdin.isatty()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hilum {__version__}")
        raise typer.Exit


@app.callback()
def options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    pass


def _perform(source: Path, to: Path | None, quick: bool, until: str, as_json: bool, fixes: Path | None = None) -> Path:
    """Do the steps up to `until`, telling of each; returns the run's folder."""
    _, run, told = _performed(source, to, quick, until, as_json, fixes)
    if as_json:
        _print_steps(run, told)
    return run.folder


def _performed(
    source: Path, to: Path | None, quick: bool, until: str, as_json: bool, fixes: Path | None = None
) -> tuple[Recipe, Run, dict[str, Any]]:
    recipe, run = _meant(source, to, quick)
    if fixes:
        recipe = recipe.corrected_by(fixes)
    return recipe, run, _chain(recipe, run, until, as_json)


def _chain(recipe: Recipe, run: Run, until: str, as_json: bool) -> dict[str, Any]:
    """Do the steps up to `until`, telling of each on a line; their summaries by name."""
    from hilum.steps import chain

    told = {}
    for done in chain.perform(run, recipe, printed.watch, until=until):
        told[done.step] = done.summary
        state = "kept" if done.kept else f"{done.seconds:.1f} s"
        typer.echo(f"{done.step:9} {state:>8}  {printed.line(done.summary)}", err=as_json)
    return told


def _print_steps(run: Run, told: dict[str, Any]) -> None:
    typer.echo(json.dumps({"run": str(run.folder), "steps": told}, indent=1))


def _meant(source: Path, to: Path | None, quick: bool) -> tuple[Recipe, Run]:
    """The recipe and run that the arguments name."""
    from hilum.recipe import Data, Recipe
    from hilum.run import Run

    if source.suffix == ".toml":
        recipe = Recipe.read(source)
    elif (source / "recipe.toml").exists() and to is None:
        recipe, to = Run(source).recipe(), source
    else:
        recipe = Recipe(data=Data(folder=str(source.resolve())))
    name = source.stem if source.suffix == ".toml" else source.resolve().name
    return recipe.quick() if quick else recipe, Run(to or Path("runs") / name)
