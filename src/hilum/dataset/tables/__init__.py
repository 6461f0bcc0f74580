"""Read any table: CSV and its kin, workbooks, Parquet, JSON; cells as text, faults named.

A file is what its content says first and its name second. Whatever the bytes are, `BadData` is all
that is raised; what is left out or changed is in `Table.remarks`.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from pathlib import Path

from hilum.dataset.tables import _coco, _csv, _json, _parquet
from hilum.dataset.tables._coco import Coco
from hilum.dataset.tables._table import MAX_BYTES, Table
from hilum.errors import BadData, HilumError, NotFound, on_one_line, working_on
from hilum.imaging.files import opened
from hilum.safety import untrusted_files

__all__ = ["HEAD_BYTES", "KINDS", "Coco", "Table", "number", "read", "read_coco", "table_kind"]

KINDS = ("csv", "tsv", "xlsx", "parquet", "jsonl", "json")
HEAD_BYTES = 1 << 16  # of a file, enough for `table_kind`
_UNREAD = {"xls": "an old workbook (.xls)", "ods": "an OpenDocument sheet (.ods)"}
_BY_ENDING = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".xltx": "xlsx",
    ".xlsb": "xlsx",
    ".xls": "xls",
    ".ods": "ods",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
}
_PERHAPS = (".txt", ".dat", ".lst", ".list", ".psv", "")  # tables only if the content says so
_GZIP = b"\x1f\x8b"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?(0|[1-9]\d*)?,\d+", re.ASCII)
_PERHAPS_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)


def table_kind(path: Path, head: bytes) -> str | None:
    """Return the kind of table that a file is by its first bytes and its name.

    `head` has `HEAD_BYTES` or at least 4 KiB of the file. The kind is one of `KINDS`; "xls" or
    "ods", which `read` refuses by name; or None for other files.
    """
    ending = path.suffix.lower()
    by_name = _BY_ENDING.get(ending)
    if head.startswith(_GZIP):
        inner = path.with_suffix("")
        packed = _BY_ENDING.get(inner.suffix.lower()) in ("csv", "tsv", "jsonl", "json")
        return table_kind(inner, _unpacked_head(head)) if packed and ending == ".gz" else None
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK\x03\x04"):
        if b"opendocument.spreadsheet" in head[:200]:
            return "ods"
        return "xlsx" if by_name or b"xl/workbook" in head or b"xl/worksheets" in head else None
    if head.startswith(_OLE):
        return "xls" if by_name else None
    if by_name in ("xlsx", "parquet", *_UNREAD):
        return "csv" if _text_of(head) else by_name  # text with a name that makes Excel open it
    if by_name is None and ending in _PERHAPS and _csv.holds_table(_text_of(head)):
        return "csv"
    return by_name


def _text_of(head: bytes) -> str:
    """Decode the whole lines at the beginning of a file; "" where they are not those of a table."""
    utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = head.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")
    if re.search(r"[\x00-\x08\x0e-\x1f]", text) or text.lstrip()[:1] in ("{", "[", "<"):
        return ""
    return text if len(head) < 4096 else text[: max(text.rfind("\n"), text.rfind("\r")) + 1]


def _unpacked_head(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""  # `read` says what is wrong


def read(path: Path, *, name: str | None = None) -> list[Table]:
    """Read the tables of a file: one per sheet with content of a workbook, else exactly one.

    `name` is what messages call the file (else its bare name); a sheet among several is
    "labels.xlsx#Sheet2". Raises `BadData`, and `NotFound` where there is no such file.
    """
    with working_on(name or path):
        return _read(path, name or path.name)


def _read(path: Path, name: str) -> list[Table]:
    data = _content(path, name)
    kind = table_kind(path, data[:HEAD_BYTES]) or "csv"
    if kind in _UNREAD:
        raise BadData(f"{name}: is {_UNREAD[kind]}, which is not read; save it as .xlsx or CSV")
    if kind == "xlsx":
        from hilum.dataset.tables import _xlsx  # openpyxl takes 0.3 s to import

        return _xlsx.read(name, data)
    if kind == "parquet":
        return [_parquet.read(name, data)]
    if data.startswith(_GZIP):
        data, path = _unpacked(name, data), path.with_suffix("")
    if kind in ("json", "jsonl"):
        return [_read_json(name, data, kind)]
    return [_csv.read(name, data, path.suffix.lower())]


def _read_json(name: str, data: bytes, kind: str) -> Table:
    text = _json.decode(name, data)
    with _json.bounded_nesting(name):
        # One object per line is also written under the name .json.
        if kind == "jsonl" or len(re.findall(r"^\{.*\}\s*$", text[:HEAD_BYTES], re.MULTILINE)) > 1:
            return _json.read_lines(name, text)
        value = _json.parse(name, text)
        if _coco.is_coco(value):
            raise BadData(f"{name}: is COCO, not one table")
        return _json.of_value(name, value)


def read_coco(path: Path, *, name: str | None = None) -> Coco | None:
    """Read a COCO file; None where the JSON is something else.

    Raises `BadData` with all faults of a COCO file and for what is not JSON.
    """
    name = name or path.name
    data = _content(path, name)
    if data.startswith(_GZIP):
        data = _unpacked(name, data)
    with _json.bounded_nesting(name):
        return _coco.of_value(name, _json.parse(name, _json.decode(name, data)))


def _content(path: Path, name: str) -> bytes:
    try:
        return untrusted_files.read_bytes(path, root=opened.root(), limit=MAX_BYTES)
    except HilumError as error:
        said = str(error).replace(on_one_line(str(path)), on_one_line(name))
        raise (NotFound if isinstance(error, NotFound) else BadData)(said) from error


def _unpacked(name: str, data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            blocks, left = [], MAX_BYTES + 1
            while left and (block := file.read(min(left, 1 << 20))):
                blocks.append(block)
                left -= len(block)
            return _bounded(name, b"".join(blocks))
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{name}: is a damaged gzip file ({error}); copy it again") from error


def _bounded(name: str, data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise BadData(f"{name}: has more than {MAX_BYTES:,} bytes; split it, or leave out columns")
    return data


def number(cell: str) -> float | None:
    """Read a number with a decimal point or comma; None for any other text.

    "1,234" may be 1.234 or 1234 and is None, as is whatever has both a point and a comma.
    """
    text = cell.strip()
    if _NUMBER.fullmatch(text):
        value = float(text)
        return value if abs(value) != float("inf") else None
    if _DECIMAL_COMMA.fullmatch(text) and not _PERHAPS_THOUSANDS.fullmatch(text):
        return float(text.replace(",", "."))
    return None
