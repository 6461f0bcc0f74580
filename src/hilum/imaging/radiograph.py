"""A radiograph in memory, and the one way from it to what models see.

Conventions: arrays are (height, width), row before column; a `Radiograph`'s pixels are float32 in [0, 1], bright is dense;
inversion, rescale and windowing are over before it exists, or lie in its table of brightness.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hilum.imaging.geometry import Letterbox, Size

_WIDE_TABLES = int(cv2.__version__.split(".")[0]) >= 5  # whether cv2.LUT takes 16-bit pictures


@dataclass(frozen=True)
class Radiograph:
    """One picture. Either `values` are the brightness itself, or `shown` tells the brightness of each value a file can store."""

    stored_values: np.ndarray  # (height, width): float32 in [0, 1], bright is dense; with `shown`, uint8 or uint16 as stored
    spacing_mm: tuple[float, float] | None  # between rows, between columns
    processing_log: tuple[str, ...]  # what was applied to the file's values, in order
    lut: np.ndarray | None = (
        None  # float32 (n,) in [0, 1], bright is dense: brightness of the values 0 to n - 1
    )

    @property
    def size(self) -> Size:
        return self.stored_values.shape

    @property
    def pixels(self) -> np.ndarray:
        """float32 (height, width) in [0, 1], bright is dense; made anew at each call where there is a table."""
        return self.stored_values if self.lut is None else apply_lut(self.stored_values, self.lut)


def apply_lut(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`table[values]` of uint8 or uint16 values. OpenCV is several times as fast as indexing, but wants a table of all values of the type."""
    if values.dtype == np.uint16 and not _WIDE_TABLES:
        return table[values]
    entries = 1 << 8 * values.dtype.itemsize
    whole = np.zeros(entries, table.dtype)
    whole[: len(table)] = table
    return cv2.LUT(np.ascontiguousarray(values), whole)


def preprocess(radiograph: Radiograph, size: int, window: str, depth: int = 8) -> np.ndarray:
    """The one way from a radiograph to what models see: uint8 or uint16 (size, size), letterboxed, stretched as `window` says.

    "percentiles": from the 0.5th to the 99.5th of the letterboxed picture; "full": as the file has it. Beside the picture is 0.
    """
    geometry = Letterbox(radiograph.size, size)
    square = geometry.forward(radiograph.pixels)
    if window == "percentiles":
        picture = square[geometry.inside()]
        low, high = _percentiles(picture, np.array([0.5, 99.5]))
        square[geometry.inside()] = (picture - low) / max(high - low, 1e-6)
    return to_uint8(square) if depth == 8 else to_uint16(square)


def _percentiles(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """What `np.percentile` gives, to the bit; it is several times slower, even on values that are sorted."""
    ordered = np.sort(values, axis=None)
    place = (len(ordered) - 1) * (wanted / 100)
    below = place.astype(np.intp)
    first, second, part = (
        ordered[below],
        ordered[np.minimum(below + 1, len(ordered) - 1)],
        place - below,
    )
    return np.where(
        part < 0.5, first + (second - first) * part, second - (second - first) * (1 - part)
    )


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """float in [0, 1] to uint8 0 to 255, rounded; values outside are clipped."""
    return (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)


def to_uint16(pixels: np.ndarray) -> np.ndarray:
    """float in [0, 1] to uint16 0 to 65535, rounded; values outside are clipped."""
    return (np.clip(pixels, 0, 1) * 65535 + 0.5).astype(np.uint16)
