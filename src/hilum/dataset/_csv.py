"""Tables as text: CSV, TSV and their kin, of any line ending, encoding and delimiter (RFC 4180 and worse)."""

from __future__ import annotations

import codecs
import csv
import io
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np

from hilum.dataset._cells import (
    MAX_COLUMNS,
    SAMPLE_ROWS,
    Rows,
    Table,
    assemble,
    filled,
    find_header,
    fits,
    is_image_name,
)
from hilum.errors import BadData

DELIMITERS = ",;\t|"
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}
SAMPLE_BYTES = 1 << 18
MAX_CELL = 1 << 23  # characters; a mask as run lengths or a long report has some 100,000
MAX_LINE = 1 << 25
_BLOCK = 1 << 20
_SEPARATOR_LINE = re.compile(
    r"sep=([^\w\s\"]|\t)\s*$", re.I
)  # Excel's own hint, on a line before the header
_CONTROL = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]"
)  # U+0085 is a line break of mainframes
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAYINGS = {
    "utf-16": "UTF-16",
    "utf-32": "UTF-32",
    "cp1252": "Windows-1252",
    "mac-roman": "Mac Roman",
}
_WIDER_CELLS = threading.Lock()


def read(name: str, data: bytes, ending: str) -> Table:
    """Read the one table of a text file; `ending` (".tsv") decides between delimiters that fit alike."""
    if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.rstrip(b"\x1a")  # the end of a file, for DOS
    encoding, remarks = encoding_of(name, data)
    text = io.TextIOWrapper(io.BytesIO(data), encoding, newline="")
    sample = text.read(SAMPLE_BYTES)
    whole = len(sample) < SAMPLE_BYTES
    text.seek(0)
    hint = _SEPARATOR_LINE.match(sample.partition("\n")[0].partition("\r")[0])
    delimiter = hint[1] if hint else delimiter_of(sample, whole=whole, ending=ending)
    if delimiter not in (None, ",") and not (delimiter == "\t" and ending in (".tsv", ".tab")):
        remarks.append(f"delimiter is {NAMES.get(delimiter, delimiter)}")
    with _long_cells():
        rows = _rows(name, _bounded(name, text), delimiter)
        if hint:
            next(rows)
        return assemble(name, rows, remarks)


def encoding_of(name: str, data: bytes) -> tuple[str, list[str]]:
    """Find the codec that reads all of a file, and what there is to say of it and of the line ends.

    Raises `BadData` for what is no text: control characters, or bytes that no encoding here has.
    """
    encoding = next((codec for mark, codec in _MARKS if data.startswith(mark)), None)
    mac = b"\r" in data and b"\n" not in data
    if encoding is None:
        encoding = "utf-8"
        try:
            _check(name, data, encoding)
        except UnicodeDecodeError as error:
            encoding = _eight_bit(name, data, error, mac)
            _check(name, data, encoding)
    else:
        try:
            _check(name, data, encoding)
        except UnicodeDecodeError as error:
            raise BadData(
                f"{name}: begins as {encoding.upper()} but does not go on so ({error.reason}); save it as UTF-8"
            ) from error
    remarks = [f"read as {_SAYINGS[encoding]}, not UTF-8"] if encoding in _SAYINGS else []
    if mac and not encoding.startswith(("utf-16", "utf-32")):
        remarks.append("lines end in CR alone")
    return encoding, remarks


def _check(name: str, data: bytes, encoding: str) -> None:
    """Decode a file by blocks. Raises `UnicodeDecodeError`, or `BadData` at a control character."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    line = 1
    for begin in range(0, len(data), _BLOCK):
        text = decoder.decode(data[begin : begin + _BLOCK], begin + _BLOCK >= len(data))
        if found := _CONTROL.search(text):
            line += text.count("\n", 0, found.start())
            kind = "a NUL" if found[0] == "\0" else f"the control character U+{ord(found[0]):04X}"
            raise BadData(
                f"{name}: is no text: {kind} stands in line {line}; expected a table as text; "
                "save it again as CSV in UTF-8, or give it the ending of what it is"
            )
        line += text.count("\n")


def _eight_bit(name: str, data: bytes, error: UnicodeDecodeError, mac: bool) -> str:
    """Choose among the encodings with one byte a character for what is not UTF-8."""
    if any(ord(character) > 0x7F for character in data.decode("utf-8", errors="ignore")):
        line = _line_at(data, error.start)
        raise BadData(f"{name}: line {line} is not UTF-8 while others are; save it again as UTF-8")
    values = np.frombuffer(data, np.uint8)
    if mac and np.count_nonzero(values >= 0x80) > 2 * np.count_nonzero(values >= 0xC0):
        return "mac-roman"  # "CSV (Macintosh)" of Excel: most letters lie below 0xA0
    try:
        data.decode("cp1252")
    except UnicodeDecodeError as again:
        line = _line_at(data, again.start)
        raise BadData(
            f"{name}: line {line} is neither UTF-8 nor Windows-1252; save it again as UTF-8"
        ) from again
    return "cp1252"


def _line_at(data: bytes, position: int) -> int:
    before = data[:position]
    return 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let the csv module read cells of more than 131,072 characters; its limit is one for all threads."""
    with _WIDER_CELLS:
        before = csv.field_size_limit(MAX_CELL)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _bounded(name: str, text: io.TextIOWrapper) -> Iterator[str]:
    """Yield lines; refuse one that no table has before it fills the memory."""
    number = 0
    while line := text.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE:
            raise BadData(
                f"{name}: line {number} is longer than {MAX_LINE:,} characters; expected a table with a line an image"
            )
        yield line


def _rows(name: str, lines: Iterator[str], delimiter: str | None) -> Rows:
    """Yield the line on which each row begins, and its cells."""
    reader = csv.reader(lines, delimiter=delimiter or "\x1f", strict=True, skipinitialspace=True)
    line = 1
    try:
        for cells in reader:
            if len(cells) > MAX_COLUMNS:
                raise BadData(
                    f"{name}: line {line} has {len(cells):,} cells; expected at most {MAX_COLUMNS:,}"
                )
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadData(f"{name}: {_of_csv(str(error), line, delimiter)}") from error


def _of_csv(error: str, line: int, delimiter: str | None) -> str:
    if "field larger" in error:
        return f"line {line} has a cell of more than {MAX_CELL:,} characters; expected a table with a line an image"
    if "end of data" in error:
        return f"line {line}: a double quote opens a cell and none closes it; close it, or write it twice inside a quoted cell"
    return (
        f"line {line}: a quoted cell goes on behind its closing quote; "
        f"expected {NAMES.get(delimiter or '', 'the end of the line')} there; inside a quoted cell write each double quote twice"
    )


def delimiter_of(sample: str, *, whole: bool = True, ending: str = ".csv") -> str | None:
    """Find what stands between the cells, or None where a line is one cell.

    Chosen is the delimiter by which most rows fit their header, with the fewest lines above it left
    out as titles; among equals the one that comes first in the lines.
    """
    first = Counter(
        found[0] for line in sample.splitlines()[:SAMPLE_ROWS] if (found := re.search(_FIRST, line))
    )
    order = sorted(
        DELIMITERS, key=lambda mark: (-first[mark], ending in (".tsv", ".tab") and mark != "\t")
    )
    best, best_score = None, (0.0, 0)
    for mark in order:
        if mark not in sample:
            continue
        score = _score(_sampled(sample, mark, whole))
        if score and score[1] and not re.search(re.escape(mark) + "[^ ]", sample):
            continue  # below the one cell of its first line stands prose, with a comma here and there
        if score and score > best_score:
            best, best_score = mark, score
    return best


_FIRST = re.compile(r"[;\t|]|,(?!\d)|(?<!\d),")  # a comma between digits may be a decimal comma


def _sampled(sample: str, delimiter: str, whole: bool) -> list[list[str]]:
    with _long_cells():
        reader = csv.reader(
            io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=True
        )
        try:
            rows = list(islice(reader, SAMPLE_ROWS + 1))
        except csv.Error:  # reading the whole file names the line
            return []
    return rows if whole and len(rows) <= SAMPLE_ROWS else rows[:-1] or rows


def _score(rows: list[list[str]]) -> tuple[float, int] | None:
    """Return the share of rows that fit the header and minus the titles; None: this is no table."""
    rows = [cells for cells in rows if filled(cells)]
    if not rows:
        return None
    head = find_header(rows)
    header, below = rows[head.row], rows[head.row + 1 :]
    share = sum(fits(cells, header) for cells in below) / len(below) if below else 1.0
    if filled(header) < 2:
        short = (
            below
            and min(len(cells) for cells in below) > 1
            and len({len(cells) for cells in below}) == 1
        )
        return (
            (0.01, 0) if short else None
        )  # a header that lacks columns: refused later by its rows
    if head.titles and (share < 0.9 or len(below) < 2):
        return None
    return max(share, 0.02), -len(head.titles)


def holds_table(sample: str) -> bool:
    """Tell whether text of no telling name is a table: even rows of cells, or a list of image names."""
    mark = delimiter_of(sample, whole=False)
    if mark is None:
        lines = [line for line in sample.splitlines()[:SAMPLE_ROWS] if line.strip()]
        return sum(is_image_name(line.strip()) for line in lines) >= 0.8 * max(len(lines), 1)
    rows = [cells for cells in _sampled(sample, mark, whole=False) if filled(cells)]
    return len(rows) >= 3 and _score(rows) == (1.0, 0)
