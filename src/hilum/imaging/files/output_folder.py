"""Mark the folders that a command writes into, before anything else, so that none is read as data.

The mark is a hidden file, `MARK`, one line of JSON: {"written_by": "hilum lungs"}.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hilum import storage
from hilum.errors import BadData, CannotRead, CannotWrite, HilumError, NotFound
from hilum.safety import spreadsheet_cells, untrusted_files
from hilum.safety.path_names import as_text

MARK = ".hilum-output"
_LONGEST_MARK = 4096  # bytes


def mark(folder: Path, verb: str) -> None:
    """Create a folder and mark it as output of `hilum VERB`. Raises `CannotWrite`."""
    command = f"hilum {verb}"
    try:
        storage.write_text(folder / MARK, json.dumps({"written_by": command}) + "\n")
    except CannotWrite:
        if written_by(folder) != command:  # by another process of the same command meanwhile
            raise


def written_by(folder: Path) -> str | None:
    """Return the command that writes into a folder ("hilum lungs"); None where it has no mark."""
    try:
        content = untrusted_files.read_json(folder / MARK, limit=_LONGEST_MARK)
        return str(content["written_by"])
    except NotFound:
        return None
    except (BadData, CannotRead, KeyError, TypeError):
        return "hilum"


class Output:
    """Where a command writes; the folder is marked before anything else is written.

    It is false with `to` None, where no output is wanted.
    """

    def __init__(self, to: Path | None, verb: str) -> None:
        self.to, self._verb, self.marked = to, verb, False
        self.given: list[Path] = []  # paths that were requested

    def __bool__(self) -> bool:
        return self.to is not None

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folder, if there is one."""
        return (self.to,) if self.to is not None else ()

    def path(self, *parts: str) -> Path:
        """Return the path of a file to write. Raises `CannotWrite` where marking fails."""
        self.given.append(self.mark().joinpath(*parts))
        return self.given[-1]

    def mark(self) -> Path:
        """Mark the folder unless that is done, and return it. Raises `CannotWrite`."""
        if self.to is None:
            raise ValueError("no folder to write into was given")
        if not self.marked:
            mark(self.to, self._verb)
            self.marked = True
        return self.to


def folders(*outputs: Output) -> tuple[Path, ...]:
    """Return the folders of several outputs, each once."""
    return tuple(dict.fromkeys(folder for output in outputs for folder in output.folders))


def refuse_overlap(to: Path, images: Mapping[str, Path], searched: Sequence[Path]) -> None:
    """Raise where writing into `to` could change what is read: data folders are never written to.

    `images` are paths by their resolved ones, `searched` resolved folders. Raises `HilumError` for
    a `to` in a folder that is searched, `BadData` for an image below `to`.
    """
    place = Path(os.path.realpath(to))
    if holding := next(
        (folder for folder in sorted(searched) if place.is_relative_to(folder)), None
    ):
        beside = holding.parent / f"{holding.name or 'images'}-{place.name}"
        remedy = (
            "choose another folder with --out"
            if beside.is_relative_to(holding)
            else f"use --out {shlex.quote(as_text(beside))}"
        )
        raise HilumError(
            f"{to} lies inside the folder {as_text(holding)}, which is searched for images and "
            f"never written to; {remedy}"
        )
    inside = f"{place}{os.sep}"
    if below := next((path for real, path in images.items() if real.startswith(inside)), None):
        raise BadData(
            f"{below} lies below {to}, where output is written; choose another folder with --out"
        )


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table of these columns; None becomes an empty cell. Raises `CannotWrite`."""
    storage.write_text(path, spreadsheet_cells.of_rows(columns, rows))
