"""Say where the elements of a DICOM data set stop making sense, for files whose pixels pydicom does not reach.

A length that is wrong, in a private element or an icon's sequence, leads reading into the middle of other values; what comes
then is read as elements too, without an error, until the file ends.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from hilum.files import _dicom_walk
from hilum.files._dicom_walk import LONG_VRS, SHORT_VRS, UNKNOWN_LENGTH, WHOLE_PIXELS

if TYPE_CHECKING:
    from hilum.files._dicom_parsing import Parsed

_DELIMITERS = 0xFFFE
_LAST = 0xFFFF0000


def describe(parsed: Parsed) -> str | None:
    """Return what is wrong with the first element that cannot be meant, and where pixels seem to be; None where all can."""
    data = bytes(parsed.data)
    big = parsed.dataset.original_encoding[1] is False
    fault = _first_fault(data, ">" if big else "<")
    return fault and fault + _pixels_elsewhere(data, big_endian=big)


def _first_fault(data: bytes, order: str) -> str | None:
    place = 132 if data[128:132] == b"DICM" else 0
    behind, last = "the beginning", -1
    while place < len(data):
        if place + 8 > len(data):
            return f"{len(data) - place} bytes are left over behind {behind}"
        here = "<" if data[place : place + 2] == b"\x02\0" else order  # the meta information is always little endian
        tag, vr, begin, length = _element(data, place, here)
        name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        if tag >> 16 == _DELIMITERS:
            return f"a delimiter {name} of a sequence stands behind {behind}, outside of any"
        if tag <= last or tag > _LAST:
            return f"{name} cannot follow {behind}, whose length is wrong"
        if length == UNKNOWN_LENGTH:
            # an unknown sequence is implicit little endian (PS3.5 6.2.2)
            end = _dicom_walk.behind_sequence(data, begin, big_endian=here == ">" and vr != "UN", implicit=vr in (None, "UN"))
            if end is None:
                return f"the items of {name} are broken"
        else:
            end = begin + length
        if end > len(data):
            return f"{name} states {length:,} bytes, {len(data) - begin:,} are left"
        place, behind, last = end, name, tag
    return None


def _element(data: bytes, place: int, order: str) -> tuple[int, str | None, int, int]:
    """Tag, VR (None: implicit), place and length of the value."""
    group, number, vr, length = struct.unpack_from(f"{order}HH2sH", data, place)
    if vr in SHORT_VRS:
        return group << 16 | number, vr.decode(), place + 8, length
    if vr in LONG_VRS and place + 12 <= len(data):
        return group << 16 | number, vr.decode(), place + 12, *struct.unpack_from(f"{order}I", data, place + 8)
    return group << 16 | number, None, place + 8, *struct.unpack_from(f"{order}I", data, place + 4)
