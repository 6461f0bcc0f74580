"""JPEG (ISO/IEC 10918-1): what the markers before the pixels tell, and the picture.

The decoder is libjpeg-turbo by imagecodecs: 8 and 12 bits, lossless up to 16, baseline, progressive and arithmetic. It fills what is
missing of a stream that was cut short with grey and says nothing, so a stream without its end marker is refused here. Damage inside
the compressed values goes unseen: the format has no check for it. Exif's orientation is told by `look`.
"""

from __future__ import annotations

import numpy as np

from hilum.files import _tiff
from hilum.files._head import Head, Unfit

SIGNATURES = (b"\xff\xd8\xff",)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame: table B.1
_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length
_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1
_MOST_WORK = 1 << 30  # scans times values: each scan of a progressive picture, which has about ten, costs as much as the picture


def look(data: bytes) -> Head:
    """Raises `Unfit` for CMYK and other pictures that are neither grey nor colour."""
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
        if code in _FRAMES and len(segment) >= 6:
            return _head(segment, orientation)
        if code in (_SCAN, _END):
            break
        at += length
    raise ValueError("it has no header of a picture")


def decode(data: bytes, head: Head) -> tuple[np.ndarray, list[str]]:
    """Values uint8 or uint16 (height, width) or (height, width, 3)."""
    import imagecodecs

    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise ValueError("its end is missing")
    if (scans := data.count(b"\xff\xda")) * head.size[0] * head.size[1] * head.channels > _MOST_WORK:
        raise ValueError(f"its {scans} scans would take too long")
    return imagecodecs.jpeg8_decode(data), [f"stated to have {head.bits} bits"] if head.bits != 8 else []


def _marker(data: bytes, at: int) -> tuple[int, int] | None:
    """The next marker's code and the place behind it; None at the end. Fill bytes before it are allowed (B.1.1.2)."""
    if data[at : at + 1] != b"\xff":
        return None
    while data[at : at + 1] == b"\xff":
        at += 1
    return (data[at], at + 1) if at < len(data) else None


def _head(frame: bytes, orientation: int) -> Head:
    bits, height, width, channels = frame[0], int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5]), frame[5]
    if channels not in (1, 3):
        held = "CMYK" if channels == 4 else f"{channels} channels"
        raise Unfit(f"holds {held}; expected grey or colour of three channels; save it as a grey PNG")
    return Head((height, width), channels, bits, orientation)
