"""DICOM files written byte by byte: also as no library would write them."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np

EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
CR_IMAGE = b"1.2.840.10008.5.1.4.1.1.1\0"
UNKNOWN = 0xFFFFFFFF
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
Element = tuple[int, bytes, bytes]  # tag, VR, value


def words(*values: int, order: str = "<") -> bytes:
    """Numbers of two bytes, negative ones too."""
    return b"".join(struct.pack(f"{order}H", value & 0xFFFF) for value in values)


def padded(value: bytes) -> bytes:
    return value + b" " * (len(value) % 2)


def element(
    tag: int,
    vr: bytes,
    value: bytes,
    *,
    implicit: bool = False,
    order: str = "<",
    length: int | None = None,
) -> bytes:
    """`length` as stated, where that is not the value's."""
    stated = len(value) if length is None else length
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack(f"{order}I", stated) + value
    if vr in LONG:
        return head + vr + bytes(2) + struct.pack(f"{order}I", stated) + value
    return head + vr + struct.pack(f"{order}H", stated) + value


def item(*elements: bytes, order: str = "<", length: int | None = None) -> bytes:
    value = b"".join(elements)
    closing = struct.pack(f"{order}HHI", 0xFFFE, 0xE00D, 0) if length == UNKNOWN else b""
    return (
        struct.pack(f"{order}HHI", 0xFFFE, 0xE000, len(value) if length is None else length)
        + value
        + closing
    )


def sequence_end(order: str = "<") -> bytes:
    return struct.pack(f"{order}HHI", 0xFFFE, 0xE0DD, 0)


def meta(syntax: str | None, media_class: bytes = CR_IMAGE) -> bytes:
    """Preamble and file meta information."""
    parts = (
        element(0x00020001, b"OB", b"\0\1")
        + element(0x00020002, b"UI", media_class)
        + element(0x00020003, b"UI", b"1.2.3.4\0")
    )
    if syntax is not None:
        parts += element(0x00020010, b"UI", syntax.encode() + b"\0" * (len(syntax) % 2))
    return bytes(128) + b"DICM" + element(0x00020000, b"UL", struct.pack("<I", len(parts))) + parts


def image(
    stored: np.ndarray,
    bits: int,
    *,
    photometric: bytes = b"MONOCHROME2",
    order: str = "<",
    more: Iterable[Element] = (),
) -> list[Element]:
    """The elements of an image of nobody, uncompressed; signed where `stored` is."""
    allocated = 8 * stored.dtype.itemsize
    numbers = {
        0x00280002: 1,
        0x00280010: stored.shape[0],
        0x00280011: stored.shape[1],
        0x00280100: allocated,
        0x00280101: bits,
        0x00280102: bits - 1,
        0x00280103: int(stored.dtype.kind == "i"),
    }
    pixels = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    elements = {
        0x00080016: (b"UI", CR_IMAGE),
        0x00080018: (b"UI", b"1.2.3.4\0"),
        0x00080060: (b"CS", b"CR"),
        0x00280004: (b"CS", padded(photometric)),
        **{tag: (b"US", words(value, order=order)) for tag, value in numbers.items()},
        0x7FE00010: (b"OW" if allocated > 8 else b"OB", pixels + b"\0" * (len(pixels) % 2)),
        **{tag: (vr, value) for tag, vr, value in more},
    }
    return [(tag, *elements[tag]) for tag in sorted(elements)]


def data_set(elements: Iterable[Element], *, implicit: bool = False, order: str = "<") -> bytes:
    return b"".join(element(*one, implicit=implicit, order=order) for one in elements)
