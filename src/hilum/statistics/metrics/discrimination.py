"""Discrimination: how well a score ranks positive above negative rows, and thresholds on it.

`truth` is a sequence (rows,) of 0 and 1 (numbers or booleans), `score` a sequence (rows,) of finite
numbers on any scale, higher for present. A row is called positive where score >= threshold. A row
may occur more than once, as in a resample. The caller leaves out missing values: nan, an infinite
score or another truth raises `ValueError`.

Undefined is nan: `METRICS` and `youden_threshold` where a class has no row, a ratio of `METRICS_AT`
where its denominator is 0. `macro` and `micro` take several findings at once, and there alone a
truth may be missing (nan).

Sources: Hanley and McNeil, Radiology 143:29 (1982), for the area as a probability, ties counting
one half; Youden, Cancer 3:32 (1950); Manning, Raghavan and Schütze, "Introduction to Information
Retrieval" (2008), section 8.4, for average precision, here with rows of equal score taken in one
step; Altman and Bland, BMJ 309:102 (1994), for predictive values at another prevalence; Brodersen
et al., ICPR 2010, for balanced accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hilum.statistics.metrics._validation import Values, checked, ratio, ratios


def auroc(truth: Values, score: Values) -> float:
    """Return the area under the ROC curve.

    It is the probability that a positive row scores above a negative one, ties counting one half.
    """
    present, score = checked(truth, score)
    positive, negative = score[present], np.sort(score[~present])
    below = np.searchsorted(negative, positive, side="left").sum()
    not_above = np.searchsorted(negative, positive, side="right").sum()
    return ratio(below + not_above, 2 * positive.size * negative.size)


def average_precision(truth: Values, score: Values) -> float:
    """Return precision at each distinct score, weighted by the recall gained there.

    Chance level is the prevalence.
    """
    called = _called(truth, score)
    if not called.positives or not called.negatives:
        return float("nan")
    gained = np.diff(called.true, prepend=0) / called.positives
    return float(np.sum(gained * called.true / (called.true + called.false)))


def roc_curve(truth: Values, score: Values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (false-positive rate, sensitivity, threshold), a point for each distinct score.

    Thresholds fall. The point (0, 0) at threshold inf, where nothing is called positive, comes
    first. The rate of a class without rows is nan throughout.
    """
    called = _called(truth, score)
    true, false = (np.concatenate([[0], count]) for count in (called.true, called.false))
    thresholds = np.concatenate([[np.inf], called.thresholds])
    return ratios(false, called.negatives), ratios(true, called.positives), thresholds


def precision_recall_curve(
    truth: Values, score: Values
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (precision, recall, threshold), a point for each distinct score.

    Thresholds fall, so recall rises. There is no point at recall 0 unless a score gives one: where
    nothing is called positive, precision is undefined. Recall is nan throughout where there is no
    positive row.
    """
    called = _called(truth, score)
    return (
        ratios(called.true, called.true + called.false),
        ratios(called.true, called.positives),
        called.thresholds,
    )


def youden_threshold(truth: Values, score: Values) -> float:
    """Return the threshold with the largest sensitivity + specificity - 1.

    Of equals, the one with the higher sensitivity. It is midway between the lowest score called
    positive and the next one below, so that rounding cannot change the call of a row it was chosen
    on. Where everything is best called positive it is the lowest score. Evaluate it on rows other
    than those it was chosen on.
    """
    called = _called(truth, score)
    if not called.positives or not called.negatives:
        return float("nan")
    # In integers, so that equals compare equal.
    gain = called.true * called.negatives - called.false * called.positives
    best = gain.size - 1 - int(np.argmax(gain[::-1]))
    lowest = float(called.thresholds[best])
    if best + 1 == gain.size:
        return lowest
    below = float(called.thresholds[best + 1])
    middle = below / 2 + lowest / 2
    # No float lies between two adjacent ones.
    return middle if below < middle <= lowest else lowest


def sensitivity(truth: Values, score: Values, threshold: float) -> float:
    """Return the fraction of positive rows called positive (recall); nan without positive rows."""
    return float(_sensitivity(confusion(truth, score, threshold)))


def specificity(truth: Values, score: Values, threshold: float) -> float:
    """Return the fraction of negative rows called negative; nan without negative rows."""
    return float(_specificity(confusion(truth, score, threshold)))


def ppv(truth: Values, score: Values, threshold: float) -> float:
    """Return the positive predictive value (precision), at the prevalence of these rows.

    The fraction of rows called positive that are positive.
    """
    return float(_ppv(confusion(truth, score, threshold)))


def npv(truth: Values, score: Values, threshold: float) -> float:
    """Return the negative predictive value, at the prevalence of these rows.

    The fraction of rows called negative that are negative.
    """
    return float(_npv(confusion(truth, score, threshold)))


def f1(truth: Values, score: Values, threshold: float) -> float:
    """Return the harmonic mean of sensitivity and positive predictive value.

    nan where no row is positive or called positive.
    """
    return float(_f1(confusion(truth, score, threshold)))


def accuracy(truth: Values, score: Values, threshold: float) -> float:
    """Return the fraction of rows called correctly.

    Always calling the more frequent class reaches the frequency of that class.
    """
    return float(_accuracy(confusion(truth, score, threshold)))


def balanced_accuracy(truth: Values, score: Values, threshold: float) -> float:
    """Return the mean of sensitivity and specificity; 0.5 is chance at any prevalence.

    nan where a class has no row.
    """
    return float(_balanced_accuracy(confusion(truth, score, threshold)))


def ppv_at(prevalence: float, sensitivity: float, specificity: float) -> float:
    """Return the positive predictive value at another `prevalence`, by Bayes' rule.

    nan where nothing is called positive.
    """
    return float(_ppv_at(prevalence, np.asarray(sensitivity), np.asarray(specificity)))


def npv_at(prevalence: float, sensitivity: float, specificity: float) -> float:
    """Return the negative predictive value at another `prevalence`, by Bayes' rule.

    nan where nothing is called negative.
    """
    return float(_npv_at(prevalence, np.asarray(sensitivity), np.asarray(specificity)))


def macro(
    metric: Callable[[np.ndarray, np.ndarray], float], truth: np.ndarray, score: np.ndarray
) -> float:
    """Return the macro average: the mean of `metric` over findings, with equal weights.

    `truth` and `score` are (rows, findings); an unknown truth is nan, and leaves its row out of
    that finding alone. nan where `metric` is undefined for any finding.
    """
    return float(
        np.mean(
            [
                metric(truth[known, column], score[known, column])
                for column, known in enumerate(~np.isnan(truth).T)
            ]
        )
    )


def micro(
    metric: Callable[[np.ndarray, np.ndarray], float], truth: np.ndarray, score: np.ndarray
) -> float:
    """Return the micro average: `metric` of all known cells of all findings pooled.

    Frequent findings weigh more. Arrays as in `macro`. Scores of different findings are compared
    with one another, so they must be on one scale.
    """
    known = ~np.isnan(truth)
    return metric(truth[known], score[known])


class Confusion(NamedTuple):
    """Rows by truth and call: whole numbers, each an array of one shape, as one a resample."""

    true_positive: np.ndarray
    false_positive: np.ndarray
    false_negative: np.ndarray
    true_negative: np.ndarray


class _Called(NamedTuple):
    """Rows called positive at each distinct score, by true class.

    `thresholds` falls; `true` and `false` count rows of each class; all (thresholds,).
    """

    true: np.ndarray
    false: np.ndarray
    thresholds: np.ndarray
    positives: int
    negatives: int


def _sensitivity(rows: Confusion) -> np.ndarray:
    return ratios(rows.true_positive, rows.true_positive + rows.false_negative)


def _specificity(rows: Confusion) -> np.ndarray:
    return ratios(rows.true_negative, rows.true_negative + rows.false_positive)


def _ppv(rows: Confusion) -> np.ndarray:
    return ratios(rows.true_positive, rows.true_positive + rows.false_positive)


def _npv(rows: Confusion) -> np.ndarray:
    return ratios(rows.true_negative, rows.true_negative + rows.false_negative)


def _f1(rows: Confusion) -> np.ndarray:
    return ratios(
        2 * rows.true_positive, 2 * rows.true_positive + rows.false_positive + rows.false_negative
    )


def _accuracy(rows: Confusion) -> np.ndarray:
    right = rows.true_positive + rows.true_negative
    return ratios(right, right + rows.false_positive + rows.false_negative)


def _balanced_accuracy(rows: Confusion) -> np.ndarray:
    return (_sensitivity(rows) + _specificity(rows)) / 2


def _ppv_at(prevalence: float, sensitivity: np.ndarray, specificity: np.ndarray) -> np.ndarray:
    right = _checked_prevalence(prevalence) * sensitivity
    return ratios(right, right + (1 - prevalence) * (1 - specificity))


def _npv_at(prevalence: float, sensitivity: np.ndarray, specificity: np.ndarray) -> np.ndarray:
    right = (1 - _checked_prevalence(prevalence)) * specificity
    return ratios(right, right + prevalence * (1 - sensitivity))


def confusion(truth: Values, score: Values, threshold: float) -> Confusion:
    """Count rows by truth and call. Raises `ValueError` for a threshold of nan."""
    present, score = checked(truth, score)
    if np.isnan(threshold):
        raise ValueError(
            "the threshold is nan: it was chosen on rows of one class; "
            "leave out the metrics that need one"
        )
    called = score >= threshold
    true_positive = int(np.count_nonzero(called & present))
    positive, called_positive = int(np.count_nonzero(present)), int(np.count_nonzero(called))
    either = positive + called_positive - true_positive
    counts = (
        true_positive,
        called_positive - true_positive,
        positive - true_positive,
        present.size - either,
    )
    return Confusion(*map(np.asarray, counts))


def _called(truth: Values, score: Values) -> _Called:
    present, score = checked(truth, score)
    order = np.argsort(-score)
    present, score = present[order], score[order]
    # The last row of each run of equal scores.
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: score.size])
    true = np.cumsum(present)[last]
    positives = int(np.count_nonzero(present))
    return _Called(true, last + 1 - true, score[last], positives, present.size - positives)


def _checked_prevalence(prevalence: float) -> float:
    if not 0 <= prevalence <= 1:
        raise ValueError(f"a prevalence is a fraction from 0 to 1, got {prevalence}")
    return prevalence


METRICS = {"auroc": auroc, "average_precision": average_precision}
METRICS_AT = {
    "sensitivity": sensitivity,
    "specificity": specificity,
    "ppv": ppv,
    "npv": npv,
    "f1": f1,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
}
# The same of counts, element by element.
OF_COUNTS: dict[str, Callable[[Confusion], np.ndarray]] = {
    "sensitivity": _sensitivity,
    "specificity": _specificity,
    "ppv": _ppv,
    "npv": _npv,
    "f1": _f1,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
}
# And at another prevalence.
OF_COUNTS_AT: dict[str, Callable[[float, Confusion], np.ndarray]] = {
    "ppv": lambda prevalence, rows: _ppv_at(prevalence, _sensitivity(rows), _specificity(rows)),
    "npv": lambda prevalence, rows: _npv_at(prevalence, _sensitivity(rows), _specificity(rows)),
}
