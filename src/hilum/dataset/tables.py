"""Read any table a person may have: CSV, TSV, workbook, Parquet, JSON, as text cells, with faults named.

A file is judged by its content first and its name second. What cannot be read is `BadData` that names
the file; nothing else is raised, whatever the bytes are. Nothing is dropped without a remark.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from pathlib import Path

from hilum.dataset import _coco, _csv, _json, _parquet, _xlsx
from hilum.dataset._cells import MAX_BYTES, Table
from hilum.dataset._coco import Coco
from hilum.errors import BadData, NotFound

__all__ = ["HEAD_BYTES", "KINDS", "Coco", "Table", "number", "read", "read_coco", "table_kind"]

KINDS = ("csv", "tsv", "xlsx", "parquet", "jsonl", "json")
REFUSED = {"xls": "an old binary workbook (.xls)", "ods": "an OpenDocument sheet (.ods)"}
HEAD_BYTES = 1 << 16  # of a file, enough for `table_kind`
_ENDINGS = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".xlsx": "xlsx", ".xlsm": "xlsx", ".xltx": "xlsx", ".xlsb": "xlsx",
    ".xls": "xls", ".ods": "ods", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
}  # fmt: skip
_TEXT_ENDINGS = (
    ".txt",
    ".dat",
    ".lst",
    ".list",
    ".psv",
    "",
)  # of these, only what is clearly a table
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.I | re.A)
_DECIMAL_COMMA = re.compile(r"[+-]?(0|[1-9]\d*)?,\d+", re.A)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.A)


def table_kind(path: Path, head: bytes) -> str | None:
    """Tell what kind of table a file is by its first bytes (4 to 64 KiB) and its name.

    Return one of `KINDS`, "xls" or "ods", which `read` refuses by name, or None for any other file.
    """
    if head.startswith(b"\x1f\x8b"):
        inner = path.with_suffix("")
        return (
            table_kind(inner, _gunzip_head(head))
            if inner.suffix.lower()
            in (".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".txt")
            else None
        )
    ending = path.suffix.lower()
    by_name = _ENDINGS.get(ending)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK\x03\x04"):
        if b"opendocument.spreadsheet" in head[:200]:
            return "ods"
        return "xlsx" if by_name or b"xl/workbook" in head or b"xl/worksheets" in head else None
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return "xls" if by_name else None
    if by_name is None and ending in _TEXT_ENDINGS:
        return _kind_of_text(head)
    return by_name


def _kind_of_text(head: bytes) -> str | None:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = head.decode("utf-16", errors="replace")
    else:
        text = head.decode("utf-8-sig", errors="replace")
    if re.search(r"[\x00-\x08\x0e-\x1f]", text) or text.lstrip()[:1] in ("{", "[", "<"):
        return None
    return (
        "csv"
        if _csv.holds_table(text[: text.rfind("\n") + 1] if len(head) >= 4096 else text)
        else None
    )


def _gunzip_head(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""


def read(path: Path, *, name: str | None = None) -> list[Table]:
    """Read a file's tables: one for each sheet of a workbook that holds anything, else one.

    `name` is what messages call the file; a sheet among several is "labels.xlsx#Sheet2".
    Raises `BadData`, and `NotFound` where there is no such file.
    """
    name = name or path.name
    data = _opened(path, name)
    kind = table_kind(path, data[:HEAD_BYTES]) or "csv"
    if kind in REFUSED:
        raise BadData(f"{name}: is {REFUSED[kind]}, which is not read; save it as .xlsx or CSV")
    if data.startswith(b"\x1f\x8b"):
        data = _unpacked(name, data)
        path = path.with_suffix("")
    try:
        if kind == "xlsx":
            return _xlsx.read(name, data)
        if kind == "parquet":
            return [_parquet.read(name, data)]
        if kind in ("json", "jsonl"):
            return [_json_table(name, data, kind)]
        return [_csv.read(name, data, path.suffix.lower())]
    except RecursionError as error:
        raise BadData(f"{name}: is nested too deeply for a table") from error


def _json_table(name: str, data: bytes, kind: str) -> Table:
    if kind == "jsonl":
        return _json.read_lines(name, data)
    try:
        value = _json.parse(name, _json.decode(name, data))
    except BadData:
        if (
            data.count(b"\n{") and data.lstrip()[:1] == b"{"
        ):  # one object a line under the name .json
            return _json.read_lines(name, data)
        raise
    return _json.of_value(name, value)


def read_coco(path: Path, *, name: str | None = None) -> Coco | None:
    """Read a COCO file; None where the JSON is something else. Raises `BadData` with all faults."""
    name = name or path.name
    data = _opened(path, name)
    if data.startswith(b"\x1f\x8b"):
        data = _unpacked(name, data)
    try:
        return _coco.of_value(name, _json.parse(name, _json.decode(name, data)))
    except RecursionError as error:
        raise BadData(f"{name}: is nested too deeply for a COCO file") from error


def _opened(path: Path, name: str) -> bytes:
    if not path.exists():
        raise NotFound(f"{name}: there is no such file")
    if not path.is_file():  # a pipe or a device would never end
        raise BadData(f"{name}: is not a file; expected a table")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadData(f"{name}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise BadData(
            f"{name}: is larger than {MAX_BYTES:,} bytes; split it, or leave out columns that are not needed"
        )
    return data


def _unpacked(name: str, data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            unpacked = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{name}: is a damaged gzip file ({error}); copy it again") from error
    if len(unpacked) > MAX_BYTES:
        raise BadData(f"{name}: is larger than {MAX_BYTES:,} bytes once unpacked; split it")
    return unpacked


def number(cell: str) -> float | None:
    """Read a number with a decimal point or comma; None for any other text.

    "1,234" is None, for it may be 1.234 or 1234; so is whatever has both signs.
    """
    text = cell.strip()
    if _NUMBER.fullmatch(text):
        value = float(text)
        return value if abs(value) != float("inf") else None
    if _DECIMAL_COMMA.fullmatch(text) and not _THOUSANDS.fullmatch(text):
        return float(text.replace(",", "."))
    return None
