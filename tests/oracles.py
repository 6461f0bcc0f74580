"""Slow, plain answers to check the fast ones against: loops over pairs, rows and pixels, without
NumPy.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

NAN = math.nan


def overlap(truth: Sequence[Sequence[bool]], found: Sequence[Sequence[bool]]) -> dict[str, float]:
    """Dice, IoU, precision and recall of two masks by sets of (row, column)."""
    inside = {
        (row, column)
        for row, line in enumerate(truth)
        for column, value in enumerate(line)
        if value
    }
    called = {
        (row, column)
        for row, line in enumerate(found)
        for column, value in enumerate(line)
        if value
    }
    both = len(inside & called)
    return {
        "dice": share(2 * both, len(inside) + len(called)),
        "iou": share(both, len(inside | called)),
        "precision": share(both, len(called)),
        "recall": share(both, len(inside)),
    }


def auroc(truth: Sequence[int], score: Sequence[float]) -> float:
    """The fraction of positive-negative pairs in the right order, a tie counting one half."""
    pairs = [
        (p, n)
        for p, is_p in zip(score, truth, strict=True)
        if is_p
        for n, is_q in zip(score, truth, strict=True)
        if not is_q
    ]
    return share(sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs), len(pairs))


def average_precision(truth: Sequence[int], score: Sequence[float]) -> float:
    """Sum over falling thresholds of precision times the recall gained; nan without
    both classes.
    """
    if len(set(truth)) < 2:
        return NAN
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        figures = at_threshold(truth, score, threshold)
        total += figures["ppv"] * (figures["sensitivity"] - recall_before)
        recall_before = figures["sensitivity"]
    return total


def at_threshold(
    truth: Sequence[int], score: Sequence[float], threshold: float
) -> dict[str, float]:
    """Sensitivity, specificity, predictive values, F1 and accuracies, positive being score >=
    threshold.
    """
    rows = [
        (bool(is_positive), value >= threshold)
        for is_positive, value in zip(truth, score, strict=True)
    ]
    tp, fp, fn, tn = (
        rows.count(kind) for kind in ((True, True), (False, True), (True, False), (False, False))
    )
    return {
        "sensitivity": share(tp, tp + fn),
        "specificity": share(tn, tn + fp),
        "ppv": share(tp, tp + fp),
        "npv": share(tn, tn + fn),
        "f1": share(2 * tp, 2 * tp + fp + fn),
        "accuracy": share(tp + tn, len(rows)),
        "balanced_accuracy": (share(tp, tp + fn) + share(tn, tn + fp)) / 2,
    }


def bootstrap(
    statistic: Callable[[list[int]], float],
    patients: Sequence[str],
    resamples: int,
    confidence: float,
    seed: int,
) -> tuple[float, float, int]:
    """(low, high, undefined) of the percentile bootstrap over patients, with Python's own
    generator.
    """
    generator = random.Random(seed)
    names = list(dict.fromkeys(patients))
    rows_of = {name: [row for row, owner in enumerate(patients) if owner == name] for name in names}
    found = []
    for _ in range(resamples):
        rows = [row for name in generator.choices(names, k=len(names)) for row in rows_of[name]]
        found.append(statistic(rows))
    defined = sorted(value for value in found if not math.isnan(value))
    tail = (1 - confidence) / 2
    return quantile(defined, tail), quantile(defined, 1 - tail), resamples - len(defined)


def quantile(rising: Sequence[float], level: float) -> float:
    """Linear interpolation between the two nearest of sorted values."""
    place = level * (len(rising) - 1)
    before = math.floor(place)
    after = min(before + 1, len(rising) - 1)
    return rising[before] + (place - before) * (rising[after] - rising[before])


def share(part: float, whole: float) -> float:
    return part / whole if whole else NAN


def placement(value: float, others: Sequence[float], *, above: bool) -> float:
    """The fraction of `others` that a value lies above (or below), a tie counting one half."""
    return share(
        sum(
            1.0 if (value > other if above else value < other) else 0.5 if value == other else 0.0
            for other in others
        ),
        len(others),
    )


def area_covariance(truth: Sequence[int], first: Sequence[float], second: Sequence[float]) -> float:
    """DeLong's covariance of two areas on the same rows; with one score twice, its variance."""
    positives, negatives = (
        [row for row, state in enumerate(truth) if state == wanted] for wanted in (1, 0)
    )
    parts = []
    for rows, others, above in ((positives, negatives, True), (negatives, positives, False)):
        placed = [
            [placement(score[row], [score[other] for other in others], above=above) for row in rows]
            for score in (first, second)
        ]
        means = [sum(of) / len(of) for of in placed]
        products = [
            (one - means[0]) * (other - means[1]) for one, other in zip(*placed, strict=True)
        ]
        parts.append(sum(products) / (len(rows) - 1) / len(rows))
    return sum(parts)


def calibration_error(
    truth: Sequence[int], probability: Sequence[float], bins: Sequence[Sequence[int]]
) -> float:
    """Expected calibration error over bins given as lists of rows."""
    gaps = [abs(sum(probability[row] - truth[row] for row in rows)) for rows in bins]
    return sum(gaps) / len(truth)


def mcnemar(first_only: int, second_only: int) -> float:
    """Two-sided exact chance of a split at least as uneven, each discordant row falling either way
    with a half.
    """
    count = first_only + second_only
    if not count:
        return 1.0
    tail = sum(math.comb(count, k) for k in range(min(first_only, second_only) + 1)) / 2**count
    return min(1.0, 2 * tail)
