"""Access the bytes of elements that pydicom parsed, before it converts them to values.

The meaning of an element's bytes is fixed by its tag and by other elements. Its VR may be wrong,
and pydicom's values follow the VR.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from hilum.imaging.files._dicom_decimal import decimal
from hilum.imaging.files._dicom_elements import TEXT_VRS

if TYPE_CHECKING:
    from pydicom import Dataset

_TEXTS = frozenset((None, "UN", *(vr.decode() for vr in TEXT_VRS)))


class Raw(NamedTuple):
    """The bytes of an element."""

    value: bytes
    vr: str | None  # None: implicit
    little_endian: bool


def raw(source: Dataset, key: int | str) -> Raw | None:
    """Return the bytes of the element with a tag or keyword.

    None where it is absent, empty or a sequence that was parsed.
    """
    if key not in source:
        return None
    element = source.get_item(key)
    value = element.value
    return (
        Raw(value, element.VR, getattr(element, "is_little_endian", True))
        if isinstance(value, bytes) and value
        else None
    )


def text(source: Dataset, key: int | str) -> str:
    """Return ASCII text as stored, several values separated by backslashes; empty if absent."""
    found = raw(source, key)
    if found is not None and found.vr in _TEXTS:
        return found.value.decode("latin-1")
    return as_text(source[key].value) if key in source else ""


def as_text(value: object) -> str:
    """Return a value of pydicom's as stored: a decimal as a number would lose trailing zeros."""
    if isinstance(value, Iterable) and type(value).__name__ in ("list", "tuple", "MultiValue"):
        return "\\".join(as_text(one) for one in value)
    written = getattr(value, "original_string", None)  # of a name: bytes
    return "" if value is None else str(written if isinstance(written, str) and written else value)


def whole(source: Dataset, key: int | str, *, signed: bool) -> int | None:
    """Return a number of two bytes, signed as asked whatever its VR says; None if absent."""
    found = raw(source, key)
    if found is not None and found.vr in _TEXTS - {None, "UN"}:
        value = decimal(found.value.decode("latin-1"))
        return None if value is None else int(value)
    if found is not None and len(found.value) >= 2:
        order = "little" if found.little_endian else "big"
        return int.from_bytes(found.value[:2], order, signed=signed)
    return None


def words(found: Raw) -> list[int]:
    """Return the value as unsigned numbers of two bytes each."""
    order = "little" if found.little_endian else "big"
    return [
        int.from_bytes(found.value[at : at + 2], order) for at in range(0, len(found.value) - 1, 2)
    ]
