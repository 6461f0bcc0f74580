"""Join the fragments of a single encapsulated frame (PS3.5 A.4), every byte accounted for."""

from __future__ import annotations

import struct
from typing import Literal

from hilum.imaging.files._dicom_elements import UNKNOWN_LENGTH

_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_HEAD = 8  # bytes of the tag and the length of an item


def encapsulated(data: memoryview, place: int, order: Literal["little", "big"]) -> bool:
    """Return whether the pixel data at `place` begin as a sequence of fragments does."""
    return _tag(data, place, order) == _ITEM


def joined(
    data: memoryview, place: int, length: int, order: Literal["little", "big"]
) -> memoryview:
    """Return the joined fragments; `length` of the value may be `UNKNOWN_LENGTH`.

    Raises `ValueError` where a fragment is cut short or missing, or the offset table lists several
    frames.
    """
    known = length != UNKNOWN_LENGTH
    end = place + length if known else len(data)
    if end > len(data):
        raise ValueError(f"its value states {length:,} bytes; {len(data) - place:,} are left")
    items: list[memoryview] = []
    while _tag(data, place, order) == _ITEM and not (known and place >= end):
        size = int.from_bytes(data[place + 4 : place + _HEAD], order)
        begin = place + _HEAD
        if begin + size > end:
            raise ValueError(
                f"fragment {len(items)} states {size:,} bytes; {max(0, end - begin):,} are left"
            )
        items.append(data[begin : begin + size])
        place = begin + size
    if _tag(data, place, order) != _END and not (known and place == end):
        raise ValueError(
            f"its fragments end after {max(0, len(items) - 1)} without their delimiter"
        )
    if not any(map(len, items[1:])):
        raise ValueError("no fragment of it is there")
    _refuse_several(items[0], order)
    return items[1] if len(items) == 2 else memoryview(b"".join(items[1:]))


def _refuse_several(table: memoryview, order: Literal["little", "big"]) -> None:
    if len(table) % 4:
        raise ValueError(f"its offset table has {len(table)} bytes, not four for each frame")
    offsets = struct.unpack(f"{'<' if order == 'little' else '>'}{len(table) // 4}I", table)
    if len(offsets) > 1 or any(offsets):
        raise ValueError(
            f"its offset table is {list(offsets[:4])}; of one frame it is empty or a single 0"
        )


def _tag(data: memoryview, place: int, order: Literal["little", "big"]) -> int:
    group, element = (int.from_bytes(data[at : at + 2], order) for at in (place, place + 2))
    return group << 16 | element
