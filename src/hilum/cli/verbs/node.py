"""Verb `node`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli import console
from hilum.cli._app import RUNS, Json
from hilum.errors import on_one_line

if TYPE_CHECKING:
    from hilum.node.settings import Settings

GROUP, ORDER = RUNS, 8
SHORT_HELP = "Read an archive's radiographs as they come"
EXAMPLE = (
    "Examples: hilum node run node.toml; hilum node status node.toml; hilum node retry node.toml"
)


class Action(StrEnum):
    """What to do with a node."""

    run = "run"
    status = "status"
    retry = "retry"
    drop = "drop"
    check = "check"
    viewer = "viewer"


def verb(
    action: Annotated[
        Action,
        typer.Argument(
            help="run SETTINGS: take in films and send results until it is stopped. status "
            "SETTINGS: films by state, why films were skipped, and what failed and why. retry "
            "SETTINGS: try again what failed for good. drop SETTINGS: give it up, and free its "
            "space. check SETTINGS: whether the settings are right, and their "
            "connections work. viewer SETTINGS: "
            "OHIF's viewer of the archive, for this machine's browser.",
            show_default=False,
        ),
    ],
    settings: Annotated[
        Path, typer.Argument(help="The settings of the node, node.toml.", show_default=False)
    ],
    film: Annotated[
        str,
        typer.Option("--film", help="Of retry and drop: this film alone, by its key in `status`."),
    ] = "",
    package: Annotated[
        Path | None,
        typer.Option(
            "--package",
            help="Of viewer: the npm package @ohif/app as a file; else it is fetched, once.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Of viewer; 0 takes a free one.")
    ] = 8044,
    as_json: Json = False,
) -> None:
    """Run a node beside an archive: frontal chest radiographs that it receives (Orthanc, DICOMweb,
    C-STORE) are read by the models, and results are stored with them as DICOM objects. For
    research only; not for diagnosis.
    """
    from hilum.node import overview, service, settings_file

    read = settings_file.read(settings)
    if action == Action.run:
        service.run(read, console.say)
    elif action == Action.check:
        _check(read)
    elif action == Action.viewer:
        _view(read, package, port)
    elif action == Action.retry:
        console.echo(overview.retry(read, film))
    elif action == Action.drop:
        console.echo(overview.drop(read, film))
    else:
        found = overview.status(read)
        console.echo(json.dumps(found, indent=1) if as_json else overview.lines(found))


def _check(settings: Settings) -> None:
    """Say what settings mean, and try their connections."""
    from hilum.errors import HilumError
    from hilum.node import overview, trial

    console.echo(overview.summary(settings))
    faults = 0
    for what, fault in trial.trials(settings):
        console.echo(on_one_line(f"{what}: {fault or 'works'}"))
        faults += bool(fault)
    if faults:
        raise HilumError(f"{faults} of the connections of {settings.path} do not work")


def _view(settings: Settings, package: Path | None, port: int) -> None:
    """Serve the viewer until Ctrl-C."""
    import threading

    from hilum.errors import Interrupted
    from hilum.node import viewer, viewer_package

    url, connect = viewer.archive(settings)
    with console.watch("fetching the viewer") as progress:
        files = viewer_package.files(package, progress)
    with viewer.serving(files, url, connect, port) as taken:
        console.say(f"the viewer of {url} is at http://{viewer.HOST}:{taken}/ until Ctrl-C")
        try:
            threading.Event().wait()
        except Interrupted:
            return
