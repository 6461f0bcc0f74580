"""Degrade the grey levels of an image as other devices, processing and disease do.

Local contrast, uneven exposure, noise, blur, bands, markers, and the soft bright patches of
disease. Each function takes an image uint8 or uint16 (height, width) and returns a new one of the
same type; none is random beyond its seed. Grey levels are fractions of full white, positions and
lengths fractions of the image's height and width, so they mean the same at every size and depth.

These changes represent what differs between hospitals: Zhang et al. 2020, "Generalizing Deep
Learning for Medical Image Segmentation to Unseen Domains via Deep Stacked Transformation" (IEEE TMI
39:2531) finds that they, more than shapes, limit how far a segmenter generalises.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def local_contrast(image: np.ndarray, clip: float, tiles: int) -> np.ndarray:
    """Equalise the histogram in `tiles` x `tiles` parts, limited to `clip`; 0 means no limit.

    Contrast-limited adaptive histogram equalisation (Zuiderveld 1994).
    """
    return cv2.createCLAHE(clip, (tiles, tiles)).apply(image)


def uneven(image: np.ndarray, grid: Sequence[Sequence[float]]) -> np.ndarray:
    """Add a brightness given on a coarse grid and smooth between its points."""
    height, width = image.shape
    return _added(
        image,
        cv2.resize(np.asarray(grid, np.float32), (width, height), interpolation=cv2.INTER_CUBIC),
    )


def noisy(image: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """Add independent Gaussian noise to each pixel."""
    noise = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
    return _added(image, noise * np.float32(deviation))


def blur(image: np.ndarray, deviation: float) -> np.ndarray:
    """Blur with a Gaussian of standard deviation `deviation`, a fraction of the longer side."""
    return cv2.GaussianBlur(image, (0, 0), max(deviation * max(image.shape), 0.05))


def cover(
    image: np.ndarray, top: float, left: float, bottom: float, right: float, grey: float
) -> np.ndarray:
    """Cover a rectangle with one grey level, like a marker or a collimator's blade."""
    height, width = image.shape
    rows = slice(round(top * height), round(bottom * height))
    columns = slice(round(left * width), round(right * width))
    changed = image.copy()
    changed[rows, columns] = round(grey * np.iinfo(image.dtype).max)
    return changed


def opaque(
    image: np.ndarray,
    row: float,
    column: float,
    height: float,
    width: float,
    grey: float,
    opacity: float,
) -> np.ndarray:
    """Blend a soft patch about (row, column) towards `grey`, only where the image is darker.

    `opacity` applies in the middle of the patch. `height` and `width` are half axes: there four
    tenths of the effect are gone, at one and a half times as far nearly all of it.
    """
    top = np.float32(np.iinfo(image.dtype).max)
    down, across = (
        ((np.arange(side, dtype=np.float32) / side - middle) / spread) ** 2
        for side, middle, spread in zip(image.shape, (row, column), (height, width), strict=True)
    )
    lacking = np.maximum(np.float32(grey) * top - image, 0)
    return np.rint(
        image + np.float32(opacity) * np.exp(-0.5 * (down[:, None] + across) ** 2) * lacking
    ).astype(image.dtype)


def _added(image: np.ndarray, change: np.ndarray) -> np.ndarray:
    top = np.float32(np.iinfo(image.dtype).max)
    return np.rint(np.clip(image + change * top, 0, top)).astype(image.dtype)
