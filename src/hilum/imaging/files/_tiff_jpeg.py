"""Decode JPEG inside TIFF (compression 7, TIFF Technical Note 2).

Each strip or tile is a JPEG of its own, whose tables may be shared in the tag JPEGTables.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hilum.imaging.files import _jpeg_complete, _jpeg_stream

_START, _END = b"\xff\xd8", b"\xff\xd9"
_PHOTOMETRIC, _TABLES, _YCBCR = 262, 347, 6


def decode(part: bytes, tags: Mapping[int, tuple[int, ...]], samples: int) -> np.ndarray:
    """Return uint8 (height, width, samples) of one strip or tile, YCbCr as RGB.

    Raises `ValueError` where values are missing.
    """
    if not part.startswith(_START):
        raise ValueError("it is no JPEG")
    shared = bytes(tags.get(_TABLES, ())).removeprefix(_START).removesuffix(_END)
    stream = _START + shared + part.removeprefix(_START)
    space = None
    if samples == 3:  # the tag decides, whatever a decoder would guess
        space = ("YCBCR" if tags.get(_PHOTOMETRIC) == (_YCBCR,) else "RGB", "RGB")
    values = _jpeg_complete.decode(stream, _jpeg_stream.parse(stream), space)
    if values.dtype != np.uint8:
        raise ValueError(f"it holds {values.dtype}; expected 8 bits")
    return values if values.ndim == 3 else values[:, :, None]
