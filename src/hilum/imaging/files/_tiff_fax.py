"""Decode CCITT compression inside TIFF (2, 3 and 4; ITU-T T.4 and T.6): binary images.

libtiff continues where a row is short, long or broken, and only warns; here each warning is an
error. It is given a file of the strips or tiles and the relevant tags only, because it warns of
other tags too.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np

from hilum.imaging.files import _decoder_warnings

_KEPT = (256, 257, 258, 259, 262, 266, 278, 292, 293, 322, 323)  # layout and packing of values
_PLACES = {"strip": (273, 279), "tile": (324, 325)}
_HEAD = 8  # bytes


def decode(
    parts: Sequence[memoryview],
    tags: Mapping[int, tuple[int, ...]],
    name: str,
    size: tuple[int, int],
) -> np.ndarray:
    """Return uint8 0 and 1 of `size` (height, width). Raises `ValueError` for any broken row."""
    import imagecodecs

    room = np.zeros(size, bool)
    with _decoder_warnings.collected() as warnings:
        values = imagecodecs.tiff_decode(_file(parts, tags, name), verbose=1, out=room)
    if warnings:
        raise ValueError(f"{warnings[0]} ({len(warnings)} such faults)")
    return values.reshape(size).view(np.uint8)


def _file(parts: Sequence[memoryview], tags: Mapping[int, tuple[int, ...]], name: str) -> bytes:
    """A TIFF file of these strips or tiles alone."""
    places, at = [], _HEAD
    for part in parts:
        places.append(at)
        at += len(part)
    at += at % 2
    kept = {tag: tags[tag][:1] for tag in _KEPT if tag in tags}
    kept |= {277: (1,), _PLACES[name][0]: tuple(places), _PLACES[name][1]: tuple(map(len, parts))}
    entries, beyond, behind = [], b"", at + 2 + 12 * len(kept) + 4
    for tag, numbers in sorted(kept.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, beyond = struct.pack("<I", behind + len(beyond)), beyond + packed
        entries.append(struct.pack("<HHI", tag, 4, len(numbers)) + packed)
    head = b"II*\0" + struct.pack("<I", at)
    directory = struct.pack("<H", len(kept)) + b"".join(entries) + bytes(4)
    return b"".join([head, *parts]).ljust(at, b"\0") + directory + beyond
