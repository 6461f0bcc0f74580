"""Open a whole DICOM data set for a program that writes it anew, with its pixels as bytes.

Files come in as everywhere (`hilum.imaging.files._dicom_parsing`): bounded inflation, no recursion
without an end, every error a `BadData` without the file's values in it. The data set ends before
the pixel data; their bytes are taken over unread and exactly as long as the image that the header
states, so that nothing travels behind or beside the pixels. Elements behind the pixels (padding,
signatures) are not read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from hilum.errors import BadData, HilumError
from hilum.imaging.files import (
    _dicom_facts,
    _dicom_layout,
    _dicom_object,
    _dicom_parsing,
    _dicom_pixels,
)
from hilum.imaging.files._dicom_burned_in import BURNT_IN, CAPTURE, RECOGNIZABLE
from hilum.imaging.files._dicom_elements import UNKNOWN_LENGTH
from hilum.imaging.files._dicom_header import Header
from hilum.imaging.files._dicom_tags import DEFLATED
from hilum.imaging.files.dicom import holds

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "BURNT_IN",
    "CAPTURE",
    "RECOGNIZABLE",
    "Opened",
    "PixelElement",
    "holds",
    "opened",
    "stored_values",
]

_ITEM, _SEQUENCE_END, _HEAD = 0xFFFEE000, 0xFFFEE0DD, 8
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_BITS, _SUBSAMPLED = (1, 8, 16, 32, 64), "YBR_FULL_422"

Result = TypeVar("Result")


@dataclass(frozen=True)
class PixelElement:
    """The element of the pixel data: the bytes of its value, fragments with their delimiter."""

    tag: int
    vr: str
    value: bytes | memoryview
    encapsulated: bool
    order: Literal["little", "big"]

    def written(self) -> bytes:
        """Return the whole element with its VR (PS3.5 7.1.2)."""
        length = UNKNOWN_LENGTH if self.encapsulated else len(self.value)
        tag = (self.tag >> 16).to_bytes(2, self.order) + (self.tag & 0xFFFF).to_bytes(2, self.order)
        vr = self.vr.encode() + b"\0\0"
        return tag + vr + length.to_bytes(4, self.order) + bytes(self.value)


@dataclass(frozen=True)
class Opened:
    """A file's data set before its pixels, what its header says, and the pixels' element."""

    dataset: Dataset
    header: Header
    syntax: str  # UID in which it is to be written: explicit, not deflated
    pixels: PixelElement | None  # None where the object holds none

    @property
    def object_kind(self) -> str | None:
        """Name what the file holds instead of a single image, as `dicom.object_kind`."""
        return _dicom_object.reason(self.header)


def opened(path: Path, data: bytes) -> Opened:
    """Open a file's bytes; `path` is what errors call it. Raises `BadData`."""
    return understood(path, lambda: _opened(data))


def stored_values(path: Path, data: bytes) -> tuple[np.ndarray, int]:
    """Return the stored values (height, width), signed or unsigned, and their bits.

    They are in the file's own order and orientation, decoded where they are compressed. Raises
    `BadData` as `hilum.imaging.files.dicom.read`.
    """
    return understood(path, lambda: _stored(path, data))


def understood(path: Path, work: Callable[[], Result]) -> Result:
    """Return what `work` returns; whatever a parser raises becomes `BadData`.

    The parser's own words stay out of it, and so do its warnings, because they repeat values.
    """
    try:
        with _dicom_parsing.quietly():
            return work()
    except HilumError:
        raise
    except Exception as error:
        raise BadData(
            f"{path}: its data set is broken, cut short or nested too deeply "
            f"({type(error).__name__}); copy the file again from its source"
        ) from error


def _opened(data: bytes) -> Opened:
    parsed = _dicom_parsing.parsed(data)
    header = _dicom_facts.of_file(data, parsed)
    tag = _dicom_parsing.pixel_tag(parsed)
    pixels = _pixels(parsed, tag) if tag else None
    return Opened(parsed.dataset, header, _syntax(header), pixels)


def _syntax(header: Header) -> str:
    """Return the transfer syntax to write in.

    Of implicit and deflated files it is the default of PS3.10 media, so that every element that is
    written says what it holds.
    """
    stated = header.syntax
    return _EXPLICIT if stated in (None, _IMPLICIT, DEFLATED) else str(stated)


def _pixels(parsed: _dicom_parsing.Parsed, tag: int) -> PixelElement:
    order = _dicom_parsing.byte_order(parsed.dataset)
    vr, place, length = _dicom_layout.element_at(parsed.data, parsed.pixels, order)
    if length == UNKNOWN_LENGTH:
        end = _behind_fragments(parsed.data, place, order)
        return PixelElement(tag, "OB", parsed.data[place:end], True, order)  # PS3.5 A.4
    if place + length > len(parsed.data):
        raise ValueError("the pixels are cut short")
    needed = _bytes_needed(parsed.dataset)
    if vr not in ("OB", "OW", "OF", "OD"):
        vr = "OW"
    if length < needed:
        raise ValueError("the pixels are fewer than the header states")
    value = parsed.data[place : place + needed]
    return PixelElement(tag, vr, bytes(value) + b"\0" * (needed % 2), False, order)


def _bytes_needed(dataset: Dataset) -> int:
    """Return how many bytes the uncompressed image needs that the header states (PS3.5 8.1.1)."""
    bits, samples = int(dataset.BitsAllocated), int(dataset.get("SamplesPerPixel") or 1)
    frames = int(dataset.get("NumberOfFrames") or 1)
    count = int(dataset.Rows) * int(dataset.Columns) * frames
    if bits not in _BITS or min(count, samples) < 1:
        raise ValueError("the size of the pixels is no size")
    if str(dataset.PhotometricInterpretation) == _SUBSAMPLED:
        samples = 2
    return (count * samples * bits + 7) // 8


def _behind_fragments(data: memoryview, place: int, order: Literal["little", "big"]) -> int:
    """Return the offset behind the delimiter of the fragments that begin at `place`."""
    while place + _HEAD <= len(data):
        group, number = (int.from_bytes(data[at : at + 2], order) for at in (place, place + 2))
        tag, length = group << 16 | number, int.from_bytes(data[place + 4 : place + _HEAD], order)
        place += _HEAD
        if tag == _SEQUENCE_END:
            return place
        if tag != _ITEM or place + length > len(data):
            break
        place += length
    raise ValueError("the fragments of the pixels are cut short")


def _stored(path: Path, data: bytes) -> tuple[np.ndarray, int]:
    parsed = _dicom_parsing.parsed(data)
    header = _dicom_facts.of_file(data, parsed)
    pixels = _dicom_pixels.decode(parsed, _dicom_layout.layout(parsed, header, path), path)
    if not pixels.signed:
        return pixels.values, pixels.bits
    kind = np.int8 if pixels.values.dtype.itemsize == 1 else np.int16
    offset = 1 << pixels.bits - 1
    return (pixels.values.astype(np.int32) - offset).astype(kind), pixels.bits
