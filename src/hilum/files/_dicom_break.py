"""Say where the elements of a DICOM data set stop making sense, for files whose pixels pydicom does not reach.

A length that is wrong, in a private element or an icon's sequence, leads reading into the middle of other values; what comes
then is read as elements too, without an error, until the file ends.
"""

from __future__ import annotations

import struct

from hilum.files import _dicom_walk
from hilum.files._dicom_walk import LONG_VRS, SHORT_VRS, UNKNOWN_LENGTH, WHOLE_PIXELS

_DELIMITERS = 0xFFFE
_LAST = 0xFFFF0000


def describe(data: bytes, *, big_endian: bool) -> str | None:
    """Return what is wrong with the first element that cannot be meant, and where pixels seem to be; None where all can."""
    fault = _first_fault(data, ">" if big_endian else "<")
    return fault and fault + _pixels_elsewhere(data, big_endian=big_endian)


def _first_fault(data: bytes, order: str) -> str | None:
    place = 132 if data[128:132] == b"DICM" else 0
    behind, last, explicit = "the beginning", -1, None
    while place < len(data):
        if place + 8 > len(data):
            return f"{len(data) - place} bytes are left over behind {behind}"
        in_meta = data[place : place + 2] == b"\x02\0"  # which is always explicit and little endian
        here = "<" if in_meta else order
        tag, vr, begin, length = _element(data, place, here)
        name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        if tag >> 16 == _DELIMITERS:
            return f"a delimiter {name} of a sequence stands behind {behind}, outside of any"
        if tag <= last or tag > _LAST:
            return f"{name} cannot follow {behind}, whose length is wrong"
        if not in_meta:
            explicit = vr is not None if explicit is None else explicit
            if explicit and vr is None:
                return f"{name} behind {behind} has no VR"
        end = begin + length
        if length == UNKNOWN_LENGTH:
            end = _dicom_walk.behind_unknown(data, begin, vr, big_endian=here == ">")
            if end is None:
                return f"the items of {name} are broken"
        if end > len(data):
            return f"{name} behind {behind} states {length:,} bytes, {len(data) - begin:,} are left"
        if length != UNKNOWN_LENGTH and _items_end(data, begin, end, here, vr) not in (None, end):
            return f"{name} states {length:,} bytes, its items have not as many"
        place, behind, last = end, name, tag
    return None


def _pixels_elsewhere(data: bytes, *, big_endian: bool) -> str:
    tag = struct.pack(">HH" if big_endian else "<HH", WHOLE_PIXELS >> 16, WHOLE_PIXELS & 0xFFFF)
    place = data.rfind(tag)
    return f"; Pixel Data seems to stand at byte {place:,}" if place >= 0 else ""


def _items_end(data: bytes, place: int, end: int, order: str, vr: str | None) -> int | None:
    """Where the items of a sequence from `place` to `end` stop being items; None for what is no sequence."""
    item = struct.pack(f"{order}HH", _DELIMITERS, 0xE000)
    if vr not in (None, "SQ") or data[place : place + 4] != item:
        return None
    while place < end and data[place : place + 4] == item:
        (length,) = struct.unpack_from(f"{order}I", data, place + 4)
        if length == UNKNOWN_LENGTH:
            behind = _dicom_walk.behind_item(
                data, place + 8, big_endian=order == ">", implicit=vr is None
            )
            if behind is None:
                return place
            place = behind
        else:
            place += 8 + length
    return place


def _element(data: bytes, place: int, order: str) -> tuple[int, str | None, int, int]:
    """Tag, VR (None: implicit), place and length of the value."""
    group, number, vr, length = struct.unpack_from(f"{order}HH2sH", data, place)
    if vr in SHORT_VRS:
        return group << 16 | number, vr.decode(), place + 8, length
    if vr in LONG_VRS and place + 12 <= len(data):
        return (
            group << 16 | number,
            vr.decode(),
            place + 12,
            *struct.unpack_from(f"{order}I", data, place + 8),
        )
    return group << 16 | number, None, place + 8, *struct.unpack_from(f"{order}I", data, place + 4)
