"""Lung masks as label maps: uint8 (height, width), 0 outside, 1 right lung, 2 left lung.

Sides are the patient's: in a frontal radiograph the right lung is on the left of the image.

Reference masks follow one of two protocols, and the Dice between them is about 0.83 in children:
"air" is the lung that is seen as air, without what lies behind the heart and below the dome of the
diaphragm (the Montgomery, Shenzhen and JSRT sets); "full" adds the lung behind the heart and the
diaphragm (the V7 COVID-19 and the Kermany polygons).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

RIGHT, LEFT = 1, 2
AIR, FULL = PROTOCOLS = ("air", "full")
IGNORE = 255  # in training labels: the source does not state whether this is lung
SIDES = {"right": RIGHT, "left": LEFT}
IGNORED = "ignored"  # name of a shape whose pixels count neither as lung nor as background
# Names of shapes that make a reference mask, and their label; None: both lungs.
REFERENCE = {"lungs": None, "right_lung": RIGHT, "left_lung": LEFT, IGNORED: IGNORE}
_SECOND_LUNG = 0.2  # of the larger component's area: a smaller second one is a fragment, not a lung
_TWO_LUNGS_WIDE = 0.55  # of the image's width: a single component wider than this is two lungs


def split_left_right(mask: np.ndarray) -> np.ndarray:
    """Label the two lungs of one bool mask (height, width).

    The two largest connected components are the lungs, the one further left in the image the right
    lung; fragments go to the nearer one. A single component is divided at its narrowest column
    where it is as wide as two lungs, and is one lung otherwise.
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
    return np.concatenate([[0], side]).astype(np.uint8)[np.asarray(parts, np.intp)]


def _cut(mask: np.ndarray, start: int, width: int) -> np.ndarray:
    """Divide two touching lungs at the emptiest column of the middle third."""
    middle = slice(start + width // 3, start + width - width // 3)
    column = middle.start + int(np.argmin(mask[:, middle].sum(axis=0)))
    sides = np.where(np.arange(mask.shape[1]) < column, RIGHT, LEFT).astype(np.uint8)
    return sides * mask.astype(np.uint8)


def from_probabilities(found: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Label each lung's largest connected component with its holes filled.

    `found` is float32 (2, height, width), the probabilities of right and left lung.
    """
    likelier = likelier_side(found, threshold)
    labels = np.zeros(found.shape[1:], np.uint8)
    for side in (RIGHT, LEFT):
        labels[_largest(likelier == side)] = side
    return labels


def likelier_side(found: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Label each pixel by its likelier lung, 0 where neither reaches the threshold.

    `found` is float32 (2, height, width), the probabilities of right and left lung. Components are
    not selected and holes not filled.
    """
    right, left = found
    sides = LEFT - (right >= left).view(np.uint8)
    sides *= (np.maximum(right, left) >= threshold).view(np.uint8)
    return sides


def _largest(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected component of a bool mask with its holes filled."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    inside = slice(top, top + height), slice(left, left + width)  # beyond it there is nothing
    parts, stats = cv2.connectedComponentsWithStats(mask[inside].view(np.uint8), connectivity=4)[
        1:3
    ]
    if len(stats) == 1:
        return mask
    largest = np.zeros_like(mask)
    largest[inside] = fill_holes(parts == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return largest


def ignore_unlabelled_side(labels: np.ndarray) -> np.ndarray:
    """Set to IGNORE where a lung may be that the source did not annotate.

    For labels of one lung only: all columns beyond its inner edge. On its own side, what is not
    lung is background. Labels of both lungs or of none stay as they are.
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
    """Fill the holes of a bool mask: background that is not 4-connected to the border."""
    around = cv2.copyMakeBorder((~mask).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(around, None, (0, 0), 2)
    return np.asarray(around[1:-1, 1:-1] != 2)


def upsample_labels(
    labels: np.ndarray, likely: np.ndarray, back: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Upsample a label map to the image's size by a geometry's `back`.

    The contour follows the probabilities `likely` float32 (2, size, size) between the pixels, so it
    is smooth in a large file.
    """
    lung = (np.maximum(*likely) * 255 + 0.5).astype(np.uint8)
    large = {}
    for side in (RIGHT, LEFT):
        inside = labels == side
        near = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        # At or above 128 inside and below it in the rim around, so that the half level follows the
        # contour of this side whatever the probabilities are.
        rim = np.where(near, np.minimum(lung, 127), 0)
        large[side] = back(np.where(inside, np.maximum(lung, 128), rim).astype(np.uint8))
    found = np.where(large[RIGHT] >= 128, np.uint8(RIGHT), np.uint8(0))
    found[(large[LEFT] >= 128) & (large[LEFT] > large[RIGHT])] = LEFT
    return found


def downsample_labels(
    labels: np.ndarray, forward: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Downsample a label map by a geometry's `forward`.

    Each side by area averaging and a threshold of one half, so that contours do not move.
    """
    small = {
        side: forward((labels == side).astype(np.uint8) * np.uint8(255)) for side in (RIGHT, LEFT)
    }
    likelier = np.where(small[RIGHT] >= small[LEFT], RIGHT, LEFT)
    inside = np.maximum(small[RIGHT], small[LEFT]) >= 128
    return np.where(inside, likelier, 0).astype(np.uint8)


def with_sides_exchanged(labels: np.ndarray) -> np.ndarray:
    """Return a label map in which right and left lung are exchanged."""
    sides = [labels == RIGHT, labels == LEFT]
    return np.select(sides, [np.uint8(LEFT), np.uint8(RIGHT)], labels).astype(labels.dtype)
