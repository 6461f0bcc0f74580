"""How far probabilities can be taken at their word.

`truth` is a sequence (rows,) of 0 and 1, `probability` a sequence (rows,) of numbers in [0, 1]; anything else raises `ValueError`. Undefined
is nan: without rows, and for slope and intercept where a class has no row or the probabilities part the classes wholly.

The bins of `expected_calibration_error` and `reliability` hold about equally many rows (equal mass), rows of one probability never parted:
`MOST_BINS` of them, or fewer, so that each holds about `ROWS` or more; with too few rows for two bins the error is nan. With few rows in a
bin it is above 0 even for perfect probabilities, so compare it between models on the same rows only.

Sources: Brier, Monthly Weather Review 78:1 (1950); Naeini, Cooper and Hauskrecht, AAAI 2015, for the error over bins; Nixon et al., CVPR
workshops 2019, for bins of equal mass; Van Calster et al., BMC Medicine 17:230 (2019), for slope and intercept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hilum.statistics import calibration
from hilum.statistics.metrics._validation import Values, checked

MOST_BINS = 10
ROWS = 5  # of a bin, about, at least


class Reliability(NamedTuple):
    """Of each bin, in rising order: mean probability, share of positive rows, rows; each (bins,)."""

    expected: np.ndarray
    observed: np.ndarray
    rows: np.ndarray


def brier(truth: Values, probability: Values) -> float:
    """Mean squared distance of the probability from the truth; lower is better. The prevalence p told of every row gives p (1 - p)."""
    present, probability = _checked(truth, probability)
    return float(np.mean((probability - present) ** 2)) if present.size else float("nan")


def expected_calibration_error(truth: Values, probability: Values) -> float:
    """The mean over rows of the distance between a bin's mean probability and its share of positive rows; lower is better."""
    bins = reliability(truth, probability)
    total = bins.rows.sum()
    return (
        float(np.sum(bins.rows * np.abs(bins.expected - bins.observed)) / total)
        if total >= 2 * ROWS
        else float("nan")
    )


def reliability(truth: Values, probability: Values) -> Reliability:
    """What was expected and what came, by bins of about equally many rows."""
    present, probability = _checked(truth, probability)
    count = max(1, min(MOST_BINS, present.size // ROWS))
    distinct, of_row, times = np.unique(probability, return_inverse=True, return_counts=True)
    middle = (
        np.cumsum(times) - (times + 1) / 2
    )  # the middle rank of each probability, which says its bin
    bin_of_row = np.floor(middle * count / max(present.size, 1)).astype(int)[of_row]
    sums = np.array(
        [
            np.bincount(bin_of_row, values, minlength=count)
            for values in (probability, present, np.ones(present.size))
        ]
    )
    expected, observed, rows = np.array(_joined(sums.T)).reshape(-1, 3).T
    return Reliability(expected / rows, observed / rows, rows.astype(int))


def _joined(bins: np.ndarray) -> list[np.ndarray]:
    """Sums of bins (bins, 3), rows last, with a bin of fewer than `ROWS` put to the next, and the last to the one before: many rows of one
    probability leave their neighbours few."""
    joined: list[np.ndarray] = []
    for one in bins:
        if joined and joined[-1][2] < ROWS:
            joined[-1] = joined[-1] + one
        elif one[2]:
            joined.append(one)
    if len(joined) > 1 and joined[-1][2] < ROWS:
        joined[-2:] = [joined[-2] + joined[-1]]
    return joined


def calibration_slope(truth: Values, probability: Values) -> float:
    """The slope of the logistic regression of the truth on the probability's logit: 1 is right, below 1 is too sure."""
    present, probability = _checked(truth, probability)
    return calibration.logistic(calibration.logit(probability), present.astype(np.float64))[0]


def calibration_intercept(truth: Values, probability: Values) -> float:
    """Calibration in the large: what must be added to every logit so that as many are expected as are positive; 0 is right, below 0 is too high."""
    present, probability = _checked(truth, probability)
    positives = np.count_nonzero(present)
    if not 0 < positives < present.size:
        return float("nan")
    from scipy.optimize import brentq

    value = calibration.logit(probability)
    reach = 2 + np.abs(value).max() + abs(calibration.logit(positives / present.size))
    return float(
        brentq(
            lambda shift: calibration.sigmoid(value + shift).sum() - positives,
            -reach,
            reach,
            xtol=1e-12,
        )
    )


def _checked(truth: Values, probability: Values) -> tuple[np.ndarray, np.ndarray]:
    present, probability = checked(truth, probability)
    if probability.size and (probability.min() < 0 or probability.max() > 1):
        raise ValueError(
            f"a probability lies from 0 to 1, got {probability.min():g} to {probability.max():g}; calibrate the score first"
        )
    return present, probability


METRICS = {
    "brier": brier,
    "expected_calibration_error": expected_calibration_error,
    "calibration_slope": calibration_slope,
    "calibration_intercept": calibration_intercept,
}
