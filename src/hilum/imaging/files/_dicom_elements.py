"""The byte layout of DICOM elements (PS3.5 section 7): VRs, lengths, sequences.

Functions raise `Odd` for an encoding they cannot follow with certainty, and `struct.error` or
`IndexError` where the data end early.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

TEXT_VRS = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
# VRs with a length of four bytes.
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_VRS = (TEXT_VRS | frozenset(b"AT FL FD SL SS UL US".split())) - LONG_VRS
UNKNOWN_LENGTH = 0xFFFFFFFF
ITEM, _ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DELIMITERS = 0xFFFE  # their group
_FRAGMENTS_END = (b"\xfe\xff\xdd\xe0", b"\xff\xfe\xe0\xdd")  # little and big endian


class Form(NamedTuple):
    """An encoding of elements (PS3.5 7.1): how to unpack their head and a long length."""

    implicit: bool
    element: Callable[[bytes, int], tuple[int, int, bytes, int]]
    length: Callable[[bytes, int], tuple[int]]


EXPLICIT_LITTLE = Form(False, struct.Struct("<HH2sH").unpack_from, struct.Struct("<I").unpack_from)
EXPLICIT_BIG = Form(False, struct.Struct(">HH2sH").unpack_from, struct.Struct(">I").unpack_from)
IMPLICIT_LITTLE = EXPLICIT_LITTLE._replace(implicit=True)


class Odd(Exception):
    """The encoding of an element cannot be followed with certainty."""


def is_vr(written: bytes) -> bool:
    """Return whether the two bytes behind a tag are a VR, by pydicom's rule: no length has them."""
    return len(written) == 2 and 0x40 < written[0] < 0x5B and 0x40 < written[1] < 0x5B


def behind_unknown(data: bytes, place: int, form: Form, vr: bytes) -> int:
    """Return the offset behind a value of unknown length that begins at `place`.

    It is a sequence, or the fragments of compressed pixels, as in an icon.
    """
    if vr == b"UN" and not form.implicit:
        # A sequence in implicit little endian (PS3.5 6.2.2), unless its first element has a VR.
        if form is not EXPLICIT_LITTLE or is_vr(data[place + 12 : place + 14]):
            raise Odd
        form = IMPLICIT_LITTLE
    if form.implicit or vr == b"SQ":
        return _behind_opened(data, place, form, 1)
    end = data.find(_FRAGMENTS_END[form is EXPLICIT_BIG], place)  # as pydicom finds it
    if end < 0:
        raise IndexError
    return end + 8


def behind_item(data: bytes, place: int, form: Form) -> int:
    """Return the offset behind an item of unknown length whose elements begin at `place`."""
    return _behind_opened(data, place, form, 2)


def _behind_opened(data: bytes, place: int, form: Form, level: int) -> int:
    """Return the offset behind a sequence (`level` 1) or an item (2) of unknown length.

    Sequences are open at odd levels, their items at even ones. One loop walks all of them: a call
    for each would take longer than its elements.
    """
    implicit, unpack, unpack_long = form
    outside = level - 1
    while level > outside:
        group, element, vr, length = unpack(data, place)
        place += 8
        within_item = not level % 2
        if within_item and vr in SHORT_VRS and not implicit and group != _DELIMITERS:
            place += length  # most elements
            continue
        if implicit or group == _DELIMITERS:
            (length,) = unpack_long(data, place - 4)
        elif vr in LONG_VRS:
            (length,) = unpack_long(data, place)
            place += 4
        elif vr not in SHORT_VRS:
            raise Odd
        tag = group << 16 | element
        if tag == (_ITEM_END if within_item else SEQUENCE_END):
            level -= 1
        elif not within_item and tag != ITEM:
            raise Odd
        elif length != UNKNOWN_LENGTH:
            place += length
        elif not within_item or implicit or vr == b"SQ":
            level += 1
        else:
            place = behind_unknown(data, place, form, vr)
    return place


def elements(data: bytes, place: int, form: Form) -> Iterator[tuple[int, int, int]]:
    """Yield (tag, offset of the value, offset behind it) to the end of the item or of the data."""
    while place < len(data):
        group, element, vr, length = form.element(data, place)
        tag, value = group << 16 | element, place + 8
        if form.implicit or group == _DELIMITERS:
            (length,) = form.length(data, place + 4)
        elif vr in LONG_VRS:
            (length,) = form.length(data, place + 8)
            value = place + 12
        elif vr not in SHORT_VRS:
            raise Odd
        unknown = length == UNKNOWN_LENGTH
        place = behind_unknown(data, value, form, vr) if unknown else value + length
        yield tag, value, place
        if tag == _ITEM_END:
            return
