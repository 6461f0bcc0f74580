"""Rows of cells, from whatever file, as one `Table` of text: title, header, ragged rows, names.

Conventions: every cell is text, "" where nothing stands; lines and rows of a file count from 1, rows
of a `Table` from 0. White space at the ends of a cell includes no-break spaces, zero-width characters
and the direction marks that Windows puts before a copied path.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import polars as pl

from hilum.errors import BadData

MAX_BYTES = 1 << 30  # of a file, unpacked, and of all text of a table
MAX_CELLS = 50_000_000  # MIMIC-CXR's largest table has 8 million
MAX_COLUMNS = 16_384  # as in a spreadsheet
SAMPLE_ROWS = 200  # of which header and delimiter are judged
MAX_TITLE_ROWS = 20
CHUNK_ROWS = 32_768
SHOWN = 5  # faulty rows that an error lists
# Unicode White_Space, zero-width characters, byte order mark, soft hyphen, marks of direction.
WHITE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000\u180e\u200b\u200c\u200d\u2060\ufeff\xad"
    "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_WHITE_RUN = re.compile(f"[{WHITE}]+")
_IMAGE_NAME = re.compile(
    r"\.(png|jpe?g|jp2|tiff?|bmp|gif|webp|dcm|dicom|npy|nii(\.gz)?|mha)$", re.I
)
_NUMBER = re.compile(r"[+-]?\d[\d.,]*(e[+-]?\d+)?", re.I)
_DECIMAL_COMMA = r"^[+-]?\d+,\d+$"
_DECIMAL_OR_WHOLE = r"^[+-]?\d+(,\d+)?$"
_INDEX_NAME = re.compile(r"Unnamed: \d+(\.\d+)*")
_AS_TEXT = '^="([^"]*)"$'  # how spreadsheet users keep leading zeros in a CSV

Rows = Iterator[tuple[int, Sequence[str]]]  # line or row number in the file, cells


@dataclass(frozen=True, eq=False)
class Table:
    """A table whose cells are all text, with what was met while reading it.

    `frame` has String columns without nulls; `remarks` are for the reader of a report; `repeated`
    are header names that stood more than once; `index_columns` hold only row numbers, as pandas
    and R write them; of a `headless` table the columns are called "column 1", "column 2", ….
    """

    name: str
    frame: pl.DataFrame
    first_line: int = 1
    remarks: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    headless: bool = False
    index_columns: tuple[str, ...] = ()
    unit: str = "line"  # what `line_of` counts: "line" of a text, "row" of a sheet, "record"
    lines: Sequence[int] | None = None  # by row; None: rows follow one another from `first_line`

    def line_of(self, row: int) -> int:
        """Return where row `row` (from 0) begins in the file, counted from 1."""
        if not 0 <= row < self.frame.height:
            raise IndexError(f"row {row} of a table with {self.frame.height} rows")
        return self.first_line + row if self.lines is None else self.lines[row]

    def place(self, row: int) -> str:
        """Return the file and line of a row for a message: "labels.csv line 12"."""
        return f"{self.name} {self.unit} {self.line_of(row)}"


@dataclass(frozen=True)
class Head:
    """Where the header stands in the first rows: `row` counts from 0, `titles` stand above it."""

    row: int
    titles: tuple[int, ...]
    headless: bool


def strip(cell: str) -> str:
    return cell.strip(WHITE)


def tidy(cells: pl.Expr) -> pl.Expr:
    """Strip text cells, and take ="0012" for 0012."""
    return cells.str.strip_chars(WHITE).str.replace(_AS_TEXT, "$1").str.strip_chars(WHITE)


def is_image_name(cell: str) -> bool:
    return _IMAGE_NAME.search(cell) is not None


def filled(cells: Sequence[str]) -> int:
    """Return how many cells remain when empty ones at the end are cut off."""
    width = len(cells)
    while width and not strip(cells[width - 1]):
        width -= 1
    return width


def fits(cells: Sequence[str], header: Sequence[str]) -> bool:
    """Tell whether a row has a cell for each named column, and none beyond the header."""
    return len(cells) >= filled(header) and filled(cells) <= len(header)


def find_header(rows: Sequence[Sequence[str]]) -> Head:
    """Find the header in the first rows of a table; `rows` has at least one that is not empty.

    Titles are lines above the header with at most one cell, or with less than half the usual number.
    """
    counts = [sum(bool(strip(cell)) for cell in cells) for cells in rows]
    first = next(index for index, count in enumerate(counts) if count)
    usual = Counter(count for count in counts if count).most_common(1)[0][0]
    enough = 1 if usual < 2 else max(2, usual // 2)
    row = next(
        (i for i, count in enumerate(counts[: first + MAX_TITLE_ROWS]) if count >= enough), first
    )
    headless = _is_headless(rows[row], [cells for cells in rows[row + 1 :] if filled(cells)])
    if row > first and headless:  # a short header rather than a title: its rows will be faults
        return Head(first, (), False)
    return Head(row, tuple(i for i in range(first, row) if counts[i]), headless)


def _is_headless(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether the first row holds data: a file name, or what its columns hold below it."""
    columns = [
        (name, below)
        for i, name in enumerate(map(strip, names))
        if name
        and ((below := [c for row in rows if len(row) > i and (c := strip(row[i]))]) or not rows)
    ]
    if any(is_image_name(name) for name, _ in columns):
        return True
    if any(_has_shape_of(name, below) for name, below in columns):
        return True
    names = [name for name, _ in columns]
    if names in ([str(i) for i in range(len(names))], [str(i + 1) for i in range(len(names))]):
        return False  # pandas and R number columns that have no names
    numbers = [bool(_NUMBER.fullmatch(name)) for name in names]
    if not rows or not any(
        n and all(map(_NUMBER.fullmatch, b)) for n, (_, b) in zip(numbers, columns, strict=True)
    ):
        return False
    return all(numbers) or any(
        name in below for n, (name, below) in zip(numbers, columns, strict=True) if not n
    )


def _has_shape_of(name: str, below: Sequence[str]) -> bool:
    """Tell whether a name differs from what stands below it in digits only, as "P-001" and "P-002"."""
    shape = re.sub(r"\d+", "0", name)
    if "0" not in shape or not re.search(r"[^\W\d]", shape) or len(below) < 2:
        return False
    alike = sum(re.sub(r"\d+", "0", cell) == shape for cell in below)
    return alike >= 0.9 * len(below) and len({name, *below}) > 1


def header(name: str) -> str:
    """Return the name of a column as it stands in a frame: on one line, without white space at its ends."""
    return _WHITE_RUN.sub(" ", strip(name))


def is_index(name: str, column: pl.Series) -> bool:
    """Tell whether a column is the row numbers that pandas wrote along with a frame."""
    return bool(_INDEX_NAME.fullmatch(name)) and _counts_rows(column)


def assemble(
    name: str,
    rows: Rows,
    remarks: Iterable[str] = (),
    *,
    unit: str = "line",
    padded: bool = False,
    named: bool = False,
) -> Table:
    """Make one table of the rows of a file, in file order, empty ones included.

    `padded`: a row may be narrower or wider than the header, as in a sheet, whose grid has no ends.
    `named`: the first row is the header, whatever it looks like.
    Raises `BadData` with the rows that have more or fewer cells than the header.
    """
    sample = list(islice(rows, SAMPLE_ROWS))
    while sample and not any(filled(cells) for _, cells in sample):  # a long empty beginning
        sample = list(islice(rows, SAMPLE_ROWS)) or []
    remarks = list(remarks)
    if not sample:
        return Table(name, pl.DataFrame(), remarks=(*remarks, "is empty"), unit=unit)
    head = Head(0, (), False) if named else find_header([cells for _, cells in sample])
    remarks += _of_titles([sample[i] for i in head.titles], unit)
    begin = head.row if head.headless else head.row + 1
    names = [header(cell) for cell in sample[head.row][1]]
    if head.headless:
        names = [f"column {i + 1}" for i in range(filled(names))]
        remarks.append(
            f"has no header: its first {unit} looks like data; its columns are called column 1, column 2, …"
        )
    columns = _Columns(
        name, unit, names, padded, sample[begin][0] if begin < len(sample) else sample[-1][0] + 1
    )
    columns.extend(chain(sample[begin:], rows))
    return _finish(columns, names, head.headless, remarks)


def _of_titles(titles: Sequence[tuple[int, Sequence[str]]], unit: str) -> list[str]:
    if not titles:
        return []
    words = "; ".join(" ".join(filter(None, map(strip, cells)))[:60] for _, cells in titles[:3])
    lines = (
        f"{unit} {titles[0][0]} is"
        if len(titles) == 1
        else f"{len(titles)} {unit}s from {unit} {titles[0][0]} on are"
    )
    return [f"{lines} no table but a title, skipped: {words}"]


class _Columns:
    """Columns of text that grow by chunks of rows; keeps line numbers and faulty rows."""

    def __init__(
        self, name: str, unit: str, header: Sequence[str], padded: bool, first_line: int
    ) -> None:
        self.name, self.unit, self.padded, self.first_line = name, unit, padded, first_line
        self.header, self.width = header, len(header)
        self.lines, self.chunks = array("q"), []
        self.faults, self.faulty, self.empty, self.height, self.size = [], 0, 0, 0, 0

    def extend(self, rows: Rows) -> None:
        gap = 0  # empty rows since the last one; those at the very end are not worth a word
        chunk: list[Sequence[str]] = []
        for line, cells in rows:
            if not any(cells) or not filled(cells):
                gap += 1
                continue
            self.empty, gap = self.empty + gap, 0
            self.lines.append(line)
            chunk.append(cells)
            if len(chunk) == CHUNK_ROWS:
                self._add(chunk)
                chunk = []
        self._add(chunk)
        if self.faulty:
            self._refuse()

    def _add(self, chunk: list[Sequence[str]]) -> None:
        if not chunk:
            return
        begin, self.height = self.height, self.height + len(chunk)
        if self.padded:
            self.width = max(self.width, *(len(cells) for cells in chunk))
        if self.width > MAX_COLUMNS or self.height * self.width > MAX_CELLS:
            raise BadData(
                f"{self.name}: more than {MAX_COLUMNS:,} columns or {MAX_CELLS:,} cells; "
                "expected a table of images; split it, or leave out columns that are not needed"
            )
        if {len(cells) for cells in chunk} != {self.width}:
            chunk = [self._even(cells, begin + i) for i, cells in enumerate(chunk)]
        self.size += sum(map(len, chain.from_iterable(chunk)))
        if self.size > MAX_BYTES:  # a sheet can name one long text a million times
            raise BadData(
                f"{self.name}: its cells hold more than {MAX_BYTES:,} characters; split it"
            )
        columns = enumerate(zip(*chunk, strict=True))
        try:
            frame = pl.DataFrame([pl.Series(str(i), column, pl.String) for i, column in columns])
        except UnicodeEncodeError as error:  # JSON can spell half a character
            raise BadData(
                f"{self.name}: a cell holds half of a surrogate pair ({error}); save it as UTF-8"
            ) from error
        self.chunks.append(frame.with_columns(tidy(pl.all())))

    def _even(self, cells: Sequence[str], row: int) -> list[str]:
        """Return the row with exactly `width` cells; keep account of one that does not fit."""
        if not self.padded and not fits(cells, self.header):
            self.faulty += 1
            if len(self.faults) < SHOWN:
                start = ", ".join(
                    cell if len(cell) <= 40 else cell[:39] + "…" for cell in cells[:3]
                )
                self.faults.append(f"{self.unit} {self.lines[row]}: {len(cells)} cells: {start}")
        return [*cells[: self.width], *[""] * (self.width - len(cells))]

    def _refuse(self) -> None:
        more = (
            [f"… and {self.faulty - len(self.faults)} more"]
            if self.faulty > len(self.faults)
            else []
        )
        names = ", ".join(self.header[:8]) + (", …" if len(self.header) > 8 else "")
        raise BadData(
            "\n  ".join(
                [
                    f"{self.name}: {self.faulty} of {self.height} {self.unit}s have more or fewer cells than the header, "
                    f"which has {filled(self.header)}: {names}",
                    *self.faults,
                    *more,
                    'put double quotes round a cell that holds the delimiter ("a,b"), and add the cells that are missing',
                ]
            )
        )

    def frame(self) -> pl.DataFrame:
        blank = pl.DataFrame({str(i): pl.Series([], dtype=pl.String) for i in range(self.width)})
        if not self.chunks:
            return blank
        if self.padded:  # earlier chunks may be narrower than a later row
            return pl.concat(self.chunks, how="diagonal").fill_null("").rechunk()
        return pl.concat(self.chunks).rechunk()


def _finish(columns: _Columns, header: Sequence[str], headless: bool, remarks: list[str]) -> Table:
    frame, unit = columns.frame(), columns.unit
    if columns.empty:
        remarks.append(f"{columns.empty} empty {unit}{'s' * (columns.empty != 1)} skipped")
    names = [*header, *[""] * (frame.width - len(header))]
    keep = [i for i, name in enumerate(names) if name or (frame[:, i] != "").any()]
    unnamed = [i for i in keep if not names[i]]
    repeated = tuple(name for name, count in Counter(filter(None, names)).items() if count > 1)
    unique = distinct([names[i] or f"column {i + 1}" for i in keep])
    remarks += of_repeated([names[i] for i in keep], unique)
    frame = frame[:, keep]
    frame.columns = unique
    index = tuple(
        name
        for i, name in zip(keep, unique, strict=True)
        if is_index(name, frame[name]) or (i in unnamed and _counts_rows(frame[name]))
    )
    remarks += [
        f"column {i + 1} has no name"
        for i, name in zip(keep, unique, strict=True)
        if i in unnamed and name not in index
    ]
    remarks += [f"column '{name}' holds row numbers only" for name in index]
    lines = columns.lines
    steady = not lines or lines[-1] - lines[0] == len(lines) - 1
    table = Table(
        columns.name,
        frame,
        lines[0] if lines else columns.first_line,
        tuple(remarks),
        repeated,
        headless,
        index,
        unit,
    )
    return with_decimal_commas(table if steady else replace(table, lines=lines))


def _counts_rows(column: pl.Series) -> bool:
    numbers = column.cast(pl.Int64, strict=False)
    if column.is_empty() or numbers.null_count():
        return False
    return numbers[0] in (0, 1) and bool(
        (numbers == pl.int_range(column.len(), eager=True) + numbers[0]).all()
    )


def distinct(names: Sequence[str]) -> list[str]:
    """Return the names with repeated ones numbered: label, label (2)."""
    taken, numbers, result = set(names), Counter(), []
    for name in names:
        numbers[name] += 1
        unique = name
        while numbers[name] > 1 and unique in taken:
            unique = f"{name} ({numbers[name]})"
            numbers[name] += unique in taken
        taken.add(unique)
        result.append(unique)
    return result


def of_repeated(names: Sequence[str], unique: Sequence[str]) -> list[str]:
    """Return a sentence for each name that stood more than once in a header."""
    renamed: dict[str, list[str]] = {}
    for name, new in zip(names, unique, strict=True):
        if name and name != new:
            renamed.setdefault(name, []).append(f"'{new}'")
    return [
        f"{len(new) + 1} columns are called '{name}': after the first, {', '.join(new)}"
        for name, new in renamed.items()
    ]


def with_decimal_commas(table: Table) -> Table:
    """Remark columns whose numbers have a decimal comma, as in "45,5"."""
    top = table.frame.head(10_000)
    found = [name for name in top.columns if _has_decimal_commas(top[name])]
    return (
        replace(table, remarks=(*table.remarks, f"decimal commas in {', '.join(found)}"))
        if found
        else table
    )


def _has_decimal_commas(column: pl.Series) -> bool:
    cells = column.filter(column != "")
    return bool(
        cells.str.contains(_DECIMAL_COMMA).any() and cells.str.contains(_DECIMAL_OR_WHOLE).all()
    )
