"""Rows of cells, from a text or a sheet, made a `Table`; faulty rows are listed all at once."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import polars as pl

from hilum.dataset.tables._header import SAMPLE_ROWS, Head, filled_width, find_header, fits
from hilum.dataset.tables._table import (
    MAX_BYTES,
    MAX_CELLS,
    MAX_COLUMNS,
    Table,
    column_name,
    named,
    short,
    strip,
    stripped,
)
from hilum.errors import BadData, plural

CHUNK_ROWS = 32_768
SHOWN = 5  # faulty rows that an error lists

Rows = Iterator[tuple[int, Sequence[str]]]  # line or row number in the file, cells


def assemble(
    name: str,
    rows: Rows,
    remarks: Iterable[str] = (),
    *,
    unit: str = "line",
    grid: bool = False,
    header_first: bool = False,
) -> Table:
    """Make one table of the rows of a file, in their order, empty ones included.

    `grid`: a row may end before or go on behind the header, as on a sheet. `header_first`: the
    first row is the header, whatever its cells. Raises `BadData` listing the rows with more or
    fewer cells than the header.
    """
    sample = list(islice(rows, SAMPLE_ROWS))
    while sample and not any(filled_width(cells) for _, cells in sample):
        sample = list(islice(rows, SAMPLE_ROWS))
    if not sample:
        return Table(name, pl.DataFrame(), remarks=(*remarks, "empty"), unit=unit)
    head = Head(0) if header_first else find_header([cells for _, cells in sample])
    remarks = [*remarks, *_of_titles([sample[i] for i in head.titles], unit)]
    names = [column_name(cell) for cell in sample[head.row][1]]
    if head.headless:
        names = [f"column {i + 1}" for i in range(filled_width(names))]
        remarks.append(f"no header: the first {unit} is data; columns are called column 1, …")
    begin = head.row if head.headless else head.row + 1
    columns = _Columns(name, unit, names, grid)
    columns.extend(chain(sample[begin:], rows))
    if columns.empty:
        remarks.append(f"{plural(columns.empty, f'empty {unit}')} skipped")
    frame, lines = columns.frame(), columns.lines
    gaps = bool(lines) and lines[-1] - lines[0] != len(lines) - 1
    table = Table(
        name,
        frame,
        lines[0] if lines else sample[head.row][0] + 1,
        tuple(remarks),
        headless=head.headless,
        unit=unit,
        lines=lines if gaps else None,
    )
    return named(table, [*names, *[""] * (frame.width - len(names))])


def _of_titles(titles: Sequence[tuple[int, Sequence[str]]], unit: str) -> list[str]:
    if not titles:
        return []
    words = "; ".join(short(" ".join(filter(None, map(strip, cells)))) for _, cells in titles[:3])
    if len(titles) == 1:
        return [f"{unit} {titles[0][0]} is a title above the table, skipped: {words}"]
    return [
        f"{len(titles)} {unit}s from {unit} {titles[0][0]} on are titles above the table, "
        f"skipped: {words}"
    ]


class _Columns:
    """Columns of text that grow by chunks of rows."""

    def __init__(self, name: str, unit: str, header: Sequence[str], grid: bool) -> None:
        self.name, self.unit, self.header, self.grid = name, unit, header, grid
        self.width = len(header)
        self.height = self.empty = self.size = self.faulty = 0
        self.lines = array("q")
        self.faults: list[str] = []  # the first few of `faulty`
        self.chunks: list[pl.DataFrame] = []

    def extend(self, rows: Rows) -> None:
        """Add rows; count empty ones between them. Raises `BadData` for rows that do not fit."""
        gap = 0  # empty rows since the last one: those at the end of a file are not counted
        chunk: list[Sequence[str]] = []
        for line, cells in rows:
            if not any(cells) or not any(map(strip, cells)):
                gap += 1
                continue
            self.empty, gap = self.empty + gap, 0
            self.lines.append(line)
            chunk.append(cells)
            if len(chunk) == CHUNK_ROWS:
                self._add(chunk)
                chunk = []
        if chunk:
            self._add(chunk)
        if self.faulty:
            self._refuse()

    def _add(self, chunk: list[Sequence[str]]) -> None:
        begin, self.height = self.height, self.height + len(chunk)
        widths = {len(cells) for cells in chunk}
        if self.grid:
            self.width = max(self.width, *widths)
        self.size += sum(map(len, chain.from_iterable(chunk)))
        self._guard()
        if widths != {self.width}:
            chunk = [self._even(cells, begin + i) for i, cells in enumerate(chunk)]
        columns = enumerate(zip(*chunk, strict=True))
        frame = pl.DataFrame([pl.Series(str(i), cells, pl.String) for i, cells in columns])
        self.chunks.append(stripped(frame))

    def _guard(self) -> None:
        if self.width > MAX_COLUMNS or self.height * self.width > MAX_CELLS:
            raise BadData(
                f"{self.name}: more than {MAX_COLUMNS:,} columns or {MAX_CELLS:,} cells; "
                "leave out what is not needed, or split the file"
            )
        if self.size > MAX_BYTES:  # a sheet can refer to one long text a million times
            raise BadData(
                f"{self.name}: its cells hold more than {MAX_BYTES:,} characters; split the file"
            )

    def _even(self, cells: Sequence[str], row: int) -> list[str]:
        """Return a row with exactly `width` cells; note one that does not fit the header."""
        if not self.grid and not fits(cells, self.header):
            self.faulty += 1
            if len(self.faults) < SHOWN:
                start = ", ".join(map(short, cells[:3]))
                count = plural(len(cells), "cell")
                self.faults.append(f"{self.unit} {self.lines[row]}: {count}: {start}")
        return [*cells[: self.width], *[""] * (self.width - len(cells))]

    def _refuse(self) -> None:
        rows = f"{self.faulty} of {self.height} {self.unit}s"
        names = ", ".join(map(short, self.header[:8])) + ", …" * (len(self.header) > 8)
        lines = [
            f"{self.name}: {rows} have more or fewer cells than the header",
            f"header: {filled_width(self.header)} cells: {names}",
            *self.faults,
        ]
        if self.faulty > len(self.faults):
            lines.append(f"… and {self.faulty - len(self.faults)} more")
        lines.append(
            'put double quotes round a cell that contains the delimiter, as in "a,b"; '
            "write missing cells as empty ones"
        )
        raise BadData("\n  ".join(lines))

    def frame(self) -> pl.DataFrame:
        """Return the columns, named by their number."""
        if not self.chunks:
            return pl.DataFrame({str(i): [] for i in range(self.width)}).cast(pl.String)
        if self.grid:  # rows of a later chunk may be wider
            return pl.concat(self.chunks, how="diagonal").fill_null("").rechunk()
        return pl.concat(self.chunks).rechunk()
