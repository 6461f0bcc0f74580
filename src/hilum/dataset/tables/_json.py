"""Tables as JSON: one object per line, a list of objects, or columns as pandas writes them.

Values become text: TRUE and FALSE, numbers as they are spelled, null as "", a list of strings as
"a|b" (as JSON where one contains "|"), other lists as JSON, an inner object as columns
"outer.inner".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from hilum.dataset.tables._header import is_image_name
from hilum.dataset.tables._rows import SHOWN, assemble
from hilum.dataset.tables._table import MAX_CELLS, MAX_COLUMNS, Table
from hilum.errors import BadData

MAX_JSON_BYTES = 256 << 20  # parsed values take some ten times as much memory
MAX_DEPTH = 20
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_EXPECTED = "expected a list of objects, or an object of equally long columns, as pandas writes it"


Object = dict[str, Any]  # a parsed JSON object; its numbers are `Number`


class Number(str):
    """A number as it is spelled in the file: 1.0 does not become 1."""


class _RepeatedKey(Exception):
    pass


@contextmanager
def bounded_nesting(name: str) -> Iterator[None]:
    """Refuse, while the values of a file are read, those nested more deeply than Python allows."""
    try:
        yield
    except RecursionError as error:
        raise BadData(f"{name}: is nested too deeply; {_EXPECTED}") from error


def parse(name: str, text: str, line: int | None = None) -> Any:
    """Parse JSON text; its numbers become `Number`. `line` is where in the file it stands.

    Raises `BadData` also for a key that is repeated in an object.
    """
    where = f"{name} line {line}" if line else name
    try:
        value = json.loads(text, parse_int=Number, parse_float=Number, object_pairs_hook=_object)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        raise BadData(
            f"{name} line {line or error.lineno}: is not JSON: {error.msg}, column {error.colno}"
        ) from error
    except UnicodeEncodeError as error:
        raise BadData(f"{where}: a string has half of a surrogate pair ({error.reason})") from error
    except _RepeatedKey as error:
        raise BadData(
            f"{where}: the key '{error}' is repeated in an object; keep one of them"
        ) from error


def _object(pairs: list[tuple[str, Any]]) -> Object:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise _RepeatedKey(counts.most_common(1)[0][0][:60])
    return found


def decode(name: str, data: bytes) -> str:
    """Decode UTF-8, UTF-16 or UTF-32, with or without byte order mark."""
    if len(data) > MAX_JSON_BYTES:
        raise BadData(f"{name}: is larger than {MAX_JSON_BYTES:,} bytes; save it as CSV or Parquet")
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise BadData(
            f"{name}: is not {encoding.upper()} ({error.reason} at byte {error.start:,}); "
            "save it again as UTF-8"
        ) from error


def read_lines(name: str, text: str) -> Table:
    """Read one object per line; columns are in order of appearance."""
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
        raise BadData.listing(name, faults, shown=SHOWN)
    return _of_records(name, records, unit="line")


def of_value(name: str, value: Any) -> Table:
    """Make a table of a parsed JSON value. Raises `BadData` for values that are not a table."""
    if isinstance(value, dict):
        if isinstance(value.get("data"), list) and isinstance(value.get("columns"), list):
            value = _of_split(name, value["columns"], value["data"])
        elif set(value) == {"schema", "data"}:  # pandas, orient="table"
            value = value["data"]
        else:
            value = _of_object(name, value)
    if not isinstance(value, list):
        raise BadData(f"{name}: is {_kind(value)}; {_EXPECTED}")
    faults = [
        f"record {number}: is {_kind(record)}; expected an object"
        for number, record in enumerate(value, 1)
        if not isinstance(record, dict)
    ]
    if faults:
        raise BadData.listing(name, faults, shown=SHOWN)
    return _of_records(name, enumerate(value, 1), unit="record")


def _of_split(name: str, names: list[Any], rows: list[Any]) -> list[Object]:
    """Convert what pandas writes with orient="split"."""
    if not all(isinstance(key, str) for key in names) or len(set(names)) < len(names):
        raise BadData(f"{name}: 'columns' is not a list of different names")
    faults = [
        f"record {number}: expected a list of {len(names)} values"
        for number, row in enumerate(rows, 1)
        if not isinstance(row, list) or len(row) != len(names)
    ]
    if faults:
        raise BadData.listing(name, faults, shown=SHOWN)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _of_object(name: str, value: Object) -> list[Object]:
    """Convert columns, or records by a key; a key that names records becomes the column "key"."""
    kinds = {type(inner) for inner in value.values()}
    if kinds <= {list}:
        lengths = {key: len(column) for key, column in value.items()}
        if len(set(lengths.values())) > 1:
            sizes = ", ".join(f"'{key}' has {size}" for key, size in list(lengths.items())[:8])
            raise BadData(f"{name}: its columns differ in length ({sizes}); {_EXPECTED}")
        return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    if kinds == {dict}:
        rows = list(next(iter(value.values())))
        if rows and all(map(str.isdecimal, rows)) and not all(map(str.isdecimal, value)):
            return _of_columns(name, value, rows)
        if any("key" in record for record in value.values()):
            raise BadData(f"{name}: its named records have a field 'key' too; write them as a list")
        return [{"key": key, **record} for key, record in value.items()]
    if dict not in kinds and all(map(is_image_name, value)):
        return [{"key": key, "value": inner} for key, inner in value.items()]
    raise BadData(f"{name}: is an object but not a table; {_EXPECTED}")


def _of_columns(name: str, value: dict[str, Object], rows: list[str]) -> list[Object]:
    """Convert what pandas writes by default: column, row number, value."""
    others = [key for key, column in value.items() if list(column) != rows]
    if others:
        raise BadData(
            f"{name}: the columns {', '.join(others[:8])} have other rows than the first column; "
            f"{_EXPECTED}"
        )
    return [{key: column[row] for key, column in value.items()} for row in rows]


def _of_records(name: str, records: Iterable[tuple[int, Object]], *, unit: str) -> Table:
    columns: dict[str, None] = {}
    rows: list[tuple[int, dict[str, str]]] = []
    for number, record in records:
        row: dict[str, str] = {}
        for key, value in _flattened(f"{name} {unit} {number}", record):
            if key in row:
                raise BadData(f"{name} {unit} {number}: two values are called '{key}'; rename one")
            row[key] = value
        rows.append((number, row))
        columns.update(dict.fromkeys(row))
        if len(columns) > MAX_COLUMNS or len(rows) * len(columns) > MAX_CELLS:
            raise BadData(f"{name}: more than {MAX_COLUMNS:,} columns or {MAX_CELLS:,} cells")
    header = [(0, list(columns))] if columns else []
    cells = ((number, [row.get(key, "") for key in columns]) for number, row in rows)
    return assemble(name, chain(header, cells), unit=unit, header_first=True)


def _flattened(
    where: str, record: Object, outer: str = "", depth: int = 0
) -> Iterator[tuple[str, str]]:
    if depth > MAX_DEPTH:
        raise BadData(f"{where}: is nested more than {MAX_DEPTH} deep; {_EXPECTED}")
    for key, value in record.items():
        if isinstance(value, dict) and value:
            yield from _flattened(where, value, f"{outer}{key}.", depth + 1)
        else:
            yield outer + key, _cell(value)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, list) and value and all(map(_joins, value)):
        return "|".join(value)
    if not value or value != value:  # null, [], {}, NaN
        return ""
    return spelled(value)


def _joins(value: Any) -> bool:
    return type(value) is str and value != "" and "|" not in value


def spelled(value: Any) -> str:
    """Return a parsed value as JSON text, its numbers as they were spelled."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join([spelled(part) for part in value])}]"
    if isinstance(value, dict):
        pairs = [f"{json.dumps(key)}: {spelled(part)}" for key, part in value.items()]
        return f"{{{', '.join(pairs)}}}"
    return json.dumps(value, ensure_ascii=False)


def _kind(value: Any) -> str:
    kinds = (
        (Number, "a number"),
        (float, "a number"),  # NaN and Infinity
        (str, "a string"),
        (bool, "true or false"),
        (list, "a list"),
        (dict, "an object"),
    )
    return next((word for kind, word in kinds if isinstance(value, kind)), "null")
