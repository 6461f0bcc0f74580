"""Metrics of a resample from how often each patient was drawn, for `hilum.statistics.bootstrap`.

A resample of 250,000 rows need not be sorted again: rows are sorted once, and a resample only
changes how often each counts. What is drawn between the rows on which a metric depends (such as the
positive ones) is summed for many resamples at once, by a sparse matrix of rows and their patients.
Every function takes `truth` (rows,) of 0 and 1, `values` (rows,) of finite numbers, `patient`
(rows,), the number of each row's patient, and how many `patients` there are, and returns the metric
of the same name in a form of the bootstrap.

Against the metric on the listed rows: counts and the AUROC agree to the last bit; what sums
fractions (average precision, Brier, calibration error, risk) to 1e-12; slope and intercept of a
calibration to 1e-8, see `hilum.statistics._weighted_logistic`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from hilum.statistics import calibration
from hilum.statistics._weighted_logistic import Intercept, Slope
from hilum.statistics.bootstrap import Counted, Linear
from hilum.statistics.metrics import calibration as calibrated
from hilum.statistics.metrics._validation import checked, ratio
from hilum.statistics.metrics.discrimination import Confusion

NAN = float("nan")
CELLS = 1 << 22  # of a table of rows and resamples that is held at a time
BLOCK = 256  # rows of the score's order that are summed as one where bins are sought
Form = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Linear | Counted]


def _drawn(
    patient: np.ndarray, ends: np.ndarray, patients: int, values: np.ndarray | None = None
) -> sparse.csr_array:
    """Return the matrix (ends, patients) that sums what is drawn of rows, or of `values` of them.

    Each sum is of the rows from the end before it to its own; `ends` does not fall.
    """
    last = int(ends[-1]) if len(ends) else 0
    data = np.ones(last, np.int32) if values is None else values[:last]
    begins = np.concatenate([[0], ends]).astype(np.int32)
    shape = (len(ends), patients)
    return sparse.csr_array((data, patient[:last].astype(np.int32), begins), shape=shape)


def _in_parts(of: Callable[[np.ndarray], np.ndarray], rows: int) -> Counted:
    """Return the form of `of`, which holds tables of so many rows, of some resamples at a time."""
    many = max(1, CELLS // max(rows, 1))

    def _of(times: np.ndarray) -> np.ndarray:
        parts = [times[:, at : at + many] for at in range(0, times.shape[1], many)]
        return np.concatenate([of(np.ascontiguousarray(part)) for part in parts])

    return Counted(_of)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `part / whole`, nan where `whole` is 0."""
    return np.divide(part, whole, out=np.full(len(whole), NAN), where=whole > 0)


def _undefined(times: np.ndarray) -> np.ndarray:
    return np.full(times.shape[1], NAN)


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
    positive, positive_owner = score[present], patient[present]
    order = np.argsort(score[~present], kind="stable")
    negative, owner = score[~present][order], patient[~present][order]
    # Negatives below a positive row, and those that are not above it: their mean counts ties half.
    below = np.concatenate(
        [np.searchsorted(negative, positive, side) for side in ("left", "right")]
    )
    ends, of_positive = np.unique(np.append(below, negative.size), return_inverse=True)
    by_end = np.argsort(of_positive[:-1], kind="stable")
    counted = np.cumsum(np.bincount(of_positive[:-1], minlength=ends.size))
    negatives = _drawn(owner, ends, patients)
    positives = _drawn(np.tile(positive_owner, 2)[by_end], counted, patients)

    def _of(times: np.ndarray) -> np.ndarray:
        until = np.cumsum(negatives @ times, axis=0, dtype=np.int32)
        weight = positives @ times  # each positive row twice
        won = np.einsum("ij,ij->j", until, weight, dtype=np.int64)
        return _ratio(won, weight.sum(axis=0, dtype=np.int64) * until[-1])

    return _in_parts(_of, ends.size)


def average_precision(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of average precision: only scores of a positive row add to it."""
    present, score = checked(truth, values)
    if not present.any():
        return Counted(_undefined)
    order = np.argsort(-score, kind="stable")
    owner, ranked, present = patient[order], score[order], present[order]
    steps, of_step = np.unique(-ranked[present], return_counts=True)
    # How many rows are called where the threshold is the score of that step; at last all.
    called = np.append(np.searchsorted(-ranked, steps, side="right"), ranked.size)
    every, positive = (
        _drawn(owner, called, patients),
        _drawn(owner[present], np.cumsum(of_step), patients),
    )

    def _of(times: np.ndarray) -> np.ndarray:
        until = np.cumsum(every @ times, axis=0, dtype=np.int32)
        weight = positive @ times
        true = np.cumsum(weight, axis=0, dtype=np.int32)
        positives = true[-1]
        gained = weight / np.maximum(positives, 1)
        gained *= true
        gained /= np.maximum(until[:-1], 1)
        found = gained.sum(axis=0)
        found[(positives == 0) | (positives == until[-1])] = NAN
        return found

    return _in_parts(_of, steps.size)


def coverage_within(
    certainty: np.ndarray, error: np.ndarray, patient: np.ndarray, patients: int, target: float
) -> Counted:
    """Return the form of `hilum.statistics.selective.coverage_at_risk`.

    The risk falls from one wrong row to the next, so it is least where the next one is not yet
    called.
    """
    curve = _Curve.of(certainty, error, patient, patients)

    def _of(times: np.ndarray) -> np.ndarray:
        called = np.cumsum(curve.until_wrong @ times, axis=0, dtype=np.int32)
        risk = curve.errors(times) / np.maximum(called, 1)
        most = np.where(risk <= target, called, 0).max(axis=0)
        return _ratio(most, called[-1])

    return _in_parts(_of, curve.until_wrong.shape[0])


def mean_risk(
    certainty: np.ndarray, error: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of `hilum.statistics.selective.mean_risk`."""
    curve = _Curve.of(certainty, error, patient, patients)

    def _of(times: np.ndarray) -> np.ndarray:
        drawn = curve.each @ times
        called = np.cumsum(drawn, axis=0, dtype=np.int32)
        gained = drawn / np.maximum(called, 1)
        # The risk is that of the wrong rows so far over the rows so far, from one to the next.
        begun = np.append(curve.first_wrong, len(gained))
        between = (
            np.add.reduceat(gained, curve.first_wrong, axis=0) if begun.size > 1 else gained[:0]
        )
        area = np.einsum("ij,ij->j", between, curve.errors(times)[1:])
        return _ratio(area, called[-1])

    return _in_parts(_of, curve.each.shape[0])


class _Curve(NamedTuple):
    """Rows by falling certainty, those of one certainty together.

    `each` sums what is drawn of each certainty; `until_wrong` of the rows before each certainty
    with a wrong row, and then before the end; `wrong` of the wrong rows of each such certainty,
    which are the rows `first_wrong` of `each`.
    """

    each: sparse.csr_array
    until_wrong: sparse.csr_array
    wrong: sparse.csr_array
    first_wrong: np.ndarray

    @classmethod
    def of(
        cls, certainty: np.ndarray, error: np.ndarray, patient: np.ndarray, patients: int
    ) -> _Curve:
        order = np.argsort(-certainty, kind="stable")
        owner, ranked, is_wrong = patient[order], certainty[order], error[order] > 0
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: ranked.size]) + 1
        wrong_until = np.concatenate([[0], np.cumsum(is_wrong)])[ends]
        first = np.flatnonzero(np.diff(wrong_until, prepend=0))
        before = np.concatenate([[0], ends])[first]
        return cls(
            _drawn(owner, ends, patients),
            _drawn(owner, np.append(before, ranked.size), patients),
            _drawn(owner[is_wrong], wrong_until[first], patients),
            first,
        )

    def errors(self, times: np.ndarray) -> np.ndarray:
        """Return how many wrong rows are called before the first of them, and after each."""
        return np.cumsum(
            np.concatenate([np.zeros((1, times.shape[1]), np.int32), self.wrong @ times]),
            axis=0,
            dtype=np.int32,
        )


def expected_calibration_error(
    truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int
) -> Counted:
    """Return the form of the calibration error over bins of equal mass.

    Where a bin ends is sought among blocks of rows, and then in that block.
    """
    present, probability = checked(truth, values)
    ranks = _Ranks.of(probability, present, patient, patients)
    fewest = calibrated.MOST_BINS * calibrated.ROWS  # rows of a resample with all of its bins

    def _of(times: np.ndarray) -> np.ndarray:
        drawn = ranks.drawn(times)
        total = drawn.until[0][-1]
        found = _undefined(times)
        for at in np.flatnonzero(total < fewest):
            rows = np.repeat(np.arange(patient.size), times[patient, at])
            found[at] = calibrated.expected_calibration_error(present[rows], probability[rows])
        many = np.flatnonzero(total >= fewest)
        edges = drawn.edges(calibrated.MOST_BINS)
        sums = np.diff(np.stack([drawn.before(edges, kind) for kind in range(3)], -1), axis=0)
        for at in many:
            rows_last = sums[:, at, [1, 2, 0]]
            found[at] = calibrated.error_of_bins(rows_last)
        return found

    return _in_parts(_of, -(-patient.size // BLOCK) * 3)


class _Ranks(NamedTuple):
    """Rows by rising probability: their patients, and sums over blocks of `BLOCK` rows.

    `weights` are 1, the probability and the truth of each row, float64 (3, rows); `blocks` sum
    what is drawn of them. `begins` and `ends` bound the rows of one probability.
    """

    owner: np.ndarray
    weights: np.ndarray
    blocks: list[sparse.csr_array]
    begins: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(
        cls, probability: np.ndarray, present: np.ndarray, patient: np.ndarray, patients: int
    ) -> _Ranks:
        order = np.argsort(probability, kind="stable")
        owner, ranked = patient[order], probability[order]
        weights = np.stack([np.ones(ranked.size), ranked, present[order].astype(np.float64)])
        bounds = np.append(np.arange(BLOCK, ranked.size, BLOCK), ranked.size)
        blocks = [_drawn(owner, bounds, patients, one) for one in weights]
        first = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])[: ranked.size])
        last = np.append(first[1:], ranked.size)
        times = last - first
        return cls(owner, weights, blocks, np.repeat(first, times), np.repeat(last, times))

    def drawn(self, times: np.ndarray) -> _DrawnRanks:
        """Return what resamples draw of the blocks."""
        drawn, none = times.astype(np.float64), np.zeros((1, times.shape[1]))
        until = [np.cumsum(np.concatenate([none, one @ drawn]), axis=0) for one in self.blocks]
        return _DrawnRanks(self, drawn, until)


class _DrawnRanks(NamedTuple):
    """What resamples draw: `until` are the sums before each block and at last of all rows."""

    ranks: _Ranks
    times: np.ndarray
    until: list[np.ndarray]

    def edges(self, bins: int) -> np.ndarray:
        """Return the first row of each bin, and at last the number of rows, (bins + 1, resamples).

        The mean rank of the rows of one probability decides their bin.
        """
        total, until = self.until[0][-1], self.until[0]
        rows, resamples = len(self.ranks.owner), len(total)
        found = np.zeros((bins + 1, resamples), np.int64)
        found[-1] = rows
        sought = 2 * total * np.arange(1, bins)[:, None] / bins
        # A mean rank is half the rows before and half those until it, less a half.
        block = np.stack([np.count_nonzero(2 * until - 1 < one, axis=0) for one in sought]) - 1
        block = np.clip(block, 0, len(until) - 2)
        row, inside = self._inside(block)
        reached = np.take_along_axis(until, block, 0)[..., None] + np.cumsum(inside, axis=-1)
        at = np.minimum(np.count_nonzero(2 * reached - 1 < sought[..., None], axis=-1), BLOCK - 1)
        row = np.minimum(row[..., 0] + at, rows - 1)
        begins, ends = self.ranks.begins[row], self.ranks.ends[row]
        twice_middle = self.before(begins, 0) + self.before(ends, 0) - 1
        found[1:-1] = np.where(twice_middle >= sought, begins, ends)
        return found

    def before(self, rows: np.ndarray, kind: int) -> np.ndarray:
        """Return the sums of a kind of weight over what is drawn before `rows`, as `rows`."""
        block = np.minimum(rows // BLOCK, len(self.until[kind]) - 2)
        row, inside = self._inside(block)
        counted = inside * self.ranks.weights[kind][np.minimum(row, len(self.ranks.owner) - 1)]
        return np.take_along_axis(self.until[kind], block, 0) + np.sum(
            counted, axis=-1, where=row < rows[..., None]
        )

    def _inside(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of blocks (edges, resamples), and how often each is drawn, 0 beyond."""
        row = block[..., None] * BLOCK + np.arange(BLOCK)
        held = np.minimum(row, len(self.ranks.owner) - 1)
        resample = np.arange(block.shape[1])[:, None]
        return row, self.times[self.ranks.owner[held], resample] * (row == held)


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
    return Counted(lambda times: np.mean([_values(one, times) for one in each], axis=0))


def _values(form: Linear | Counted, times: np.ndarray) -> np.ndarray:
    if isinstance(form, Counted):
        return form.of(times)
    return np.array([form.finish(of) for of in times.T.astype(np.float64) @ form.sums])


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
