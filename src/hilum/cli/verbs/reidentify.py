"""Verb `reidentify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import console
from hilum.cli._app import DATA, Json

GROUP, ORDER = DATA, 56
SHORT_HELP = "Find who a pseudonym stands for"
EXAMPLE = "Example: hilum reidentify HK4T2MZQW7B3UXA5D --among patients.txt --key ~/keys/site.key"


def verb(
    pseudonyms: Annotated[
        list[str] | None,
        typer.Argument(
            help="Patient IDs or UIDs of de-identified files; without any, the pseudonym of every "
            "Patient ID in the list is printed.",
            show_default=False,
        ),
    ] = None,
    *,
    among: Annotated[
        Path,
        typer.Option(
            "--among",
            help="A text file with a Patient ID or UID a line, those that come into question.",
            show_default=False,
        ),
    ],
    key: Annotated[
        Path, typer.Option("--key", help="The file of your site's key.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Find, with the key, which of a list of identifiers pseudonyms of `hilum deidentify` are.

    Nothing is stored from which anybody could go back: the key makes the pseudonym of each
    identifier in the list anew, and compares. The days by which dates were moved are printed too.
    """
    from hilum.privacy.dicom import keyed

    found = keyed.reidentified(key, pseudonyms or (), among)
    faults = [
        f"{one}: is the pseudonym of none of the identifiers in {among} with this key"
        for one in pseudonyms or ()
        if one not in found
    ]
    lines = (
        f"{pseudonym}  {one['identifier']}  dates moved by {one['shift_days']} days"
        for pseudonym, one in found.items()
    )
    console.summarised(json.dumps(found, indent=1) if as_json else "\n".join(lines), faults)
