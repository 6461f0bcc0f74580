"""Lungs as label pictures: uint8 (height, width), 0 outside, 1 the patient's right lung, 2 the left.

In a frontal radiograph the patient's right lung lies on the image's left.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

RIGHT, LEFT = 1, 2
IGNORE = 255  # in labels to learn from: a source does not say whether there is lung
SIDES = {"right": RIGHT, "left": LEFT}
REFERENCE = {
    "right_lung": RIGHT,
    "left_lung": LEFT,
    "lungs": None,
}  # what a shape on an image may be called, and its side
_SECOND_LUNG = 0.2  # of the larger part's area: a smaller second part is a fragment, not a lung
_TWO_LUNGS_WIDE = (
    0.55  # of the picture's width: a single part wider than this is two lungs that touch
)


def split_left_right(mask: np.ndarray) -> np.ndarray:
    """Tell the lungs of one bool mask (height, width) apart.

    The two largest parts are the lungs, the one further left in the picture the right lung; fragments go to the nearer one. A
    single part is cut at its narrowest column where it is as wide as two lungs, and is one lung otherwise.
    """
    count, parts, stats, centres = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    if count == 1:
        return np.zeros(mask.shape, np.uint8)
    areas, columns = stats[1:, cv2.CC_STAT_AREA], centres[1:, 0]
    order = np.argsort(-areas, kind="stable")
    if count > 2 and areas[order[1]] >= _SECOND_LUNG * areas[order[0]]:
        right, left = sorted(columns[order[:2]])
        side = np.where(np.abs(columns - right) <= np.abs(columns - left), RIGHT, LEFT)
    else:
        box = stats[1 + order[0]]
        if box[cv2.CC_STAT_WIDTH] > _TWO_LUNGS_WIDE * mask.shape[1]:
            return _cut(mask, box[cv2.CC_STAT_LEFT], box[cv2.CC_STAT_WIDTH])
        side = np.where(columns < mask.shape[1] / 2, RIGHT, LEFT)
    return np.concatenate([[0], side]).astype(np.uint8)[parts]


def _cut(mask: np.ndarray, start: int, width: int) -> np.ndarray:
    """Two touching lungs: divide at the emptiest column of the middle third."""
    middle = slice(start + width // 3, start + width - width // 3)
    column = middle.start + int(np.argmin(mask[:, middle].sum(axis=0)))
    return np.where(np.arange(mask.shape[1]) < column, RIGHT, LEFT).astype(np.uint8) * mask.astype(
        np.uint8
    )


def from_probabilities(found: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Labels of float32 (2, height, width) probabilities of right and left lung: of each side the largest part, its holes filled."""
    likelier = np.where(found[0] >= found[1], RIGHT, LEFT)
    labels = np.zeros(found.shape[1:], np.uint8)
    for side in (RIGHT, LEFT):
        labels[_largest(np.logical_and(likelier == side, found.max(axis=0) >= threshold))] = side
    return labels


def _largest(mask: np.ndarray) -> np.ndarray:
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count == 1:
        return mask
    return fill_holes(parts == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA]))


def ignore_unlabelled_side(labels: np.ndarray) -> np.ndarray:
    """Labels of which one lung alone was drawn, with UNKNOWN where the other may be: in all columns beyond the drawn one's inner end.

    On its own side what is not lung is background, as drawn. Labels of both lungs or of none stay as they are.
    """
    right, left = ((labels == side).any(axis=0) for side in (RIGHT, LEFT))
    if right.any() == left.any():
        return labels
    known = labels.copy()
    if right.any():
        known[:, np.flatnonzero(right)[-1] + 1 :] = IGNORE
    else:
        known[:, : np.flatnonzero(left)[0]] = IGNORE
    return known


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """A bool mask without its holes: what cannot be reached from the border by sides is inside."""
    around = cv2.copyMakeBorder((~mask).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(around, None, (0, 0), 2)
    return around[1:-1, 1:-1] != 2


def upsample_labels(
    labels: np.ndarray, likely: np.ndarray, back: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Labels through a geometry's `back`: outlines follow the probabilities (2, size, size) between the pixels, so they are smooth in a large file."""
    lung = (likely.max(axis=0) * 255 + 0.5).astype(np.uint8)
    whole, best = None, None
    for side in (RIGHT, LEFT):
        inside = labels == side
        near = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        field = np.where(
            near & ~inside, np.minimum(lung, 127), np.where(inside, np.maximum(lung, 128), 0)
        ).astype(np.uint8)
        large = back(field)
        if whole is None:
            whole, best = np.where(large >= 128, np.uint8(side), np.uint8(0)), large
        else:
            whole[(large >= 128) & (large > best)] = side
    return whole


def downsample_labels(labels: np.ndarray, forward) -> np.ndarray:
    """A label picture through a geometry's `forward`, each side by area averaging and a half threshold, so that edges stay where they are."""
    small = {
        side: forward((labels == side).astype(np.uint8) * np.uint8(255)) for side in (RIGHT, LEFT)
    }
    return np.where(
        np.maximum(small[RIGHT], small[LEFT]) < 128,
        0,
        np.where(small[RIGHT] >= small[LEFT], RIGHT, LEFT),
    ).astype(np.uint8)
