"""Measure lung areas, thorax width and heart width from lung labels.

Labels are uint8 (height, width) as in `hilum.annotations.lung_masks`, upright, the patient's right
on the image's left. Lengths and areas are in pixels, or in millimetres where the spacing between
rows and between columns is given. What cannot be measured is None.

    thorax_width    largest distance within one row from the outer border of the right lung to that
                    of the left lung
    heart_width     at the heart's level, distance between the outermost points of the lungs' inner
                    borders: the width of what lies between the lungs, which is the heart's width
                    where both its borders touch lung
    width_ratio     heart_width / thorax_width: resembles the cardiothoracic ratio, but is made of
                    outlines alone, and no diagnosis may be based on it

The heart's level is the lower half of the interval from the lungs' common top to the higher dome of
the diaphragm. A dome is the highest row in which a column of the outer half of a lung ends, since
the inner half may end on the heart; below it the inner border runs outwards along the diaphragm.
The outermost tenth of the rows is left out of a border's extreme, so that a spur of an outline does
not decide it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hilum.annotations.lung_masks import LEFT, RIGHT

_LEAST_ROWS = 4  # of the heart's level: fewer give no stable border
_SPUR = 0.1  # fraction of the rows that may lie further out
Spacing = tuple[float, float]
Level = tuple[int, int]


class Extents(NamedTuple):
    """Areas and widths of one image, in pixels or millimetres; None where not measurable."""

    right_area: float
    left_area: float
    thorax_width: float | None
    heart_width: float | None

    @property
    def left_to_right(self) -> float | None:
        """Ratio of the left lung's area to the right lung's; None without a right lung."""
        return self.left_area / self.right_area if self.right_area else None

    @property
    def width_ratio(self) -> float | None:
        """Ratio of heart width to thorax width; None where either is missing."""
        return (
            self.heart_width / self.thorax_width
            if self.thorax_width and self.heart_width is not None
            else None
        )


def measure(labels: np.ndarray, spacing: Spacing = (1.0, 1.0)) -> Extents:
    """Measure `labels` with `spacing` between rows and columns; 1 gives pixels."""
    right, left = labels == RIGHT, labels == LEFT
    right_area, left_area = (float(lung.sum() * spacing[0] * spacing[1]) for lung in (right, left))
    if not right_area or not left_area:
        return Extents(right_area, left_area, None, None)
    common = np.flatnonzero(right.any(1) & left.any(1))
    thorax = heart = None
    if common.size:
        outer = _last(left[common]) - _first(right[common]) + 1
        thorax = float(max(outer.max(), 0) * spacing[1]) or None
        level = heart_level(labels)
        heart = _between(right, left, level) if level else None
    return Extents(right_area, left_area, thorax, None if heart is None else heart * spacing[1])


def heart_level(labels: np.ndarray) -> Level | None:
    """Return the heart's level as a half-open range of rows; None where the outlines show none."""
    tops, domes = zip(_ends(labels == RIGHT), _ends(labels[:, ::-1] == LEFT), strict=True)
    top, dome = max(tops), min(domes)
    first = (top + dome) // 2
    return (first, dome) if dome - first >= _LEAST_ROWS else None


def _ends(lung: np.ndarray) -> tuple[int, int]:
    """Return the first row and the dome of a lung whose outer border is on the array's left."""
    rows, columns = np.flatnonzero(lung.any(1)), np.flatnonzero(lung.any(0))
    outer = columns[: (len(columns) + 1) // 2]
    bottoms = lung.shape[0] - 1 - lung[::-1, outer].argmax(0)
    return int(rows[0]), int(bottoms.min())


def _between(right: np.ndarray, left: np.ndarray, level: Level) -> float | None:
    rows = np.arange(*level)
    rows = rows[right[rows].any(1) & left[rows].any(1)]
    if len(rows) < _LEAST_ROWS:
        return None
    inner = np.quantile(_last(right[rows]), _SPUR), np.quantile(_first(left[rows]), 1 - _SPUR)
    return float(max(inner[1] - inner[0] - 1, 0))


def _first(rows: np.ndarray) -> np.ndarray:
    """Return the first column inside the mask, for rows that have one."""
    return rows.argmax(1)


def _last(rows: np.ndarray) -> np.ndarray:
    """Return the last column inside the mask, for rows that have one."""
    return rows.shape[1] - 1 - rows[:, ::-1].argmax(1)
