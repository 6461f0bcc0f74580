"""Read the tables of ChestX-ray14, and collect the faults of their cells.

Columns are found by name, in any order; a table may be gzipped (.csv.gz). A table in which no cell
is quoted, no line differs in its number of cells and nothing is at fault is read column by column,
each different cell once; any other is read line by line, which finds all of its faults.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from hilum.dataset.readers._reading_log import ReadingLog
from hilum.errors import BadData, HilumError
from hilum.imaging.files import opened
from hilum.safety import untrusted_files

# What the csv module may read otherwise than as text between commas.
_UNPLAIN = ('"', "\r", "\0", "\n\n")
_HEADER_BYTES = 4096  # the released header has about 200


class Column(NamedTuple):
    """A column by its possible names, and the parser of its cells, which raises `ValueError`."""

    names: tuple[str, ...]
    parse: Callable[[str], Any]
    field: str = ""  # of `table`, and `kind` its type
    kind: type[pl.DataType] = pl.String
    plain: str = ""  # regular expression of cells that are parsed to themselves


def has(path: Path, columns: Iterable[Column]) -> bool:
    """Return whether the first line of a table names all columns; False where it cannot be read."""
    try:
        with untrusted_files.opened(path, root=opened.root()) as stream:
            source = gzip.GzipFile(fileobj=stream) if path.suffix == ".gz" else stream
            data = source.read(_HEADER_BYTES)
        encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
        first = data.decode(encoding, "replace").splitlines()[:1]
        header = {cell.strip() for cell in next(csv.reader(first), [])}
    except (HilumError, OSError, EOFError, zlib.error, csv.Error):
        return False
    return all(header.intersection(column.names) for column in columns)


def text(path: Path, log: ReadingLog) -> str:
    """Return the text of a table or list. Raises `BadData` where it cannot be unpacked."""
    if path.suffix != ".gz":
        return log.text(path, "csv-encoding")
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


def table(path: Path, columns: Sequence[Column], log: ReadingLog) -> pl.DataFrame:
    """Return `line`, and a column for the field of each of `columns`, of lines without a fault.

    Faults of all other lines, and columns that are missing, go to the log.
    """
    content = text(path, log)
    if (found := _columns(content, columns)) is not None:
        return found
    cells = [(number, *parsed) for number, parsed in _rows(path, content, columns, log)]
    kinds = {"line": pl.Int64, **{column.field: column.kind for column in columns}}
    return pl.DataFrame(cells, schema=kinds, orient="row")


def _columns(content: str, columns: Sequence[Column]) -> pl.DataFrame | None:
    """Return what `table` does, or None where anything is at fault or unusual."""
    content = content.replace("\r\n", "\n") if "\r" in content else content
    header, _, body = content.partition("\n")
    body = body.removesuffix("\n")
    if not body or body.startswith("\n") or any(mark in content for mark in _UNPLAIN):
        return None
    names = [cell.strip() for cell in header.split(",")]
    places = [_place(column, names) for column in columns]
    lines = pl.Series([body]).str.split("\n").explode()
    long = lines.str.len_bytes() > csv.field_size_limit()
    if min(places) < 0 or long.any():
        return None
    *cells, beyond = lines.str.split_exact(",", len(names)).struct.unnest().get_columns()
    if cells[-1].null_count() or beyond.count():  # a line of fewer or of more cells
        return None
    made = {}
    for column, place in zip(columns, places, strict=True):
        parsed = _parsed_column(column, cells[place])
        if parsed is None:
            return None
        made[column.field] = parsed
    return pl.DataFrame({"line": np.arange(2, len(lines) + 2), **made})


def _parsed_column(column: Column, cells: pl.Series) -> pl.Series | None:
    """Return the parsed cells; None where one is at fault."""
    if column.plain and cells.str.contains(column.plain).all():
        return cells
    different = cells.unique()
    try:
        parsed = [column.parse(cell.strip()) for cell in different]
    except ValueError:
        return None
    return cells.replace_strict(different, pl.Series(parsed, dtype=column.kind))


def rows(path: Path, columns: Sequence[Column], log: ReadingLog) -> Iterator[tuple[int, list[Any]]]:
    """Yield line number and parsed cells, in the order of `columns`, of each line without a fault.

    Faults of all other lines, and columns that are missing, go to the log.
    """
    yield from _rows(path, text(path, log), columns, log)


def _rows(
    path: Path, content: str, columns: Sequence[Column], log: ReadingLog
) -> Iterator[tuple[int, list[Any]]]:
    lines = csv.reader(io.StringIO(content))
    header = [cell.strip() for cell in next(lines, [])]
    places = [_place(column, header) for column in columns]
    missing = [column for column, at in zip(columns, places, strict=True) if at < 0]
    if missing:
        lacking = ", no column ".join(" or ".join(column.names) for column in missing)
        got = ", ".join(filter(None, header)) or "nothing"
        log.faults.append(f"{path.name} line 1: no column {lacking}; got {got}")
        return
    pick, needed = itemgetter(*places), max(places) + 1
    try:
        for cells in lines:
            where = f"{path.name} line {lines.line_num}"
            if len(cells) >= needed:
                parsed = _parsed(where, pick(cells), columns, log)
                if len(parsed) == len(columns):
                    yield lines.line_num, parsed
            elif cells:
                log.faults.append(
                    f"{where}: has {len(cells)} cells, expected {needed}; "
                    "the file may be truncated: copy it again"
                )
    except csv.Error as error:
        log.faults.append(f"{path.name} line {lines.line_num}: is not CSV ({error})")


def _place(column: Column, header: list[str]) -> int:
    return next((header.index(name) for name in column.names if name in header), -1)


def _parsed(
    where: str, cells: tuple[str, ...], columns: Sequence[Column], log: ReadingLog
) -> list[Any]:
    parsed = []
    for column, cell in zip(columns, cells, strict=True):
        try:
            parsed.append(column.parse(cell.strip()))
        except ValueError as error:
            log.faults.append(f"{where}: {column.names[0]} '{cell}' {error}")
    return parsed


def _unpacked(path: Path, data: bytes) -> bytes:
    """Return the content of a gzip file. Raises `BadData` above the size limit of a table."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        unpacked = stream.read(untrusted_files.MAX_TEXT_BYTES + 1)
    if len(unpacked) > untrusted_files.MAX_TEXT_BYTES:
        raise BadData(f"{path}: unpacks to more than {untrusted_files.MAX_TEXT_BYTES:,} bytes")
    return unpacked
