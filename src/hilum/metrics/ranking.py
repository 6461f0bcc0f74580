"""How well a score ranks the present above the absent, and what a threshold on it does.

`truth` is a sequence (rows,) of 0 and 1 (numbers or booleans), `score` a sequence (rows,) of finite numbers on any
scale, higher for present. A row is called positive where score >= threshold. A row may occur more than once, as in a
resample. Missing values are the caller's to leave out: a nan, an infinite score or another truth raises `ValueError`.

Undefined is nan: `METRICS` and `youden_threshold` where a class has no row, a ratio of `METRICS_AT` where its
denominator is 0.

Sources: Hanley and McNeil, Radiology 143:29 (1982), for the area as a probability, ties counting one half; Youden,
Cancer 3:32 (1950); Manning, Raghavan and Schütze, "Introduction to Information Retrieval" (2008), section 8.4, for
average precision, here with rows of one score taken in one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Values = Sequence[float] | np.ndarray


def auroc(truth: Values, score: Values) -> float:
    """Area under the ROC curve: the chance that a positive row scores above a negative one, ties counting one half."""
    present, score = _checked(truth, score)
    positive, negative = score[present], np.sort(score[~present])
    below = np.searchsorted(negative, positive, side="left").sum()
    not_above = np.searchsorted(negative, positive, side="right").sum()
    return _ratio(below + not_above, 2 * positive.size * negative.size)


def average_precision(truth: Values, score: Values) -> float:
    """Precision at each distinct score, weighted by the recall gained there. Chance level is the prevalence."""
    called = _called(truth, score)
    if not called.positives or not called.negatives:
        return float("nan")
    gained = np.diff(called.true, prepend=0) / called.positives
    return float(np.sum(gained * called.true / (called.true + called.false)))


def roc_curve(truth: Values, score: Values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(false-positive rate, sensitivity, threshold), a point for each distinct score, highest first.

    The point (0, 0) at threshold inf, where nothing is called positive, comes before them. The rate of a class without
    rows is nan throughout.
    """
    called = _called(truth, score)
    true, false = (np.concatenate([[0], count]) for count in (called.true, called.false))
    thresholds = np.concatenate([[np.inf], called.thresholds])
    return _ratios(false, called.negatives), _ratios(true, called.positives), thresholds


def precision_recall_curve(truth: Values, score: Values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(precision, recall, threshold), a point for each distinct score, highest first, so that recall rises.

    There is no point at recall 0 unless a score gives one: where nothing is called positive, precision is undefined.
    Recall is nan throughout where there is no positive row.
    """
    called = _called(truth, score)
    return _ratios(called.true, called.true + called.false), _ratios(called.true, called.positives), called.thresholds


def youden_threshold(truth: Values, score: Values) -> float:
    """The threshold with the largest sensitivity + specificity - 1; of equals, the one with the higher sensitivity.

    It lies midway between the lowest score called positive and the next one below, so that no row it was chosen on sits
    on the edge, where the last bit of a score would decide. Where everything is best called positive it is the lowest
    score. Choose it on other rows than it is judged on.
    """
    called = _called(truth, score)
    if not called.positives or not called.negatives:
        return float("nan")
    gain = called.true * called.negatives - called.false * called.positives  # in integers, so that equals are equal
    best = gain.size - 1 - int(np.argmax(gain[::-1]))
    lowest = float(called.thresholds[best])
    if best + 1 == gain.size:
        return lowest
    below = float(called.thresholds[best + 1])
    middle = below / 2 + lowest / 2
    return middle if below < middle <= lowest else lowest  # no number lies between two neighbouring floats


def sensitivity(truth: Values, score: Values, threshold: float) -> float:
    """The share of the positive rows that are called positive; recall. nan without positive rows."""
    rows = _confusion(truth, score, threshold)
    return _ratio(rows.true_positive, rows.true_positive + rows.false_negative)


def specificity(truth: Values, score: Values, threshold: float) -> float:
    """The share of the negative rows that are called negative. nan without negative rows."""
    rows = _confusion(truth, score, threshold)
    return _ratio(rows.true_negative, rows.true_negative + rows.false_positive)


def ppv(truth: Values, score: Values, threshold: float) -> float:
    """Positive predictive value, precision: the share of rows called positive that are positive. At this prevalence."""
    rows = _confusion(truth, score, threshold)
    return _ratio(rows.true_positive, rows.true_positive + rows.false_positive)


def npv(truth: Values, score: Values, threshold: float) -> float:
    """Negative predictive value: the share of the rows called negative that are negative. At this prevalence."""
    rows = _confusion(truth, score, threshold)
    return _ratio(rows.true_negative, rows.true_negative + rows.false_negative)


def f1(truth: Values, score: Values, threshold: float) -> float:
    """Harmonic mean of sensitivity and positive predictive value. nan where no row is positive or called positive."""
    rows = _confusion(truth, score, threshold)
    return _ratio(2 * rows.true_positive, 2 * rows.true_positive + rows.false_positive + rows.false_negative)


class _Confusion(NamedTuple):
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int


class _Called(NamedTuple):
    """Rows of each class called positive at each distinct score (`thresholds`, falling), and rows of each class."""

    true: np.ndarray
    false: np.ndarray
    thresholds: np.ndarray
    positives: int
    negatives: int


def _confusion(truth: Values, score: Values, threshold: float) -> _Confusion:
    present, score = _checked(truth, score)
    if np.isnan(threshold):
        raise ValueError(
            "the threshold is nan: it was chosen on rows of one class; leave out the metrics that need one"
        )
    called = score >= threshold
    true_positive = int(np.count_nonzero(called & present))
    positive, called_positive = int(np.count_nonzero(present)), int(np.count_nonzero(called))
    either = positive + called_positive - true_positive
    return _Confusion(true_positive, called_positive - true_positive, positive - true_positive, present.size - either)


def _called(truth: Values, score: Values) -> _Called:
    present, score = _checked(truth, score)
    order = np.argsort(-score)
    present, score = present[order], score[order]
    # the last row of each run of equal scores
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: score.size])
    true = np.cumsum(present)[last]
    positives = int(np.count_nonzero(present))
    return _Called(true, last + 1 - true, score[last], positives, present.size - positives)


def _checked(truth: Values, score: Values) -> tuple[np.ndarray, np.ndarray]:
    """Truth as booleans and score as float64, both (rows,)."""
    truth, score = np.asarray(truth), np.asarray(score, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != score.shape:
        raise ValueError(
            f"truth and score must be equally long lists of numbers, got shapes {truth.shape} and {score.shape}"
        )
    present = truth == 1
    if not (present | (truth == 0)).all():
        others = sorted({str(value) for value in truth.tolist() if value not in (0, 1)})
        raise ValueError(f"truth must be 0 or 1 in every row, got {', '.join(others[:5])}")
    finite = np.count_nonzero(np.isfinite(score))
    if finite < score.size:
        raise ValueError(
            f"score must be finite in every row, got {score.size - finite} nan or infinite of {score.size}"
        )
    return present, score


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else float("nan")


def _ratios(part: np.ndarray, whole: np.ndarray | int) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # 0 / 0 is the nan that the module promises
        return part / whole


METRICS = {"auroc": auroc, "average_precision": average_precision}
METRICS_AT = {"sensitivity": sensitivity, "specificity": specificity, "ppv": ppv, "npv": npv, "f1": f1}
