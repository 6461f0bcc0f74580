"""A radiograph in memory, and geometry that can be undone.

Conventions: arrays are (height, width), row before column; a `Radiograph`'s pixels are float32 in [0, 1], bright is dense;
inversion, rescale and windowing are over before it exists. A geometry maps arrays of its source size to arrays of its target
size (`forward`) and back (`back`); masks and label pictures go with `labels=True`, which keeps their values as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Size = tuple[int, int]


@dataclass(frozen=True)
class Radiograph:
    pixels: np.ndarray  # float32 (height, width) in [0, 1], bright is dense
    spacing_mm: tuple[float, float] | None  # between rows, between columns
    account: tuple[str, ...]  # what was applied to the file's values, in order

    @property
    def size(self) -> Size:
        return self.pixels.shape


def resize(image: np.ndarray, size: Size, *, labels: bool = False) -> np.ndarray:
    """`image` at (height, width) `size`: area averaging where it shrinks (no aliasing), linear where it grows; labels by nearest."""
    if image.shape == size:
        return image
    shrinks = size[0] < image.shape[0] or size[1] < image.shape[1]
    method = cv2.INTER_NEAREST_EXACT if labels else cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=method)


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


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """float in [0, 1] to uint8 0 to 255, rounded; values outside are clipped."""
    return (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
