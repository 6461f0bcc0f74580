"""Take digests and the largest value of pixels that lie in a file as they are, in one pass.

Reading memory takes longer than either digest: a block that is hashed for the file is still in the
core's own cache when it is hashed for the pixels and searched for its largest value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hilum.imaging.files import raster
from hilum.storage import ContentDigest

_BLOCK = 1 << 19  # bytes: half of the second cache of a core


class Findings(NamedTuple):
    """What was found of a file and the pixels in it."""

    file_digest: str
    pixel_digest: str
    largest: int


def of(data: memoryview, place: int, values: np.ndarray) -> Findings:
    """Return the digests of a file's bytes `data` and of `values`, as `raster` defines them.

    `values`: uint8 or uint16 (height, width), those of the bytes from `place` on.
    """
    of_file, of_pixels, largest = ContentDigest(), ContentDigest(), 0
    of_file.update(data[:place])
    flat = values.reshape(-1)
    step = _BLOCK // flat.itemsize
    for start in range(0, len(flat), step):
        block = flat[start : start + step]
        of_file.update(block.data)
        of_pixels.update(block.data)
        largest = max(largest, int(block.max()))
    of_file.update(data[place + flat.nbytes :])
    of_pixels.update(raster.kind_of_values(values))
    return Findings(of_file.text(), of_pixels.text(), largest)
