"""Confidence intervals over patients: the percentile bootstrap that resamples whole patients.

Images of one patient resemble one another, so resampling images as if they were independent gives
intervals that are too narrow. Here as many patients as there are are drawn with replacement, and
every row of a drawn patient comes along each time.

The seed fixes which patients are drawn. Patients are sorted first, so the order of the rows has no
effect on a statistic that ignores it, and two statistics with the same patients and seed see the
same resamples.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; Field and
Welsh, "Bootstrapping clustered data", JRSS B 69:369 (2007).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

# Fraction of the resamples. With more undefined, the defined ones are a biased selection, and there
# is no interval.
MAX_UNDEFINED = 0.2


class Interval(NamedTuple):
    """An estimate on all rows with its bounds; nan bounds: no interval can be given.

    `n_undefined` counts the resamples on which the statistic was nan.
    """

    value: float
    ci_low: float
    ci_high: float
    n_undefined: int


def bootstrap_patients(
    statistic: Callable[[np.ndarray], float],
    patients: Sequence[str] | np.ndarray,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Compute a statistic on all rows, with a percentile interval from resampled patients.

    `patients` (rows,) names the patient of each row. `statistic` receives row numbers, an integer
    array in rising order in which the rows of a patient drawn k times occur k times, and returns
    nan where it is undefined; such resamples are left out and counted. The bounds are nan with
    fewer than two patients (nothing is resampled) or where more than `MAX_UNDEFINED` of the
    resamples are undefined. Raises `ValueError` for no resamples or a confidence outside (0, 1).

    >>> patients = ["a", "a", "b"]
    >>> found = hilum.bootstrap_patients(lambda rows: float(len(rows)), patients, resamples=50)
    >>> found.value, found.ci_low <= found.ci_high
    (3.0, True)
    """
    return bootstrap_many(
        [statistic], patients, resamples=resamples, confidence=confidence, seed=seed
    )[0]


def bootstrap_many(
    statistics: Sequence[Callable[[np.ndarray], float]],
    patients: Sequence[str] | np.ndarray,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """Apply `bootstrap_patients` to several statistics on the same resamples.

    The resamples are drawn once. Returns one interval a statistic, in their order.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence within (0, 1), got {confidence}")
    drawn = resample_patients(patients, resamples=resamples, seed=seed)
    everything = np.arange(len(patients))
    values = [float(statistic(everything)) for statistic in statistics]
    found = (
        np.array([[statistic(rows) for statistic in statistics] for rows in drawn])
        .reshape(-1, len(statistics))
        .T
    )
    return [
        Interval(value, *bounds(of, confidence), int(np.isnan(of).sum()))
        for value, of in zip(values, found, strict=True)
    ]


def resample_patients(
    patients: Sequence[str] | np.ndarray, *, resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """Yield the row numbers of each resample, as `bootstrap_patients` describes them.

    Yields none with fewer than two patients. Raises `ValueError`, at the call, for no resamples.
    """
    if resamples < 1:
        raise ValueError(f"expected resamples >= 1, got {resamples}")
    names, patient_of_row = np.unique(np.asarray(patients), return_inverse=True)
    return _draws(
        len(names), patient_of_row, resamples if len(names) > 1 else 0, np.random.default_rng(seed)
    )


def _draws(
    patients: int, patient_of_row: np.ndarray, resamples: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    rows = np.arange(len(patient_of_row))
    for _ in range(resamples):
        times = np.bincount(generator.integers(patients, size=patients), minlength=patients)
        yield np.repeat(rows, times[patient_of_row])


def bounds(resampled: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the percentile interval of a statistic's values on the resamples.

    (nan, nan) where too many are undefined or there are none.
    """
    defined = resampled[~np.isnan(resampled)]
    if not resampled.size or resampled.size - defined.size > MAX_UNDEFINED * resampled.size:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
