"""Resize images and label maps, find their content, and map them to another frame and back.

Arrays are (height, width), row before column. A geometry (`Letterbox`, `Crop`, `Chain`) maps arrays
of its source size to arrays of its target size (`forward`) and back (`back`); masks and label maps
go with `labels=True`, which keeps their values as they are.

What shrinks is averaged over the area that each new pixel covers, in both axes and whatever the
factor: there is no other way to make an image smaller here, so fine lines cannot turn into coarse
ones that the patient does not have (aliasing).

Two functions find the box inside an image's border. They differ on purpose, and stored results
depend on each: `content_box` cuts off rows and columns of one brightness, whatever the contrast
inside, and keeps a dark margin with texture; `textured_box` cuts off all rows and columns with
hardly any contrast, whatever their brightness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Size = tuple[int, int]  # (height, width)
Box = tuple[slice, slice]  # rows, columns

_GRID = 64  # rows and columns on which `content_box` searches for a border
_FLAT_LEVELS = 6  # grey levels that a flat border may vary by
_FLAT_FRACTION = 0.9  # of a flat row or column within that range: the rest may be a marker or text
_LEAST_CONTENT = 8  # of `_GRID`: with less left inside the border, the image is taken whole
_LEAST_CONTRAST = 10  # grey levels of 256 that a row or column of content exceeds
_SMOOTHED = (5, 5)  # pixels over which noise is averaged before contrast is measured


def resize(image: np.ndarray, size: Size, *, labels: bool = False) -> np.ndarray:
    """Return `image` at (height, width) `size`, each axis on its own.

    An axis that shrinks is averaged over areas (no aliasing), one that grows is interpolated
    linearly. Labels keep their values: where they shrink, a pixel takes the label that covers most
    of its area, where they grow, the nearest one.
    """
    # OpenCV averages areas only where no axis grows, and otherwise interpolates without a warning;
    # so the axis that shrinks goes first.
    smaller = min(size[0], image.shape[0]), min(size[1], image.shape[1])
    if image.shape != smaller:
        image = _majority(image, smaller) if labels else _averaged(image, smaller)
    if image.shape != size:
        image = cv2.resize(
            image, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT if labels else cv2.INTER_LINEAR
        )
    return image


def _averaged(image: np.ndarray, size: Size) -> np.ndarray:
    """Return the means over areas of an image none of whose axes grows."""
    height, width = size
    if image.dtype == np.float32 and image.shape[:2] == (4 * height, 4 * width):
        # Halves of halves are the same means, and OpenCV makes them in a third of the time.
        image = cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _majority(labels: np.ndarray, size: Size) -> np.ndarray:
    """Return for each new pixel the label that covers most of it; among equals the lowest."""
    largest = np.full(size, -1, np.float32)
    winner = np.zeros(size, labels.dtype)
    for label in np.unique(labels):
        covered = cv2.resize(
            (labels == label).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA
        )
        wins = covered > largest + 1e-6  # rounding must not decide between equals
        winner[wins], largest[wins] = label, covered[wins]
    return winner


def content_box(image: np.ndarray) -> Box:
    """Return the rows and columns inside the flat border of a uint8 (height, width) image.

    A border line is flat and as bright as the outermost one. The box is the whole image where
    hardly anything would be left of it.
    """
    coarse = resize(np.ascontiguousarray(image), (_GRID, _GRID)).astype(np.int16)
    ends = [_content_ends(coarse), _content_ends(coarse.T)]
    if any(last - first <= _LEAST_CONTENT for first, last in ends):
        return slice(None), slice(None)
    rows, columns = (
        slice(first * side // _GRID, -(-last * side // _GRID))
        for (first, last), side in zip(ends, image.shape, strict=True)
    )
    return rows, columns


def _content_ends(lines: np.ndarray) -> tuple[int, int]:
    """Return the first line that is no border, and the first of the border behind the content."""
    middle = np.partition(lines, lines.shape[1] // 2, axis=1)[:, lines.shape[1] // 2]
    flat = (np.abs(lines - middle[:, None]) <= _FLAT_LEVELS).mean(1) >= _FLAT_FRACTION
    before = flat & (np.abs(middle - middle[0]) <= _FLAT_LEVELS)
    after = (flat & (np.abs(middle - middle[-1]) <= _FLAT_LEVELS))[::-1]
    return _leading(before), len(lines) - _leading(after)


def _leading(holds: np.ndarray) -> int:
    """Return how many of the first values are true."""
    return len(holds) if holds.all() else int(holds.argmin())


def textured_box(image: np.ndarray) -> Box:
    """Return the rows and columns between the outermost ones with contrast in a uint8 image.

    Contrast is the range of a smoothed row or column. An axis without any is kept whole.
    """
    smooth = cv2.blur(image, _SMOOTHED)
    top, left, bottom, right = 0, 0, *image.shape
    for _ in range(2):  # a border above shows as contrast in the columns below it
        rows = _with_contrast(smooth[top:bottom, left:right], 1)
        top, bottom = top + rows.start, top + rows.stop
        columns = _with_contrast(smooth[top:bottom, left:right], 0)
        left, right = left + columns.start, left + columns.stop
    return slice(top, bottom), slice(left, right)


def _with_contrast(smooth: np.ndarray, axis: int) -> range:
    """Return the range from the first to the last row (axis 1) or column (axis 0) of content."""
    contrast = smooth.max(axis, initial=0).astype(int) - smooth.min(axis, initial=255)
    found = np.flatnonzero(contrast > _LEAST_CONTRAST)
    return range(int(found[0]), int(found[-1]) + 1) if len(found) else range(len(contrast))


@dataclass(frozen=True)
class Letterbox:
    """An image of any size centred in a square of `to` pixels, its proportions kept, the rest 0."""

    source: Size
    to: int

    @property
    def inner(self) -> Size:
        """The image's own size inside the square."""
        scale = self.to / max(self.source)
        return max(1, round(self.source[0] * scale)), max(1, round(self.source[1] * scale))

    @property
    def corner(self) -> Size:
        """The row and column of the image's upper left pixel in the square."""
        return (self.to - self.inner[0]) // 2, (self.to - self.inner[1]) // 2

    @property
    def target(self) -> Size:
        """The size of the square."""
        return self.to, self.to

    def inside(self) -> Box:
        """Return the rows and columns of the square that the image covers."""
        (top, left), (height, width) = self.corner, self.inner
        return slice(top, top + height), slice(left, left + width)

    def forward(self, image: np.ndarray, *, labels: bool = False) -> np.ndarray:
        """Return the square with the resized image in it."""
        square = np.zeros(self.target, image.dtype)
        square[self.inside()] = resize(image, self.inner, labels=labels)
        return square

    def back(self, square: np.ndarray, *, labels: bool = False) -> np.ndarray:
        """Return the part of a square that the image covers, at the image's source size."""
        return resize(np.ascontiguousarray(square[self.inside()]), self.source, labels=labels)


@dataclass(frozen=True)
class Crop:
    """Rows `top` to `bottom` and columns `left` to `right` of an image of `source` size.

    The ends are left out, as in a slice. Raises `ValueError` for an empty crop or one that does not
    lie inside its image.
    """

    source: Size
    top: int
    left: int
    bottom: int
    right: int

    def __post_init__(self) -> None:
        inside = (
            0 <= self.top < self.bottom <= self.source[0]
            and 0 <= self.left < self.right <= self.source[1]
        )
        if not inside:
            raise ValueError(f"a crop must lie inside its image and not be empty: {self}")

    @property
    def target(self) -> Size:
        """The size of the crop."""
        return self.bottom - self.top, self.right - self.left

    def forward(self, image: np.ndarray, *, labels: bool = False) -> np.ndarray:
        """Return a copy of the cropped part."""
        return np.ascontiguousarray(image[self.top : self.bottom, self.left : self.right])

    def back(self, image: np.ndarray, *, labels: bool = False) -> np.ndarray:
        """Return an array of the source size with the crop at its place, 0 around it."""
        whole = np.zeros(self.source, image.dtype)
        whole[self.top : self.bottom, self.left : self.right] = image
        return whole


@dataclass(frozen=True)
class Chain:
    """Geometries applied one after the other; `back` undoes the last one first."""

    steps: Sequence[Letterbox | Crop | Chain]

    def forward(self, image: np.ndarray, *, labels: bool = False) -> np.ndarray:
        """Apply every step in order."""
        for step in self.steps:
            image = step.forward(image, labels=labels)
        return image

    def back(self, image: np.ndarray, *, labels: bool = False) -> np.ndarray:
        """Undo every step, the last one first."""
        for step in reversed(self.steps):
            image = step.back(image, labels=labels)
        return image
