"""A radiograph in memory, and geometry that can be undone.

Conventions: arrays are (height, width), row before column; a `Radiograph`'s pixels are float32 in [0, 1], bright is dense;
inversion, rescale and windowing are over before it exists, or lie in its table of brightness. A geometry maps arrays of its source
size to arrays of its target size (`forward`) and back (`back`); masks and label pictures go with `labels=True`, which keeps their
values as they are.

What shrinks is averaged over the area that each new pixel covers, in both axes and whatever the factor: there is no other way to make
a picture smaller here, so fine lines cannot turn into coarse ones that the patient does not have (aliasing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Size = tuple[int, int]
_WIDE_TABLES = int(cv2.__version__.split(".")[0]) >= 5  # whether cv2.LUT takes 16-bit pictures


@dataclass(frozen=True)
class Radiograph:
    """One picture. Either `values` are the brightness itself, or `shown` tells the brightness of each value a file can store."""

    values: np.ndarray  # (height, width): float32 in [0, 1], bright is dense; with `shown`, uint8 or uint16 as stored
    spacing_mm: tuple[float, float] | None  # between rows, between columns
    account: tuple[str, ...]  # what was applied to the file's values, in order
    shown: np.ndarray | None = None  # float32 (n,) in [0, 1], bright is dense: brightness of the values 0 to n - 1

    @property
    def size(self) -> Size:
        return self.values.shape

    @property
    def pixels(self) -> np.ndarray:
        """float32 (height, width) in [0, 1], bright is dense; made anew at each call where there is a table."""
        return self.values if self.shown is None else look_up(self.values, self.shown)


def look_up(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`table[values]` of uint8 or uint16 values. OpenCV is several times as fast as indexing, but wants a table of all values of the type."""
    if values.dtype == np.uint16 and not _WIDE_TABLES:
        return table[values]
    entries = 1 << 8 * values.dtype.itemsize
    whole = np.zeros(entries, table.dtype)
    whole[: len(table)] = table
    return cv2.LUT(np.ascontiguousarray(values), whole)


def resize(image: np.ndarray, size: Size, *, labels: bool = False) -> np.ndarray:
    """`image` at (height, width) `size`, each axis for itself: area averaging where it shrinks (no aliasing), linear where it grows.

    Labels keep their values: where they shrink, a pixel takes the label of most of its area, where they grow, the nearest one.
    """
    # OpenCV averages areas only where no axis grows, and otherwise interpolates, without a word; so what shrinks goes first.
    smaller = min(size[0], image.shape[0]), min(size[1], image.shape[1])
    if image.shape != smaller:
        image = _most_of_the_area(image, smaller) if labels else cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)
    if image.shape != size:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT if labels else cv2.INTER_LINEAR)
    return image


def _most_of_the_area(labels: np.ndarray, size: Size) -> np.ndarray:
    """Of each new pixel the label that covers most of it; among equals the lowest."""
    found = np.unique(labels)
    largest = np.full(size, -1, np.float32)
    winner = np.zeros(size, labels.dtype)
    for label in found:
        share = cv2.resize((labels == label).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
        wins = share > largest + 1e-6  # rounding must not decide between equals
        winner[wins], largest[wins] = label, share[wins]
    return winner


@dataclass(frozen=True)
class Letterbox:
    """A picture of any size, its proportions kept, centred in a square of `to` pixels, the rest 0."""

    source: Size
    to: int

    @property
    def inner(self) -> Size:
        """The picture's own size inside the square."""
        scale = self.to / max(self.source)
        return max(1, round(self.source[0] * scale)), max(1, round(self.source[1] * scale))

    @property
    def corner(self) -> Size:
        return (self.to - self.inner[0]) // 2, (self.to - self.inner[1]) // 2

    @property
    def target(self) -> Size:
        return self.to, self.to

    def inside(self) -> tuple[slice, slice]:
        """Where the picture lies in the square."""
        (top, left), (height, width) = self.corner, self.inner
        return slice(top, top + height), slice(left, left + width)

    def forward(self, image: np.ndarray, *, labels: bool = False) -> np.ndarray:
        square = np.zeros(self.target, image.dtype)
        square[self.inside()] = resize(image, self.inner, labels=labels)
        return square

    def back(self, square: np.ndarray, *, labels: bool = False) -> np.ndarray:
        return resize(np.ascontiguousarray(square[self.inside()]), self.source, labels=labels)


@dataclass(frozen=True)
class Crop:
    """Rows `top` to `bottom` and columns `left` to `right` (the ends left out) of a picture of `source` size."""

    source: Size
    top: int
    left: int
    bottom: int
    right: int

    def __post_init__(self) -> None:
        inside = 0 <= self.top < self.bottom <= self.source[0] and 0 <= self.left < self.right <= self.source[1]
        if not inside:
            raise ValueError(f"a crop must lie inside its picture and not be empty: {self}")

    @property
    def target(self) -> Size:
        return self.bottom - self.top, self.right - self.left

    def forward(self, image: np.ndarray, *, labels: bool = False) -> np.ndarray:
        return np.ascontiguousarray(image[self.top : self.bottom, self.left : self.right])

    def back(self, image: np.ndarray, *, labels: bool = False) -> np.ndarray:
        whole = np.zeros(self.source, image.dtype)
        whole[self.top : self.bottom, self.left : self.right] = image
        return whole


@dataclass(frozen=True)
class Chain:
    """Geometries one after the other."""

    steps: Sequence[Letterbox | Crop | Chain]

    def forward(self, image: np.ndarray, *, labels: bool = False) -> np.ndarray:
        for step in self.steps:
            image = step.forward(image, labels=labels)
        return image

    def back(self, image: np.ndarray, *, labels: bool = False) -> np.ndarray:
        for step in reversed(self.steps):
            image = step.back(image, labels=labels)
        return image


def prepare(radiograph: Radiograph, size: int, window: str, depth: int = 8) -> np.ndarray:
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
    first, second, part = ordered[below], ordered[np.minimum(below + 1, len(ordered) - 1)], place - below
    return np.where(part < 0.5, first + (second - first) * part, second - (second - first) * (1 - part))


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """float in [0, 1] to uint8 0 to 255, rounded; values outside are clipped."""
    return (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)


def to_uint16(pixels: np.ndarray) -> np.ndarray:
    """float in [0, 1] to uint16 0 to 65535, rounded; values outside are clipped."""
    return (np.clip(pixels, 0, 1) * 65535 + 0.5).astype(np.uint16)
