"""Find the element at which a DICOM data set breaks, for files whose pixels pydicom does not reach.

A wrong length, in a private element or in the sequence of an icon, leads the parser into the middle
of other values; what follows is parsed as elements too, without an error, until the file ends.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from hilum.imaging.files import _dicom_elements
from hilum.imaging.files._dicom_elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    LONG_VRS,
    SHORT_VRS,
    UNKNOWN_LENGTH,
    Form,
)
from hilum.imaging.files._dicom_tags import WHOLE_PIXELS

_PREAMBLE, _META_GROUP, _DELIMITERS = 132, 2, 0xFFFE
_LAST = 0xFFFF0000


class _Element(NamedTuple):
    tag: int
    vr: bytes  # empty: implicit
    begin: int  # offset of the value
    length: int
    form: Form

    @property
    def name(self) -> str:
        """The tag as text, for example "(7FE0,0010)"."""
        return f"({self.tag >> 16:04X},{self.tag & 0xFFFF:04X})"


class _Broken(Exception):
    """Raised with a description of the fault."""


def describe(data: bytes, *, big_endian: bool) -> str | None:
    """Return what is wrong with the first invalid element, and where the pixels seem to be.

    None where all elements are plausible.
    """
    try:
        before: _Element | None = None
        for element in _elements(data, big_endian=big_endian):
            _check(element, before, len(data))
            before = element
    except _Broken as fault:
        return f"{fault}{_pixels_elsewhere(data, big_endian=big_endian)}"
    return None


def _elements(data: bytes, *, big_endian: bool) -> Iterator[_Element]:
    """Yield the top-level elements, as far as they can be followed."""
    place, name = _PREAMBLE if data[128:_PREAMBLE] == b"DICM" else 0, "the beginning"
    while place < len(data):
        if place + 8 > len(data):
            raise _Broken(f"{len(data) - place} bytes are left over behind {name}")
        # the file meta information is always little endian
        in_meta = int.from_bytes(data[place : place + 2], "little") == _META_GROUP
        element = _at(data, place, EXPLICIT_BIG if big_endian and not in_meta else EXPLICIT_LITTLE)
        yield element
        place, name = _behind(data, element), element.name


def _at(data: bytes, place: int, form: Form) -> _Element:
    group, number, vr, length = form.element(data, place)
    tag = group << 16 | number
    if vr in SHORT_VRS:
        return _Element(tag, vr, place + 8, length, form)
    if vr in LONG_VRS and place + 12 <= len(data):
        return _Element(tag, vr, place + 12, *form.length(data, place + 8), form)
    implicit = form._replace(implicit=True)
    return _Element(tag, b"", place + 8, *form.length(data, place + 4), implicit)


def _check(element: _Element, before: _Element | None, size: int) -> None:
    behind = before.name if before else "the beginning"
    if element.tag >> 16 == _DELIMITERS:
        raise _Broken(
            f"a delimiter {element.name} of a sequence stands behind {behind}, outside of any"
        )
    if element.tag > _LAST or (before and element.tag <= before.tag):
        raise _Broken(f"{element.name} cannot follow {behind}, whose length is wrong")
    if before and before.tag >> 16 != _META_GROUP and before.vr and not element.vr:
        raise _Broken(f"{element.name} behind {behind} has no VR")
    left = size - element.begin
    if element.length != UNKNOWN_LENGTH and element.length > left:
        raise _Broken(
            f"{element.name} behind {behind} states {element.length:,} bytes, {left:,} are left"
        )


def _behind(data: bytes, element: _Element) -> int:
    try:
        if element.length == UNKNOWN_LENGTH:
            # an unknown sequence is implicit little endian (PS3.5 6.2.2)
            form = IMPLICIT_LITTLE if element.vr == b"UN" else element.form
            return _dicom_elements.behind_unknown(data, element.begin, form, element.vr)
        end = element.begin + element.length
        if element.vr in (b"", b"SQ") and _items_end(data, element, end) != end:
            raise _Broken(
                f"{element.name} states {element.length:,} bytes, its items have not as many"
            )
    except (_dicom_elements.Odd, struct.error, IndexError) as error:
        raise _Broken(f"the items of {element.name} are broken") from error
    return end


def _items_end(data: bytes, element: _Element, end: int) -> int:
    """Return the offset at which the items of a sequence end; `end` where it holds no items."""
    place, item = element.begin, _dicom_elements.ITEM
    while place < end:
        group, number, *_ = element.form.element(data, place)
        if group << 16 | number != item:
            return end if place == element.begin else place
        (length,) = element.form.length(data, place + 4)
        place += 8
        if length == UNKNOWN_LENGTH:
            place = _dicom_elements.behind_item(data, place, element.form)
        else:
            place += length
    return place


def _pixels_elsewhere(data: bytes, *, big_endian: bool) -> str:
    tag = struct.pack(">HH" if big_endian else "<HH", WHOLE_PIXELS >> 16, WHOLE_PIXELS & 0xFFFF)
    place = data.rfind(tag)
    return f"; Pixel Data seems to stand at byte {place:,}" if place >= 0 else ""
