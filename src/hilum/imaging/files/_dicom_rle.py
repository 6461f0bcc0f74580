"""Decode DICOM's run-length encoding (PS3.5 annex G), each segment into a buffer of its own size.

A segment is one byte of one sample of all pixels, the most significant byte first. It is never
decoded beyond its size, and must fill it.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np

from hilum.imaging.files._decoder_warnings import as_data

_HEADER = 64  # bytes: the number of segments and the offsets of up to 15


def decode(stream: memoryview, pixels: int, samples: int, width: int) -> memoryview:
    """Return little endian cells of `width` bytes, plane by plane: `samples` planes of `pixels`.

    Raises `ValueError` naming the segment that is missing, short or too long.
    """
    import imagecodecs

    segments = _segments(stream, samples * width)
    planes = np.zeros((len(segments), pixels), np.uint8)
    for number, (segment, plane) in enumerate(zip(segments, planes, strict=True)):
        try:
            found = len(imagecodecs.packbits_decode(as_data(segment), out=plane.data))
        except RuntimeError as error:
            raise ValueError(
                f"segment {number + 1} of {len(segments)} is broken, or holds more than its "
                f"{pixels:,} bytes ({error})"
            ) from error
        if found != pixels:
            raise ValueError(
                f"segment {number + 1} of {len(segments)} holds {found:,} bytes; "
                f"{pixels:,} are needed"
            )
    if width == 1:
        return planes.reshape(-1).data
    cells = [
        cv2.merge(list(planes[first : first + width][::-1])).reshape(-1)
        for first in range(0, len(planes), width)
    ]
    return (cells[0] if samples == 1 else np.concatenate(cells)).data


def _segments(stream: memoryview, needed: int) -> list[memoryview]:
    if len(stream) < _HEADER:
        raise ValueError(f"{len(stream)} bytes are less than the header of its segments")
    count, *places = struct.unpack_from("<16I", stream)
    if count != needed:
        raise ValueError(f"{count} segments, {needed} are needed")
    bounds = [*places[:count], len(stream)]
    if bounds[0] != _HEADER or any(a >= b for a, b in zip(bounds, bounds[1:], strict=False)):
        raise ValueError(f"the places {bounds[:-1]} of its segments do not follow one another")
    return [stream[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
