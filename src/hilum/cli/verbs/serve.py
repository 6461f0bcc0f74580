"""Verb `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import RUNS, Source, To

GROUP, ORDER = RUNS, 5
SHORT_HELP = "Review and correct images in the browser"
EXAMPLE = "Examples: hilum serve runs/chest; hilum serve data/chest --port 9000 --read-only"


def verb(
    source: Source,
    to: To = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; by default this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8765,
    prepare: Annotated[
        bool,
        typer.Option("--prepare", help="Make ready what the desk needs, and stop without opening."),
    ] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse every change.")] = False,
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            "--compare", help="Another run to show beside it; may be repeated.", show_default=False
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file",
            help="A file with the password for everyone; needed with another --host.",
            show_default=False,
        ),
    ] = None,
    behind_proxy: Annotated[
        str | None,
        typer.Option(
            "--behind-proxy",
            metavar="HEADER",
            help="A reverse proxy signs people in, and names them in this header.",
            show_default=False,
        ),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--origin",
            help="The address by which browsers know the desk, as https://desk.example.org.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Open a desk in the browser: see every image as it was read, judge the audit's issues, correct
    labels, complete lung masks. What readers change is kept as revisions in the run's folder, and
    the next `hilum run` takes it up; the data are never changed. Nothing leaves the machine.
    """
    from hilum.serve import memory

    memory.give_back_at_once()
    from hilum.safety.secret_files import secret
    from hilum.serve import running
    from hilum.serve.preparation import Preparation
    from hilum.serve.settings import Settings

    preparation = Preparation.of(source, to)
    if prepare:
        console.echo(running.prepare(preparation))
        return
    settings = Settings(
        host=host,
        port=port,
        read_only=read_only,
        password=secret(password_file) if password_file else None,
        user_header=behind_proxy,
        origin=origin,
        compare=tuple(compare or ()),
    )
    running.serve(preparation, settings, console.echo)
