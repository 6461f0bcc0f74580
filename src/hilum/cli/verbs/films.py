"""Verb `films`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli import console
from hilum.cli._app import DATA, Json
from hilum.errors import BadRecipe, plural

if TYPE_CHECKING:
    from hilum.dataset.dicom_index.film import Film
    from hilum.dataset.dicom_index.index import FilmIndex

GROUP, ORDER = DATA, 25
SHARDED = True
SHORT_HELP = "List the chest radiographs of a folder, DICOMDIR or DICOMweb server"
EXAMPLE = (
    "Examples: hilum films export/; hilum films /media/cdrom/DICOMDIR --csv; "
    "hilum films https://pacs.example.org/dicom-web --where StudyDate=20200101- "
    "--token-file token.txt"
)
_SHOWN = ("patient_id", "acquired", "view_position", "modality", "rows", "columns", "place")


def verb(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder of DICOM files, a DICOMDIR, or the address of a DICOMweb server.",
            show_default=False,
        ),
    ],
    every: Annotated[
        bool,
        typer.Option("--all", help="List every image, with the reason why it is no such film."),
    ] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="KEYWORD=VALUE",
            help="Narrow the query to a server, such as PatientID=42; may be repeated.",
            show_default=False,
        ),
    ] = None,
    user: Annotated[
        str, typer.Option("--user", help="The name to sign in with.", show_default=False)
    ] = "",
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", help="A file with its password.", show_default=False),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="A file with a bearer token.", show_default=False),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the list as CSV.")] = False,
    as_json: Json = False,
) -> None:
    """List the frontal chest radiographs among DICOM objects, found by their headers, with patient,
    view, moment and earlier films; say what contradicts itself. No pixel is read, and nothing is
    written.
    """
    if as_csv and as_json:
        raise BadRecipe("--csv and --json are two forms of the same list; choose one")
    index = _index(source, where or [], user, password_file, token_file)
    images = index.images if every else index.films
    if as_json:
        console.echo(json.dumps(_as_json(index, images), indent=1))
    elif as_csv:
        typer.echo(_as_csv(index, images), nl=False)
    else:
        console.echo(_screen(index, images, every, source))
    for said in (*index.contradictions, *index.notes):
        console.say(str(said))


def _index(
    source: str, where: list[str], user: str, password_file: Path | None, token_file: Path | None
) -> FilmIndex:
    if "://" not in source:
        if where or user or password_file or token_file:
            raise BadRecipe(
                f"--where, --user, --password-file and --token-file are for a server, and {source} "
                "is none; leave them out, or give an address such as "
                "https://pacs.example.org/dicom-web"
            )
        from hilum.dataset.dicom_index import folder

        with console.watch("reading headers") as progress:
            return folder.index_of(Path(source), progress)
    from hilum.dataset.dicom_index import server
    from hilum.safety.secret_files import secret
    from hilum.safety.web import Login

    pairs = [one.partition("=") for one in where]
    if wrong := [name for name, equals, _ in pairs if not equals or not name.isalnum()]:
        raise BadRecipe(
            f"--where {wrong[0]!r}: expected a DICOM keyword and a value, KEYWORD=VALUE"
        )
    password, token = (secret(path) if path else "" for path in (password_file, token_file))
    found = server.Server(source, Login(user, password, token))
    return server.index_of(found, {name: value for name, _, value in pairs})


def _row(index: FilmIndex, film: Film) -> dict[str, object]:
    row: dict[str, object] = asdict(film)
    del row["person"]  # a digest, for comparisons
    row["acquired"] = film.acquired.isoformat(" ") if film.acquired else None
    row["priors"] = _priors(index, film)
    return row


def _priors(index: FilmIndex, film: Film) -> list[str]:
    return [one.sop_instance_uid or "" for one in index.priors(film)]


def _as_json(index: FilmIndex, images: tuple[Film, ...]) -> dict[str, object]:
    return {
        "films": [_row(index, film) for film in images],
        "refused": dict(index.refused),
        "copies": list(index.copies),
        "contradictions": [asdict(one) for one in index.contradictions],
        "notes": list(index.notes),
    }


def _as_csv(index: FilmIndex, images: tuple[Film, ...]) -> str:
    from hilum.safety import spreadsheet_cells

    rows = [_row(index, film) | {"priors": " ".join(_priors(index, film))} for film in images]
    return spreadsheet_cells.of_rows(tuple(rows[0]), rows) if rows else ""


def _screen(index: FilmIndex, images: tuple[Film, ...], every: bool, source: str) -> str:
    import polars as pl

    names = (*_SHOWN, "refusal") if every else _SHOWN
    table = pl.DataFrame(
        [{name: str(getattr(one, name) or "") for name in names} for one in images],
        schema=dict.fromkeys(names, pl.String),
    )
    patients = {one.patient for one in index.films}
    followed = sum(bool(index.priors(one)) for one in index.films)
    lines = [console.columns(table)] if images else []
    lines.append(
        f"{plural(len(index.films), 'frontal chest radiograph')} of "
        f"{plural(len(patients), 'patient')}; {followed} with earlier films; "
        f"{len(index.copies)} further copies"
    )
    if not index.images and not index.refused:
        lines.append(
            "the server names no radiograph that matches"
            if "://" in source
            else "no DICOM object is there; `hilum describe` lists images of other formats"
        )
    lines += [f"not among them: {count} {reason}" for reason, count in index.refused.items()]
    return "\n".join(lines)
