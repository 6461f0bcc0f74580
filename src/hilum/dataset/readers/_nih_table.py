"""Read the tables of ChestX-ray14 line by line, and gather what is wrong with them.

Columns are found by name, whatever their order; a table may be packed (.csv.gz).
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from hilum.dataset.manifest import Remark
from hilum.errors import BadData, HilumError
from hilum.imaging.files import opened, text
from hilum.safety import path_names, untrusted_files

Column = tuple[
    tuple[str, ...], Callable[[str], Any]
]  # its possible names, and how its cells are read
_HEADER_BYTES = 4096


def has(path: Path, columns: Iterable[Column]) -> bool:
    """Whether the first line of a table names all these columns; a table that cannot be read has none."""
    try:
        with untrusted_files.opened(path, root=opened.root()) as stream:
            data = (gzip.GzipFile(fileobj=stream) if path.suffix == ".gz" else stream).read(
                _HEADER_BYTES
            )
        encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
        first = data.decode(encoding, "replace").splitlines()[:1]
        header = {cell.strip() for cell in next(csv.reader(first), [])}
    except (HilumError, OSError, EOFError, zlib.error, csv.Error):
        return False
    return all(header.intersection(names) for names, _ in columns)


def _unpacked(path: Path, data: bytes) -> bytes:
    """Raises `BadData` for more than a table has, and what `gzip` raises."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        unpacked = stream.read(untrusted_files.MAX_TEXT_BYTES + 1)
    if len(unpacked) > untrusted_files.MAX_TEXT_BYTES:
        raise BadData(f"{path}: unpacks to more than {untrusted_files.MAX_TEXT_BYTES:,} bytes")
    return unpacked


@dataclass
class Told:
    """What was met while reading a folder: remarks to pass on, and faults to raise together."""

    root: Path
    remarks: list[Remark] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def place(self, path: Path) -> str:
        return path_names.below(self.root, path)

    def remark(self, path: str, severity: str, rule: str, message: str) -> None:
        self.remarks.append(Remark(path, severity, rule, message))

    def words(self, path: Path) -> str:
        """The text of a file. Raises `BadData` where a packed one cannot be unpacked."""
        if path.suffix == ".gz":
            opened.note(path)
            data = untrusted_files.read_bytes(
                path, root=opened.root(), limit=untrusted_files.MAX_TEXT_BYTES
            )
            try:
                return _unpacked(path, data).decode("utf-8-sig")
            except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
                raise BadData(
                    f"{path}: cannot be unpacked to UTF-8 text ({error}); copy it again, "
                    "or put the unpacked file in its place"
                ) from error
        words, encoding = text.read(path)
        if encoding:
            message = f"is not UTF-8; it was read as {encoding}; save it again as UTF-8"
            self.remark(self.place(path), "warning", "csv-encoding", message)
        return words

    def table(self, path: Path, columns: tuple[Column, ...]) -> Iterator[tuple[int, list[Any]]]:
        """Yield the number and the read cells, in the order of `columns`, of each sound line; what is
        wrong with the others becomes faults."""
        lines = csv.reader(io.StringIO(self.words(path)))
        header = [cell.strip() for cell in next(lines, [])]
        places = [
            next((header.index(name) for name in names if name in header), -1)
            for names, _ in columns
        ]
        missing = [names for (names, _), at in zip(columns, places, strict=True) if at < 0]
        if missing:
            lacking = ", no column ".join(" or ".join(names) for names in missing)
            got = ", ".join(filter(None, header)) or "nothing"
            self.faults.append(f"{path.name} line 1: no column {lacking}; got {got}")
            return
        pick, needed = itemgetter(*places), max(places) + 1
        try:
            for cells in lines:
                where = f"{path.name} line {lines.line_num}"
                if len(cells) >= needed:
                    read = self._read(where, pick(cells), columns)
                    if len(read) == len(columns):
                        yield lines.line_num, read
                elif cells:
                    self.faults.append(
                        f"{where}: has {len(cells)} cells, expected {needed}; the file may be cut short"
                    )
        except csv.Error as error:
            self.faults.append(f"{path.name} line {lines.line_num}: is not CSV ({error})")

    def _read(self, where: str, cells: tuple[str, ...], columns: tuple[Column, ...]) -> list[Any]:
        read = []
        for (names, parse), cell in zip(columns, cells, strict=True):
            try:
                read.append(parse(cell.strip()))
            except ValueError as error:
                self.faults.append(f"{where}: {names[0]} '{cell}' {error}")
        return read
