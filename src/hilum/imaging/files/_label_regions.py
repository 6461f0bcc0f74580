"""Measure shape and position of each label: what distinguishes lungs, heart and background.

The longer side is subsampled to at most `SIDE` pixels. Positions are fractions of the image's width
and height, 0 left and top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

SIDE = 256
_SECOND = 0.2  # of the larger part's area: a smaller part is a fragment, not a lung
_BAR = 1.8  # times as wide as high, that each of two bars is at least
_PART = 0.04  # of the image, that each of two parts that are like lungs covers
_APART = 0.15  # of the width, between the middles of two lungs at least
_WIDE = 0.55  # of the width: one part wider than this may be two lungs that touch
_PURE = 0.9  # of a lung, that lies on its own side of the middle between both
_LEVEL = 0.4  # of the lower lung's height, at which both lie
_ALIKE = 6.0  # times as large as the other, that one lung is at most
_SLENDER = 0.7  # of its width, that a lung is high at least
LEAST_LUNGS = 0.03  # of the image
LEAST_LUNG = 0.012


@dataclass(frozen=True)
class Region:
    """The measurements of one label."""

    share: float  # of the image
    frame: float  # of the pixels at the image's border
    left: float
    right: float
    top: float
    bottom: float
    across: float  # of its middle
    down: float
    two: bool  # two large parts beside one another, or one as wide as two
    like_bars: bool  # two large parts, much wider than high, as clavicles are
    like_lungs: bool  # two tall parts, on either side of a middle that is free
    mask: np.ndarray  # bool (height, width), small

    @property
    def tall(self) -> bool:
        """Whether it is at least about as high as it is wide, as lungs are."""
        height, width = self.mask.shape
        return (self.bottom - self.top) * height >= _SLENDER * (self.right - self.left) * width

    @property
    def central(self) -> bool:
        """Whether its middle is near the image's midline."""
        return abs(self.across - 0.5) <= 0.12


def small(numbers: np.ndarray) -> np.ndarray:
    """Return every n-th row and column, so that at most `SIDE` are left."""
    step = max(1, -(-max(numbers.shape) // SIDE))
    return numbers[step // 2 :: step, step // 2 :: step]


def frame(shape: tuple[int, int], seen: np.ndarray) -> np.ndarray:
    """Return the border of the part of an image that is `seen`: bool (height, width)."""
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    border = np.zeros(shape, bool)
    if rows.size:
        border[rows[0] : rows[-1] + 1, columns[[0, -1]]] = True
        border[rows[[0, -1]], columns[0] : columns[-1] + 1] = True
    return border & seen


def measure(mask: np.ndarray, share: float, border: np.ndarray) -> Region | None:
    """Return the region of one label; None where the small image has none of it."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return None
    height, width = mask.shape
    across, down = _middle(mask)
    parts = _Parts.of(mask)
    return Region(
        share,
        float(mask[border].mean()) if border.any() else 0.0,
        columns[0] / width,
        (columns[-1] + 1) / width,
        rows[0] / height,
        (rows[-1] + 1) / height,
        across,
        down,
        _two(mask, parts),
        _like_bars(parts),
        _like_lungs(mask, parts),
        mask,
    )


def _middle(mask: np.ndarray) -> tuple[float, float]:
    height, width = mask.shape
    down = float((np.arange(height) + 0.5) @ mask.sum(axis=1)) / mask.sum() / height
    across = float((np.arange(width) + 0.5) @ mask.sum(axis=0)) / mask.sum() / width
    return across, down


class _Parts(NamedTuple):
    """The connected parts of a label that has some, from the largest."""

    boxes: np.ndarray  # int32 (parts, 5), by the constants of OpenCV
    across: np.ndarray  # float64 (parts,), the column of each middle

    @classmethod
    def of(cls, mask: np.ndarray) -> _Parts:
        """Find the parts of a label, bool (height, width)."""
        _, _, stats, centres = cv2.connectedComponentsWithStats(
            mask.astype(np.uint8), connectivity=8
        )
        order = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")
        return cls(stats[order], centres[order, 0])

    @property
    def areas(self) -> np.ndarray:
        """The pixels of each part."""
        return self.boxes[:, cv2.CC_STAT_AREA]


def _two(mask: np.ndarray, parts: _Parts) -> bool:
    width = mask.shape[1]
    if len(parts.boxes) > 1 and parts.areas[1] >= _SECOND * parts.areas[0]:
        apart = abs(parts.across[0] - parts.across[1])
        return apart >= _APART * width and _beside(*parts.boxes[:2])
    return parts.boxes[0, cv2.CC_STAT_WIDTH] >= _WIDE * width and not mask.all()


def _like_bars(parts: _Parts) -> bool:
    large = parts.boxes[parts.areas >= _SECOND * parts.areas[0]]
    wide = large[:, cv2.CC_STAT_WIDTH] >= _BAR * large[:, cv2.CC_STAT_HEIGHT]
    return len(large) == 2 and bool(wide.all())


def _like_lungs(mask: np.ndarray, parts: _Parts) -> bool:
    if len(parts.boxes) < 2:
        return False
    width = mask.shape[1]
    left, right = np.argsort(parts.across[:2])
    sides = [
        (parts.boxes[left], parts.across[left] / width),
        (parts.boxes[right], 1 - parts.across[right] / width),
    ]
    start = int(0.45 * width)
    middle = mask[:, start : max(start + 1, round(0.55 * width))]
    return bool(middle.mean() <= 0.4) and all(
        box[cv2.CC_STAT_AREA] >= _PART * mask.size
        and box[cv2.CC_STAT_HEIGHT] >= _SLENDER * box[cv2.CC_STAT_WIDTH]
        and 0.12 <= place <= 0.45
        for box, place in sides
    )


def _beside(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether two boxes overlap in height."""
    tops, heights = ([one[at] for one in (first, second)] for at in (1, 3))
    common = min(tops[0] + heights[0], tops[1] + heights[1]) - max(tops)
    return common >= _LEVEL * min(heights)


def are_lungs(first: Region, second: Region) -> bool:
    """Return whether two labels are placed as lungs are, `first` on the image's left."""
    if second.across - first.across < _APART or first.share + second.share < LEAST_LUNGS:
        return False
    larger, smaller = max(first.share, second.share), min(first.share, second.share)
    common = min(first.bottom, second.bottom) - max(first.top, second.top)
    lowest = min(first.bottom - first.top, second.bottom - second.top)
    if larger > _ALIKE * smaller or common < _LEVEL * lowest or not (first.tall and second.tall):
        return False
    middle = round((first.across + second.across) / 2 * first.mask.shape[1])
    pure = (
        first.mask[:, :middle].sum() / first.mask.sum(),
        second.mask[:, middle:].sum() / second.mask.sum(),
    )
    return min(pure) >= _PURE


def enclosed(inner: np.ndarray, outer: np.ndarray) -> float:
    """Return the fraction of the rim around `inner` that is `outer`; both bool (height, width)."""
    around = (cv2.dilate(inner.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~inner
    return float(outer[around].mean()) if around.any() else 0.0
