"""Resize images and label maps, and map them to another frame and back: letterbox, crop, chain.

Arrays are (height, width), row before column. A geometry maps arrays of its source size to arrays
of its target size (`forward`) and back (`back`); masks and label maps go with `labels=True`, which
keeps their values as they are.

What shrinks is averaged over the area that each new pixel covers, in both axes and whatever the
factor: there is no other way to make an image smaller here, so fine lines cannot turn into coarse
ones that the patient does not have (aliasing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Size = tuple[int, int]  # (height, width)


def resize(image: np.ndarray, size: Size, *, labels: bool = False) -> np.ndarray:
    """`image` at (height, width) `size`, each axis for itself: area averaging where it shrinks (no aliasing), linear where it grows.

    Labels keep their values: where they shrink, a pixel takes the label of most of its area, where they grow, the nearest one.
    """
    # OpenCV averages areas only where no axis grows, and otherwise interpolates, without a word; so what shrinks goes first.
    smaller = min(size[0], image.shape[0]), min(size[1], image.shape[1])
    if image.shape != smaller:
        image = (
            _most_of_the_area(image, smaller)
            if labels
            else cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)
        )
    if image.shape != size:
        image = cv2.resize(
            image, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT if labels else cv2.INTER_LINEAR
        )
    return image


def _most_of_the_area(labels: np.ndarray, size: Size) -> np.ndarray:
    """Of each new pixel the label that covers most of it; among equals the lowest."""
    found = np.unique(labels)
    largest = np.full(size, -1, np.float32)
    winner = np.zeros(size, labels.dtype)
    for label in found:
        share = cv2.resize(
            (labels == label).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA
        )
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
        inside = (
            0 <= self.top < self.bottom <= self.source[0]
            and 0 <= self.left < self.right <= self.source[1]
        )
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
