"""AUROC with its variance, and tests of the difference between two models on the same rows.

`truth` is (rows,) of 0 and 1, `score` (rows,) of finite numbers, `patients` (rows,) names the
patient of each row; None: each row is a patient of its own.

The variance is DeLong's where each patient has one row, otherwise Obuchowski's for clustered data,
of which DeLong's is the special case: the placements of one patient's rows may be correlated.
McNemar's exact test assumes independent rows, so it is refused where a patient has several; the
bootstrap over patients works for any metric. What is undefined is nan, with the cause in `reason`.

Sources: DeLong, DeLong and Clarke-Pearson, Biometrics 44:837 (1988); Obuchowski, Biometrics 53:567
(1997); Pepe, "The Statistical Evaluation of Medical Tests" (2003), section 5.2, for the interval on
the logit scale; McNemar, Psychometrika 12:153 (1947).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hilum.statistics import bootstrap

NAN = float("nan")
Rows = Sequence[str] | np.ndarray
ONE_CLASS = "all images are of one class"
ONE_PATIENT = "fewer than two patients with the finding, or without it"


class Area(NamedTuple):
    """AUROC with its variance and confidence interval; nan with a `reason` where undefined."""

    value: float
    variance: float
    ci_low: float
    ci_high: float
    reason: str


class Difference(NamedTuple):
    """A metric of the second model minus that of the first, with its interval.

    `p` is the two-sided probability of a difference at least as large if there were none.
    """

    value: float
    ci_low: float
    ci_high: float
    p: float
    reason: str


def area(
    truth: np.ndarray, score: np.ndarray, patients: Rows | None = None, *, confidence: float = 0.95
) -> Area:
    """Compute the AUROC with its variance and a confidence interval.

    The interval is symmetric on the logit scale, so it stays within 0 and 1.
    """
    present, (placed,) = _placed(truth, score)
    if not placed.size or present.all() or not present.any():
        return Area(NAN, NAN, NAN, NAN, ONE_CLASS)
    value = float(placed[present].mean())
    variance = _variance(present, placed, _numbers(patients, present.size))
    if np.isnan(variance):
        return Area(value, NAN, NAN, NAN, ONE_PATIENT)
    if value in (0.0, 1.0) or variance <= 0:
        return Area(
            value,
            variance,
            NAN,
            NAN,
            "the scores part the classes wholly, or not at all, "
            "and the variance formula says nothing there",
        )
    reach = _normal(confidence) * np.sqrt(variance) / (value * (1 - value))
    middle = np.log(value / (1 - value))
    low, high = 1 / (1 + np.exp(-(middle + np.array([-reach, reach]))))
    return Area(value, variance, float(low), float(high), "")


def area_difference(
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    patients: Rows | None = None,
    *,
    confidence: float = 0.95,
) -> Difference:
    """Compute the AUROC of `second` minus that of `first`, with interval and test.

    Both are normal approximations with the variance of correlated areas.
    """
    present, (one, other) = _placed(truth, first, second)
    if not present.size or present.all() or not present.any():
        return Difference(NAN, NAN, NAN, NAN, ONE_CLASS)
    gained = other - one
    value = float(gained[present].mean())
    variance = _variance(present, gained, _numbers(patients, present.size))
    if np.isnan(variance):
        return Difference(value, NAN, NAN, NAN, ONE_PATIENT)
    if variance <= 1e-15:  # rounding leaves about this of a variance of 0
        why = (
            "both put the images in one order"
            if not gained.any()
            else "every image gains alike, and the variance formula says nothing there"
        )
        return Difference(value, NAN, NAN, NAN, why)
    error = float(np.sqrt(variance))
    reach = _normal(confidence) * error
    return Difference(
        value, max(value - reach, -1.0), min(value + reach, 1.0), _two_sided(value / error), ""
    )


def bootstrap_difference(
    first: Callable[[np.ndarray], float],
    second: Callable[[np.ndarray], float],
    patients: Rows,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Compare any metric of two models by resampling patients.

    Each statistic receives the same row numbers, those of `bootstrap.resample_patients`. `p` is
    twice the smaller fraction of resamples on either side of no difference. The estimate itself is
    counted as one more resample, so `p` is never 0.
    """
    everything = np.arange(len(patients))
    value = float(second(everything) - first(everything))
    found = np.array(
        [
            second(rows) - first(rows)
            for rows in bootstrap.resample_patients(patients, resamples=resamples, seed=seed)
        ]
    )
    low, high = bootstrap.bounds(found, confidence)
    if np.isnan(value):
        return Difference(NAN, NAN, NAN, NAN, "undefined for one of the two")
    if np.isnan(low):
        why = (
            "fewer than two patients"
            if not found.size
            else f"undefined in over {bootstrap.MAX_UNDEFINED:.0%} of the resamples"
        )
        return Difference(value, NAN, NAN, NAN, why)
    defined = found[~np.isnan(found)]
    tail = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return Difference(value, low, high, float(min(2 * (tail + 1) / (defined.size + 1), 1.0)), "")


class Mcnemar(NamedTuple):
    """Rows that only one of two models calls correctly, and the exact two-sided `p`."""

    first_only: int  # rows that only the first calls correctly
    second_only: int
    p: float
    reason: str


def mcnemar(
    truth: np.ndarray, first: np.ndarray, second: np.ndarray, patients: Rows | None = None
) -> Mcnemar:
    """Test whether two models are correct equally often, by McNemar's exact test.

    `first` and `second` are their calls (rows,) of 0 and 1.
    """
    from scipy.special import bdtr

    right = [np.asarray(calls) == np.asarray(truth) for calls in (first, second)]
    only = int(np.count_nonzero(right[0] & ~right[1])), int(np.count_nonzero(right[1] & ~right[0]))
    if patients is not None and len(set(patients)) < len(patients):
        return Mcnemar(
            *only,
            NAN,
            "patients have several images, and McNemar's test takes images as independent",
        )
    if not right[0].size:
        return Mcnemar(0, 0, NAN, "no image")
    return Mcnemar(
        *only, min(1.0, 2 * float(bdtr(min(only), sum(only), 0.5))) if sum(only) else 1.0, ""
    )


def _placed(truth: np.ndarray, *scores: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return truth as booleans and the placements of each score.

    The placement of a row is the fraction of the other class that it ranks on the correct side of,
    ties counting one half.
    """
    present = np.asarray(truth) == 1
    return present, [_placements(present, np.asarray(score, dtype=np.float64)) for score in scores]


def _placements(present: np.ndarray, score: np.ndarray) -> np.ndarray:
    placed = np.full(score.size, NAN)
    for rows, others, sign in ((present, ~present, 1.0), (~present, present, -1.0)):
        sorted_others = np.sort(sign * score[others])
        if sorted_others.size:
            places = sum(
                np.searchsorted(sorted_others, sign * score[rows], side=side)
                for side in ("left", "right")
            )
            placed[rows] = places / (2 * sorted_others.size)
    return placed


def _variance(present: np.ndarray, placed: np.ndarray, patient: np.ndarray) -> float:
    """Compute Obuchowski's variance of the mean placement.

    It is linear in `placed`, so it serves for differences of placements too.
    """
    value = placed[present].mean()
    sums, counts = [], []
    for rows in (present, ~present):
        sums.append(np.bincount(patient[rows], placed[rows] - value, minlength=patient.max() + 1))
        counts.append(np.bincount(patient[rows], minlength=patient.max() + 1))
    having, total = [np.count_nonzero(count) for count in counts], patient.max() + 1
    if min(having) < 2:
        return NAN
    own = sum(
        n / (n - 1) * np.sum(of_class**2) / count.sum() ** 2
        for n, of_class, count in zip(having, sums, counts, strict=True)
    )
    return float(
        own
        + 2 * total / (total - 1) * np.sum(sums[0] * sums[1]) / (counts[0].sum() * counts[1].sum())
    )


def _numbers(patients: Rows | None, rows: int) -> np.ndarray:
    return (
        np.arange(rows)
        if patients is None
        else np.unique(np.asarray(patients), return_inverse=True)[1]
    )


def _normal(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + confidence) / 2))


def _two_sided(z: float) -> float:
    from scipy.special import ndtr

    return float(2 * ndtr(-abs(z)))
