"""Tables as text (RFC 4180 and what people make of it): any line ending, encoding and delimiter."""

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

from hilum.dataset.tables._header import SAMPLE_ROWS, filled_width, find_header, fits, is_image_name
from hilum.dataset.tables._rows import Rows, assemble
from hilum.dataset.tables._table import MAX_COLUMNS, Table
from hilum.errors import BadData

DELIMITERS = ",;\t|"
NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab", " ": "a blank"}
TAB_ENDINGS = (".tsv", ".tab")
SAMPLE_CHARACTERS = 1 << 18
MAX_CELL = 1 << 23  # characters; a run-length mask or a long report has some 100,000
MAX_LINE = 1 << 25
_BLOCK = 1 << 20
_EXCEL_HINT = re.compile(r'sep=([^\w\s"]|\t)[ \t]*', re.IGNORECASE)  # on a line above the header
_DELIMITER = re.compile(r"[;\t|]|,(?!\d)|(?<!\d),")  # between digits a comma may be a decimal one
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")  # but for U+0085, a line break
_NO_TABLE = re.compile(rb"\s*(<!doctype html|<html|version https://git-lfs)", re.IGNORECASE)
_CONTROL_BYTE = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ENCODING_NAMES = {
    "utf-8-sig": "UTF-8",
    "utf-16": "UTF-16",
    "utf-32": "UTF-32",
    "cp1252": "Windows-1252",
    "mac-roman": "Mac Roman",
}
_FIELD_LIMIT = threading.Lock()


def read(name: str, data: bytes, ending: str) -> Table:
    """Read the table of a text file; `ending` (".tsv") decides between delimiters that fit alike.

    Raises `BadData` for what is not text, for broken quotes and for rows that do not fit.
    """
    if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.rstrip(b"\x1a")  # the end of a file, for DOS
    if found := _NO_TABLE.match(data):
        what = "a web page" if found[1].startswith(b"<") else "a pointer of Git LFS, not the file"
        raise BadData(f"{name}: is {what}; expected a table; download it again")
    encoding, remarks = find_encoding(name, data)
    text = io.TextIOWrapper(io.BytesIO(data), encoding, newline="")
    sample = text.read(SAMPLE_CHARACTERS)
    whole = len(sample) < SAMPLE_CHARACTERS
    text.seek(0)
    hint = _EXCEL_HINT.fullmatch(re.split(r"[\r\n]", sample, maxsplit=1)[0])
    delimiter = hint[1] if hint else find_delimiter(sample, whole=whole, ending=ending)
    if delimiter not in (None, ",") and not (delimiter == "\t" and ending in TAB_ENDINGS):
        remarks.append(f"delimiter {NAMES.get(delimiter, delimiter).removeprefix('a ')}")
    with _long_cells():
        rows = _rows(name, _lines(name, text), delimiter)
        if hint:
            next(rows)
        return assemble(name, rows, remarks)


def find_encoding(name: str, data: bytes) -> tuple[str, list[str]]:
    """Return the codec that decodes all of a file, and remarks on it and on the line endings.

    Raises `BadData` for control characters, and for bytes that none of the encodings has.
    """
    only_cr = b"\r" in data and b"\n" not in data
    encoding = next((codec for mark, codec in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    try:
        _check_text(name, data, encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise BadData(
                f"{name}: has the byte order mark of {_ENCODING_NAMES[encoding]} but is not "
                f"{_ENCODING_NAMES[encoding]} ({error.reason}); save it again as UTF-8"
            ) from error
        encoding = _single_byte_encoding(name, data, error.start, only_cr=only_cr)
        _check_text(name, data, encoding)
    remarks = []
    if encoding not in ("utf-8", "utf-8-sig"):
        remarks.append(f"read as {_ENCODING_NAMES[encoding]}")
    if only_cr and encoding not in ("utf-16", "utf-32"):
        remarks.append("lines end in CR")
    return encoding, remarks


def _check_text(name: str, data: bytes, encoding: str) -> None:
    """Decode a file by blocks. Raises `UnicodeDecodeError`, or `BadData` at a control character."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    line = 1
    for begin in range(0, len(data), _BLOCK):
        try:
            text = decoder.decode(data[begin : begin + _BLOCK], begin + _BLOCK >= len(data))
        except UnicodeDecodeError as error:
            error.start += begin  # of the block; right to within a character that straddles two
            raise
        if found := _CONTROL.search(text):
            line += text.count("\n", 0, found.start())
            raise _not_text(name, line, found[0])
        line += text.count("\n")


def _not_text(name: str, line: int, control: str) -> BadData:
    kind = "NUL" if control == "\0" else f"U+{ord(control):04X}"
    return BadData(
        f"{name}: is not text: line {line} contains the control character {kind}; "
        "expected a table as text; save it again as CSV in UTF-8"
    )


def _single_byte_encoding(name: str, data: bytes, bad: int, *, only_cr: bool) -> str:
    """Choose an encoding for what is not UTF-8 from byte `bad` on."""
    if found := _CONTROL_BYTE.search(data):
        raise _not_text(name, _line_at(data, found.start()), found[0].decode("ascii"))
    if any(ord(character) > 0x7F for character in data.decode("utf-8", errors="ignore")):
        raise BadData(
            f"{name}: line {_line_at(data, bad)} is not UTF-8 while other lines are; "
            "save it again as UTF-8"
        )
    values = np.frombuffer(data, np.uint8)
    if only_cr and np.count_nonzero(values >= 0x80) > 2 * np.count_nonzero(values >= 0xC0):
        return "mac-roman"  # Excel's "CSV (Macintosh)": most of its letters are below 0xA0
    try:
        data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise BadData(
            f"{name}: line {_line_at(data, error.start)} is neither UTF-8 nor Windows-1252 text; "
            "save it again as UTF-8"
        ) from error
    return "cp1252"


def _line_at(data: bytes, position: int) -> int:
    before = data[:position]
    return 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let the csv module read long cells; its limit (131,072) is one for the whole process."""
    with _FIELD_LIMIT:
        before = csv.field_size_limit(MAX_CELL)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _lines(name: str, text: io.TextIOWrapper) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE:
            raise BadData(
                f"{name}: line {number} is longer than {MAX_LINE:,} characters; "
                "expected a table with one line per image"
            )
        yield line


def _rows(name: str, lines: Iterator[str], delimiter: str | None) -> Rows:
    """Yield the line on which each row begins, and its cells."""
    # Without a delimiter a line is one cell: U+001F is in no text that `find_encoding` accepts.
    reader = csv.reader(lines, delimiter=delimiter or "\x1f", strict=True, skipinitialspace=True)
    line = 1
    try:
        for cells in reader:
            if len(cells) > MAX_COLUMNS:
                raise BadData(
                    f"{name} line {line}: {len(cells):,} cells; expected at most {MAX_COLUMNS:,}"
                )
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadData(f"{name} line {line}: {_explained(str(error), delimiter)}") from error


def _explained(error: str, delimiter: str | None) -> str:
    if "field larger" in error:
        return (
            f"a cell has more than {MAX_CELL:,} characters; expected a table with one line per "
            "image; a double quote that is never closed has the same effect"
        )
    if "end of data" in error:
        return (
            "a double quote opens a cell and none closes it; close the cell, or write a quote that "
            'belongs to the text twice and the cell in quotes, as in "5"" long"'
        )
    after = NAMES.get(delimiter or "", f"'{delimiter}'" if delimiter else "the end of the line")
    return (
        f"text follows the closing quote of a cell; expected {after}; write a quote that belongs "
        'to the text twice, as in "5"" long"'
    )


def find_delimiter(sample: str, *, whole: bool = True, ending: str = ".csv") -> str | None:
    """Find the delimiter by the first rows of a file, or None where each line is one cell.

    It is the one with which most rows fit their header, then the one that needs fewest lines above
    the header to be titles, then the one that comes first in the lines. Quoted ones do not count.
    """
    lines = sample.splitlines()[:SAMPLE_ROWS]
    first = Counter(found[0] for line in lines if (found := _DELIMITER.search(line)))
    order = sorted(DELIMITERS, key=lambda mark: -first[mark])
    if ending in TAB_ENDINGS:
        order.sort(key=lambda mark: mark != "\t")
    best, best_score = None, (0.0, 0)
    for mark in order:
        if mark not in sample:
            continue
        score = _score(_sampled(sample, mark, whole=whole))
        if score and score[1] < 0 and not re.search(re.escape(mark) + "[^ ]", sample):
            continue  # prose in one column, with a comma here and there
        if score and score > best_score:
            best, best_score = mark, score
    return best or (" " if _is_blank_delimited(lines if whole else lines[:-1]) else None)


def _is_blank_delimited(lines: list[str]) -> bool:
    """Return whether blanks separate cells, as in "1 a.png normal", and are not in file names."""
    rows = [cells for cells in map(str.split, lines) if cells]
    if len({len(cells) for cells in rows}) != 1 or len(rows[0]) < 2:
        return False
    return sum(any(map(is_image_name, cells[:-1])) for cells in rows) >= 0.9 * len(rows) - 1


def _sampled(sample: str, delimiter: str, *, whole: bool) -> list[list[str]]:
    """Split the first rows that are surely complete."""
    with _long_cells():
        reader = csv.reader(
            io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=True
        )
        rows = list(islice(reader, SAMPLE_ROWS + 1))
    complete = rows if whole and len(rows) <= SAMPLE_ROWS else rows[:-1] or rows
    return [cells for cells in complete if filled_width(cells)]


def _score(rows: list[list[str]]) -> tuple[float, int] | None:
    """Return the fraction of rows that fit the header and minus the number of titles.

    None where the delimiter makes no table of the rows.
    """
    if not rows:  # delimiters are all there is
        return 1.0, 0
    head = find_header(rows)
    header, below = rows[head.row], rows[head.row + 1 :]
    fitting = sum(fits(cells, header) for cells in below) / len(below) if below else 1.0
    if filled_width(header) < 2:
        widths = {len(cells) for cells in below}
        # A header that lacks names is no list: its rows are refused later, with their lines.
        return (0.01, 0) if len(widths) == 1 and min(widths) > 1 else None
    if head.titles and (fitting < 0.9 or len(below) < 2):
        return None
    return max(fitting, 0.02), -len(head.titles)


def holds_table(sample: str) -> bool:
    """Return whether text without the name of a table is one: even rows, or a list of images."""
    delimiter = find_delimiter(sample)
    if delimiter is None:
        lines = [line.strip() for line in sample.splitlines()[:SAMPLE_ROWS] if line.strip()]
        return sum(map(is_image_name, lines)) >= 0.8 * max(len(lines), 1)
    rows = _sampled(sample, delimiter, whole=True)
    enough = len(rows) >= 3 or (delimiter == "\t" and len(rows) >= 1 and len(rows[0]) >= 3)
    return enough and _score(rows) == (1.0, 0)
