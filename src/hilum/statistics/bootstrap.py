"""Confidence intervals over patients: the percentile bootstrap that resamples whole patients.

Images of one patient resemble one another, so resampling images as if they were independent gives
intervals that are too narrow. Here as many patients as there are are drawn with replacement, and
every row of a drawn patient comes along each time.

The seed fixes which patients are drawn. Patients are sorted first, so the order of the rows has no
effect on a statistic that ignores it, and two statistics with the same patients and seed see the
same resamples.

A statistic that is `Weighted` is computed from how often each patient is drawn, on rows that were
sorted once; the rows of a resample are then never listed.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; Field and
Welsh, "Bootstrapping clustered data", JRSS B 69:369 (2007).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from hilum.safety import threads
from hilum.statistics._ranked_rows import parts

# Fraction of the resamples. With more undefined, the defined ones are a biased selection, and there
# is no interval.
MAX_UNDEFINED = 0.2
_BLOCK = 4_000_000  # cells of the table of resamples and patients that is held at a time
Statistic = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Linear:
    """A statistic of sums over rows: `sums` float64 (patients, k), and `finish` of their totals.

    `finish` takes a float64 array (resamples, k) and returns a value a resample.
    """

    sums: np.ndarray
    finish: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Counted:
    """A statistic of how often each patient was drawn.

    `of` takes an int32 array (resamples, patients) and returns a value a resample.
    """

    of: Callable[[np.ndarray], np.ndarray]


@runtime_checkable
class Weighted(Protocol):
    """A statistic of row numbers that can also be computed from how often patients are drawn."""

    def __call__(self, rows: np.ndarray, /) -> float:
        """Compute the statistic on these rows."""
        ...

    def weighted(self, patient_of_row: np.ndarray, patients: int) -> Linear | Counted | None:
        """Return the same statistic of times drawn; None where there is no such form."""
        ...


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
    statistics: Sequence[Statistic],
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
    count, patient_of_row = _checked(patients, resamples)
    everything = np.arange(len(patient_of_row))
    values = [float(statistic(everything)) for statistic in statistics]
    blocks = _times(count, resamples, np.random.default_rng(seed))
    found = np.concatenate(
        [np.empty((0, len(statistics))), *_computed(statistics, patient_of_row, count, blocks)]
    ).T
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
    count, patient_of_row = _checked(patients, resamples)
    blocks = _times(count, resamples, np.random.default_rng(seed))
    return (_rows(times, patient_of_row) for block in blocks for times in block)


def _checked(patients: Sequence[str] | np.ndarray, resamples: int) -> tuple[int, np.ndarray]:
    """Return how many patients there are, and the number of each row's patient in their order."""
    if resamples < 1:
        raise ValueError(f"expected resamples >= 1, got {resamples}")
    names, patient_of_row = np.unique(np.asarray(patients), return_inverse=True)
    return len(names), patient_of_row


def _times(patients: int, resamples: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield how often each patient is drawn, int32 (some resamples, patients), block by block."""
    left = resamples if patients > 1 else 0
    while left:
        block = np.empty((min(left, max(1, _BLOCK // patients)), patients), np.int32)
        for part in parts(len(block), patients):
            times = block[part]
            drawn = generator.integers(patients, size=times.shape)
            drawn += patients * np.arange(len(times))[:, None]  # each resample counts its own
            times[:] = np.bincount(drawn.ravel(), minlength=times.size).reshape(times.shape)
        left -= len(block)
        yield block


def _rows(times: np.ndarray, patient_of_row: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(patient_of_row)), times[patient_of_row])


def _computed(
    statistics: Sequence[Statistic],
    patient_of_row: np.ndarray,
    patients: int,
    blocks: Iterator[np.ndarray],
) -> Iterator[np.ndarray]:
    """Yield the values of `statistics` on each block of resamples, (some resamples, statistics)."""
    forms = [
        one.weighted(patient_of_row, patients) if isinstance(one, Weighted) else None
        for one in statistics
    ]
    linear = {number: one for number, one in enumerate(forms) if isinstance(one, Linear)}
    counted = {number: one.of for number, one in enumerate(forms) if isinstance(one, Counted)}
    listed = {number: statistics[number] for number, one in enumerate(forms) if one is None}
    sums = np.column_stack([np.empty((patients, 0)), *(one.sums for one in linear.values())])
    ends = np.cumsum([one.sums.shape[1] for one in linear.values()])[:-1]

    def _of(block: np.ndarray) -> np.ndarray:
        found = np.empty((len(block), len(statistics)))
        totals = np.split(block.astype(np.float64) @ sums, ends, axis=1) if linear else []
        for (number, one), total in zip(linear.items(), totals, strict=True):
            found[:, number] = one.finish(total)
        for number, of_times in counted.items():
            found[:, number] = of_times(block)
        for at, times in enumerate(block if listed else ()):
            rows = _rows(times, patient_of_row)
            for number, statistic in listed.items():
                found[at, number] = statistic(rows)
        return found

    if listed:  # a caller's statistic may not be one for several threads
        yield from map(_of, blocks)
        return
    with threads.numeric_pool(threads.cores()) as pool:
        begun: deque[Future[np.ndarray]] = deque()
        for block in blocks:
            begun.append(pool.submit(_of, block))
            if len(begun) > threads.cores():  # or all blocks would be drawn and held
                yield begun.popleft().result()
        for one in begun:
            yield one.result()


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
