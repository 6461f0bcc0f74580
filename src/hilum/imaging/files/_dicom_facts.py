"""Read the facts of a DICOM header: by `_dicom_tags` where the file is plain, else by pydicom.

Both hand the same bytes to the same functions, so they cannot interpret them differently.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum.imaging.files import (
    _dicom_break,
    _dicom_object,
    _dicom_parsing,
    _dicom_tags,
    _dicom_values,
    raster,
)
from hilum.imaging.files._dicom_header import Header, header
from hilum.imaging.files._dicom_parsing import Parsed
from hilum.imaging.files._dicom_tags import (
    CHARSET,
    CODE,
    CODES,
    NUMBER,
    PIXELS,
    SYNTAX,
    TEXT,
    WANTED,
    WHOLE_PIXELS,
    Fact,
    Facts,
)

if TYPE_CHECKING:
    from pydicom import Dataset

_ROWS = 0x00280010
_FITTING = {
    kind: frozenset((None, *(vr.decode() for vr in vrs)))
    for kind, vrs in _dicom_tags.FITTING.items()
}


def read(path: Path, root: Path | None = None) -> Header:
    """Return the header of a file.

    Raises as `hilum.safety.untrusted_files.opened`, `ValueError` for a broken data set, and
    whatever pydicom raises.
    """
    facts = _dicom_tags.walked(path, root)
    found = header(facts) if facts is not None else None
    if found is not None and _dicom_object.reason(found) != _dicom_object.NO_PIXELS:
        return found
    data = raster.load(path, root)
    if found is not None and facts is not None and _is_sound(data, facts):
        return found
    with _dicom_parsing.quietly():
        parsed = _dicom_parsing.parsed(data)
        return _whole(parsed, of_parsed(parsed))


def _is_sound(data: bytes, facts: Facts) -> bool:
    """Return whether a file without pixels has no broken element; one that is deflated never."""
    syntax = str(facts.get(SYNTAX, "")).strip(" \0")
    if syntax == _dicom_tags.DEFLATED or _says_nothing(facts):
        return False
    return _dicom_break.describe(data, big_endian=syntax == _dicom_tags.BIG_ENDIAN) is None


def of_file(data: bytes, parsed: Parsed) -> Header:
    """Return the header of a file that pydicom parsed.

    Raises `ValueError` where the two ways of reading disagree.
    """
    of_pydicom, facts = of_parsed(parsed), _dicom_tags.walked_bytes(data)
    by_pydicom = _whole(parsed, of_pydicom)
    if facts is None:
        return by_pydicom
    # pydicom takes the padding off the transfer syntax.
    if {**facts, SYNTAX: str(facts.get(SYNTAX, "")).rstrip("\0")} == of_pydicom:
        return by_pydicom  # equal facts give equal headers
    if (found := header(facts)) != by_pydicom:
        fields = [name for name, value in vars(found).items() if value != getattr(by_pydicom, name)]
        raise ValueError(f"two ways of reading disagree on {', '.join(fields)}")
    return by_pydicom


def _whole(parsed: Parsed, facts: Facts) -> Header:
    """Return the header by pydicom, of the facts that it found.

    pydicom continues behind a broken element; where it then found no pixels, the broken element is
    the error to report.
    """
    found = header(facts)
    if _dicom_object.reason(found) == _dicom_object.NO_PIXELS:
        big_endian = _dicom_parsing.byte_order(parsed.dataset) == "big"
        if fault := _dicom_break.describe(bytes(parsed.data), big_endian=big_endian):
            raise ValueError(fault)
    return found


def of_parsed(parsed: Parsed) -> Facts:
    """Return the wanted facts of what pydicom parsed, from each element's bytes where possible."""
    facts = _of_elements(parsed.dataset)
    if pixels := _dicom_parsing.pixel_tag(parsed):
        facts[PIXELS] = pixels
    if _says_nothing(facts):
        raise ValueError("nothing in it is understood")
    return facts


def _says_nothing(facts: Facts) -> bool:
    return not set(facts) - {SYNTAX, CHARSET}


def of_answer(dataset: Dataset) -> Header:
    """Return the header of a data set that stands for a file that is elsewhere.

    Such as a server's answer to a query. It has no pixels; a size stands for them.
    """
    facts = _of_elements(dataset)
    if _ROWS in facts:
        facts[PIXELS] = WHOLE_PIXELS
    return header(facts)


def _of_elements(dataset: Dataset) -> dict[int, Fact]:
    facts: dict[int, Fact] = {}
    encoding = _charset(dataset)
    meta = getattr(dataset, "file_meta", None)
    for tag, kind in WANTED.items():
        source = meta if tag >> 16 == 2 else dataset
        if source is None or tag not in source:
            continue
        if (fact := _fact(source, tag, kind, encoding)) is not None:
            facts[tag] = fact
    return facts


def _charset(dataset: Dataset) -> str | None:
    if CHARSET not in dataset:
        return _dicom_tags.encoding_of(b"")
    try:
        return _dicom_tags.encoding_of(_dicom_values.text(dataset, CHARSET).encode())
    except ValueError:
        return None


def _fact(source: Dataset, tag: int, kind: str, encoding: str | None) -> Fact | None:
    """Return an element's fact as `_dicom_tags` decodes its bytes; else as pydicom does."""
    if kind is CODE:
        return _code(source[tag].value, encoding)
    raw = _dicom_values.raw(source, tag)
    try:
        if raw is not None and raw.vr in _FITTING[kind]:
            if kind is NUMBER:
                return _dicom_tags.number(raw.value, not raw.little_endian)
            return _dicom_tags.decoded(raw.value, encoding)
    except ValueError:
        pass  # not plain: pydicom may know more
    value = source[tag].value
    if kind is NUMBER:
        return None if value is None else int(value)
    return _dicom_values.as_text(value)


def _code(sequence: Any, encoding: str | None) -> tuple[str, str, str] | None:
    if type(sequence).__name__ != "Sequence" or not len(sequence):
        return None
    first = sequence[0]
    encoding = None if CHARSET in first else encoding
    texts = (_fact(first, part, TEXT, encoding) if part in first else "" for part in CODES)
    value, scheme, meaning = (str(text).strip(" \0") for text in texts)
    return value, scheme, meaning
