"""Measure how well the outline of a mask fits its image, by edges and by the other masks.

Images and masks are batches as in the cache: uint8 or uint16 (n, size, size), bright is dense;
masks are 0 outside, 1 right lung, 2 left lung.

*Rim*: at the edge of an aerated lung the image changes from dark to bright. `agreement` is the mean
over the mask's rim of how much the image's gradient points outwards, from -1 to 1: about 0.5 for a
carefully annotated lung, about 0 for an arbitrary outline. The same sum for every shift of the mask
is a cross-correlation, whose peak is where the outline would fit best.

*Regression*: kernel ridge regression from a small image of equalised contrast to a small mask
(Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2nd ed., 5.8 and 12.3.7),
fitted on the masks of other patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import polars as pl

from hilum.imaging.geometry import resize
from hilum.statistics.folds import FOLDS

SIDE = 128  # pixels at which rims are compared
SMALL, FINE = 32, 64  # pixels of the regression's input image, and of the mask it predicts
REACH = 26  # pixels of SIDE: the largest shift at which the best position is searched
# What a message calls a mask; several files of one image are one mask.
NAMED = pl.coalesce("lung_mask", pl.format("the mask of {}", "path"))
_REACH_OF_KERNEL, _PENALTY = 0.35, 0.02
_EVEN = 10.0  # sigma in pixels of FINE over which contrast is equalised


@dataclass(frozen=True)
class Rims:
    """Gradients (across, down) of images and masks, float32 (n, 2, SIDE, SIDE).

    The image's are divided by their local magnitude, the mask's by the length of its rim.
    """

    images: np.ndarray
    masks: np.ndarray

    def agreement(self) -> np.ndarray:
        """Return the agreement of each mask with its own image, float (n,)."""
        return -np.einsum("nkij,nkij->n", self.images, self.masks)

    def agreement_of(self, others: np.ndarray) -> np.ndarray:
        """Return the agreement of each image with each of other masks, float (n, m).

        `others` are gradients of masks, float32 (m, 2, SIDE, SIDE).
        """
        return -self.images.reshape(len(self.images), -1) @ others.reshape(len(others), -1).T

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the largest agreement under any shift up to REACH, and the shift that reaches it.

        The agreement is (n,); the shift is (n, 2), down and right, as a fraction of the side.
        """
        from scipy import fft

        images = np.asarray(fft.rfft2(self.images, workers=-1))
        masks = np.asarray(fft.rfft2(self.masks, workers=-1))
        product = (images * np.conj(masks)).sum(axis=1)
        found = -np.asarray(fft.irfft2(product, s=(SIDE, SIDE), workers=-1))
        near = np.roll(found, (REACH, REACH), (1, 2))[:, : 2 * REACH + 1, : 2 * REACH + 1].reshape(
            len(found), -1
        )
        down, right = np.divmod(near.argmax(axis=1), 2 * REACH + 1)
        return near.max(axis=1), (np.stack([down, right], 1) - REACH) / SIDE


def rims(images: np.ndarray, masks: np.ndarray) -> Rims:
    """Compute the gradients of a batch of images and of their masks."""
    edges, outlines = [], []
    for image, mask in zip(images, masks, strict=True):
        across, down = _gradient(_shrunk(image, SIDE))
        strength = np.hypot(across, down)
        strength += np.median(strength) + 1  # a flat image has no direction
        edges.append(np.stack([across, down]) / strength)
        across, down = _gradient(
            (_shrunk((mask > 0) * np.uint8(255), SIDE) > 127).astype(np.float32)
        )
        outlines.append(np.stack([across, down]) / max(float(np.hypot(across, down).sum()), 1e-6))
    return Rims(
        np.asarray(edges, np.float32).reshape(-1, 2, SIDE, SIDE),
        np.asarray(outlines, np.float32).reshape(-1, 2, SIDE, SIDE),
    )


def small_images(images: np.ndarray) -> np.ndarray:
    """Compute the regression's input: small images, float32 (n, SMALL * SMALL) of unit length.

    Contrast is equalised locally, so that lungs are dark at any exposure.
    """
    rows = []
    for image in images:
        shrunk = _shrunk(image, FINE)
        rest = shrunk - cv2.GaussianBlur(shrunk, (0, 0), _EVEN)
        even = rest / (np.sqrt(cv2.GaussianBlur(rest * rest, (0, 0), _EVEN)) + 4)
        flat = resize(even, (SMALL, SMALL)).ravel()
        flat -= flat.mean()
        rows.append(flat / (np.linalg.norm(flat) + 1e-6))
    return np.asarray(rows, np.float32).reshape(-1, SMALL * SMALL)


def small_masks(masks: np.ndarray) -> np.ndarray:
    """Compute small masks: the fraction of each pixel that is lung, float32 (n, FINE * FINE)."""
    return np.asarray(
        [_shrunk((mask > 0) * np.uint8(255), FINE).ravel() / 255 for mask in masks], np.float32
    ).reshape(-1, FINE * FINE)


class MaskRegression:
    """Predicts the mask of an image from images and masks of the other folds."""

    def __init__(self, images: np.ndarray, masks: np.ndarray, folds: np.ndarray) -> None:
        """Fit to `small_images` and `small_masks`; `folds` is int (n,), one patient in one fold."""
        self._images, kernel = images, _kernel(images, images)
        self._models = []
        for fold in range(FOLDS):
            others = np.flatnonzero(folds != fold)
            mean = masks[others].mean(axis=0)
            ridge = kernel[np.ix_(others, others)] + _PENALTY * len(others) / 50 * np.eye(
                len(others), dtype=np.float32
            )
            self._models.append((others, mean, np.linalg.solve(ridge, masks[others] - mean)))

    def predict(self, images: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Predict the masks of `small_images`, float32 (n, FINE * FINE) in [0, 1]."""
        found = np.empty((len(images), FINE * FINE), np.float32)
        kernel = _kernel(images, self._images)
        for fold, (others, mean, weights) in enumerate(self._models):
            mine = np.flatnonzero(folds == fold)
            found[mine] = kernel[np.ix_(mine, others)] @ weights + mean
        return np.clip(found, 0, 1)


def alike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Pearson correlations of rows (n, m) as Fisher's z, whose variance is stable."""
    first, second = (_standard(rows) for rows in (first, second))
    return np.arctanh(np.clip(first @ second.T, -0.99, 0.999))


def _standard(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.exp((first @ second.T - 1) / _REACH_OF_KERNEL)


def _gradient(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    return cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)


def _shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """Resize to (side, side), float32 in [0, 255]."""
    small = cv2.resize(image.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return small / 257 if image.dtype == np.uint16 else small


def robust(values: np.ndarray, floor: float = 1e-6) -> np.ndarray:
    """Return distances from the median in units of `spread`."""
    middle = np.median(values) if len(values) else 0.0
    return (values - middle) / spread(values, floor)


def spread(values: np.ndarray, floor: float = 1e-6) -> float:
    """Estimate the standard deviation robustly, at least `floor`.

    1.4826 times the median absolute deviation, which outliers do not widen.
    """
    if not len(values):
        return floor
    return max(1.4826 * float(np.median(np.abs(values - np.median(values)))), floor)


def batches(items: np.ndarray, size: int = 128) -> list[np.ndarray]:
    """Cut an array into parts of at most `size` rows."""
    return [items[start : start + size] for start in range(0, len(items), size)]
