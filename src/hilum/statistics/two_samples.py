"""Test whether two samples of one number come from the same distribution.

Kolmogorov and Smirnov's test, with the asymptotic distribution of the largest difference between
the two empirical distributions and Stephens' correction for small samples (Stephens, JRSS B 32:115,
1970). Pure NumPy, so that it can be made wherever images are classified.
"""

from __future__ import annotations

import numpy as np

TERMS = 100  # of the series; the terms fall faster than exponentially
FEWEST = 8  # rows of either sample; with fewer nothing but a gross difference can be found


def kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the largest difference of the empirical distributions and its p-value.

    (nan, nan) where either sample is empty.
    """
    first, second = (np.sort(np.asarray(one, np.float64)) for one in (first, second))
    if not first.size or not second.size:
        return float("nan"), float("nan")
    every = np.concatenate([first, second])
    below = [np.searchsorted(one, every, side="right") / one.size for one in (first, second)]
    distance = float(np.abs(below[0] - below[1]).max())
    effective = np.sqrt(first.size * second.size / (first.size + second.size))
    return distance, _survival((effective + 0.12 + 0.11 / effective) * distance)


def _survival(value: float) -> float:
    """Return P(K > value) of the Kolmogorov distribution."""
    if value < 0.2:
        return 1.0  # the series converges slowly there, and the value differs by less than 1e-12
    terms = np.arange(1, TERMS + 1)
    signs = np.where(terms % 2 == 1, 1.0, -1.0)
    return float(np.clip(2 * np.sum(signs * np.exp(-2 * (terms * value) ** 2)), 0.0, 1.0))
