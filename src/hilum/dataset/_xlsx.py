"""Workbooks (Office Open XML, ECMA-376): each sheet that holds anything is a table.

openpyxl reads them row by row in pure Python: a sheet that claims a million columns costs nothing.
"""

from __future__ import annotations

import datetime
import io
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import openpyxl
from openpyxl.utils.cell import range_boundaries

from hilum.dataset._cells import MAX_COLUMNS, Rows, Table, assemble
from hilum.errors import BadData

MAX_UNPACKED = 512 << 20
MAX_ROWS = 1 << 20  # of a sheet
MAX_MERGED = 1_000_000  # cells that merged cells cover
_MERGED = re.compile(
    rb"""<(?:\w+:)?mergeCell\s[^>]*?ref=["']([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})["']"""
)
_FORMULA = re.compile(rb"<(?:\w+:)?f[\s>/]")
_LEADING_ZEROS = re.compile(r"0{2,30}")
_BLOCK = 1 << 20


@dataclass
class _Found:
    """What is counted while the rows of a sheet go by."""

    errors: Counter[str] = field(default_factory=Counter)
    merged: int = 0


def read(name: str, data: bytes) -> list[Table]:
    """Read all sheets that hold anything. Raises `BadData`."""
    _guard(name, data)
    try:
        with warnings.catch_warnings():  # on styles and validation rules, which no table needs
            warnings.simplefilter("ignore")
            return _read(name, data)
    except BadData:
        raise
    except Exception as error:  # a damaged workbook makes openpyxl raise nearly anything
        raise BadData(
            f"{name}: cannot be read as a workbook ({type(error).__name__}: {str(error)[:200]}); "
            "open it in a spreadsheet program and save it again as .xlsx or CSV"
        ) from error


def _guard(name: str, data: bytes) -> None:
    """Refuse what is no .xlsx, or would fill the memory once unpacked."""
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
    if len(names) < len(parts):
        raise BadData(f"{name}: is a damaged workbook: it has two parts of one name; save it again")
    size = sum(part.file_size for part in parts)
    if size > MAX_UNPACKED:
        raise BadData(
            f"{name}: holds {size:,} bytes once unpacked; expected at most {MAX_UNPACKED:,}; save it as CSV"
        )


def _read(name: str, data: bytes) -> list[Table]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    book = openpyxl.load_workbook(
        io.BytesIO(data), read_only=True, data_only=True, keep_links=False
    )
    tables = []
    for sheet in book.worksheets:
        merged, formulas = _scan(name, archive, sheet._worksheet_path)
        found = _Found()
        sheet.reset_dimensions()  # what a sheet says of its own size may be wrong
        rows = _with_merged(_rows(name, sheet, found), merged, found)
        table = assemble(f"{name}#{sheet.title}", rows, unit="row", padded=True)
        if table.frame.width:
            remarks = [*table.remarks, *_remarks(found)]
            if sheet.sheet_state != "visible":
                remarks.append(f"the sheet '{sheet.title}' is hidden")
            if formulas and (count := _without_value(data, sheet.title)):
                remarks.append(
                    f"{count} formulas have no stored value and are empty here: open the file in a spreadsheet program and save it"
                )
            tables.append(replace(table, remarks=tuple(remarks)))
    if not tables:
        return [Table(name, assemble(name, iter(())).frame, remarks=("is empty",), unit="row")]
    return tables if len(tables) > 1 else [replace(tables[0], name=name)]


def _remarks(found: _Found) -> list[str]:
    remarks = []
    if found.merged:
        remarks.append(f"{found.merged} cells take the value of the merged cell that covers them")
    if found.errors:
        words = ", ".join(f"{word} {count} times" for word, count in sorted(found.errors.items()))
        remarks.append(f"cells hold errors of the spreadsheet: {words}")
    return remarks


def _scan(
    name: str, archive: zipfile.ZipFile, part: str
) -> tuple[list[tuple[int, int, int, int]], bool]:
    """Return the merged ranges of a sheet (left, top, right, bottom, from 1), and if it has formulas.

    openpyxl gives neither while it reads by rows.
    """
    merged, formulas, rest, covered = [], False, b"", 0
    with archive.open(part) as file:
        while block := file.read(_BLOCK):
            rest += block
            formulas = formulas or bool(_FORMULA.search(rest))
            end = 0
            for found in _MERGED.finditer(rest):
                box = range_boundaries(found[1].decode())
                covered += (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
                merged.append(box)
                end = found.end()
            if covered > MAX_MERGED:
                raise BadData(
                    f"{name}: merged cells cover more than {MAX_MERGED:,} cells; split them, or save the sheet as CSV"
                )
            rest = rest[max(end, len(rest) - 200) :]
    return merged, formulas


def _rows(name: str, sheet: Any, found: _Found) -> Rows:
    for number, cells in enumerate(sheet.iter_rows(), 1):
        if number > MAX_ROWS or len(cells) > MAX_COLUMNS:
            raise BadData(
                f"{name}: the sheet '{sheet.title}' goes beyond {MAX_ROWS:,} rows or {MAX_COLUMNS:,} columns; save it as CSV"
            )
        yield number, [_text(cell, found) for cell in cells]


def _text(cell: Any, found: _Found) -> str:
    """Return a cell as it would stand in a CSV: 1, 0.143, 2020-01-31, TRUE."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, str):
        if cell.data_type == "e":
            found.errors[value[:20]] += 1
        return value
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int) and value >= 0 and _LEADING_ZEROS.fullmatch(str(cell.number_format)):
        return str(value).zfill(len(cell.number_format))  # an identifier shown as 00012
    return str(value)


def _with_merged(rows: Rows, merged: list[tuple[int, int, int, int]], found: _Found) -> Rows:
    """Repeat the value of a merged cell down the rows that it covers, in its first column."""
    starts: dict[int, list[tuple[int, int, int, int]]] = {}
    for box in merged:
        starts.setdefault(box[1], []).append(box)
    open_cells: dict[int, tuple[int, str]] = {}  # by column: last row, value
    for number, cells in rows:
        open_cells = {column: held for column, held in open_cells.items() if held[0] >= number}
        for column, (_, value) in open_cells.items():
            cells = [*cells, *[""] * (column - len(cells))]
            if not cells[column - 1]:
                cells[column - 1] = value
                found.merged += 1
        for left, top, _, bottom in starts.get(number, ()):
            if bottom > top and left <= len(cells) and cells[left - 1]:
                open_cells[left] = (bottom, cells[left - 1])
        yield number, cells


def _without_value(data: bytes, title: str) -> int:
    """Count formulas whose value the program that wrote the file did not store."""
    formulas, values = (
        openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=flag, keep_links=False)[
            title
        ]
        for flag in (False, True)
    )
    formulas.reset_dimensions()
    values.reset_dimensions()
    return sum(
        _lacking(*pair) for pair in zip(formulas.iter_rows(), values.iter_rows(), strict=False)
    )


def _lacking(formulas: Sequence[Any], values: Iterator[Any]) -> int:
    return sum(
        formula.data_type == "f" and value.value is None
        for formula, value in zip(formulas, values, strict=False)
    )
