"""How well a mask's outline lies on its picture: measured at the rim, and against what the set's other masks would have drawn there.

Pictures and masks are batches as the cache has them: uint8 or uint16 (n, size, size), bright is dense; masks 0 outside, 1 right, 2 left.

*Rim*: at the edge of an aerated lung the picture turns from dark to bright. `agreement` is the mean over the mask's rim of how much the
picture's gradient points outwards, from -1 to 1: about 0.5 for a lung drawn with care, about 0 for one drawn anywhere. The same sum for
every shift of the mask is a cross-correlation, whose peak is where the outline would fit best.

*Learnt*: kernel ridge regression from a small picture, its contrast made even, to a small mask (Hastie, Tibshirani, Friedman, The Elements
of Statistical Learning, 2nd ed., 5.8 and 12.3.7), fitted on the masks of other patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import polars as pl
from scipy import fft

from hilum.imaging.geometry import resize
from hilum.statistics.folds import FOLDS

SIDE = 128  # pixels at which rims are compared
SMALL, FINE = 32, 64  # pixels of the picture that is learnt from, and of the mask that is learnt
REACH = 26  # pixels of SIDE that a mask is moved at most when its best place is looked for
NAMED = pl.coalesce(
    "lung_mask", pl.format("the mask of {}", "path")
)  # what a message calls a mask; several files of one image are one mask
_REACH_OF_KERNEL, _PENALTY = 0.35, 0.02
_EVEN = 10.0  # sigma in pixels of FINE over which contrast is made even


@dataclass(frozen=True)
class Rims:
    """float32 (n, 2, SIDE, SIDE): the picture's gradient over its strength, and the mask's over the length of its rim."""

    images: np.ndarray
    masks: np.ndarray

    def agreement(self) -> np.ndarray:
        """float (n,): of each mask on its own picture."""
        return -np.einsum("nkij,nkij->n", self.images, self.masks)

    def agreement_of(self, others: np.ndarray) -> np.ndarray:
        """float (n, m): of `others`, mask gradients as here (m, 2, SIDE, SIDE), on each of these pictures."""
        return -self.images.reshape(len(self.images), -1) @ others.reshape(len(others), -1).T

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """The largest agreement (n,) under any shift up to REACH, and the shift that the mask needs for it, (n, 2) shares of the side, down and right."""
        product = fft.rfft2(self.images, workers=-1) * np.conj(fft.rfft2(self.masks, workers=-1))
        found = -fft.irfft2(product.sum(axis=1), s=(SIDE, SIDE), workers=-1)
        near = np.roll(found, (REACH, REACH), (1, 2))[:, : 2 * REACH + 1, : 2 * REACH + 1].reshape(
            len(found), -1
        )
        down, right = np.divmod(near.argmax(axis=1), 2 * REACH + 1)
        return near.max(axis=1), (np.stack([down, right], 1) - REACH) / SIDE


def rims(images: np.ndarray, masks: np.ndarray) -> Rims:
    pictures, outlines = [], []
    for image, mask in zip(images, masks, strict=True):
        across, down = _gradient(_shrunk(image, SIDE))
        strength = np.hypot(across, down)
        strength += np.median(strength) + 1  # a flat picture has no direction
        pictures.append(np.stack([across, down]) / strength)
        across, down = _gradient(
            (_shrunk((mask > 0) * np.uint8(255), SIDE) > 127).astype(np.float32)
        )
        outlines.append(np.stack([across, down]) / max(float(np.hypot(across, down).sum()), 1e-6))
    return Rims(
        np.asarray(pictures, np.float32).reshape(-1, 2, SIDE, SIDE),
        np.asarray(outlines, np.float32).reshape(-1, 2, SIDE, SIDE),
    )


def small_pictures(images: np.ndarray) -> np.ndarray:
    """float32 (n, SMALL * SMALL) of length 1: contrast made even, so that a lung is dark whatever the exposure."""
    rows = []
    for image in images:
        picture = _shrunk(image, FINE)
        rest = picture - cv2.GaussianBlur(picture, (0, 0), _EVEN)
        even = rest / (np.sqrt(cv2.GaussianBlur(rest * rest, (0, 0), _EVEN)) + 4)
        flat = resize(even, (SMALL, SMALL)).ravel()
        flat -= flat.mean()
        rows.append(flat / (np.linalg.norm(flat) + 1e-6))
    return np.asarray(rows, np.float32).reshape(-1, SMALL * SMALL)


def small_masks(masks: np.ndarray) -> np.ndarray:
    """float32 (n, FINE * FINE): the share of each pixel that is lung."""
    return np.asarray(
        [_shrunk((mask > 0) * np.uint8(255), FINE).ravel() / 255 for mask in masks], np.float32
    ).reshape(-1, FINE * FINE)


class Learnt:
    """What masks look like on pictures like these; the masks of one fold are foretold from those of the others."""

    def __init__(self, pictures: np.ndarray, masks: np.ndarray, folds: np.ndarray) -> None:
        """`pictures` and `masks` as above; `folds` int (n,), one patient in one fold."""
        self._pictures, kernel = pictures, _kernel(pictures, pictures)
        self._models = []
        for fold in range(FOLDS):
            others = np.flatnonzero(folds != fold)
            mean = masks[others].mean(axis=0)
            ridge = kernel[np.ix_(others, others)] + _PENALTY * len(others) / 50 * np.eye(
                len(others), dtype=np.float32
            )
            self._models.append((others, mean, np.linalg.solve(ridge, masks[others] - mean)))

    def foretold(self, pictures: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """float32 (n, FINE * FINE) in [0, 1]."""
        found = np.empty((len(pictures), FINE * FINE), np.float32)
        kernel = _kernel(pictures, self._pictures)
        for fold, (others, mean, weights) in enumerate(self._models):
            mine = np.flatnonzero(folds == fold)
            found[mine] = kernel[np.ix_(mine, others)] @ weights + mean
        return np.clip(found, 0, 1)


def alike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson correlations (n, m) of rows, as Fisher's z, which is about as wide everywhere."""
    first, second = (_standard(rows) for rows in (first, second))
    return np.arctanh(np.clip(first @ second.T, -0.99, 0.999))


def _standard(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.exp((first @ second.T - 1) / _REACH_OF_KERNEL)


def _gradient(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
    return cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)


def _shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    """float32 in 0 to 255."""
    small = cv2.resize(picture.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return small / 257 if picture.dtype == np.uint16 else small


def robust(values: np.ndarray, floor: float = 1e-6) -> np.ndarray:
    """Distances from the median in standard deviations that outliers do not widen (1.4826 times the median absolute deviation)."""
    middle = np.median(values) if len(values) else 0.0
    return (values - middle) / spread(values, floor)


def spread(values: np.ndarray, floor: float = 1e-6) -> float:
    return (
        max(1.4826 * float(np.median(np.abs(values - np.median(values)))), floor)
        if len(values)
        else floor
    )


def batches(items: Sequence, size: int = 128) -> list[Sequence]:
    return [items[start : start + size] for start in range(0, len(items), size)]
