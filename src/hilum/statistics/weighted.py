"""Metrics of a resample from how often each patient was drawn, for `hilum.statistics.bootstrap`.

A resample of 250,000 rows need not be sorted again: rows are sorted once, and a resample only
changes how often each counts. Every function takes `truth` (rows,) of 0 and 1, `values` (rows,) of
finite numbers, `patient` (rows,), the number of each row's patient, and how many `patients` there
are, and returns the metric of the same name in a form of the bootstrap.

Against the metric on the listed rows: counts and the AUROC agree to the last bit; what sums
fractions (average precision, Brier, calibration error, risk) to 1e-12; slope and intercept of a
calibration to 1e-8, as they are solved by iteration until the gradient is `calibration.CONVERGED`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hilum.statistics import calibration
from hilum.statistics.bootstrap import Counted, Linear
from hilum.statistics.metrics import calibration as calibrated
from hilum.statistics.metrics._validation import checked, ratio
from hilum.statistics.metrics.discrimination import Confusion

NAN = float("nan")
STEPS = 20  # of Newton's method from the solution of all rows: it takes three
Form = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Linear | Counted]


def _dot(one: np.ndarray, other: np.ndarray) -> float:
    # Not `@`: for one product of two rows BLAS wakes all of its threads, which then spin.
    return float(np.einsum("i,i", one, other))


def sums(patient: np.ndarray, patients: int, *columns: np.ndarray) -> np.ndarray:
    """Return the sum of each column (rows,) over the rows of each patient, (patients, columns)."""
    return np.column_stack([np.bincount(patient, one, patients) for one in columns])


def of_calls(finish: Callable[[Confusion], float]) -> Form:
    """Return the form of a metric of the confusion of truth and calls of 0.0 and 1.0."""

    def _form(truth: np.ndarray, called: np.ndarray, patient: np.ndarray, patients: int) -> Linear:
        present, called = truth == 1, called >= 0.5
        kinds = (present & called, ~present & called, present & ~called, ~(present | called))
        return Linear(
            sums(patient, patients, *kinds), lambda total: finish(Confusion(*total.tolist()))
        )

    return _form


def mean(values: np.ndarray, patient: np.ndarray, patients: int) -> Linear:
    """Return the form of the mean of `values`; nan without rows."""
    columns = sums(patient, patients, values, np.ones(values.size))
    return Linear(columns, lambda total: ratio(total[0], total[1]))


def brier(truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int) -> Linear:
    """Return the form of `hilum.statistics.metrics.calibration.brier`."""
    return mean((values - truth) ** 2, patient, patients)


def auroc(truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int) -> Counted:
    """Return the form of the AUROC: of each positive row, the weight of the negatives below."""
    present, score = checked(truth, values)
    negative = np.argsort(score[~present], kind="stable")
    owner, sorted_negative = patient[~present][negative], score[~present][negative]
    positive, positive_owner = np.sort(score[present]), patient[present]
    positive_owner = positive_owner[np.argsort(score[present], kind="stable")]
    first = np.searchsorted(sorted_negative, positive, side="left")
    last = np.searchsorted(sorted_negative, positive, side="right")
    below = np.zeros(owner.size + 1, np.int32)

    def _of(times: np.ndarray) -> float:
        np.cumsum(times[owner], dtype=np.int32, out=below[1:])
        weight = times[positive_owner].astype(np.int64)
        won = int(weight @ below[first]) + int(weight @ below[last])
        return ratio(won, 2 * int(weight.sum()) * int(below[-1]))

    return Counted(_of)


def average_precision(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of average precision: only scores of a positive row add to it."""
    present, score = checked(truth, values)
    order = np.argsort(-score, kind="stable")
    owner, ranked, present = patient[order], score[order], present[order]
    positive_owner = owner[present]
    steps, of_positive = np.unique(-ranked[present], return_inverse=True)
    # How many rows are called where the threshold is the score of that step.
    called = np.searchsorted(-ranked, steps, side="right") - 1

    def _of(times: np.ndarray) -> float:
        every = np.cumsum(times[owner], dtype=np.int32)
        weight = np.bincount(of_positive, times[positive_owner], steps.size)
        positives = weight.sum()
        if not positives or positives == every[-1]:
            return NAN
        gained = weight > 0
        true = np.cumsum(weight)[gained]
        return float(np.sum(weight[gained] / positives * true / every[called[gained]]))

    return Counted(_of)


def risk_coverage(
    certainty: np.ndarray,
    error: np.ndarray,
    patient: np.ndarray,
    finish: Callable[[np.ndarray, np.ndarray], float],
) -> Counted:
    """Return the form of a statistic of `hilum.statistics.selective.risk_coverage`.

    `finish` takes coverage and risk where a drawn row is called.
    """
    order = np.argsort(-certainty, kind="stable")
    owner, ranked = patient[order], certainty[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: ranked.size])
    wrong = np.flatnonzero(error[order] > 0)
    # How many wrong rows are called at the end of each tie.
    wrong_called = np.searchsorted(wrong, last, side="right")
    wrong_owner = owner[wrong]
    errors = np.zeros(wrong.size + 1, np.int32)

    def _of(times: np.ndarray) -> float:
        called = np.cumsum(times[owner], dtype=np.int32)[last]
        np.cumsum(times[wrong_owner], dtype=np.int32, out=errors[1:])
        new = np.flatnonzero(np.diff(called, prepend=0))
        if not new.size:
            return NAN
        called = called[new]
        return finish(called / called[-1], errors[wrong_called[new]] / called)

    return Counted(_of)


def expected_calibration_error(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of the calibration error over bins of equal mass."""
    present, probability = checked(truth, values)
    order = np.argsort(probability, kind="stable")
    owner, ranked, truly = patient[order], probability[order], present[order].astype(np.float64)
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: ranked.size])

    def _of(times: np.ndarray) -> float:
        weight = times[owner]
        until = np.cumsum(weight, dtype=np.int32)[last]
        total = int(until[-1])
        bins = calibrated.bins_of(total)
        # Twice the mean rank of each distinct probability; it rises with the probability.
        middle = until + np.concatenate([[0], until[:-1]]) - 1
        begins = np.searchsorted(middle, 2 * total * np.arange(1, bins) / bins, side="left")
        ends = last[np.minimum(begins, last.size) - 1] + 1
        ends[begins == 0] = 0
        edges = np.concatenate([[0], ends, [weight.size]])
        each = np.array(
            [
                (_dot(part, ranked[a:b]), _dot(part, truly[a:b]), part.sum())
                for a, b in zip(edges[:-1], edges[1:], strict=True)
                for part in (weight[a:b].astype(np.float64),)
            ]
        )
        return calibrated.error_of_bins(each)

    return Counted(_of)


def calibration_slope(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of the slope, by Newton's method from the slope of all rows."""
    present, probability = checked(truth, values)
    x, y = calibration.logit(probability), present.astype(np.float64)
    centre, scale = x.mean(), x.std() or 1.0
    slope, intercept = calibration.logistic(x, y)
    z, start = (x - centre) / scale, (slope * scale, intercept + slope * centre)

    def _of(times: np.ndarray) -> float:
        weight = times[patient]
        found = _newton(z, y, weight.astype(np.float64), *start)
        if np.isnan(found):  # as where a resample separates the classes
            rows = np.repeat(np.arange(x.size), weight)
            return calibration.logistic(x[rows], y[rows])[0] if rows.size else NAN
        return found / scale

    return Counted(_of)


def _newton(z: np.ndarray, y: np.ndarray, weight: np.ndarray, a: float, b: float) -> float:
    """Return the slope of the weighted logistic regression of `y` on `z`; nan: none was reached."""
    rows = weight.sum()
    for _ in range(STEPS):
        p = calibration.sigmoid(a * z + b)
        left = weight * (y - p)
        by_slope, by_shift = _dot(left, z), left.sum()
        if not max(abs(by_slope), abs(by_shift)) >= calibration.CONVERGED * rows:
            return a
        curve = weight * (p * (1 - p))
        tilted = curve * z
        zz, zc, cc = _dot(tilted, z), tilted.sum(), curve.sum()
        if not (size := zz * cc - zc * zc) >= 1e-12 * rows**2:
            break
        a += (cc * by_slope - zc * by_shift) / size
        b += (zz * by_shift - zc * by_slope) / size
    return NAN


def calibration_intercept(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of calibration in the large, by Newton's method from that of all rows."""
    present, probability = checked(truth, values)
    value, start = (
        calibration.logit(probability),
        calibrated.calibration_intercept(present, probability),
    )
    truly = present.astype(np.float64)

    def _of(times: np.ndarray) -> float:
        weight = times[patient]
        drawn, shift = weight.astype(np.float64), start
        positives, rows = _dot(drawn, truly), drawn.sum()
        if not 0 < positives < rows:
            return NAN
        for _ in range(STEPS):
            p = calibration.sigmoid(value + shift)
            step = (positives - _dot(drawn, p)) / _dot(drawn, p * (1 - p))
            shift += step
            if abs(step) < 1e-9:  # the error left is of its square
                return float(shift)
        listed = np.repeat(np.arange(value.size), weight)
        return calibrated.calibration_intercept(present[listed], probability[listed])

    return Counted(_of)


def macro(
    form: Form, truth: np.ndarray, score: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of `hilum.statistics.metrics.discrimination.macro`, arrays as there."""
    each = [
        form(truth[known, column], score[known, column], patient[known], patients)
        for column, known in enumerate(~np.isnan(truth).T)
    ]
    return Counted(lambda times: float(np.mean([_value(one, times) for one in each])))


def _value(form: Linear | Counted, times: np.ndarray) -> float:
    if isinstance(form, Counted):
        return form.of(times)
    return form.finish(times.astype(np.float64) @ form.sums)


def micro(
    form: Form, truth: np.ndarray, score: np.ndarray, patient: np.ndarray, patients: int
) -> Linear | Counted:
    """Return the form of `hilum.statistics.metrics.discrimination.micro`, arrays as there."""
    known = ~np.isnan(truth)
    owner = np.broadcast_to(patient[:, None], truth.shape)[known]
    return form(truth[known], score[known], owner, patients)


OF_METRIC: dict[str, Form] = {
    "auroc": auroc,
    "average_precision": average_precision,
    "brier": brier,
    "expected_calibration_error": expected_calibration_error,
    "calibration_slope": calibration_slope,
    "calibration_intercept": calibration_intercept,
}
