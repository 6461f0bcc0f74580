"""Metrics of a resample from how often each patient was drawn, for `hilum.statistics.bootstrap`.

A resample of 250,000 rows need not be sorted again: rows are sorted once, and a resample only
changes how often each counts (`hilum.statistics._ranked_rows`). Every function takes `truth`
(rows,) of 0 and 1, `values` (rows,) of finite numbers, `patient` (rows,), the number of each row's
patient, and how many `patients` there are, and returns the metric of the same name in a form of the
bootstrap.

Against the metric on the listed rows: counts and the AUROC agree to the last bit; what sums
fractions (average precision, Brier, calibration error, risk) to 1e-12; slope and intercept of a
calibration to 1e-8, see `hilum.statistics._weighted_logistic`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from hilum.statistics import calibration
from hilum.statistics._ranked_rows import RankedRows
from hilum.statistics._weighted_logistic import Intercept, Slope, dot
from hilum.statistics.bootstrap import Counted, Linear
from hilum.statistics.metrics import calibration as calibrated
from hilum.statistics.metrics._validation import checked, ratio
from hilum.statistics.metrics.discrimination import Confusion

NAN = float("nan")
_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
Form = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Linear | Counted]


def _each(of: Callable[[np.ndarray], float]) -> Counted:
    """Return the form of a function of how often each patient is drawn in one resample."""
    return Counted(lambda block: np.array([of(times) for times in block]))


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
    ranked, sorted_negative = RankedRows.of(patient[~present][negative]), score[~present][negative]
    positive = np.argsort(score[present], kind="stable")
    owner, sorted_positive = patient[present][positive], score[present][positive]
    first, last = (np.searchsorted(sorted_negative, sorted_positive, side) for side in _SIDES)
    below, alike = ranked.places(first), np.array_equal(first, last)
    not_above = below if alike else ranked.places(last)

    def _of(times: np.ndarray) -> float:
        drawn, weight = ranked.drawn(times), times[owner].astype(np.int64)
        won = int(weight @ drawn.before(below))
        won += won if alike else int(weight @ drawn.before(not_above))
        return ratio(won, 2 * int(weight.sum()) * drawn.total)

    return _each(_of)


def average_precision(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of average precision: only scores of a positive row add to it."""
    present, score = checked(truth, values)
    if not present.any():
        return _each(lambda times: NAN)
    order = np.argsort(-score, kind="stable")
    owner, descending, present = patient[order], -score[order], present[order]
    ranked, positive_owner = RankedRows.of(owner), owner[present]
    steps, begins = np.unique(descending[present], return_index=True)
    # How many rows are called where the threshold is the score of that step.
    called = ranked.places(np.searchsorted(descending, steps, side="right"))

    def _of(times: np.ndarray) -> float:
        drawn, weight = ranked.drawn(times), times[positive_owner]
        weight = weight if steps.size == weight.size else np.add.reduceat(weight, begins)
        true = np.cumsum(weight)
        if not true[-1] or true[-1] == drawn.total:
            return NAN
        gained = weight / true[-1] * true
        return float(np.sum(gained / np.maximum(drawn.before(called), 1)))

    return _each(_of)


def coverage_within(
    certainty: np.ndarray, error: np.ndarray, patient: np.ndarray, patients: int, target: float
) -> Counted:
    """Return the form of `hilum.statistics.selective.coverage_at_risk`.

    The risk falls from one wrong row to the next, so it is least where the next one is not yet
    called.
    """
    curve = _Curve.of(certainty, error, patient)
    new = np.flatnonzero(np.diff(curve.wrong, prepend=0))  # the certainties with a wrong row
    before = np.concatenate([[0], curve.called])[np.append(new, len(curve.called))]
    places, wrong = curve.ranked.places(before), np.append(0, curve.wrong[new])

    def _of(times: np.ndarray) -> float:
        called = curve.ranked.drawn(times).before(places)
        risk = curve.errors(times)[wrong] / np.maximum(called, 1)
        return ratio(int(called[risk <= target].max(initial=0)), int(called[-1]))

    return _each(_of)


def mean_risk(
    certainty: np.ndarray, error: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of `hilum.statistics.selective.mean_risk`."""
    curve = _Curve.of(certainty, error, patient)
    places = curve.ranked.places(curve.called)

    def _of(times: np.ndarray) -> float:
        drawn = curve.ranked.drawn(times)
        called, wrong = drawn.before(places), curve.errors(times)[curve.wrong]
        risk = wrong / np.maximum(called, 1)
        risk[1:] *= called[1:] - called[:-1]
        risk[:1] *= called[:1]
        return ratio(float(risk.sum()), drawn.total)

    return _each(_of)


class _Curve(NamedTuple):
    """Rows by falling certainty; of each certainty the rows `called` until it, and the `wrong`."""

    ranked: RankedRows
    called: np.ndarray
    wrong: np.ndarray
    wrong_owner: np.ndarray

    @classmethod
    def of(cls, certainty: np.ndarray, error: np.ndarray, patient: np.ndarray) -> _Curve:
        order = np.argsort(-certainty, kind="stable")
        owner, descending, is_wrong = patient[order], certainty[order], error[order] > 0
        last = np.append(descending[1:] != descending[:-1], True)[: descending.size]
        called = np.flatnonzero(last) + 1
        return cls(RankedRows.of(owner), called, np.cumsum(is_wrong)[last], owner[is_wrong])

    def errors(self, times: np.ndarray) -> np.ndarray:
        """Return how many wrong rows are drawn before each of them, and at last in all."""
        return np.concatenate([[0], np.cumsum(times[self.wrong_owner])])


def expected_calibration_error(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of the calibration error over bins of equal mass.

    The sums of a resample over the bins of all rows are known from its patients. Of its own bins
    they differ by the few rows between the ends of the one and of the other.
    """
    present, probability = checked(truth, values)
    order = np.argsort(probability, kind="stable")
    owner, rising, truly = patient[order], probability[order], present[order].astype(np.float64)
    ranked, bins = RankedRows.of(owner), calibrated.MOST_BINS
    first = np.flatnonzero(np.append(True, rising[1:] != rising[:-1])[: rising.size])
    of_tie = np.append(first, rising.size)  # where each probability begins, and the end
    tie = np.repeat(np.arange(first.size), np.diff(of_tie))
    ends = rising.size * np.arange(bins + 1) // bins
    bin_of_row = np.repeat(np.arange(bins), np.diff(ends))
    by_bin = [
        np.bincount(bin_of_row + bins * owner, one, bins * patients).reshape(patients, bins)
        for one in (rising, truly)
    ]

    def _of(times: np.ndarray, until: np.ndarray) -> float:
        drawn = ranked.drawn(times)
        if drawn.total < bins * calibrated.ROWS:
            rows = np.repeat(np.arange(patient.size), times[patient])
            return calibrated.expected_calibration_error(present[rows], probability[rows])
        # Twice the mean rank of each distinct probability decides its bin.
        sought = 2 * drawn.total * np.arange(1, bins) / bins
        row = drawn.first_reaching((sought + 1) / 2)
        begin, end = of_tie[tie[row]], of_tie[tie[row] + 1]
        before_begin, before_end = (drawn.before(ranked.places(one)) for one in (begin, end))
        inside = before_begin + before_end - 1 >= sought
        count = np.where(inside, before_begin, before_end)
        edges = np.where(inside, begin, end)
        for at, (edge, nominal) in enumerate(zip(edges, ends[1:-1], strict=True)):
            rows = slice(min(edge, nominal), max(edge, nominal))
            weight = times[owner[rows]].astype(np.float64)
            sign = 1.0 if edge > nominal else -1.0
            until[0, at] += sign * dot(weight, rising[rows])
            until[1, at] += sign * dot(weight, truly[rows])
        sums = np.diff([*until, np.append(count, drawn.total)], axis=1, prepend=0)
        return calibrated.error_of_bins(sums.T)

    def _of_block(block: np.ndarray) -> np.ndarray:
        drawn = block.astype(np.float64)
        until = np.stack([np.cumsum(drawn @ one, axis=1) for one in by_bin], axis=1)
        return np.array([_of(*one) for one in zip(block, until, strict=True)])

    return Counted(_of_block)


def calibration_slope(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of the slope."""
    present, probability = checked(truth, values)
    return Counted(Slope.of(calibration.logit(probability), present, patient, patients))


def calibration_intercept(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of calibration in the large."""
    present, probability = checked(truth, values)
    return Counted(Intercept.of(probability, present, patient, patients))


def macro(
    form: Form, truth: np.ndarray, score: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of `hilum.statistics.metrics.discrimination.macro`, arrays as there."""
    each = [
        form(truth[known, column], score[known, column], patient[known], patients)
        for column, known in enumerate(~np.isnan(truth).T)
    ]
    return Counted(lambda block: np.mean([_values(one, block) for one in each], axis=0))


def _values(form: Linear | Counted, block: np.ndarray) -> np.ndarray:
    if isinstance(form, Counted):
        return form.of(block)
    return np.array([form.finish(of) for of in block.astype(np.float64) @ form.sums])


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
