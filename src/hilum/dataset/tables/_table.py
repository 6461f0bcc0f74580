"""The table that every reader here returns, its column names, and the limits all readers share.

Conventions: every cell is text, "" where nothing is written; lines of a file count from 1, rows of
a `Table` from 0. White space at the ends of a cell includes no-break spaces, zero-width characters
and the direction marks that Windows puts before a copied path.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from hilum.safety import spreadsheet_cells

MAX_BYTES = 1 << 30  # of a file once unpacked, and of the text of a table
MAX_CELLS = 50_000_000  # the largest table of MIMIC-CXR has 8 million
MAX_COLUMNS = 16_384  # as in a spreadsheet
# Unicode White_Space, zero-width characters, byte order mark, soft hyphen, direction marks.
WHITE_SPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\xad\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u202f"
    "\u205f\u2060\u2066\u2067\u2068\u2069\u3000\ufeff"
)
_WHITE_RUN = re.compile(f"[{WHITE_SPACE}]+")
_PANDAS_INDEX = re.compile(r"Unnamed: \d+(\.\d+)*|__index_level_\d+__")
_FORMULA_TEXT = '^="([^"]*)"$'  # how a CSV for Excel keeps leading zeros
_DECIMAL_COMMA = r"^[+-]?\d+,\d+$"
_DECIMAL_COMMA_OR_WHOLE = r"^[+-]?\d+(,\d+)?$"


@dataclass(frozen=True, eq=False)
class Table:
    """A table whose cells are all text, with what a person should know of how it was read."""

    name: str  # of the file; of a sheet among several: "labels.xlsx#Sheet2"
    frame: pl.DataFrame  # String columns without nulls
    first_line: int = 1  # of the file, where row 0 begins
    remarks: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()  # names that the header has more than once
    headless: bool = False  # the columns are called "column 1", "column 2", …
    index_columns: tuple[str, ...] = ()  # row numbers that pandas or R wrote along
    unit: str = "line"  # what `line_of` counts: "line" of text, "row" of a sheet, "record"
    lines: Sequence[int] | None = None  # by row; None: rows follow without gaps on `first_line`

    def line_of(self, row: int) -> int:
        """Return the line, sheet row or record, from 1, on which row `row`, from 0, begins."""
        if not 0 <= row < self.frame.height:
            raise IndexError(f"row {row} of a table with {self.frame.height} rows")
        return self.first_line + row if self.lines is None else self.lines[row]

    def place(self, row: int) -> str:
        """Return where a row is, for a message: "labels.csv line 12"."""
        return f"{self.name} {self.unit} {self.line_of(row)}"


def strip(cell: str) -> str:
    """Remove white space from both ends, as `stripped` does."""
    return cell.strip(WHITE_SPACE)


def short(text: str) -> str:
    """Cut text from a file to what fits into a message."""
    return text if len(text) <= 60 else text[:59] + "…"


def column_name(cell: str) -> str:
    """Return a cell of the header as a column name: one line, single spaces."""
    return _WHITE_RUN.sub(" ", strip(cell))


def stripped(frame: pl.DataFrame) -> pl.DataFrame:
    """Remove white space from both ends of all cells, the formula round ="0012", and the
    apostrophe before what a spreadsheet would run (`hilum.safety.spreadsheet_cells`)."""
    if not frame.width:
        return frame
    frame = frame.with_columns(pl.all().str.strip_chars(WHITE_SPACE))
    frame = spreadsheet_cells.restored(frame)
    if not frame.select(pl.any_horizontal(pl.all().str.starts_with('="').any())).item():
        return frame
    return frame.with_columns(
        pl.all().str.replace(_FORMULA_TEXT, "$1").str.strip_chars(WHITE_SPACE)
    )


def named(table: Table, names: Sequence[str]) -> Table:
    """Name the columns of a table, "" for those that have no name in the file.

    Drop unnamed columns without content. Names that are repeated are numbered: label, label (2).
    Record both, index columns and decimal commas as remarks.
    """
    frame = table.frame
    kept = [i for i, name in enumerate(names) if name or (frame[:, i] != "").any()]
    given = [names[i] for i in kept]
    unique = _distinct([name or f"column {i + 1}" for i, name in zip(kept, given, strict=True)])
    frame = frame[:, kept]
    frame.columns = unique
    index, remarks = [], [*table.remarks, *_of_repeated(given, unique)]
    for name, new in zip(given, unique, strict=True):
        if (not name or _PANDAS_INDEX.fullmatch(name)) and _counts_rows(frame[new]):
            index.append(new)
            remarks.append(f"column '{new}' only counts the rows (an index written by pandas or R)")
        elif not name:
            remarks.append(f"{new} has no name in the header")
    decimal = [name for name in frame.columns if _has_decimal_commas(frame[name].head(10_000))]
    remarks += [f"decimal commas in {', '.join(map(short, decimal))}"] if decimal else []
    counts = Counter(name for name in given if name)
    return replace(
        table,
        frame=frame,
        remarks=tuple(remarks),
        repeated=tuple(name for name, count in counts.items() if count > 1),
        index_columns=tuple(index),
    )


def _distinct(names: Sequence[str]) -> list[str]:
    taken, met, result = set(names), Counter(), []
    for name in names:
        met[name] += 1
        unique = name
        while met[name] > 1 and unique in taken:
            unique = f"{name} ({met[name]})"
            met[name] += unique in taken
        taken.add(unique)
        result.append(unique)
    return result


def _of_repeated(names: Sequence[str], unique: Sequence[str]) -> list[str]:
    renamed: dict[str, list[str]] = {}
    for name, new in zip(names, unique, strict=True):
        if name and name != new:
            renamed.setdefault(name, []).append(f"'{short(new)}'")
    return [
        f"{len(new) + 1} columns are called '{short(name)}': "
        + (f"the second is {new[0]}" if len(new) == 1 else f"after the first, {', '.join(new)}")
        for name, new in renamed.items()
    ]


def _counts_rows(column: pl.Series) -> bool:
    """Return whether a column holds 0, 1, 2, … or 1, 2, 3, … ."""
    numbers = column.cast(pl.Int64, strict=False)
    if column.is_empty() or numbers.null_count():
        return False
    start = numbers[0]
    return start in (0, 1) and numbers.equals(
        pl.int_range(start, start + column.len(), eager=True), check_names=False
    )


def _has_decimal_commas(column: pl.Series) -> bool:
    cells = column.filter(column != "")
    if not cells.str.contains(_DECIMAL_COMMA).any():
        return False
    return bool(cells.str.contains(_DECIMAL_COMMA_OR_WHOLE).all())
