"""ROC curve, precision-recall curve and score histogram of a scored task's test part."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from markupsafe import Markup

from hilum.annotations.vocabulary import State
from hilum.drawing import charts
from hilum.statistics.metrics import discrimination


class Calls(NamedTuple):
    """The calls at one threshold and the truth, (rows,) each, and the colour to draw them in."""

    name: str
    truth: np.ndarray
    called: np.ndarray
    colour: int


def values(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return truth (0 or 1) and score, (rows,) each."""
    return rows["state"].to_numpy(), rows["score"].to_numpy()


def _both_classes(rows: pl.DataFrame) -> bool:
    return rows["state"].n_unique() == 2


def _transferred(test: pl.DataFrame) -> list[Calls]:
    """Return the calls at the transferred threshold; none where no threshold was chosen."""
    called = test.filter(pl.col("called").is_not_nan())
    if not called.height:
        return []
    truth, calls = called["state"].to_numpy(), called["called"].to_numpy()
    return [Calls("transferred threshold", truth, calls, 1)]


def _reoptimised(test: pl.DataFrame) -> Calls:
    """Return the calls at the threshold that is best on the test part itself."""
    truth, score = values(test)
    called = (score >= discrimination.youden_threshold(truth, score)).astype(float)
    return Calls("re-optimised on test", truth, called, 2)


def roc(test: pl.DataFrame, tune: pl.DataFrame) -> Markup | None:
    """Draw the ROC curves of tune and test; None where the test part lacks a class."""
    if not _both_classes(test):
        return None
    lines = [charts.Line("chance", (0, 1), (0, 1), colour=2, dashed=True)]
    for name, rows in (("tune", tune), ("test", test)):
        if not _both_classes(rows):
            continue
        false, true, _ = discrimination.roc_curve(*values(rows))
        label = f"{name}, AUROC {discrimination.auroc(*values(rows)):.3f}"
        faint = name == "tune"
        lines.append(
            charts.Line(label, false.tolist(), true.tolist(), colour=2 * faint, faint=faint)
        )
    points = []
    for name, truth, called, colour in (*_transferred(test), _reoptimised(test)):
        sensitivity = discrimination.sensitivity(truth, called, 0.5)
        specificity = discrimination.specificity(truth, called, 0.5)
        if not np.isnan(sensitivity + specificity):
            label = f"{name}: sensitivity {sensitivity:.3f}, specificity {specificity:.3f}"
            points.append(charts.Point(label, 1 - specificity, sensitivity, colour))
    described = "; ".join(one.name for one in (lines[-1], *points))
    return charts.unit_square(
        lines[::-1],
        points,
        x="1 − specificity (fraction of the absent called positive)",
        y="Sensitivity",
        alt_text=f"ROC curve of the test part. {described}.",
    )


def precision_recall(test: pl.DataFrame, tune: pl.DataFrame) -> Markup | None:
    """Draw the precision-recall curves of tune and test; None where the test part lacks a class."""
    if not _both_classes(test):
        return None
    prevalence = float(values(test)[0].mean())
    chance = f"chance: the prevalence, {prevalence:.3f}"
    lines = [charts.Line(chance, (0, 1), (prevalence, prevalence), colour=2, dashed=True)]
    for name, rows in (("tune", tune), ("test", test)):
        if not _both_classes(rows):
            continue
        precision, recall, _ = discrimination.precision_recall_curve(*values(rows))
        # Steps: average precision counts the precision at a score for all recall gained there.
        stairs = np.repeat(np.concatenate([[0.0], recall]), 2)[1:-1].tolist()
        average = discrimination.average_precision(*values(rows))
        label, faint = f"{name}, average precision {average:.3f}", name == "tune"
        lines.append(
            charts.Line(
                label, stairs, np.repeat(precision, 2).tolist(), colour=2 * faint, faint=faint
            )
        )
    points = []
    for name, truth, called, colour in _transferred(test):
        ppv = discrimination.ppv(truth, called, 0.5)
        recall = discrimination.sensitivity(truth, called, 0.5)
        if not np.isnan(ppv + recall):
            label = f"{name}: PPV {ppv:.3f}, recall {recall:.3f}"
            points.append(charts.Point(label, recall, ppv, colour=colour))
    return charts.unit_square(
        lines[::-1],
        points,
        x="Recall (sensitivity)",
        y="Precision (PPV)",
        alt_text="Precision-recall curve of the test part. "
        f"{lines[-1].name}; prevalence {prevalence:.3f}.",
    )


def histogram(test: pl.DataFrame, threshold: float | None, finding: str) -> Markup:
    """Draw the scores of the test part by label, with the threshold where there is one."""
    states = {f"{finding} present": State.PRESENT, f"{finding} absent": State.ABSENT}
    groups = {
        label: test.filter(pl.col("state") == state)["score"].to_numpy()
        for label, state in states.items()
    }
    medians = "; ".join(
        f"{label}: median score {np.median(scores):.3g}"
        for label, scores in groups.items()
        if scores.size
    )
    return charts.histograms(
        groups,
        x="Score",
        y="Images",
        alt_text=f"Histograms of the score in the test part. {medians}.",
        mark=None if threshold is None else (threshold, "threshold"),
    )
