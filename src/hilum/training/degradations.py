"""What other machines, films and hands do to the grey values of a picture: local contrast, uneven exposure, noise, blur, bands, markers;
and the soft bright patches that disease makes.

Each function takes a picture uint8 or uint16 (height, width) and gives a new one of the same kind; nothing in it is random but what a
seed says. Greys are shares of full white, places and lengths shares of the picture's height and width, so they mean the same at every
size and depth. They stand for what differs between hospitals: Zhang et al. 2020, "Generalizing Deep Learning for Medical Image
Segmentation to Unseen Domains via Deep Stacked Transformation" (IEEE TMI 39:2531) finds that these, more than shapes, are what a
segmenter does not carry over.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def local_contrast(image: np.ndarray, clip: float, tiles: int) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994) in `tiles` x `tiles` parts; `clip` 0: without a limit."""
    return cv2.createCLAHE(clip, (tiles, tiles)).apply(image)


def uneven(image: np.ndarray, grid: Sequence[Sequence[float]]) -> np.ndarray:
    """Brightness added, given on a coarse grid and smooth between its points."""
    height, width = image.shape
    return _added(
        image,
        cv2.resize(np.asarray(grid, np.float32), (width, height), interpolation=cv2.INTER_CUBIC),
    )


def noisy(image: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """Gaussian noise, each pixel for itself."""
    return _added(
        image,
        np.random.default_rng(seed).standard_normal(image.shape, np.float32)
        * np.float32(deviation),
    )


def blur(image: np.ndarray, deviation: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), max(deviation * max(image.shape), 0.05))


def cover(
    image: np.ndarray, top: float, left: float, bottom: float, right: float, grey: float
) -> np.ndarray:
    """A rectangle of one grey, as a marker lies on a film or a collimator's blade covers it."""
    height, width = image.shape
    changed = image.copy()
    changed[
        round(top * height) : round(bottom * height), round(left * width) : round(right * width)
    ] = round(grey * np.iinfo(image.dtype).max)
    return changed


def opaque(
    image: np.ndarray,
    row: float,
    column: float,
    height: float,
    width: float,
    grey: float,
    share: float,
) -> np.ndarray:
    """A soft patch about (row, column), drawn towards `grey` by `share` in its middle and where it is darker than that alone.

    `height` and `width` are half axes: there four tenths of the effect are gone, at one and a half times as far nearly all of it.
    """
    top = np.float32(np.iinfo(image.dtype).max)
    down, across = (
        ((np.arange(side, dtype=np.float32) / side - middle) / spread) ** 2
        for side, middle, spread in zip(image.shape, (row, column), (height, width), strict=True)
    )
    lacking = np.maximum(np.float32(grey) * top - image, 0)
    return np.rint(
        image + np.float32(share) * np.exp(-0.5 * (down[:, None] + across) ** 2) * lacking
    ).astype(image.dtype)


def _added(image: np.ndarray, change: np.ndarray) -> np.ndarray:
    top = np.float32(np.iinfo(image.dtype).max)
    return np.rint(np.clip(image + change * top, 0, top)).astype(image.dtype)
