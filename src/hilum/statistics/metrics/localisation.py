"""Localisation: whether a saliency map agrees with what is annotated.

The pointing game, the fraction of a map inside the annotation, and the IoU of bounding boxes.
`truth` is a bool mask (height, width), True inside the annotation, which may be several shapes.
`strength` is a float map of the same shape, finite, higher for more evidence, on any scale; values
of 0 and below are no evidence and count nowhere. nan where the truth is empty or the map has
nothing above 0; `pointing_game` also for a constant map, which has no maximum.

Sources: Zhang et al. 2018, "Top-down neural attention by excitation backprop", IJCV 126:1084-1102
(the pointing game); Wang et al. 2020, "Score-CAM", CVPR workshops (the fraction inside, there the
energy-based pointing game); Zhou et al. 2016, "Learning deep features for discriminative
localization", CVPR (the box around the largest region above a fraction of the maximum).
"""

from __future__ import annotations

import cv2
import numpy as np

LEVEL = 0.5  # of the map's maximum, the threshold of the predicted box


def pointing_game(truth: np.ndarray, strength: np.ndarray) -> float:
    """Return 1 where the map's maximum is inside the truth, else 0.

    Of several equal maxima the fraction inside, the expectation of one taken at random.
    """
    truth, strength = _checked(truth, strength)
    highest = strength.max()
    if not truth.any() or highest <= 0 or strength.min() == highest:
        return float("nan")
    return float(truth[strength == highest].mean())


def fraction_inside(truth: np.ndarray, strength: np.ndarray) -> float:
    """Return the fraction of the map's positive mass that is inside the truth."""
    truth, strength = _checked(truth, strength)
    positive = np.maximum(strength, 0)
    whole = positive.sum(dtype=np.float64)
    if whole <= 0 or not truth.any():
        return float("nan")
    return float(positive[truth].sum(dtype=np.float64) / whole)


def gain_inside(truth: np.ndarray, strength: np.ndarray) -> float:
    """Return the fraction of mass inside over the fraction of area inside.

    1 is a map that is spread evenly over the image.
    """
    inside = fraction_inside(truth, strength)
    return inside / float(np.mean(truth)) if np.any(truth) else float("nan")


def box_iou(truth: np.ndarray, strength: np.ndarray, level: float = LEVEL) -> float:
    """Return the IoU of the bounding boxes of the truth and of the map's largest region.

    Regions are 4-connected pixels of at least `level` x the maximum.
    """
    truth, strength = _checked(truth, strength)
    if not truth.any() or strength.max() <= 0:
        return float("nan")
    count, parts, stats, _ = cv2.connectedComponentsWithStats(
        (strength >= level * strength.max()).astype(np.uint8), connectivity=4
    )
    largest = 1 + int(np.argmax(stats[1:count, cv2.CC_STAT_AREA]))
    (top, left, bottom, right), found = _box(truth), _box(parts == largest)
    shared = max(0, min(bottom, found[2]) - max(top, found[0])) * max(
        0, min(right, found[3]) - max(left, found[1])
    )
    whole = (bottom - top) * (right - left) + (found[2] - found[0]) * (found[3] - found[1]) - shared
    return shared / whole


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the first row and column inside, and the first behind the last."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _checked(truth: np.ndarray, strength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, strength = np.asarray(truth), np.asarray(strength)
    if truth.dtype != bool or truth.ndim != 2 or truth.shape != strength.shape:
        raise ValueError(
            "expected a bool mask and a map of one shape (height, width), "
            f"got {truth.dtype} {truth.shape} and {strength.shape}"
        )
    if not np.isfinite(strength).all():
        raise ValueError(
            f"a map must be finite everywhere, got {np.count_nonzero(~np.isfinite(strength))} "
            f"nan or infinite of {strength.size} pixels"
        )
    return truth, strength


METRICS = {
    "pointing_game": pointing_game,
    "fraction_inside": fraction_inside,
    "gain_inside": gain_inside,
    "box_iou": box_iou,
}
