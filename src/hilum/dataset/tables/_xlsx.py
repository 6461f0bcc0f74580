"""Workbooks (Office Open XML, ECMA-376 part 1): each sheet that has content is a table.

Read by openpyxl, row by row and in Python alone: a sheet that claims a billion cells takes no
memory, and a damaged one raises rather than ends the process.
"""

from __future__ import annotations

import datetime
import io
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import openpyxl
from openpyxl.utils.cell import range_boundaries

from hilum.dataset.tables._rows import Rows, assemble
from hilum.dataset.tables._table import MAX_COLUMNS, Table
from hilum.errors import BadData, plural

MAX_UNPACKED = 512 << 20
_ALWAYS_UNPACKED, _TIMES_PACKED = 16 << 20, 64  # sheets of real data shrink to a tenth
MAX_FILLED = 1_000_000
MAX_ROWS = 1 << 20  # of a sheet, as in Excel
_MERGED = re.compile(
    rb"""<(?:\w+:)?mergeCell\s[^>]*?ref=["']([A-Z]{1,3}[1-9]\d{0,6}:[A-Z]{1,3}[1-9]\d{0,6})["']"""
)
_FORMULA = re.compile(rb"<(?:\w+:)?f[\s>/]")
_LEADING_ZEROS = re.compile(r"0{2,30}")
_BLOCK = 1 << 20
_OVERLAP = 200  # bytes, more than either pattern matches

Box = tuple[int, int, int, int]  # left, top, right, bottom, from 1


@dataclass
class _Sheet:
    """What is met while the rows of a sheet go by."""

    name: str
    merged: dict[int, list[Box]]  # by the row on which they begin
    has_formulas: bool
    errors: Counter[str] = field(default_factory=Counter)
    filled: int = 0
    across: int = 0


def read(name: str, data: bytes) -> list[Table]:
    """Read all sheets that have content. Raises `BadData`."""
    _guard(name, data)
    try:
        with warnings.catch_warnings():  # on styles and validation rules, which no table needs
            warnings.simplefilter("ignore")
            return _read(name, data)
    except BadData:
        raise
    except Exception as error:  # openpyxl raises nearly anything on a damaged workbook
        raise BadData(
            f"{name}: cannot be read as a workbook ({type(error).__name__}: {str(error)[:200]}); "
            "open it in a spreadsheet program and save it again as .xlsx or CSV"
        ) from error


def _guard(name: str, data: bytes) -> None:
    """Refuse what is not .xlsx, or would fill the memory once unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError) as error:
        raise BadData(f"{name}: is a damaged workbook ({error}); copy or save it again") from error
    names = {part.filename for part in parts}
    if "xl/workbook.bin" in names:
        raise BadData(f"{name}: is a binary workbook (.xlsb); save it as .xlsx or CSV")
    if any(part.flag_bits & 1 for part in parts):
        raise BadData(f"{name}: is encrypted; save it without a password")
    size = sum(part.file_size for part in parts)  # zipfile reads no more than these
    most = min(MAX_UNPACKED, max(_ALWAYS_UNPACKED, _TIMES_PACKED * len(data)))
    if size > most:
        raise BadData(
            f"{name}: has {size:,} bytes once unpacked; expected at most {most:,}; save it as CSV"
        )


def _read(name: str, data: bytes) -> list[Table]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    book = _opened(data, values=True)
    tables = []
    # `Any`, as the part's name in the archive is private to openpyxl's read-only worksheets.
    worksheets: list[Any] = list(book.worksheets)
    for worksheet in worksheets:
        sheet = _scanned(f"{name}#{worksheet.title}", archive, worksheet._worksheet_path)
        worksheet.reset_dimensions()  # the size that a sheet states may be wrong
        rows = _with_merged(sheet, _rows(sheet, worksheet))
        table = assemble(sheet.name, rows, unit="row", grid=True)
        if not table.frame.width:
            continue
        remarks = [*table.remarks, *_remarks(sheet)]
        if worksheet.sheet_state != "visible":
            remarks.append(f"the sheet '{worksheet.title}' is hidden")
        if sheet.has_formulas and (count := _formulas_without_value(data, worksheet.title)):
            remarks.append(
                f"{plural(count, 'formula')} without a stored value, read as empty: open "
                "the file in a spreadsheet program and save it"
            )
        tables.append(replace(table, remarks=tuple(remarks)))
    if not tables:
        return [assemble(name, iter(()), unit="row")]
    return tables if len(tables) > 1 else [replace(tables[0], name=name)]


def _opened(data: bytes, *, values: bool) -> openpyxl.Workbook:
    return openpyxl.load_workbook(
        io.BytesIO(data), read_only=True, data_only=values, keep_links=False
    )


def _remarks(sheet: _Sheet) -> list[str]:
    remarks = []
    if sheet.filled:
        remarks.append(f"cells filled with the value of the merged cell over them: {sheet.filled}")
    if sheet.across:
        remarks.append(f"merged cells across columns, read into the first of them: {sheet.across}")
    if sheet.errors:
        words = ", ".join(f"{word} ({count})" for word, count in sorted(sheet.errors.items()))
        remarks.append(f"cells with a spreadsheet error: {words}")
    return remarks


def _scanned(name: str, archive: zipfile.ZipFile, part: str) -> _Sheet:
    """Find merged cells and formulas in the XML of a sheet: openpyxl by rows gives neither."""
    sheet = _Sheet(name, {}, False)
    seen: set[bytes] = set()
    with archive.open(part) as file:
        rest = b""
        while block := file.read(_BLOCK):
            rest += block
            sheet.has_formulas = sheet.has_formulas or bool(_FORMULA.search(rest))
            seen.update(found[1] for found in _MERGED.finditer(rest))
            rest = rest[-_OVERLAP:]
    for area in sorted(seen):
        left, top, right, bottom = range_boundaries(area.decode())
        if left and top and right and bottom:  # as in all areas that `_MERGED` matches
            sheet.merged.setdefault(top, []).append((left, top, right, bottom))
    return sheet


def _rows(sheet: _Sheet, worksheet: Any) -> Rows:
    for number, cells in enumerate(worksheet.iter_rows(), 1):
        if number > MAX_ROWS or len(cells) > MAX_COLUMNS:
            raise BadData(
                f"{sheet.name}: goes beyond {MAX_ROWS:,} rows or {MAX_COLUMNS:,} columns; "
                "save it as CSV"
            )
        yield number, [_text(sheet, cell) for cell in cells]


def _text(sheet: _Sheet, cell: Any) -> str:
    """Return the value of a cell as a CSV would have it: 1, 0.143, 2020-01-31, TRUE."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, str):
        if cell.data_type == "e":
            sheet.errors[value[:20]] += 1
        return value
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime.datetime):
        is_date = value.time() == datetime.time()
        return value.date().isoformat() if is_date else value.isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int) and value >= 0 and _LEADING_ZEROS.fullmatch(cell.number_format):
        return str(value).zfill(len(cell.number_format))  # an identifier, shown as 00012
    return str(value)


def _with_merged(sheet: _Sheet, rows: Rows) -> Rows:
    """Repeat the value of a merged cell on each row it covers, in the first of its columns."""
    open_cells: dict[int, tuple[int, str]] = {}  # by column: last row, value
    for number, cells in rows:
        open_cells = {column: cell for column, cell in open_cells.items() if cell[0] >= number}
        for column, (_, value) in open_cells.items():
            cells = [*cells, *[""] * (column - len(cells))]
            if not cells[column - 1]:
                cells[column - 1] = value
                sheet.filled += 1
        if sheet.filled > MAX_FILLED:
            raise BadData(
                f"{sheet.name}: merged cells stand for more than {MAX_FILLED:,} cells; "
                "split them, or save the sheet as CSV"
            )
        for left, top, right, bottom in sheet.merged.get(number, ()):
            if left <= len(cells) and cells[left - 1]:
                sheet.across += right > left
                if bottom > top:
                    open_cells[left] = (bottom, cells[left - 1])
        yield number, cells


def _formulas_without_value(data: bytes, title: str) -> int:
    """Count formulas whose result the program that wrote the file did not store."""
    sheets = [_opened(data, values=values)[title] for values in (False, True)]
    for sheet in sheets:
        sheet.reset_dimensions()
    pairs = zip(*(sheet.iter_rows() for sheet in sheets), strict=True)
    return sum(_lacking(formulas, values) for formulas, values in pairs)


def _lacking(formulas: Iterable[Any], values: Iterable[Any]) -> int:
    pairs = zip(formulas, values, strict=True)
    return sum(formula.data_type == "f" and value.value is None for formula, value in pairs)
