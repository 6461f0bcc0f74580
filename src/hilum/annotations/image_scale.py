"""Bring coordinates that are given for one raster to a file of another size.

Boxes, outlines and pixel spacing belong to the raster they were made on, and a data set often comes
with smaller copies of its images. `Scale.between` says how rows and columns grow from the one to the
other, where the two have the same proportions; where they have not, the copy was cropped, padded,
rotated or stretched, which cannot be told apart, and it refuses.

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
    """Factors from a raster of size `given` to a file of size `file`: pixels of the file a pixel."""

    given: Size
    file: Size

    @classmethod
    def between(cls, given: Size, file: Size) -> Scale:
        """Raises `BadData` where the two have other proportions."""
        if not same_proportions(given, file):
            raise BadData(_mismatch(given, file))
        return cls(given, file)

    @property
    def down(self) -> float:
        return self.file[0] / self.given[0]

    @property
    def across(self) -> float:
        return self.file[1] / self.given[1]

    def shape(self, shape: shapes.Shape) -> shapes.Shape:
        """The shape in the file's pixels; what is made of pixels is resampled by nearest neighbour."""
        return shape if self.given == self.file else _scaled(shape, self)

    def spacing(self, spacing_mm: tuple[float, float]) -> tuple[float, float]:
        """Spacing of the file's pixels: a copy of half the size has twice the spacing."""
        return spacing_mm[0] / self.down, spacing_mm[1] / self.across


def same_proportions(one: Size, other: Size) -> bool:
    """Whether one size is the other scaled: to 1 %, or to the pixel that rounding may take."""
    if min(*one, *other) < 1:
        return False
    down, across = other[0] / one[0], other[1] / one[1]
    if abs(down - across) < _PROPORTIONS * max(down, across):
        return True
    smaller, larger = sorted((one, other), key=max)
    by_rows, by_columns = smaller[0] / larger[0], smaller[1] / larger[1]
    return (
        abs(larger[1] * by_rows - smaller[1]) <= 1 or abs(larger[0] * by_columns - smaller[0]) <= 1
    )


def _mismatch(given: Size, file: Size) -> str:
    asked, found = ("x".join(map(str, size)) for size in (given, file))
    rotated = same_proportions(given, file[::-1])
    likely = (
        "it may be rotated by a quarter turn" if rotated else "it was cropped, padded or stretched"
    )
    return (
        f"the coordinates are given for {asked} pixels (height x width), the file has {found}, which has "
        f"other proportions: {likely}, and nothing can be placed on it"
    )


@singledispatch
def _scaled(shape: shapes.Shape, scale: Scale) -> shapes.Shape:
    raise TypeError(f"expected a shape, got {type(shape).__name__}")


@_scaled.register
def _(shape: shapes.Box, scale: Scale) -> shapes.Shape:
    (top, bottom), (left, right) = (
        [
            edge * file / given for edge in edges
        ]  # in this order what ends with the raster ends with the file
        for edges, given, file in zip(
            ((shape.top, shape.top + shape.height), (shape.left, shape.left + shape.width)),
            scale.given,
            scale.file,
            strict=True,
        )
    )
    return shapes.Box(top, left, _length(top, bottom), _length(left, right))


def _length(begin: float, end: float) -> float:
    """The length of an edge, such that `begin` plus it is not rounded to beyond `end`."""
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
    """Each pixel of the file takes the value at its centre; what no centre meets keeps one pixel."""
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
    """Of a side of `given` pixels in a file of `file`: the file's first pixel whose centre lies in
    pixels `first` to `first + count`, and the number from `first` that each such pixel takes.

    In whole numbers, for centres often lie on the edge between two pixels.
    """
    begin, end = (-((given - 2 * file * edge) // (2 * given)) for edge in (first, first + count))
    return begin, (2 * np.arange(begin, end) + 1) * given // (2 * file) - first
