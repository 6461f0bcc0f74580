"""A scored task (finding or anomaly): figures with intervals, thresholds, subgroups, curves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import Markup

from hilum.annotations.vocabulary import State, name_of
from hilum.config import Evaluate
from hilum.drawing import charts
from hilum.errors import plural
from hilum.pipeline.evaluation.estimate import ALL, MACRO, MICRO
from hilum.pipeline.evaluation.measures import AT_PREVALENCE, REOPTIMISED, WITHIN_FOLDS
from hilum.pipeline.evaluation.transferred_scores import TransferredScores
from hilum.reporting import text
from hilum.reporting.context import Context
from hilum.reporting.sections import _calibration, _curves
from hilum.statistics import sample_size
from hilum.statistics.calibration import Fitted
from hilum.statistics.metrics import discrimination

OF_SUBGROUPS = ("auroc", "sensitivity", "specificity")
TRAITS = {"source": "source", "sex": "sex", "age": "age, years", "view": "view"}


@dataclass(frozen=True)
class FigureRow:
    """One metric of the test part, with the tune part's beside it."""

    term: text.Term
    test: str
    bar: Markup | str
    tune: str
    warning: str
    delong: str


@dataclass(frozen=True)
class ThresholdRow:
    """One metric at the transferred threshold, and at the best one of the test part itself."""

    name: str
    transferred: str
    reoptimised: str


@dataclass(frozen=True)
class Thresholds:
    """Figures at both thresholds, and the `transferred` and `reoptimised` threshold, as text."""

    rows: list[ThresholdRow]
    transferred: str
    reoptimised: str


@dataclass(frozen=True)
class SubgroupRow:
    """Figures of the test images that have one value of a trait; `warning` where they are few."""

    trait: str
    name: str
    images: int
    patients: int
    positives: int
    warning: str
    cells: list[str]


@dataclass(frozen=True)
class FindingRow:
    """Figures of one finding of several, or of an average over them."""

    name: str
    images: int
    positives: int
    warning: str
    cells: list[str]


@dataclass(frozen=True)
class Classes:
    """Images of a part with a known label, by class."""

    images: int
    positives: int
    negatives: int


@dataclass(frozen=True)
class Confusion:
    """Called images of the test part by truth and call."""

    true_positive: int
    false_negative: int
    false_positive: int
    true_negative: int


@dataclass(frozen=True)
class ScoredTask:
    """Everything that a chapter shows of one task's scores of the leading finding.

    `pooled`: scores come from the models of several folds, each with its own threshold. `uncalled`
    counts test images without a call, for want of a threshold.
    """

    finding: str
    confidence: str
    figures: list[FigureRow]
    thresholds: Thresholds
    subgroups: list[SubgroupRow]
    subgroup_heads: list[str]
    findings: list[FindingRow]
    indistinguishable: list[str]
    pooled: bool
    roc: Markup | None
    recall: Markup | None
    histogram: Markup
    threshold: str
    uncalled: int
    tune: Classes
    test: Classes
    confusion: Confusion | None
    calibration: _calibration.Calibration
    no_interval: str = text.NO_INTERVAL


def known(
    scores: TransferredScores, table: pl.DataFrame, task: str, concept: str | None
) -> pl.DataFrame:
    """Return the scores of one finding on a task's images with a known label (state 0 or 1)."""
    of_task = scores.of(task, concept or "")
    labels = table.select("image_id", "source", "state")
    rows = of_task.join(labels, on="image_id", maintain_order="left")
    return rows.filter(pl.col("state") >= State.ABSENT)


def of_context(context: Context, task: str) -> tuple[ScoredTask, pl.DataFrame] | None:
    """Describe a task of a run, and return the rows behind it; None where nothing was measured."""
    rows = known(context.scores, context.table, task, context.concept)
    if not context.concept or not rows.filter(pl.col("part") == "test").height:
        return None
    fitted = context.calibration[task][context.concept]
    settings = context.recipe.evaluate
    return describe(task, rows, context.metrics, fitted, context.concept, settings), rows


def describe(
    task: str,
    rows: pl.DataFrame,
    metrics: pl.DataFrame,
    fitted: Fitted,
    concept: str,
    settings: Evaluate,
) -> ScoredTask:
    """Describe the scores of one finding.

    `rows` are as `known` gives them, with the calls and probabilities of
    `hilum.pipeline.evaluation.classification.transfer`, some of them in the test part. `fitted` was
    chosen on their tune part, or of a cross-validated run on the pooled scores
    (`hilum.statistics.calibration.to_json`).
    """
    test, tune = (rows.filter(pl.col("part") == part) for part in ("test", "tune"))
    of_task = metrics.filter(pl.col("task") == task)
    of_concept = of_task.filter(pl.col("concept") == concept)
    name, pooled = name_of(concept).lower(), rows["fold"].count() > 0
    threshold = fitted["threshold"]
    return ScoredTask(
        finding=name,
        confidence=f"{settings.confidence * 100:g}%",
        figures=list(_figures(of_concept)),
        thresholds=_thresholds(of_concept, settings.prevalence),
        subgroups=list(_subgroups(of_concept)),
        subgroup_heads=[text.TERMS[metric].name for metric in OF_SUBGROUPS],
        findings=_findings(of_task),
        indistinguishable=_indistinguishable(of_concept, settings.confidence),
        pooled=pooled,
        roc=_curves.roc(test, tune),
        recall=_curves.precision_recall(test, tune),
        # Folds have a threshold each, so the histogram of their pooled scores shows none.
        histogram=_curves.histogram(test, None if pooled else threshold, name),
        threshold=text.DASH if threshold is None else f"{threshold:.4g}",
        uncalled=int(test["called"].is_nan().sum()),
        tune=_classes(tune),
        test=_classes(test),
        confusion=_confusion(test),
        calibration=_calibration.describe(test, of_concept, fitted),
    )


def _whole(of_concept: pl.DataFrame) -> dict[tuple[str, str], text.Figure]:
    """Return the figures of whole parts by part and metric."""
    return {
        (row["part"], row["metric"]): text.Figure.of(row)
        for row in of_concept.filter(pl.col("by") == ALL).iter_rows(named=True)
    }


def _figures(of_concept: pl.DataFrame) -> Iterator[FigureRow]:
    whole = _whole(of_concept)
    within = [WITHIN_FOLDS] if ("test", WITHIN_FOLDS) in whole else []
    for metric in (*discrimination.METRICS, *within, *discrimination.METRICS_AT):
        test, tune = whole["test", metric], whole.get(("tune", metric))
        written, bar, delong = text.interval(test, metric), "", ""
        if not np.isnan(test.value):
            bar = charts.interval(test.value, test.ci_low, test.ci_high, alt_text=written)
        if metric == "auroc" and not np.isnan(test.delong_low):
            delong = f"DeLong: {text.number(test.delong_low)} to {text.number(test.delong_high)}"
        beside = text.interval(tune, metric) if tune else text.DASH
        yield FigureRow(text.TERMS[metric], written, bar, beside, test.warning, delong)


def _thresholds(of_concept: pl.DataFrame, prevalence: float) -> Thresholds:
    whole = _whole(of_concept)
    rows = [
        ThresholdRow(
            text.TERMS[metric].name,
            text.interval(whole["test", metric], metric),
            text.interval(whole["test", metric + REOPTIMISED], metric),
        )
        for metric in discrimination.METRICS_AT
    ]
    for metric in ("ppv", "npv"):
        if given := whole.get(("test", metric + AT_PREVALENCE)):
            name = f"{text.TERMS[metric].name} at a prevalence of {prevalence:.3g}"
            rows.append(ThresholdRow(name, text.interval(given, metric), text.DASH))
    transferred, reoptimised = (
        _threshold(whole["test", metric]) for metric in ("threshold", "threshold" + REOPTIMISED)
    )
    return Thresholds(rows, transferred, reoptimised)


def _threshold(figure: text.Figure) -> str:
    if np.isnan(figure.value):
        return figure.reason or text.DASH
    return f"{figure.value:.4g}"


def _subgroups(of_concept: pl.DataFrame) -> Iterator[SubgroupRow]:
    rows = of_concept.filter((pl.col("part") == "test") & (pl.col("by") != ALL))
    for (by, subgroup), some in rows.group_by("by", "subgroup", maintain_order=True):
        of = text.by_metric(some)
        area = of["auroc"]
        yield SubgroupRow(
            trait=TRAITS[str(by)],
            name=str(subgroup),
            images=area.images,
            patients=area.patients,
            positives=area.positives,
            warning=area.warning,
            cells=[text.interval(of[metric], metric, reason=False) for metric in OF_SUBGROUPS],
        )


def _findings(of_task: pl.DataFrame) -> list[FindingRow]:
    """Return all findings and the averages over them; none where there is but one finding."""
    rows = of_task.filter(
        (pl.col("part") == "test")
        & (pl.col("by") == ALL)
        & pl.col("metric").is_in(list(discrimination.METRICS))
    )
    found = []
    for (concept,), of_concept in rows.group_by("concept", maintain_order=True):
        of, concept = text.by_metric(of_concept), str(concept)
        average = concept in (MACRO, MICRO)
        name = f"{concept.capitalize()} average" if average else name_of(concept)
        cells = [text.interval(of[metric], metric) for metric in discrimination.METRICS]
        area = of["auroc"]
        found.append(FindingRow(name, area.images, area.positives, area.warning, cells))
    return found if len(found) > 1 else []


def _indistinguishable(of_concept: pl.DataFrame, confidence: float) -> list[str]:
    """Return what a test part of this size cannot distinguish, by the variance of such an AUROC."""
    area = _whole(of_concept)["test", "auroc"]
    positives, negatives = area.positives, area.images - area.positives
    lines = [sample_size.sentence(area.value, positives, negatives, confidence=confidence)]
    if not np.isnan(area.value) and positives and negatives:
        expected = max(area.value, 1 - area.value, 0.5)
        reach = sample_size.half_width(expected, positives, negatives, confidence=confidence)
        lines.append(
            f"in {100 * confidence:g} of 100 such test parts the AUROC lies within about "
            f"{reach:.2f} of the true one, where that is {expected:.2f}"
        )
    if area.patients < area.images:
        lines.append(
            f"the {plural(area.images, 'image')} are of "
            f"{plural(area.patients, 'patient')}, so the uncertainty is larger still"
        )
    return [f"{line[0].upper()}{line[1:]}." for line in lines if line]


def _classes(rows: pl.DataFrame) -> Classes:
    positives = int((rows["state"] == State.PRESENT).sum())
    return Classes(rows.height, positives, rows.height - positives)


def _confusion(test: pl.DataFrame) -> Confusion | None:
    """Count the calls of the test part; None where no image was called."""
    rows = test.filter(pl.col("called").is_not_nan())
    if not rows.height:
        return None
    truth, called = rows["state"] == State.PRESENT, rows["called"] == 1
    return Confusion(
        true_positive=int((truth & called).sum()),
        false_negative=int((truth & ~called).sum()),
        false_positive=int((~truth & called).sum()),
        true_negative=int((~truth & ~called).sum()),
    )
