"""Compress an image of bytes by run lengths (PS3.5 G), which every viewer reads.

The compressor of pydicom is written in Python and takes seconds for a radiograph; this one is C.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset

_SEGMENTS = 15  # in the header of a frame: the number of segments, then their offsets
_HEADER = 64  # bytes


def compress(made: Dataset) -> None:
    """Compress the one frame of an uncompressed object of 8 bits, in place."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import RLELossless

    shape = (made.Rows, made.Columns, made.SamplesPerPixel)
    stored = np.frombuffer(made.PixelData, np.uint8)[: np.prod(shape)].reshape(shape)
    made.PixelData = encapsulate([frame(stored)])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = RLELossless


def frame(pixels: np.ndarray) -> bytes:
    """Return a frame of uint8 (height, width, samples): a segment per sample, row by row."""
    segments = []
    for sample in range(pixels.shape[2]):
        plane = np.ascontiguousarray(pixels[:, :, sample])
        rows = b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in plane)
        segments.append(rows + b"\0" * (len(rows) % 2))
    offsets = [_HEADER + sum(map(len, segments[:number])) for number in range(len(segments))]
    unused = [0] * (_SEGMENTS - len(segments))
    return struct.pack("<16L", len(segments), *offsets, *unused) + b"".join(segments)
