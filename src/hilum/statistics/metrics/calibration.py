"""Calibration: how well predicted probabilities agree with observed frequencies.

`truth` is a sequence (rows,) of 0 and 1, `probability` a sequence (rows,) of numbers in [0, 1];
anything else raises `ValueError`. Undefined is nan: without rows, and for slope and intercept where
a class has no row or the probabilities separate the classes completely.

The bins of `expected_calibration_error` and `reliability` hold about equally many rows (equal
mass), and rows of equal probability are always in one bin. There are at most `MOST_BINS`, and fewer
where a bin would hold fewer than about `ROWS`; with too few rows for two bins the error is nan. In
small bins the error is above 0 even for perfect probabilities, so compare it between models on the
same rows only.

Sources: Brier, Monthly Weather Review 78:1 (1950); Naeini, Cooper and Hauskrecht, AAAI 2015, for
the error over bins; Nixon et al., CVPR workshops 2019, for bins of equal mass; Van Calster et al.,
BMC Medicine 17:230 (2019), for slope and intercept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hilum.statistics import calibration
from hilum.statistics.metrics._validation import Values, checked

MOST_BINS = 10
ROWS = 5  # of a bin, at least: fewer give no frequency to speak of


class Reliability(NamedTuple):
    """Bins in rising order: mean probability, fraction of positive rows, rows; each (bins,)."""

    expected: np.ndarray
    observed: np.ndarray
    rows: np.ndarray


def brier(truth: Values, probability: Values) -> float:
    """Return the mean squared difference of probability and truth; lower is better.

    A constant probability equal to the prevalence p scores p (1 - p).
    """
    present, probability = _checked(truth, probability)
    return float(np.mean((probability - present) ** 2)) if present.size else float("nan")


def expected_calibration_error(truth: Values, probability: Values) -> float:
    """Return the mean over rows of |mean probability - fraction of positive rows| of their bin.

    Lower is better.
    """
    return _error(reliability(truth, probability))


def bins_of(rows: int) -> int:
    """Return the number of bins of so many rows."""
    return max(1, min(MOST_BINS, rows // ROWS))


def errors_of_bins(sums: np.ndarray) -> np.ndarray:
    """Return the errors (resamples,) of bins by their sums of probability, truth and rows.

    `sums` is (resamples, 3, bins).
    """
    probability, truth, rows = np.moveaxis(sums, 1, 0)
    filled = (rows >= ROWS).all(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # of resamples with an empty bin
        apart = rows * np.abs(probability / rows - truth / rows)
    found = np.sum(apart, axis=1) / rows.sum(axis=1)
    for at in np.flatnonzero(~filled):
        found[at] = _error(_reliability(sums[at].T))
    return found


def _error(bins: Reliability) -> float:
    total = bins.rows.sum()
    if total < 2 * ROWS:
        return float("nan")
    return float(np.sum(bins.rows * np.abs(bins.expected - bins.observed)) / total)


def reliability(truth: Values, probability: Values) -> Reliability:
    """Return predicted and observed frequencies in bins of about equally many rows."""
    present, probability = _checked(truth, probability)
    count = bins_of(present.size)
    _distinct, of_row, times = np.unique(probability, return_inverse=True, return_counts=True)
    # The mean rank of each distinct probability decides its bin.
    middle = np.cumsum(times) - (times + 1) / 2
    bin_of_row = np.floor(middle * count / max(present.size, 1)).astype(int)[of_row]
    sums = np.array(
        [
            np.bincount(bin_of_row, values, minlength=count)
            for values in (probability, present, np.ones(present.size))
        ]
    )
    return _reliability(sums.T)


def _reliability(bins: np.ndarray) -> Reliability:
    expected, observed, rows = np.array(_joined(bins)).reshape(-1, 3).T
    return Reliability(expected / rows, observed / rows, rows.astype(int))


def _joined(bins: np.ndarray) -> list[np.ndarray]:
    """Merge bins of fewer than `ROWS` rows with the next one, the last with the one before.

    `bins` (bins, 3) holds sums, rows last. Many rows of equal probability leave few to the bins
    beside them.
    """
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
    """Return the slope of the logistic regression of the truth on the logit of the probability.

    1 is ideal, below 1 is overconfident.
    """
    present, probability = _checked(truth, probability)
    return calibration.logistic(calibration.logit(probability), present.astype(np.float64))[0]


def calibration_intercept(truth: Values, probability: Values) -> float:
    """Return calibration in the large: the shift of all logits that makes the sums agree.

    After it the expected number of positives is the observed one. 0 is ideal, below 0 means that
    probabilities are too high.
    """
    present, probability = _checked(truth, probability)
    positives = np.count_nonzero(present)
    if not 0 < positives < present.size:
        return float("nan")
    from scipy.optimize import brentq

    value = calibration.logit(probability)
    prevalence = np.array(positives / present.size)
    reach = float(2 + np.abs(value).max() + abs(calibration.logit(prevalence)))

    def _excess(shift: float) -> float:
        return float(calibration.sigmoid(value + shift).sum() - positives)

    # `full_output` only pins the type of what SciPy returns: the root and how it was found.
    root, _ = brentq(_excess, -reach, reach, xtol=1e-12, full_output=True)
    return float(root)


def _checked(truth: Values, probability: Values) -> tuple[np.ndarray, np.ndarray]:
    present, probability = checked(truth, probability)
    if probability.size and (probability.min() < 0 or probability.max() > 1):
        raise ValueError(
            f"a probability lies from 0 to 1, got {probability.min():g} to {probability.max():g}; "
            "calibrate the score first"
        )
    return present, probability


METRICS = {
    "brier": brier,
    "expected_calibration_error": expected_calibration_error,
    "calibration_slope": calibration_slope,
    "calibration_intercept": calibration_intercept,
}
