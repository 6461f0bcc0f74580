"""Rotations by quarter turns and reflections of images, label maps and shapes.

These eight geometries only move pixels, so nothing is resampled. Sizes are (height, width), points
(row, column) from the top left corner, as in `hilum.annotations.shapes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from hilum.annotations import shapes
from hilum.annotations.polygons import Ring, Size


@dataclass(frozen=True)
class QuarterTurns:
    """One of the eight: `forward` transposes, then reverses rows, then columns."""

    transposed: bool = False
    upended: bool = False  # rows reversed
    mirrored: bool = False  # columns reversed

    def then(self, after: QuarterTurns) -> QuarterTurns:
        """Return this geometry followed by another."""
        # A transposition makes reversed rows of reversed columns, and the reverse.
        upended, mirrored = (
            (self.mirrored, self.upended) if after.transposed else (self.upended, self.mirrored)
        )
        return QuarterTurns(
            self.transposed != after.transposed,
            upended != after.upended,
            mirrored != after.mirrored,
        )

    @property
    def reverses(self) -> tuple[bool, bool]:
        """Whether the rows and the columns of the image before it are reversed."""
        return (self.mirrored, self.upended) if self.transposed else (self.upended, self.mirrored)

    def size(self, source: Size) -> Size:
        """Return the size of an image of size `source` afterwards."""
        return (source[1], source[0]) if self.transposed else source

    def forward(self, image: np.ndarray) -> np.ndarray:
        """Return an image (height, width) afterwards, contiguous in memory."""
        image = image.T if self.transposed else image
        return np.ascontiguousarray(self._reversed(image))

    def back(self, image: np.ndarray) -> np.ndarray:
        """Return an image as it was before `forward`."""
        image = self._reversed(image)
        return np.ascontiguousarray(image.T if self.transposed else image)

    def _reversed(self, image: np.ndarray) -> np.ndarray:
        return image[:: -1 if self.upended else 1, :: -1 if self.mirrored else 1]

    def shape(self, shape: shapes.Shape, source: Size) -> shapes.Shape:
        """Return a shape on an image of size `source` as it is on the image afterwards.

        Its mask is moved likewise, but for centres of pixels exactly on a polygon's outline,
        which are inside on one side of it only.
        """
        return shape if self == QuarterTurns() else _moved(shape, self, source)

    def ring(self, ring: Ring, source: Size) -> Ring:
        """Return the points of an outline on an image of size `source` as they are afterwards."""
        height, width = self.size(source)
        points = ((column, row) for row, column in ring) if self.transposed else ring
        return tuple(
            (height - row if self.upended else row, width - column if self.mirrored else column)
            for row, column in points
        )


@singledispatch
def _moved(shape: shapes.Shape, turns: QuarterTurns, source: Size) -> shapes.Shape:
    raise TypeError(f"expected a shape, got {type(shape).__name__}")


@_moved.register
def _(shape: shapes.Box, turns: QuarterTurns, source: Size) -> shapes.Shape:
    top, left, bottom, right = shape.edges
    rows, columns = turns.reverses
    corner = bottom if rows else top, right if columns else left  # becomes the top left one
    ((row, column),) = turns.ring((corner,), source)
    height, width = shape.height, shape.width
    return shapes.Box(row, column, *((width, height) if turns.transposed else (height, width)))


@_moved.register
def _(shape: shapes.Polygon, turns: QuarterTurns, source: Size) -> shapes.Shape:
    exterior, *holes = (turns.ring(ring, source) for ring in shape.rings)
    return shapes.Polygon(exterior, tuple(holes))


@_moved.register
def _(shape: shapes.Bitmap, turns: QuarterTurns, source: Size) -> shapes.Shape:
    (rows, columns), (height, width) = turns.reverses, shape.mask.shape
    top = source[0] - shape.top - height if rows else shape.top
    left = source[1] - shape.left - width if columns else shape.left
    place = (left, top) if turns.transposed else (top, left)
    return shapes.Bitmap(*place, turns.forward(shape.mask))


@_moved.register
def _(shape: shapes.RunLengths, turns: QuarterTurns, source: Size) -> shapes.Shape:
    return shapes.RunLengths.of(turns.forward(shape.to_mask(source)))
