"""What found lungs measure: areas, and how wide chest and heart stand between their outlines.

Labels are uint8 (height, width) as `hilum.annotations.lung_masks` has them, upright, the patient's right on the image's left. Lengths and areas are in
pixels, or in millimetres where the spacing between rows and between columns is given. What cannot be measured is None.

    thorax_width    the largest distance in one row from the outer border of the right lung to that of the left
    heart_width     at the heart's level, from the outermost place of the right lung's inner border to that of the left lung's: the width
                    of what lies between the lungs, which is the heart's where both its borders touch lung
    width_ratio     heart_width / thorax_width. It is like the cardiothoracic ratio but made of outlines alone: no diagnosis stands on it

The heart's level is the lower half of the way from the lungs' common top to the higher dome of the diaphragm; a dome is the highest place
at which the outer half of a lung's columns ends, for the inner half may end on the heart. Below it a lung's inner border runs outwards along
the diaphragm.
The outermost tenth of the rows is left out of a border's extreme, so that a spur of an outline does not decide.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hilum.annotations.lung_masks import LEFT, RIGHT

_LEAST_ROWS = 4  # of the heart's level
_SPUR = 0.1  # share of rows that may lie further out
Spacing = tuple[float, float]
Level = tuple[int, int]


class Extents(NamedTuple):
    right_area: float
    left_area: float
    thorax_width: float | None
    heart_width: float | None

    @property
    def left_to_right(self) -> float | None:
        return self.left_area / self.right_area if self.right_area else None

    @property
    def width_ratio(self) -> float | None:
        return (
            self.heart_width / self.thorax_width
            if self.thorax_width and self.heart_width is not None
            else None
        )


def measure(labels: np.ndarray, spacing: Spacing = (1.0, 1.0)) -> Extents:
    areas = [float((labels == side).sum() * spacing[0] * spacing[1]) for side in (RIGHT, LEFT)]
    if not all(areas):
        return Extents(*areas, None, None)
    right, left = labels == RIGHT, labels == LEFT
    shared = np.flatnonzero(right.any(1) & left.any(1))
    thorax = heart = None
    if shared.size:
        outer = _last(left[shared]) - _first(right[shared]) + 1
        thorax = float(max(outer.max(), 0) * spacing[1]) or None
        level = heart_level(labels)
        heart = _between(right, left, level) if level else None
    return Extents(*areas, thorax, None if heart is None else heart * spacing[1])


def heart_level(labels: np.ndarray) -> Level | None:
    """The first row and, left out, the last row of the heart's level; None where the lungs' outlines show none."""
    tops, domes = zip(_ends(labels == RIGHT), _ends(labels[:, ::-1] == LEFT), strict=True)
    top, dome = max(tops), min(domes)
    first = (top + dome) // 2
    return (first, dome) if dome - first >= _LEAST_ROWS else None


def _ends(lung: np.ndarray) -> tuple[int, int]:
    """The first row of a lung whose outer border lies to the left, and its dome."""
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
    """The first column inside, of each row that has one."""
    return rows.argmax(1)


def _last(rows: np.ndarray) -> np.ndarray:
    return rows.shape[1] - 1 - rows[:, ::-1].argmax(1)
