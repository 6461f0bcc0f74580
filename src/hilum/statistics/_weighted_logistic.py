"""Slope and intercept of a calibration from how often each patient was drawn.

A resample moves them little from those of all rows. There the sums over rows that Newton's method
needs are expanded in a Taylor series, whose coefficients are sums over patients, so that all
resamples are solved at once. The remainder of the series has a bound; resamples whose bound is not
below `calibration.CONVERGED` for each row, as of few rows or of a rare finding, are solved from the
rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial

from hilum.statistics import calibration
from hilum.statistics._ranked_rows import parts
from hilum.statistics.metrics import calibration as calibrated

NAN = float("nan")
STEPS = 20  # of Newton's method from the solution of all rows: it takes three
ORDER = 10  # of the series
# Within this distance of a real number the logistic function is below `LARGEST`: by Cauchy's
# estimate its k-th coefficient there is at most LARGEST / RADIUS ** k.
RADIUS, LARGEST = 3.0, 1 / math.sin(3.0)


def _dot(weight: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the sums of products (resamples,) of weights (resamples, rows) and values (rows,)."""
    # Not `@`: for one product of two rows BLAS wakes all of its threads, which then spin.
    return np.einsum("ij,j->i", weight, other)


def _largest(*steps: np.ndarray) -> float:
    """Return the largest size of a step; one that is nan, of a resample that has none, is none."""
    return max(float(np.fmax.reduce(np.abs(step), initial=0.0)) for step in steps)


def _coefficients(value: np.ndarray) -> list[np.ndarray]:
    """Return the first `ORDER` + 1 Taylor coefficients of the logistic function at `value`."""
    probability, of_order = calibration.sigmoid(value), Polynomial([0.0, 1.0])
    found = []
    for order in range(ORDER + 1):
        found.append(of_order(probability))
        of_order = of_order.deriv() * Polynomial([0.0, 1.0, -1.0]) / (order + 1)
    return found


@dataclass(frozen=True)
class Slope:
    """The slope of the logistic regression of truth on `x`, of resamples (resamples, patients).

    `z` is `x` of mean 0 and deviation 1 times `1 / scale`; `start` slope and intercept on it of
    all rows. `sums` (columns, patients) are of the residuals times 1 and z, of each coefficient
    times the powers of z, of the rows, and of what bounds the remainder.
    """

    x: np.ndarray
    z: np.ndarray
    truth: np.ndarray
    patient: np.ndarray
    scale: float
    start: tuple[float, float]
    sums: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, present: np.ndarray, patient: np.ndarray, patients: int) -> Slope:
        """Expand the sums at the solution of all rows."""
        truth = present.astype(np.float64)
        centre, scale = (x.mean(), x.std() or 1.0) if x.size else (0.0, 1.0)
        slope, intercept = calibration.logistic(x, truth)
        z, start = (x - centre) / scale, (slope * scale, intercept + slope * centre)
        powers = [np.ones(z.size)]
        for _ in range(ORDER + 1):
            powers.append(powers[-1] * z)
        first, *rest = _coefficients(start[0] * z + start[1])
        columns = [(truth - first) * powers[at] for at in range(2)]
        columns += [
            one * powers[at] for order, one in enumerate(rest, 1) for at in range(order + 2)
        ]
        columns += [powers[0], (np.abs(z) + 1) ** (ORDER + 2)]
        sums = np.stack([np.bincount(patient, one, patients) for one in columns])
        return cls(x, z, truth, patient, float(scale), start, sums)

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """Return the slope of each resample; nan where it has none."""
        left, of_order, rows, bound = self._sums(times)
        a, b = np.zeros(len(times)), np.zeros(len(times))
        with np.errstate(all="ignore"):  # what is not finite is solved from its rows
            for _ in range(STEPS):
                gradient, curve = _expanded(left, of_order, a, b)
                size = curve[2] * curve[0] - curve[1] ** 2
                step = (
                    (curve[0] * gradient[1] - curve[1] * gradient[0]) / size,
                    (curve[2] * gradient[0] - curve[1] * gradient[1]) / size,
                )
                a, b = a + step[0], b + step[1]
                if _largest(*step) <= 1e-14:
                    break
            reach = np.maximum(np.abs(a), np.abs(b)) / RADIUS
            most = reach * (np.abs(self.z).max(initial=0.0) + 1)
            beyond = LARGEST * reach ** (ORDER + 1) * bound / (1 - most)
            left_over = np.max(np.abs(gradient), axis=0)
            near = (
                (most < 0.5)
                & (size >= 1e-12 * rows**2)
                & (beyond + left_over < calibration.CONVERGED * rows)
            )
        found = (self.start[0] + a) / self.scale
        far = np.flatnonzero(~near)
        # A series that has left its reach may still lie near the solution, or anywhere.
        a, b = (np.where(most[far] < 1, one[far], 0.0) for one in (a, b))
        for part in parts(far.size, self.x.size):
            found[far[part]] = self._from_rows(times[far[part]], a[part], b[part])
        return found

    def _sums(
        self, times: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray]:
        """Return residuals (2, resamples), coefficients of each order, rows, and the bound."""
        drawn = self.sums @ times.T.astype(np.float64)
        ends = np.cumsum([2, *(order + 2 for order in range(1, ORDER + 1))])
        left, *of_order, last = np.split(drawn, ends)
        return left, of_order, last[0], last[1]

    def _from_rows(self, times: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        weight = np.take(times, self.patient, axis=1)
        found = np.full(len(times), NAN)
        mixed = np.flatnonzero(~self._separated(weight > 0))
        a, b = self.start[0] + a[mixed], self.start[1] + b[mixed]
        found[mixed] = _newton(self.z, self.truth, weight[mixed], a, b) / self.scale
        for at in mixed[np.isnan(found[mixed])]:
            rows = np.repeat(np.arange(self.x.size), weight[at])
            found[at] = calibration.logistic(self.x[rows], self.truth[rows])[0]
        return found

    def _separated(self, drawn: np.ndarray) -> np.ndarray:
        """Return which resamples hold one class, or two that lie apart: bool (resamples,)."""
        ends = []
        for rows in (self.truth == 1, self.truth == 0):
            z, of_class = self.z[rows], drawn[:, rows]
            ends.append(np.where(of_class, z, np.inf).min(axis=1, initial=np.inf))
            ends.append(np.where(of_class, z, -np.inf).max(axis=1, initial=-np.inf))
        lowest, highest, lowest_absent, highest_absent = ends
        return (highest < lowest_absent) | (highest_absent < lowest)


def _expanded(
    left: np.ndarray, of_order: list[np.ndarray], a: np.ndarray, b: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the gradient by intercept and slope, and the curvature by powers of z, of resamples.

    They are those of a slope and an intercept that are larger by `a` and `b`.
    """
    gradient, curve = [left[0].copy(), left[1].copy()], [np.zeros(a.size) for _ in range(3)]
    lower = [np.ones(a.size)]  # the terms of (a z + b) ** (order - 1) by their power of z
    for order, sums in enumerate(of_order, 1):
        upper = [b * lower[0], *(a * one for one in lower)]
        for power in range(1, order):
            upper[power] = upper[power] + b * lower[power]
        for power, term in enumerate(upper):
            for moment in range(2):
                gradient[moment] -= term * sums[power + moment]
        for power, term in enumerate(lower):
            for moment in range(3):
                curve[moment] += order * term * sums[power + moment]
        lower = upper
    return gradient, curve


def _newton(
    z: np.ndarray, y: np.ndarray, weight: np.ndarray, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """Return the slopes (resamples,) of weighted logistic regressions of `y` on `z`.

    `weight` (resamples, rows); the method begins at slopes `a` and intercepts `b` (resamples,).
    nan where it reaches nothing.
    """
    found = np.full(len(weight), NAN)
    left, weight = np.arange(len(weight)), weight.astype(np.float64)
    rows = weight.sum(axis=1)
    for _ in range(STEPS):
        p = calibration.sigmoid(a[:, None] * z + b[:, None])
        residual = weight * (y - p)
        by_slope, by_shift = _dot(residual, z), residual.sum(axis=1)
        reached = np.maximum(np.abs(by_slope), np.abs(by_shift)) < calibration.CONVERGED * rows
        found[left[reached]] = a[reached]
        curve = weight * (p * (1 - p))
        tilted = curve * z
        zz, zc, cc = _dot(tilted, z), tilted.sum(axis=1), curve.sum(axis=1)
        size = zz * cc - zc * zc
        goes = ~reached & (size >= 1e-12 * rows**2)
        a, b, size = a[goes], b[goes], size[goes]
        a += (cc * by_slope - zc * by_shift)[goes] / size
        b += (zz * by_shift - zc * by_slope)[goes] / size
        left, rows, weight = left[goes], rows[goes], weight[goes]
        if not left.size:
            break
    return found


@dataclass(frozen=True)
class Intercept:
    """Calibration in the large, of resamples (resamples, patients).

    `value` are logits, `start` the shift of all rows; `sums` (columns, patients) are of the
    residuals, of each coefficient, of the truth and of the rows.
    """

    value: np.ndarray
    probability: np.ndarray
    present: np.ndarray
    patient: np.ndarray
    start: float
    sums: np.ndarray

    @classmethod
    def of(
        cls, probability: np.ndarray, present: np.ndarray, patient: np.ndarray, patients: int
    ) -> Intercept:
        """Expand the sums at the solution of all rows."""
        value, truth = calibration.logit(probability), present.astype(np.float64)
        start = calibrated.calibration_intercept(present, probability)
        first, *rest = _coefficients(value + start)
        columns = [truth - first, *rest, truth, np.ones(value.size)]
        sums = np.stack([np.bincount(patient, one, patients) for one in columns])
        return cls(value, probability, present, patient, start, sums)

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """Return the shift of each resample; nan where it has none."""
        left, *of_order, positives, rows = self.sums @ times.T.astype(np.float64)
        shift = np.zeros(len(times))
        with np.errstate(all="ignore"):  # what is not finite is solved from its rows
            for _ in range(STEPS):
                excess, curve, power = -left, np.zeros(shift.size), np.ones(shift.size)
                for order, one in enumerate(of_order, 1):
                    curve += order * one * power
                    power = power * shift
                    excess = excess + one * power
                shift = shift - excess / curve
                if _largest(excess / curve) <= 1e-14:
                    break
            reach = np.abs(shift) / RADIUS
            beyond = LARGEST * reach ** (ORDER + 1) / (1 - reach)
            near = (reach < 0.5) & (beyond + np.abs(excess) / rows < calibration.CONVERGED)
        found = np.where(np.abs(positives - rows / 2) < rows / 2, self.start + shift, NAN)
        far = np.flatnonzero(~near & ~np.isnan(found))
        for part in parts(far.size, self.value.size):
            found[far[part]] = self._from_rows(times[far[part]])
        return found

    def _from_rows(self, times: np.ndarray) -> np.ndarray:
        weight = np.take(times, self.patient, axis=1)
        drawn, truth = weight.astype(np.float64), self.present.astype(np.float64)
        left, shift = np.arange(len(times)), np.full(len(times), self.start)
        found, positives = np.full(len(times), NAN), _dot(drawn, truth)
        for _ in range(STEPS):
            p = calibration.sigmoid(self.value + shift[:, None])
            excess = positives - np.sum(drawn * p, axis=1)
            step = excess / np.sum(drawn * (p * (1 - p)), axis=1)
            shift = shift + step
            reached = np.abs(step) < 1e-9  # the error left is of its square
            found[left[reached]] = shift[reached]
            left, drawn = left[~reached], drawn[~reached]
            shift, positives = shift[~reached], positives[~reached]
            if not left.size:
                break
        for at in left:
            rows = np.repeat(np.arange(self.value.size), weight[at])
            found[at] = calibrated.calibration_intercept(self.present[rows], self.probability[rows])
        return found
