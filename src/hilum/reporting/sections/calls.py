"""Calls: how many images get one, what calls are worth, and what holds at a source left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import Markup

from hilum.annotations.vocabulary import name_of
from hilum.drawing import charts
from hilum.pipeline import evaluate, left_out
from hilum.pipeline.evaluation import selective_measures as measured
from hilum.pipeline.evaluation.estimate import ALL
from hilum.reporting import calls_summary, text
from hilum.reporting.context import Context
from hilum.reporting.sections import _scored_task
from hilum.statistics import selective

TITLE, ORDER = "Calls", 45
METRICS = (
    measured.COVERAGE,
    measured.SENSITIVITY,
    measured.SPECIFICITY,
    measured.ERROR,
    measured.AT_TARGET,
    measured.MEAN_RISK,
)
OF_SOURCES = (measured.COVERAGE, measured.SENSITIVITY, measured.SPECIFICITY, "auroc")
TASKS = (
    ("lungs", "Lung outlines", "dice"),
    *(
        (task, name, metric)
        for task, name in (("finding", "Finding"), ("anomaly", "Anomaly"))
        for metric in ("auroc", "sensitivity", "specificity")
    ),
)
INSIDE, WITHOUT = "trained with it", "left out"


@dataclass(frozen=True)
class MetricRow:
    """One metric of calls in the test part, and of sources that were left out."""

    term: text.Term
    test: str
    elsewhere: str


@dataclass(frozen=True)
class SourceRow:
    """Figures of one source, by models that were trained with it or without it."""

    source: str
    models: str
    images: int
    no_calls: int
    cells: list[str]
    warning: str


@dataclass(frozen=True)
class Reason:
    """Why images got no call, and how many of the test part and of sources left out."""

    words: str
    test: int
    elsewhere: int


@dataclass(frozen=True)
class TaskRow:
    """A leading figure of a task in the test part, and at sources left out."""

    name: str
    test: str
    elsewhere: str


@dataclass(frozen=True)
class Calls:
    """What the chapter shows."""

    finding: str
    confidence: str
    target: str
    rows: list[MetricRow]
    heads: list[str]
    sources: list[SourceRow]
    reasons: list[Reason]
    tasks: list[TaskRow]
    curve: Markup | None
    measured_elsewhere: bool
    why_not: str
    not_left_out: str


def section(context: Context) -> Calls | None:
    """Describe the calls of the leading finding; None where no finding was trained on."""
    if context.untrained or not context.concept:
        return None
    test = _scored_task.known(context.scores, context.table, "finding", context.concept)
    test = test.filter(pl.col("part") == "test")
    if not test.height:
        return None
    inside, elsewhere = (
        calls_summary.figures(context.metrics, part, context.concept)
        for part in ("test", left_out.PART)
    )
    others = context.run.table("evaluate", evaluate.LEFT_OUT).filter(
        (pl.col("task") == "finding") & (pl.col("concept") == context.concept)
    )
    return Calls(
        finding=name_of(context.concept).lower(),
        confidence=context.confidence,
        target=f"{context.recipe.evaluate.target_error:.0%}",
        rows=[
            MetricRow(
                text.TERMS[metric],
                text.interval(inside[metric], metric),
                text.interval(elsewhere[metric], metric) if metric in elsewhere else text.DASH,
            )
            for metric in METRICS
        ],
        heads=[text.TERMS[metric].name for metric in OF_SOURCES],
        sources=list(_sources(context, inside)),
        reasons=_reasons(test, others),
        tasks=_tasks(context) if elsewhere else [],
        curve=_curve(test, others),
        measured_elsewhere=bool(elsewhere),
        why_not=calls_summary.why_not_measured(context),
        not_left_out=calls_summary.not_left_out(context),
    )


def _sources(context: Context, inside: dict[str, text.Figure]) -> Iterator[SourceRow]:
    """Yield a row for each source and kind of models, sources together."""
    rows = context.metrics.filter(
        (pl.col("task") == "finding")
        & (pl.col("concept") == context.concept)
        & (pl.col("by") == "source")
        & pl.col("part").is_in(["test", left_out.PART])
    ).sort("source", "part", descending=[False, True], maintain_order=True)
    for (source, part), of in rows.group_by("source", "part", maintain_order=True):
        models = INSIDE if part == "test" else WITHOUT
        yield _source_row(str(source), models, text.by_metric(of))
    if not rows.filter(pl.col("part") == "test").height:
        (only, *more) = context.part("test")["source"].unique().sort()
        yield _source_row(only if not more else ALL, INSIDE, inside)


def _source_row(source: str, models: str, of: dict[str, text.Figure]) -> SourceRow:
    coverage = of[measured.COVERAGE]
    return SourceRow(
        source=source,
        models=models,
        images=coverage.images,
        no_calls=round(coverage.images * (1 - coverage.value)) if coverage.images else 0,
        cells=[text.interval(of[metric], metric, reason=False) for metric in OF_SOURCES],
        warning=of["auroc"].warning,
    )


def _reasons(test: pl.DataFrame, others: pl.DataFrame) -> list[Reason]:
    """Count the images without a call by the reason, its figures left out; most first."""
    of_test, of_others = (_counted(rows) for rows in (test, others))
    found = [
        Reason(words, of_test.get(words, 0), of_others.get(words, 0))
        for words in sorted(of_test.keys() | of_others.keys())
    ]
    return sorted(found, key=lambda one: -one.test - one.elsewhere)


def _counted(rows: pl.DataFrame) -> dict[str, int]:
    why = (
        pl.when(pl.col("no_call") != "")
        .then(pl.col("no_call").str.split(":").list.first())
        .when(pl.col("called").is_nan())
        .then(pl.lit("no threshold could be chosen"))
        .otherwise(pl.lit(""))
    )
    counted = rows.select(why=why).filter(pl.col("why") != "").group_by("why").len()
    return dict(counted.iter_rows())


def _tasks(context: Context) -> list[TaskRow]:
    """Return the leading figures of lungs, finding and anomaly in both parts."""
    whole = context.metrics.filter(
        (pl.col("by") == ALL)
        & pl.col("concept").is_in(["", context.concept or ""])
        & pl.col("side").is_in([evaluate.BOTH, ""])
        & (pl.col("grid") != evaluate.FILE)
    )
    found = []
    for task, name, metric in TASKS:
        of_task = whole.filter((pl.col("task") == task) & (pl.col("metric") == metric))
        by_part = {row["part"]: text.Figure.of(row) for row in of_task.iter_rows(named=True)}
        if "test" in by_part:
            written = [
                text.interval(by_part[part], metric) if part in by_part else text.DASH
                for part in ("test", left_out.PART)
            ]
            found.append(TaskRow(f"{name}, {text.TERMS[metric].name}", *written))
    return found


def _curve(test: pl.DataFrame, others: pl.DataFrame) -> Markup | None:
    """Draw the error of calls by coverage, in the test part and at sources left out."""
    lines, points = [], []
    named = (("test part", test), ("sources left out", others))
    for colour, (name, rows) in enumerate(named):
        order, wrong = measured.certainty(rows), measured.errors(rows)
        if not rows.height or np.isnan(order).any():
            continue
        curve = selective.risk_coverage(order, wrong)
        lines.append(charts.Line(name, curve.coverage.tolist(), curve.risk.tolist(), colour))
        called = ~np.isnan(measured.calls(rows))
        if called.any():
            coverage, error = float(called.mean()), float(wrong[called].mean())
            words = f"{name}: {coverage:.0%} called, error {error:.3f}"
            points.append(charts.Point(words, coverage, error, colour))
    if not lines:
        return None
    described = "; ".join(point.name for point in points) or "no image got a call"
    return charts.unit_square(
        lines,
        points,
        x="Coverage: fraction of the images called, the most certain first",
        y="Fraction of the calls that is wrong",
        alt_text=f"Risk-coverage curve. {described}.",
    )
