"""Tables as JSON: one object a line, a list of objects, or columns as pandas writes them.

Cells become text: TRUE and FALSE, numbers as they are spelt, null as "", a list of plain values as
"a|b" (as JSON where a value holds "|"), an object inside a row as columns "outer.inner".
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hilum.dataset._cells import MAX_CELLS, MAX_COLUMNS, Table, assemble, is_image_name
from hilum.errors import BadData

MAX_DEPTH = 20
_EXPECTED = (
    "expected a list of objects, or an object of columns of equal length, as pandas writes them"
)


class Number(str):
    """A number as it is spelt in the file, so that 1.0 does not become 1."""


def parse(name: str, text: str, line: int | None = None) -> Any:
    """Parse JSON with numbers as spelt. Raises `BadData` naming the line, also for a key that stands twice."""
    try:
        return json.loads(text, parse_int=Number, parse_float=Number, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise BadData(
            f"{name} line {line or error.lineno}: is no JSON: {error.msg} at character {error.colno}"
        ) from error
    except RecursionError as error:
        raise BadData(f"{name}: is nested too deeply for a table") from error
    except _Twice as error:
        where = f" line {line}" if line else ""
        raise BadData(
            f"{name}{where}: the key '{error}' stands twice in one object; keep one of them"
        ) from error


class _Twice(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise _Twice(next(key for key, _ in pairs if key in seen or seen.add(key)))
    return found


def decode(name: str, data: bytes) -> str:
    """Decode as UTF-8, UTF-16 or UTF-32 (RFC 8259, and its forerunners)."""
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding).removeprefix(codecs.BOM_UTF8.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadData(
            f"{name}: is not {encoding.upper()} text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


def read_lines(name: str, data: bytes) -> Table:
    """Read one object a line; columns in order of appearance."""
    text = decode(name, data)
    faults, records = [], []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        if not line.strip():
            continue
        try:
            record = parse(name, line.strip(), number)
        except BadData as error:
            faults.append(str(error).removeprefix(f"{name} "))
            continue
        if isinstance(record, dict):
            records.append((number, record))
        else:
            faults.append(f"line {number}: is {_kind(record)}; expected an object")
    if faults:
        raise BadData.listing(name, faults, shown=5)
    return _of_records(name, records, "line")


def read(name: str, data: bytes) -> Table:
    """Read a table from one JSON value. Raises `BadData` for values of any other form."""
    return of_value(name, parse(name, decode(name, data)))


def of_value(name: str, value: Any) -> Table:
    if (
        isinstance(value, dict)
        and {"columns", "data"} <= value.keys()
        and isinstance(value["data"], list)
    ):
        return _of_split(name, value)
    if isinstance(value, dict) and set(value) == {"schema", "data"}:  # pandas, orient="table"
        value = value["data"]
    if isinstance(value, list):
        return _of_list(name, value)
    if isinstance(value, dict) and value:
        return _of_object(name, value)
    if value == {}:
        return _of_records(name, [], "record")
    raise BadData(f"{name}: is {_kind(value)}; {_EXPECTED}")


def _of_list(name: str, value: list[Any]) -> Table:
    wrong = [
        f"record {i}: is {_kind(record)}; expected an object"
        for i, record in enumerate(value, 1)
        if not isinstance(record, dict)
    ]
    if wrong:
        raise BadData.listing(f"{name}: {_EXPECTED}", wrong, shown=5)
    return _of_records(name, enumerate(value, 1), "record")


def _of_split(name: str, value: Mapping[str, Any]) -> Table:
    """pandas, orient="split"."""
    names, rows = value["columns"], value["data"]
    if (
        not isinstance(names, list)
        or not all(isinstance(key, str) for key in names)
        or len(set(names)) < len(names)
    ):
        raise BadData(f"{name}: its columns are no list of different names")
    wrong = [
        f"record {i}: is {_kind(row)}; expected a list of {len(names)}"
        for i, row in enumerate(rows, 1)
        if not isinstance(row, list) or len(row) != len(names)
    ]
    if wrong:
        raise BadData.listing(name, wrong, shown=5)
    return _of_records(
        name, enumerate((dict(zip(names, row, strict=True)) for row in rows), 1), "record"
    )


def _of_object(name: str, value: Mapping[str, Any]) -> Table:
    inner = list(value.values())
    if all(isinstance(column, list) for column in inner):
        lengths = {len(column) for column in inner}
        if len(lengths) > 1:
            sizes = ", ".join(f"'{key}' {len(column)}" for key, column in list(value.items())[:8])
            raise BadData(f"{name}: its columns are not of one length: {sizes}; {_EXPECTED}")
        rows = zip(*inner, strict=True)
        return _of_records(
            name, enumerate((dict(zip(value, row, strict=True)) for row in rows), 1), "record"
        )
    if all(isinstance(column, dict) for column in inner):
        keys = list(inner[0])
        if (
            keys
            and all(key.isdecimal() for key in keys)
            and not all(key.isdecimal() for key in value)
        ):
            return _of_columns(name, value)
        records = (
            {"key": Number(key) if key.isdecimal() else key} | _without_key(name, row)
            for key, row in value.items()
        )
        return _of_records(name, enumerate(records, 1), "record")
    if all(is_image_name(key) for key in value) and not any(
        isinstance(cell, dict) for cell in inner
    ):
        records = ({"key": key, "value": cell} for key, cell in value.items())
        return _of_records(name, enumerate(records, 1), "record")
    raise BadData(
        f"{name}: is an object of {', '.join(sorted({_kind(column) for column in inner}))}; {_EXPECTED}"
    )


def _without_key(name: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    if "key" in row:
        raise BadData(
            f"{name}: its records have a field 'key' beside the key that names them; write them as a list of objects"
        )
    return row


def _of_columns(name: str, value: Mapping[str, Mapping[str, Any]]) -> Table:
    """pandas, orient="columns": column -> row number -> cell."""
    numbers = list(next(iter(value.values())))
    wrong = [key for key, column in value.items() if list(column) != numbers]
    if wrong:
        raise BadData(
            f"{name}: the columns {', '.join(wrong[:5])} have other rows than the first; {_EXPECTED}"
        )
    records = ({key: column[number] for key, column in value.items()} for number in numbers)
    return _of_records(name, enumerate(records, 1), "record")


def _of_records(name: str, records: Iterable[tuple[int, Mapping[str, Any]]], unit: str) -> Table:
    columns: dict[str, int] = {}
    rows: list[tuple[int, dict[str, str]]] = []
    cells = 0
    for number, record in records:
        row = dict(flat(name, number, unit, record))
        rows.append((number, row))
        cells += len(row)
        for key in row:
            columns.setdefault(key, len(columns))
        if len(columns) > MAX_COLUMNS or len(rows) * len(columns) > MAX_CELLS:
            raise BadData(
                f"{name}: more than {MAX_COLUMNS:,} columns or {MAX_CELLS:,} cells; {_EXPECTED}"
            )
    return assemble(name, _as_rows(rows, list(columns)), unit=unit, named=True)


def _as_rows(
    rows: list[tuple[int, dict[str, str]]], columns: list[str]
) -> Iterator[tuple[int, list[str]]]:
    if columns:
        yield 0, columns
    for number, row in rows:
        yield number, [row.get(key, "") for key in columns]


def flat(
    name: str, number: int, unit: str, record: Mapping[str, Any], above: str = "", depth: int = 0
) -> Iterator[tuple[str, str]]:
    """Yield column and text of all values of a record, those of inner objects as "outer.inner"."""
    if depth > MAX_DEPTH:
        raise BadData(
            f"{name} {unit} {number}: objects inside objects go deeper than {MAX_DEPTH}; {_EXPECTED}"
        )
    for key, value in record.items():
        if isinstance(value, dict) and value:
            yield from flat(name, number, unit, value, f"{above}{key}.", depth + 1)
        else:
            yield above + key, cell(value)


def cell(value: Any) -> str:
    """Return a JSON value as the text of a cell."""
    if value is None or value == {} or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, str):
        return str(value)
    if (
        isinstance(value, list)
        and value
        and all(type(part) is str and part and "|" not in part for part in value)
    ):
        return "|".join(value)
    if value == []:
        return ""
    return spelt(value)


def spelt(value: Any) -> str:
    """Return a value as compact JSON, its numbers as they were spelt."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(spelt, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key, ensure_ascii=False)}: {spelt(part)}' for key, part in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)


def _kind(value: Any) -> str:
    kinds = (
        (Number, "a number"),
        (str, "a text"),
        (bool, "true or false"),
        (list, "a list"),
        (dict, "an object"),
        (float, "a number"),
    )
    return next((word for kind, word in kinds if isinstance(value, kind)), "null")
