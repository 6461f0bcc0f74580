"""A radiograph in memory, and the one preprocessing from it to the input of models.

Conventions: arrays are (height, width), row before column; the pixels of a `Radiograph` are float32
in [0, 1], bright is dense; inversion, rescale and windowing are finished before it exists, or are
part of its table of brightness.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hilum.imaging.geometry import Letterbox, Size, resize

_EIGHT_BITS = np.arange(256, dtype=np.float32) / 255  # the brightness of most files
_LARGE = 1 << 14  # values that are sorted at once
_TAIL = 20  # as many times the values of a tail have to be there
_STEP = 17  # values for each one of a sample; no divisor of a width, else it is of few columns
_STRIP = 1 << 17  # pixels, which as float32 fit the cache of one core
_WIDE_TABLES = int(cv2.__version__.split(".")[0]) >= 5  # whether cv2.LUT takes 16-bit images


@dataclass(frozen=True)
class Radiograph:
    """One image: its stored values, and the brightness of each value a file can store.

    Without `lut` the stored values are the brightness itself.
    """

    # (height, width): float32 in [0, 1], bright is dense; with `lut`, uint8 or uint16 as stored
    stored_values: np.ndarray
    spacing_mm: tuple[float, float] | None  # between rows, between columns
    processing_log: tuple[str, ...]  # what was applied to the file's values, in order
    lut: np.ndarray | None = None  # float32 (n,) in [0, 1]: brightness of the values 0 to n - 1

    @property
    def size(self) -> Size:
        """(height, width) in pixels."""
        height, width = self.stored_values.shape
        return height, width

    @property
    def pixels(self) -> np.ndarray:
        """float32 (height, width) in [0, 1], bright is dense; a table is applied at each call."""
        return self.stored_values if self.lut is None else apply_lut(self.stored_values, self.lut)


def apply_lut(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return `table[values]` for uint8 or uint16 values.

    OpenCV is several times as fast as indexing, but needs a table of all values of the type.
    """
    if values.dtype == np.uint8 and np.array_equal(table, _EIGHT_BITS):
        return values / np.float32(255)  # the same values in two thirds of the time
    if values.dtype == np.uint16 and not _WIDE_TABLES:
        return table[values]
    entries = 1 << 8 * values.dtype.itemsize
    whole = np.zeros(entries, table.dtype)
    whole[: len(table)] = table
    return cv2.LUT(np.ascontiguousarray(values), whole)


def preprocess(radiograph: Radiograph, size: int, window: str, depth: int = 8) -> np.ndarray:
    """Return a radiograph as models see it: letterboxed, uint8 (`depth` 8) or uint16 (size, size).

    `window` "percentiles" stretches the 0.5th to the 99.5th percentile of the letterboxed image to
    the full range; "full" keeps the file's range. The padding is 0.
    """
    geometry = Letterbox(radiograph.size, size)
    square = _in_strips(radiograph, geometry)
    if square is None:
        square = geometry.forward(radiograph.pixels)
    if window == "percentiles":
        image = square[geometry.inside()]
        low, high = percentiles(image, np.array([0.5, 99.5]))
        stretched = image - low
        stretched /= max(high - low, 1e-6)
        image[...] = stretched
    return to_uint8(square) if depth == 8 else to_uint16(square)


def _in_strips(radiograph: Radiograph, geometry: Letterbox) -> np.ndarray | None:
    """Return what `geometry.forward` makes of the pixels, strip by strip.

    Each is averaged while its pixels are in the processor's cache. None unless values of 8 bits
    have a table and both axes shrink by the same whole number, which gives the same means.
    """
    values, table, (rows, columns) = radiograph.stored_values, radiograph.lut, geometry.inner
    factor = len(values) // rows
    if (
        table is None
        or values.dtype != np.uint8
        or values.shape != (factor * rows, factor * columns)
    ):
        return None
    square = np.zeros(geometry.target, np.float32)
    image = square[geometry.inside()]
    step = max(1, _STRIP // (factor * factor * columns))
    for top in range(0, rows, step):
        strip = apply_lut(values[factor * top : factor * (top + step)], table)
        image[top : top + step] = resize(strip, (len(strip) // factor, columns))
    return square


def percentiles(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return what `np.percentile` returns, to the bit, several times faster."""
    place = (values.size - 1) * (wanted / 100)
    below = place.astype(np.intp)
    above = np.minimum(below + 1, values.size - 1)
    first, second = _of_ranks(values.ravel(), np.stack([below, above]))
    part = place - below
    return np.where(
        part < 0.5, first + (second - first) * part, second - (second - first) * (1 - part)
    )


def _of_ranks(values: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return the values of these ranks, 0 for the smallest."""
    if values.dtype == np.uint8:  # counting is several times faster than sorting
        counts = np.bincount(values, minlength=256)
        return np.repeat(np.arange(256, dtype=np.uint8), counts)[ranks]
    low = ranks < len(values) // 2
    count_low = int(ranks[low].max(initial=-1)) + 1
    count_high = len(values) - int(ranks[~low].min(initial=len(values)))
    if len(values) < _LARGE or _TAIL * max(count_low, count_high) > len(values):
        return np.sort(values)[ranks]
    found = np.empty(ranks.shape, values.dtype)
    # Most values lie between the two tails, which a bound from a sample leaves out.
    sample = np.sort(values[::_STEP])
    reach = [2 * count // _STEP + 8 for count in (count_low, count_high)]
    # Places of the few that hold are found faster than values are picked by all truths.
    smallest = np.sort(values[np.flatnonzero(values <= sample[reach[0]])])
    largest = np.sort(values[np.flatnonzero(values >= sample[-1 - reach[1]])])
    if len(smallest) < count_low or len(largest) < count_high:
        return np.sort(values)[ranks]
    found[low] = smallest[ranks[low]]
    found[~low] = largest[ranks[~low] - len(values)]
    return found


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Convert float in [0, 1] to uint8 0 to 255, rounded; values outside are clipped."""
    scaled = np.clip(pixels, 0, 1)
    scaled *= 255
    scaled += 0.5
    return scaled.astype(np.uint8)


def to_uint16(pixels: np.ndarray) -> np.ndarray:
    """Convert float in [0, 1] to uint16 0 to 65535, rounded; values outside are clipped."""
    return (np.clip(pixels, 0, 1) * 65535 + 0.5).astype(np.uint16)
