"""Metrics of a resample from how often each patient was drawn, for `hilum.statistics.bootstrap`.

A resample of 250,000 rows need not be sorted again: rows are sorted once, and a resample only
changes how often each counts (`hilum.statistics._ranked_rows`). Of few rows many resamples are
computed at once, or their calls would take longer than the sums. Every function takes `truth`
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
from hilum.statistics._ranked_rows import RankedRows, parts
from hilum.statistics._weighted_logistic import Intercept, Slope
from hilum.statistics.bootstrap import Counted, Linear
from hilum.statistics.metrics import calibration as calibrated
from hilum.statistics.metrics._validation import checked, ratios
from hilum.statistics.metrics.discrimination import Confusion

NAN = float("nan")
_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
Form = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Linear | Counted]


def _counted(of: Callable[[np.ndarray], np.ndarray], rows: int) -> Counted:
    """Return the form of a function that draws up a table of resamples and so many rows."""
    return Counted(
        lambda block: np.concatenate([of(block[part]) for part in parts(len(block), rows)])
    )


def sums(patient: np.ndarray, patients: int, *columns: np.ndarray) -> np.ndarray:
    """Return the sum of each column (rows,) over the rows of each patient, (patients, columns)."""
    return np.column_stack([np.bincount(patient, one, patients) for one in columns])


def of_calls(finish: Callable[[Confusion], np.ndarray]) -> Form:
    """Return the form of a metric of the confusion of truth and calls of 0.0 and 1.0."""

    def _form(truth: np.ndarray, called: np.ndarray, patient: np.ndarray, patients: int) -> Linear:
        present, called = truth == 1, called >= 0.5
        kinds = (present & called, ~present & called, present & ~called, ~(present | called))
        return Linear(sums(patient, patients, *kinds), lambda totals: finish(Confusion(*totals.T)))

    return _form


def mean(values: np.ndarray, patient: np.ndarray, patients: int) -> Linear:
    """Return the form of the mean of `values`; nan without rows."""
    columns = sums(patient, patients, values, np.ones(values.size))
    return Linear(columns, lambda totals: ratios(totals[:, 0], totals[:, 1]))


def brier(truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int) -> Linear:
    """Return the form of `hilum.statistics.metrics.calibration.brier`."""
    return mean((values - truth) ** 2, patient, patients)


def auroc(truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int) -> Counted:
    """Return the form of the AUROC: of each positive row, the weight of the negatives below."""
    pairs = _pairs(truth, values, patient)
    return _counted(lambda times: ratios(*pairs(times)), len(truth))


def auroc_within(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of the AUROC over pairs of one group; `values` (rows, 2): score and group."""
    score, group = values.T
    each = [
        _pairs(truth[of], score[of], patient[of]) for of in (group == one for one in set(group))
    ]

    def _of(times: np.ndarray) -> np.ndarray:
        found = np.zeros((2, len(times)), np.int64)
        for pairs in each:
            found += pairs(times)
        return ratios(*found)

    return _counted(_of, len(truth))


def _pairs(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a function of times drawn: twice the pairs that are ranked rightly, and twice all.

    A tie counts one half; both int64 (resamples,).
    """
    present, score = checked(truth, values)
    negative = np.argsort(score[~present], kind="stable")
    ranked, sorted_negative = RankedRows.of(patient[~present][negative]), score[~present][negative]
    positive = np.argsort(score[present], kind="stable")
    owner, sorted_positive = patient[present][positive], score[present][positive]
    first, last = (np.searchsorted(sorted_negative, sorted_positive, side) for side in _SIDES)
    below, alike = ranked.places(first), np.array_equal(first, last)
    not_above = below if alike else ranked.places(last)

    def _of(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        drawn, weight = ranked.drawn(times), np.take(times, owner, axis=1).astype(np.int64)
        won = np.einsum("ij,ij->i", weight, drawn.before(below))
        won = 2 * won if alike else won + np.einsum("ij,ij->i", weight, drawn.before(not_above))
        return won, 2 * weight.sum(axis=1) * drawn.total

    return _of


def average_precision(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of average precision: only scores of a positive row add to it."""
    present, score = checked(truth, values)
    if not present.any():
        return Counted(lambda block: np.full(len(block), NAN))
    order = np.argsort(-score, kind="stable")
    owner, descending, present = patient[order], -score[order], present[order]
    ranked, positive_owner = RankedRows.of(owner), owner[present]
    steps, begins = np.unique(descending[present], return_index=True)
    # How many rows are called where the threshold is the score of that step.
    called = ranked.places(np.searchsorted(descending, steps, side="right"))

    def _of(times: np.ndarray) -> np.ndarray:
        drawn, weight = ranked.drawn(times), np.take(times, positive_owner, axis=1)
        if steps.size < weight.shape[1]:
            weight = np.add.reduceat(weight, begins, axis=1)
        true = np.cumsum(weight, axis=1)
        positives = true[:, -1]
        gained = weight / np.maximum(positives, 1)[:, None] * true
        found = np.sum(gained / np.maximum(drawn.before(called), 1), axis=1)
        return np.where((positives > 0) & (positives < drawn.total), found, NAN)

    return _counted(_of, len(truth))


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

    def _of(times: np.ndarray) -> np.ndarray:
        called = curve.ranked.drawn(times).before(places)
        risk = np.take(curve.errors(times), wrong, axis=1) / np.maximum(called, 1)
        return ratios(np.where(risk <= target, called, 0).max(axis=1), called[:, -1])

    return _counted(_of, certainty.size)


def mean_risk(
    certainty: np.ndarray, error: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of `hilum.statistics.selective.mean_risk`."""
    curve = _Curve.of(certainty, error, patient)
    places = curve.ranked.places(curve.called)

    def _of(times: np.ndarray) -> np.ndarray:
        drawn = curve.ranked.drawn(times)
        called, wrong = drawn.before(places), np.take(curve.errors(times), curve.wrong, axis=1)
        risk = wrong / np.maximum(called, 1)
        risk[:, 1:] *= called[:, 1:] - called[:, :-1]
        risk[:, :1] *= called[:, :1]
        return ratios(risk.sum(axis=1), drawn.total)

    return _counted(_of, certainty.size)


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
        """Return how many wrong rows are drawn before each of them, and at last in all.

        (resamples, wrong rows + 1).
        """
        found = np.zeros((len(times), self.wrong_owner.size + 1), np.int64)
        np.cumsum(np.take(times, self.wrong_owner, axis=1), axis=1, out=found[:, 1:])
        return found


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
    columns = np.stack([rising, truly])
    by_bin = np.hstack(
        [
            np.bincount(bin_of_row + bins * owner, one, bins * patients).reshape(patients, bins)
            for one in columns
        ]
    )
    rows_of = np.bincount(patient, minlength=patients)

    def _of(times: np.ndarray) -> np.ndarray:
        found = np.empty(len(times))
        few = times @ rows_of < bins * calibrated.ROWS
        for at in np.flatnonzero(few):
            rows = np.repeat(np.arange(patient.size), times[at, patient])
            found[at] = calibrated.expected_calibration_error(present[rows], probability[rows])
        found[~few] = calibrated.errors_of_bins(_sums_of_bins(times[~few]))
        return found

    def _sums_of_bins(times: np.ndarray) -> np.ndarray:
        """Return the sums of probability, truth and rows over the bins, (resamples, 3, bins)."""
        until = np.cumsum((times.astype(np.float64) @ by_bin).reshape(-1, 2, bins), axis=2)
        drawn = ranked.drawn(times)
        # Twice the mean rank of each distinct probability decides its bin.
        sought = 2 * drawn.total[:, None] * np.arange(1, bins) / bins
        row = drawn.first_reaching((sought + 1) / 2)
        begin, end = of_tie[tie[row]], of_tie[tie[row] + 1]
        before_begin, before_end = (drawn.before(ranked.places(one)) for one in (begin, end))
        inside = before_begin + before_end - 1 >= sought
        count, edges = np.where(inside, before_begin, before_end), np.where(inside, begin, end)
        # The rows between the ends, of all resamples in one list.
        lengths = np.abs(edges - ends[1:-1]).ravel()
        of_end = np.repeat(np.arange(lengths.size), lengths)
        firsts = np.minimum(edges, ends[1:-1]).ravel() - (np.cumsum(lengths) - lengths)
        rows = np.arange(of_end.size) + np.repeat(firsts, lengths)
        weight = times[of_end // (bins - 1), owner[rows]]
        sign = np.sign(edges - ends[1:-1])
        for at, column in enumerate(columns):
            between = np.bincount(of_end, weight * column[rows], lengths.size)
            until[:, at, :-1] += sign * between.reshape(sign.shape)
        counts = np.column_stack([count, drawn.total])[:, None]
        return np.diff(np.concatenate([until, counts], axis=1), axis=2, prepend=0)

    return _counted(_of, patient.size)


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
    return form.finish(block.astype(np.float64) @ form.sums)


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
