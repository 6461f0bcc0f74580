"""Decode JPEG (ISO/IEC 10918-1) and read its header and Exif orientation.

The decoder is imagecodecs' libjpeg-turbo: 8 and 12 bits, lossless up to 16, baseline and
progressive. A stream with missing values is refused (`_jpeg_complete` explains how they are
detected), and so is one without its end marker.
"""

from __future__ import annotations

import numpy as np

from hilum.imaging.files import _jpeg_complete, _jpeg_stream, _tiff
from hilum.imaging.files._jpeg_stream import FRAMES
from hilum.imaging.files._raster_header import Head, Unfit

SIGNATURES = (b"\xff\xd8\xff",)
_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length
_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1


def read_header(data: bytes) -> Head:
    """Return size, channels, depth and orientation from the markers before the pixels.

    Raises `ValueError` where there is no frame header, `Unfit` for an image that is neither grey
    nor of three channels, such as CMYK.
    """
    orientation, at = 1, 2
    while (marker := _marker(data, at)) is not None:
        code, at = marker
        if code in _BARE:
            continue
        length = int.from_bytes(data[at : at + 2])
        if length < 2 or at + length > len(data):
            break
        segment = data[at + 2 : at + length]
        if code == _APP1 and segment.startswith(b"Exif\0\0"):
            orientation = _tiff.orientation(segment[6:])
        if code in FRAMES and len(segment) >= 6:
            return _head(segment, orientation)
        if code in (_SCAN, _END):
            break
        at += length
    raise ValueError("it has no header of an image")


def decode(data: bytes, head: Head) -> tuple[np.ndarray, list[str]]:
    """Return values uint8 or uint16 (height, width) or (height, width, 3), and notes on them."""
    stream = _jpeg_stream.parse(data)
    if not stream.ended:
        raise ValueError("its end is missing")
    values = _jpeg_complete.decode(data, stream)
    return values, [f"stated to have {head.bits} bits"] if head.bits != 8 else []


def _marker(data: bytes, at: int) -> tuple[int, int] | None:
    """Return the next marker's code and the offset behind it; None at the end.

    Fill bytes before a marker are allowed (B.1.1.2).
    """
    if data[at : at + 1] != b"\xff":
        return None
    while data[at : at + 1] == b"\xff":
        at += 1
    return (data[at], at + 1) if at < len(data) else None


def _head(frame: bytes, orientation: int) -> Head:
    bits, channels = frame[0], frame[5]
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    if channels not in (1, 3):
        held = "CMYK" if channels == 4 else f"{channels} channels"
        raise Unfit(
            f"holds {held}; expected grey or colour of three channels; save it as a grey PNG"
        )
    return Head((height, width), channels, bits, orientation)
