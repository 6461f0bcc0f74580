"""What the verbs share: the application, the arguments that several take, and the performing of a
run's steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hilum import __version__
from hilum.cli import console, exit_status
from hilum.cli._executor import usual
from hilum.errors import BadRecipe
from hilum.safety import addresses
from hilum.scale.executor import executing

if TYPE_CHECKING:
    from hilum.config import Recipe
    from hilum.dicom_out.write import DicomWriter
    from hilum.run_folder import Run
    from hilum.storage import JsonObject

# A new user comes with a folder, so the pipeline stands first.
PIPELINE, DATA, IMAGES, RUNS = "Pipeline", "Data sets", "Images", "Runs"
GROUPS = (PIPELINE, DATA, IMAGES, RUNS)  # of verbs, in the order in which they are listed


class GroupedVerbs(TyperGroup):
    """List the verbs in groups, in the order in which they are used, each with its short help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for name, command in self.commands.items():
            groups[getattr(command, "rich_help_panel", "")].append((name, command.short_help or ""))
        for title, verbs in groups.items():
            with formatter.section(title):
                formatter.write_dl(verbs)


app = typer.Typer(
    cls=GroupedVerbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Folders of chest radiographs in; checked data, patient-safe splits, lung masks, "
    "findings, "
    "anomaly maps and honest figures out.",
    epilog=exit_status.CODES,
)


class FileNamesAs(StrEnum):
    masked = "masked"
    pseudonyms = "pseudonyms"
    keep = "keep"


class ReadingsOf(StrEnum):
    published = "published"
    keep = "keep"
    drop = "drop"


Source = Annotated[
    Path,
    typer.Argument(
        help="A folder of radiographs or its address (s3://bucket/folder), a recipe (.toml), or "
        "the folder of a run.",
        parser=addresses.located,
        metavar="SOURCE",
        show_default=False,
    ),
]
DATA_FOLDER = "A folder of radiographs or its address (s3://bucket/folder)."
DataFolder = Annotated[
    Path,
    typer.Argument(
        help=DATA_FOLDER, parser=addresses.located, metavar="FOLDER", show_default=False
    ),
]
Others = Annotated[
    list[Path] | None,
    typer.Argument(
        help="More sets, audited too and compared with it and one another.",
        parser=addresses.located,
        metavar="SOURCES",
        show_default=False,
    ),
]


def written_to(what: str) -> Any:
    """Return the option `--out`, `-o`; `what` says what the verb writes there."""
    return typer.Option("--out", "-o", help=what)


def on_this_disk(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb that takes no address for a path of a file or folder.

    Those that may be addresses come as the folders of their mirrors.
    """

    @wraps(verb)
    def called(*arguments: object, **options: object) -> None:
        for value in options.values():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, Path):
                    addresses.on_this_disk(one)
        verb(*arguments, **options)

    return called


To = Annotated[Path | None, written_to("The run's folder; runs/NAME where it is not given.")]
Quick = Annotated[
    bool,
    typer.Option("--quick", help="The same job in a fraction of the time, with weaker models."),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print the result as JSON; progress goes to standard error in any case."
    ),
]

IMAGES_HELP = "PNG, JPEG, TIFF or DICOM files, folders of them, or patterns in quotes."
Images = Annotated[list[str], typer.Argument(help=IMAGES_HELP, show_default=False)]

DicomTo = Annotated[
    Path | None,
    typer.Option(
        "--dicom",
        help="Also write the results as DICOM objects of each image's study here: segmentation, "
        "structured reports, secondary capture. DICOM images only; needs the extra [dicom].",
        show_default=False,
    ),
]
ViewerCompat = Annotated[
    bool,
    typer.Option(
        "--viewer-compat",
        help="With --dicom: give the segmentation a position that was not measured, and say so in "
        "it, for viewers that show none without.",
    ),
]
LabelMap = Annotated[
    bool,
    typer.Option(
        "--labelmap",
        help="With --dicom: write the segmentation as a label map, smaller, which fewer viewers "
        "show.",
    ),
]
PresentationState = Annotated[
    bool,
    typer.Option(
        "--presentation-state", help="With --dicom: also write the outlines as presentation state."
    ),
]

Fixes = Annotated[
    Path | None,
    typer.Option(
        "--corrections",
        help="A file of corrections, as `hilum propose-fixes` writes it.",
        show_default=False,
    ),
]

KeepIdentifiers = Annotated[
    bool | None,
    typer.Option(
        "--keep-identifiers/--pseudonyms",
        help="In what is made to be passed on (cards, exports, report, audit page) patients, "
        "studies "
        "and annotators go by pseudonyms; or keep them as they are.",
        show_default=False,
    ),
]
FileNames = Annotated[
    FileNamesAs | None,
    typer.Option(
        "--file-names",
        help="There: file names with pseudonyms for the identifiers in them (masked, as is usual), "
        "pseudonyms for all of a name, or names as they are (keep).",
        show_default=False,
    ),
]
Readings = Annotated[
    ReadingsOf | None,
    typer.Option(
        "--readings",
        help="There: reading texts of public releases alone (published, as is usual), all, or "
        "none.",
        show_default=False,
    ),
]


class Level(StrEnum):
    never = "never"
    error = "error"
    warning = "warning"
    info = "info"


FailOn = Annotated[
    Level,
    typer.Option(
        "--fail-on", help="Exit with code 1 where the audit has issues of this severity or worse."
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        console.echo(f"hilum {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    traceback: Annotated[
        bool,
        typer.Option(
            "--traceback",
            envvar=exit_status.TRACEBACK,
            help="Show Python's traceback of whatever stops the command.",
        ),
    ] = False,
) -> None:
    if traceback:
        exit_status.show_tracebacks()
    context.with_resource(executing(usual()))


def dicom_writer(
    to: Path | None, verb: str, *, viewer_compat: bool, labelmap: bool, presentation_state: bool
) -> DicomWriter | None:
    """Return the writer of DICOM objects; None where none were requested."""
    if to is None:
        if viewer_compat or labelmap or presentation_state:
            raise BadRecipe(
                "--viewer-compat, --labelmap and --presentation-state say how results are written "
                "as DICOM objects, and no folder for them was given; add --dicom DIR"
            )
        return None
    from hilum.dicom_out.write import DicomWriter, Options

    return DicomWriter(to, verb, Options(labelmap, viewer_compat, presentation_state))


def sharing(
    keep_identifiers: bool | None, file_names: FileNamesAs | None, readings: ReadingsOf | None
) -> dict[str, str]:
    """Return the settings of [share] that were given on the command line."""
    given: dict[str, str] = {}
    if keep_identifiers is not None:
        given["identifiers"] = "keep" if keep_identifiers else "pseudonyms"
    if file_names is not None:
        given["file_names"] = file_names.value
    if readings is not None:
        given["readings"] = readings.value
    return given


def perform(
    source: Path,
    to: Path | None,
    quick: bool,
    until: str,
    as_json: bool,
    fixes: Path | None = None,
    share: Mapping[str, str] | None = None,
) -> Path:
    """Do the steps up to `until`, reporting each; return the run's folder."""
    _, run, steps = performed(source, to, quick, until, as_json, fixes, share)
    if as_json:
        print_steps(run, steps)
    return run.folder


def performed(
    source: Path,
    to: Path | None,
    quick: bool,
    until: str,
    as_json: bool,
    fixes: Path | None = None,
    share: Mapping[str, str] | None = None,
) -> tuple[Recipe, Run, dict[str, JsonObject]]:
    recipe, run = meant(source, to, quick)
    if share:
        recipe = recipe.sharing(share)
    if fixes:
        recipe = recipe.corrected_by(fixes)
    return recipe, run, chain_of(recipe, run, until, as_json)


def chain_of(recipe: Recipe, run: Run, until: str, as_json: bool) -> dict[str, JsonObject]:
    """Do the steps up to `until`, reporting each on a line; return their summaries by name."""
    from hilum.runs import run_all

    summaries = {}
    for done in run_all.perform(run, recipe, console.watch, until=until):
        if isinstance(done, run_all.Note):
            typer.secho(f"note: {done.text}", fg="yellow", err=True)
            continue
        summaries[done.step] = done.summary
        state = "kept" if done.kept else f"{done.seconds:.1f} s"
        plan = done.summary.get(run_all.PLAN, [])
        summary = {key: value for key, value in done.summary.items() if key != run_all.PLAN}
        console.echo(
            "\n".join([*plan, f"{done.step:9} {state:>8}  {console.line(summary)}"]), err=as_json
        )
        if done.step == "split" and "mode" in done.summary:
            typer.secho(f"note: {console.division(done.summary)}", fg="yellow", err=as_json)
    return summaries


def print_steps(run: Run, steps: Mapping[str, object]) -> None:
    console.echo(json.dumps({"run": str(run.folder), "steps": steps}, indent=1))


def meant(source: Path, to: Path | None, quick: bool) -> tuple[Recipe, Run]:
    """Return the recipe and the run that the arguments name."""
    from hilum.config import Recipe
    from hilum.run_folder import Run, is_run
    from hilum.safety.path_names import as_text

    if is_run(source) and to is None:
        recipe, to = Run(source).edited_recipe(), source
    else:
        recipe = Recipe.of_source(source)
    name = source.stem if source.suffix == ".toml" else source.resolve().name
    return recipe.quick() if quick else recipe, Run(to or Path("runs") / as_text(name))
