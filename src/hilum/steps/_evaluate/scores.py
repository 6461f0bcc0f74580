"""Figures of scores: every stage, concept, part and subgroup; thresholds and calibration come from tune alone and are carried over.

A metric's name says what it was measured with: `sensitivity` at the threshold carried over from tune, `sensitivity_retuned` at the one that
is best on the very rows it is told of (too good, and there to show how much a new threshold could mend at all); `ppv` at the rows' own
prevalence, `ppv_at_prevalence` at that of the recipe; `brier_temperature` of probabilities calibrated on tune, `brier_uncalibrated` of the
score taken for one. `threshold` and `threshold_retuned` are the thresholds themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from hilum import calibration, paired
from hilum.metrics import calibration as calibrated
from hilum.metrics import ranking
from hilum.recipe import Evaluate
from hilum.steps._evaluate import figure
from hilum.vocabulary import State

RETUNED, GIVEN = "_retuned", "_at_prevalence"
KINDS = ("uncalibrated", "temperature", "isotonic")
OF_SUBGROUPS = ("auroc", "average_precision", "sensitivity", "specificity")
NEEDS = {"sensitivity": "no positive image", "specificity": "no negative image", "ppv": "nothing was called positive", "npv": "nothing was called negative"}
NO_PROBABILITY = "the score does not lie from 0 to 1, so it is no probability"
NAN = float("nan")
Calibration = dict[str, dict[str, dict[str, Any]]]  # by stage and concept, as `hilum.calibration.as_json` tells it


class Measure(NamedTuple):
    """A metric of truth and `values` (rows,); `values` None: there is no such figure, and `why` says why not."""

    name: str
    function: Callable[[np.ndarray, np.ndarray], float]
    values: np.ndarray | None
    why: str = ""


def known(scores: pl.DataFrame, people: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    """Scores whose finding is known to be present or absent, with `state` and what `people` (image_id, group, source …) tell of the image."""
    told = scores.join(people, on="image_id", maintain_order="left").join(states, on=["image_id", "concept"], maintain_order="left")
    return told.filter(pl.col("state") >= State.ABSENT)


def figures(scores: pl.DataFrame, people: pl.DataFrame, states: pl.DataFrame, settings: Evaluate) -> tuple[list[dict[str, Any]], Calibration]:
    """All figures, and what was fitted on tune. `people`: image_id, group and what there is of source, sex, age and view; `states`: image_id,
    concept, state. Images whose finding is not known take no part in it."""
    rows, found, fitted = known(scores, people, states), [], {}
    for stage, concept in scores.select("stage", "concept").unique(maintain_order=True).iter_rows():
        of = rows.filter((pl.col("stage") == stage) & (pl.col("concept") == concept))
        fitted.setdefault(stage, {})[concept] = told = fit(of.filter(pl.col("part") == "tune"))
        for cell in figure.subgroups(of, ("test",)):
            found += [{**one, "stage": stage, "concept": concept} for one in _of_cell(cell, told, settings)]
    for stage in fitted:
        if len(fitted[stage]) > 1:
            found += [{**one, "stage": stage} for one in averages(rows.filter(pl.col("stage") == stage), settings)]
    return found, fitted


def fit(tune: pl.DataFrame) -> dict[str, Any]:
    """Threshold (Youden) and calibrations of the tune part's rows (state, score)."""
    truth, score = _values(tune)
    return calibration.as_json(ranking.youden_threshold(truth, score), truth, score)


def _of_cell(cell: figure.Cell, fitted: Mapping[str, Any], settings: Evaluate) -> Iterator[dict[str, Any]]:
    truth, score = _values(cell.rows)
    about = {**cell.place, "side": "", "warning": "" if cell.by == figure.ALL else figure.too_small(cell.rows)}
    measures = list(_measures(cell, truth, score, fitted, settings))
    there = [measure for measure in measures if measure.values is not None]
    statistics = [partial(_of_rows, measure.function, truth, measure.values) for measure in there]
    whys = [measure.why or figure.one_class(cell.rows) for measure in there]
    for found in figure.measured(settings, cell.rows, statistics, [{**about, "metric": measure.name} for measure in there], whys):
        if found["metric"] == "auroc":
            area = paired.area(truth, score, cell.rows["group"].to_list(), confidence=settings.confidence)
            found |= {"delong_low": area.low, "delong_high": area.high}
        yield found
    for measure in measures:
        if measure.values is None:
            yield figure.without(cell.rows, NAN, why=measure.why, metric=measure.name, **about)
    if cell.by == figure.ALL:
        for name, value, part in (("threshold", fitted["threshold"], "tune"), ("threshold" + RETUNED, ranking.youden_threshold(truth, score), cell.part)):
            missing = value is None or np.isnan(value)
            yield figure.without(cell.rows, NAN if missing else value, why=f"{part} holds one class only" if missing else "", metric=name, **about)


def _measures(cell: figure.Cell, truth: np.ndarray, score: np.ndarray, fitted: Mapping[str, Any], settings: Evaluate) -> Iterator[Measure]:
    """What is measured of a cell: of a subgroup the leading figures alone, of the test part as a whole everything."""
    whole = [Measure(name, metric, score) for name, metric in ranking.METRICS.items()]
    carried = fitted["threshold"]
    whole += _at(carried, score, "", "tune holds one class only, so no threshold was chosen")
    if cell.by != figure.ALL:
        yield from (measure for measure in whole if measure.name in OF_SUBGROUPS)
        return
    yield from whole
    if cell.part == "tune":
        return
    retuned = ranking.youden_threshold(truth, score)
    yield from _at(None if np.isnan(retuned) else retuned, score, RETUNED, figure.one_class(cell.rows))
    if settings.prevalence:
        yield from _at_prevalence(carried, score, settings.prevalence)
    yield from _of_probabilities(score, fitted)


def _at(threshold: float | None, score: np.ndarray, suffix: str, why: str) -> Iterator[Measure]:
    for name, metric in ranking.METRICS_AT.items():
        if threshold is None:
            yield Measure(name + suffix, metric, None, why)
        else:
            yield Measure(name + suffix, partial(metric, threshold=threshold), score, NEEDS.get(name, ""))


def _at_prevalence(threshold: float | None, score: np.ndarray, prevalence: float) -> Iterator[Measure]:
    for name, rule in (("ppv", ranking.ppv_at), ("npv", ranking.npv_at)):
        function = partial(_by_bayes, rule, prevalence, threshold)
        yield Measure(name + GIVEN, function, None if threshold is None else score, "" if threshold is not None else "no threshold was chosen")


def _by_bayes(rule: Callable, prevalence: float, threshold: float, truth: np.ndarray, score: np.ndarray) -> float:
    sensitivity, specificity = (metric(truth, score, threshold) for metric in (ranking.sensitivity, ranking.specificity))
    return NAN if np.isnan(sensitivity + specificity) else rule(prevalence, sensitivity, specificity)


def probabilities(score: np.ndarray, fitted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The score as a probability by each of `KINDS` that there is."""
    plain = {"uncalibrated": score} if not score.size or (score.min() >= 0 and score.max() <= 1) else {}
    return plain | {name: made(score) for name, made in calibration.of_json(fitted).items()}


def _of_probabilities(score: np.ndarray, fitted: Mapping[str, Any]) -> Iterator[Measure]:
    told = probabilities(score, fitted)
    for kind in KINDS:
        why = NO_PROBABILITY if kind == "uncalibrated" else f"not calibrated on tune: {fitted['why']}"
        for name, metric in calibrated.METRICS.items():
            if kind == "isotonic" and name in ("calibration_slope", "calibration_intercept"):
                continue  # its steps at 0 and 1 have no logit
            yield Measure(f"{name}_{kind}", metric, told.get(kind), "" if kind in told else why)


def averages(rows: pl.DataFrame, settings: Evaluate) -> Iterator[dict[str, Any]]:
    """Macro and micro averages over the concepts of one stage, on all images with any of them known; those of one class are left out and named."""
    for part in ("tune", "test"):
        of_part = rows.filter(pl.col("part") == part)
        if not of_part.height:
            continue
        names = of_part["concept"].unique(maintain_order=True).to_list()
        both = [name for name in names if not figure.one_class(of_part.filter(pl.col("concept") == name))]
        left_out = ", ".join(name for name in names if name not in both)
        of_part = of_part.filter(pl.col("concept").is_in(both))
        truth, score, images = _wide(of_part, both)
        about = {**figure.place(part, figure.ALL), "side": "", "warning": f"left out, of one class: {left_out}" if left_out else ""}
        averaged = [(kind, average, name) for kind, average in ((figure.MACRO, ranking.macro), (figure.MICRO, ranking.micro)) for name in ranking.METRICS]
        named = [{**about, "concept": kind, "metric": name} for kind, _, name in averaged]
        if len(both) < 2:
            yield from (figure.without(images, NAN, why="fewer than two findings with both classes", **told) for told in named)
            continue
        statistics = [partial(_of_rows, partial(average, ranking.METRICS[name]), truth, score) for _, average, name in averaged]
        yield from ({**found, "positives": int(np.nansum(truth))} for found in figure.measured(settings, images, statistics, named))


def _wide(rows: pl.DataFrame, concepts: list[str]) -> tuple[np.ndarray, np.ndarray, pl.DataFrame]:
    """Truth (images, concepts), nan where not known, scores alike, and the images with their groups, in one order."""
    images = rows.select("image_id", "group").unique(maintain_order=True)
    columns = []
    for concept in concepts:
        of = rows.filter(pl.col("concept") == concept).select("image_id", "state", "score")
        columns.append(images.join(of, on="image_id", how="left", maintain_order="left"))
    tables = [np.column_stack([column[name].cast(pl.Float64).fill_null(NAN).to_numpy() for column in columns] or [np.empty(0)]) for name in ("state", "score")]
    return *tables, images


def _values(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return rows["state"].to_numpy(), rows["score"].to_numpy()


def _of_rows(metric: Callable, truth: np.ndarray, score: np.ndarray, rows: np.ndarray) -> float:
    return metric(truth[rows], score[rows])
