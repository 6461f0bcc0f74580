"""Transfer coordinates that are given for one raster to a file of another size.

Boxes, outlines and pixel spacing belong to the raster they were made on, and a data set often comes
with smaller copies of its images. `Scale.between` gives the factors of rows and columns between two
rasters of the same proportions. Where proportions differ, the copy was cropped, padded, rotated or
stretched; which of these cannot be determined, so it refuses.

Sizes are (height, width) in pixels, spacing is in mm between (rows, columns).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from hilum.annotations import shapes
from hilum.annotations.polygons import Size
from hilum.errors import BadData

_PROPORTIONS = 0.01  # by which rows and columns may be scaled differently


@dataclass(frozen=True)
class Scale:
    """Factors from a raster of size `given` to a file of size `file`.

    In pixels of the file a pixel of the raster.
    """

    given: Size
    file: Size

    @classmethod
    def between(cls, given: Size, file: Size) -> Scale:
        """Return the scale from one size to another.

        Raises `BadData` where their proportions differ.
        """
        if not same_proportions(given, file):
            raise BadData(_mismatch(given, file))
        return cls(given, file)

    @property
    def down(self) -> float:
        """Rows of the file a row of the given raster."""
        return self.file[0] / self.given[0]

    @property
    def across(self) -> float:
        """Columns of the file a column of the given raster."""
        return self.file[1] / self.given[1]

    def shape(self, shape: shapes.Shape) -> shapes.Shape:
        """Return the shape in the file's pixels; masks are resampled by nearest neighbour."""
        return shape if self.given == self.file else _scaled(shape, self)

    def spacing(self, spacing_mm: tuple[float, float]) -> tuple[float, float]:
        """Return the spacing of the file's pixels; a copy of half the size has twice of it."""
        return spacing_mm[0] / self.down, spacing_mm[1] / self.across


def same_proportions(one: Size, other: Size) -> bool:
    """Say whether one size is the other scaled: to 1 %, or to the pixel of rounding."""
    if min(*one, *other) < 1:
        return False
    down, across = other[0] / one[0], other[1] / one[1]
    if abs(down - across) < _PROPORTIONS * max(down, across):
        return True
    smaller, larger = (one, other) if max(one) <= max(other) else (other, one)
    by_rows, by_columns = smaller[0] / larger[0], smaller[1] / larger[1]
    return (
        abs(larger[1] * by_rows - smaller[1]) <= 1 or abs(larger[0] * by_columns - smaller[0]) <= 1
    )


def _mismatch(given: Size, file: Size) -> str:
    stated, found = ("x".join(map(str, size)) for size in (given, file))
    rotated = same_proportions(given, (file[1], file[0]))
    likely = (
        "it may be rotated by a quarter turn" if rotated else "it was cropped, padded or stretched"
    )
    return (
        f"the coordinates are given for {stated} pixels (height x width), the file has {found}, "
        f"which has other proportions: {likely}, and nothing can be placed on it"
    )


@singledispatch
def _scaled(shape: shapes.Shape, scale: Scale) -> shapes.Shape:
    raise TypeError(f"expected a shape, got {type(shape).__name__}")


@_scaled.register
def _(shape: shapes.Box, scale: Scale) -> shapes.Shape:
    (height, width), (rows, columns) = scale.given, scale.file
    # Multiplied first: an edge at the raster's end is then exactly at the file's end.
    top, bottom = (edge * rows / height for edge in (shape.top, shape.top + shape.height))
    left, right = (edge * columns / width for edge in (shape.left, shape.left + shape.width))
    return shapes.Box(top, left, _length(top, bottom), _length(left, right))


def _length(begin: float, end: float) -> float:
    """Return the length of an edge such that `begin` + length does not round beyond `end`."""
    length = end - begin
    return length if begin + length <= end else math.nextafter(length, -math.inf)


@_scaled.register
def _(shape: shapes.Polygon, scale: Scale) -> shapes.Shape:
    (height, width), (rows, columns) = scale.given, scale.file
    rings = [
        tuple((row * rows / height, column * columns / width) for row, column in ring)
        for ring in (shape.exterior, *shape.holes)
    ]
    return shapes.Polygon(rings[0], tuple(rings[1:]))


@_scaled.register
def _(shape: shapes.Bitmap, scale: Scale) -> shapes.Shape:
    # Each pixel of the file takes the value at its centre; a mask that no centre meets keeps one
    # pixel.
    (height, width), (rows, columns) = scale.given, scale.file
    top, taken_rows = _sampled(shape.top, shape.mask.shape[0], height, rows)
    left, taken_columns = _sampled(shape.left, shape.mask.shape[1], width, columns)
    found = shape.mask[np.ix_(taken_rows, taken_columns)]
    if shape.mask.any() and not found.any():
        row, column = np.argwhere(shape.mask).mean(axis=0) + 0.5
        top = int((shape.top + row) * rows / height)
        left = int((shape.left + column) * columns / width)
        found = np.ones((1, 1), bool)
    return shapes.Bitmap(top, left, found)


@_scaled.register
def _(shape: shapes.RunLengths, scale: Scale) -> shapes.Shape:
    sides = zip(scale.given, scale.file, strict=True)
    rows, columns = (_sampled(0, given, given, file)[1] for given, file in sides)
    return shapes.RunLengths.of(shape.to_mask(scale.given)[np.ix_(rows, columns)])


def _sampled(first: int, count: int, given: int, file: int) -> tuple[int, np.ndarray]:
    """Resample a side of `given` pixels to `file` pixels by nearest neighbour.

    Returns the file's first pixel whose centre is in pixels `first` to `first + count`, and the
    number, from `first`, of the pixel that each such pixel copies. In whole numbers, because
    centres are often on the edge between two pixels.
    """
    begin, end = (-((given - 2 * file * edge) // (2 * given)) for edge in (first, first + count))
    return begin, (2 * np.arange(begin, end) + 1) * given // (2 * file) - first
