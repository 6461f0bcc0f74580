"""Overlap of two masks: Dice, intersection over union, precision and recall, ratios of pixels.

Masks are boolean arrays (height, width), row before column, True inside. Axes before these two are
items: masks shaped (..., height, width) give an array of shape (...), one mask a float. Values are
in [0, 1].

A ratio of nothing to nothing is undefined, hence nan; nothing else is special:

    truth   found    dice  iou  precision  recall
    empty   empty    nan   nan  nan        nan
    empty   some     0     0    0          nan
    some    empty    0     0    nan        0

Source: Taha and Hanbury, "Metrics for evaluating 3D medical image segmentation", BMC Medical
Imaging 15:29 (2015).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Counts(NamedTuple):
    """Pixels inside both masks, the truth and the prediction; integer arrays of shape (...)."""

    both: np.ndarray
    truth: np.ndarray
    found: np.ndarray


def counts(truth: np.ndarray, found: np.ndarray) -> Counts:
    """Count the pixels of masks (..., height, width).

    Raises `ValueError` where they are not boolean or differ in shape.
    """
    truth, found = np.asarray(truth), np.asarray(found)
    if truth.dtype != bool or found.dtype != bool:
        raise ValueError(
            f"masks must be boolean (compare with a threshold), got {truth.dtype} and {found.dtype}"
        )
    if truth.shape != found.shape or truth.ndim < 2:
        raise ValueError(
            f"masks must share one shape (..., height, width), got {truth.shape} and {found.shape}"
        )
    return Counts(*(mask.sum(axis=(-2, -1)) for mask in (truth & found, truth, found)))


def dice(truth: np.ndarray, found: np.ndarray) -> float | np.ndarray:
    """Return twice the intersection over the sum of both areas; equal to F1 over pixels."""
    pixels = counts(truth, found)
    return _ratio(2 * pixels.both, pixels.truth + pixels.found)


def iou(truth: np.ndarray, found: np.ndarray) -> float | np.ndarray:
    """Return the intersection over union (Jaccard index)."""
    pixels = counts(truth, found)
    return _ratio(pixels.both, pixels.truth + pixels.found - pixels.both)


def precision(truth: np.ndarray, found: np.ndarray) -> float | np.ndarray:
    """Return the fraction of predicted pixels that are true."""
    pixels = counts(truth, found)
    return _ratio(pixels.both, pixels.found)


def recall(truth: np.ndarray, found: np.ndarray) -> float | np.ndarray:
    """Return the fraction of true pixels that are predicted."""
    pixels = counts(truth, found)
    return _ratio(pixels.both, pixels.truth)


def _ratio(part: np.ndarray, whole: np.ndarray) -> float | np.ndarray:
    with np.errstate(invalid="ignore"):  # 0 / 0 is the nan that the module promises
        ratio = np.true_divide(part, whole)
    return ratio if ratio.ndim else float(ratio)


METRICS = {"dice": dice, "iou": iou, "precision": precision, "recall": recall}
