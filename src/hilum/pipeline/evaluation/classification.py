"""Figures of scores, by task, concept, part and subgroup, with what tune chose for them.

Thresholds and calibrations are chosen on the tune part alone and transferred to the test part. What
is measured of a subgroup is listed by `hilum.pipeline.evaluation.measures`.

Of a cross-validated run every image has one score, by its fold's models, and what was chosen on
that fold's tune part is transferred to it: figures at a threshold are of the calls so made.
`auroc` ranks all scores together, though they are of several models; `auroc_within_folds` counts
only pairs of images that the same model has scored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from hilum.config import Evaluate
from hilum.pipeline import truth
from hilum.pipeline.evaluation import estimate, measures, selective_measures
from hilum.pipeline.evaluation.estimate import NAN, EstimateRow
from hilum.pipeline.evaluation.measures import Metric, truth_and_score
from hilum.statistics import auroc_tests, calibration, weighted
from hilum.statistics.bootstrap import Counted, Linear
from hilum.statistics.calibration import Fitted
from hilum.statistics.metrics import discrimination

TRANSFERRED = ("called", "temperature", "isotonic", "margin")
Calibrations = dict[str, dict[str, Fitted]]  # by task and concept
_AVERAGED = ("image_id", "group", "part", "concept", "state", "score")
_AVERAGED_PARTS = ("tune", "test")


def known(scores: pl.DataFrame, people: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    """Add `state` and the columns of `people` to scores whose finding is known.

    `people`: image_id, group, source, ...; `states`: as `hilum.pipeline.truth.truths` returns them.
    """
    of_people = scores.join(people, on="image_id", maintain_order="left")
    return truth.with_known_state(of_people, states)


def _narrow(people: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    """Return people with the states of their findings, in narrow columns, and `number` of each.

    Words are categories: four million scores of a million images would take more than a gigabyte
    as text. Numbers of groups rise with their names.
    """
    words = [one for one in people.columns[1:] if people.schema[one] == pl.String]
    return (
        people.with_columns(group=pl.col("group").rank("dense").cast(pl.UInt32))
        .with_columns(pl.col(one).cast(pl.Categorical) for one in words if one != "group")
        .with_row_index("number")
        .join(
            states.rename({one: f"state {one}" for one in states.columns[1:]}),
            on="image_id",
            how="left",
            maintain_order="left",
        )
    )


def _narrow_known(
    scores: pl.LazyFrame, task: str, concept: str, narrow: pl.DataFrame
) -> pl.DataFrame:
    """Return what `known` does for one task and concept, with numbers in place of `image_id`.

    `narrow`: as `_narrow` returns it.
    """
    of = scores.filter((pl.col("concept") == concept) & (pl.col("task") == task)).collect()
    people = narrow.select(pl.exclude("^state .*$"), state=pl.col(f"state {concept}"))
    said = [one for one in ("part", "task", "concept", "no_call") if one in of.columns]
    return (
        truth.known(
            of.drop("quality_flags", strict=False).join(
                people, on="image_id", maintain_order="left"
            )
        )
        .with_columns(pl.col(said).cast(pl.Categorical), image_id=pl.col("number"))
        .drop("number")
    )


def transfer(
    rows: pl.DataFrame, fitted: Mapping[int, Calibrations] | Mapping[int | None, Calibrations]
) -> pl.DataFrame:
    """Add to rows of scores what was chosen for them on a tune part.

    The columns are `called` (1.0 or 0.0), the probabilities `temperature` and `isotonic`, and
    `margin`, how far the score lies from the threshold, in log-odds where scores lie between 0 and
    1; nan where there is none. `fitted`: by the rows' `fold`, None where there is one split.
    """
    chosen: dict[int | None, Calibrations] = {}
    chosen.update(fitted.items())
    rows = rows if "fold" in rows.columns else rows.with_columns(fold=pl.lit(None, pl.Int64))
    transferred = {name: np.full(rows.height, NAN) for name in TRANSFERRED}
    placed = rows.select("fold", "task", "concept", "score").with_row_index("place")
    for (fold, task, concept), of in placed.group_by(
        "fold", "task", "concept", maintain_order=True
    ):
        number = None if fold is None else int(str(fold))
        one = chosen.get(number, {}).get(str(task), {}).get(str(concept))
        place = of["place"].to_numpy()
        for name, values in ({} if one is None else _applied(one, of["score"].to_numpy())).items():
            transferred[name][place] = values
    return rows.with_columns(pl.Series(name, values) for name, values in transferred.items())


def _applied(fitted: Fitted, score: np.ndarray) -> dict[str, np.ndarray]:
    """Return those of `TRANSFERRED` that were chosen, each (rows,)."""
    made = {name: fit(score) for name, fit in calibration.from_json(fitted).items()}
    if fitted["threshold"] is not None:
        made["called"] = (score >= fitted["threshold"]).astype(float)
        made["margin"] = _margin(score, fitted["threshold"])
    return made


def _margin(score: np.ndarray, threshold: float) -> np.ndarray:
    if score.size and score.min() > 0 and score.max() < 1:
        return np.abs(calibration.logit(score) - calibration.logit(np.array(threshold)))
    return np.abs(score - threshold)


def figures(
    scores: pl.DataFrame | pl.LazyFrame,
    people: pl.DataFrame,
    states: pl.DataFrame,
    settings: Evaluate,
    of_folds: Mapping[int, Calibrations] | None = None,
) -> tuple[list[EstimateRow], Calibrations]:
    """Return all figures of scores, and what was fitted on the tune part.

    `people`: image_id, group and what is known of source, sex, age and view; `states`: as
    `hilum.pipeline.truth.by_image` returns them. Images whose finding is not known take no part in
    it. `of_folds`: what was fitted on each fold's tune part, where `scores` are pooled from folds;
    the calibrations returned are then fitted on these pooled scores, for the models that are
    trained on all images.
    """
    scores, narrow = scores.lazy(), _narrow(people, states)
    each = scored(scores)
    found: list[EstimateRow] = []
    fitted: Calibrations = {task: {} for task, _ in each}
    averaged: dict[tuple[str, str], list[pl.DataFrame]] = {}
    for task, concept in sorted(each, key=lambda one: [*fitted].index(one[0])):
        # One after another, so that the scores of one finding alone are held with all that is
        # known of their images.
        rows = _narrow_known(scores, task, concept, narrow)
        one = fit(rows.filter(pl.col("part") == ("tune" if of_folds is None else "test")))
        fitted[task][concept] = one
        of = transfer(rows, {None: fitted} if of_folds is None else of_folds)
        chosen: list[Fitted | None] = [one]
        if of_folds is not None:
            chosen = [fold.get(task, {}).get(concept) for fold in of_folds.values()]
        for cell in estimate.subgroups(of, ("test",)):
            if of_folds is None or cell.part == "test":
                for figure in of_cell(cell, chosen, settings):
                    found.append({**figure, "task": task, "concept": concept})
        for part in _AVERAGED_PARTS:
            of_part = rows.filter(pl.col("part") == part).select(_AVERAGED)
            averaged.setdefault((task, part), []).append(of_part)
    for (task, _), parts in averaged.items():
        if len(fitted[task]) > 1:
            for figure in averages(pl.concat(parts), settings):
                found.append({**figure, "task": task})
        parts.clear()
    return found, fitted


def scored(scores: pl.LazyFrame) -> list[tuple[str, str]]:
    """Return each task and concept of scores, in the order in which they come."""
    return scores.select("task", "concept").unique(maintain_order=True).collect().rows()


def fits(rows: pl.DataFrame, each: Iterable[tuple[str, str]]) -> Calibrations:
    """Return `fit` of `each` task and concept, on the labelled `rows`."""
    fitted: Calibrations = {}
    for task, concept in each:
        fitted.setdefault(task, {})[concept] = fit(
            rows.filter((pl.col("task") == task) & (pl.col("concept") == concept))
        )
    return fitted


def fit(tune: pl.DataFrame) -> Fitted:
    """Choose threshold (Youden) and calibrations on the tune part's rows (state, score)."""
    labels, score = truth_and_score(tune)
    return calibration.to_json(discrimination.youden_threshold(labels, score), labels, score)


def of_cell(
    cell: estimate.Subgroup,
    fitted: Sequence[Fitted | None],
    settings: Evaluate,
    metrics: Collection[str] | None = None,
) -> Iterator[EstimateRow]:
    """Yield the figures of one subgroup; `fitted` on the tune part, or on each fold's.

    With `metrics` only those of these names: the same values and intervals in less time.
    """
    labels, score = truth_and_score(cell.rows)
    small = "" if cell.by == estimate.ALL else estimate.too_small(cell.rows)
    about: EstimateRow = {**cell.place, "side": "", "warning": small}
    listed = [
        *measures.of_subgroup(cell, fitted, settings),
        *selective_measures.of_subgroup(cell, settings),
    ]
    if metrics is not None:
        listed = [measure for measure in listed if measure.name in metrics]
    statistics, what, whys = [], [], []
    for measure in listed:
        if measure.values is None:
            continue
        statistics.append(measures.OnRows(measure.function, labels, measure.values, measure.form))
        row: EstimateRow = {**about, "metric": measure.name, "warning": measure.warning or small}
        what.append(row)
        whys.append(measure.why or estimate.one_class(cell.rows))
    for found in estimate.estimate(settings, cell.rows, statistics, what, whys):
        if found.get("metric") == "auroc":
            patients = estimate.numbers(cell.rows)
            area = auroc_tests.area(labels, score, patients, confidence=settings.confidence)
            found |= {"delong_low": area.ci_low, "delong_high": area.ci_high}
        yield found
    for measure in listed:
        if measure.values is None:
            row = {**about, "metric": measure.name}
            yield estimate.no_estimate(row, cell.rows, NAN, measure.why)
    if cell.by == estimate.ALL and metrics is None:
        best = discrimination.youden_threshold(labels, score)
        for name, (value, why) in (
            ("threshold", measures.threshold(fitted)),
            ("threshold" + measures.REOPTIMISED, (best, "")),
        ):
            missing = f"{cell.part} holds one class only" if np.isnan(value) else ""
            row = {**about, "metric": name}
            yield estimate.no_estimate(row, cell.rows, value, why or missing)


def averages(rows: pl.DataFrame, settings: Evaluate) -> Iterator[EstimateRow]:
    """Yield macro and micro averages over the concepts of one task, by part.

    They are over all images with any concept known; concepts of one class are left out and named.
    """
    for part in _AVERAGED_PARTS:
        of_part = rows.filter(pl.col("part") == part)
        if of_part.height:
            yield from _averages(of_part, part, settings)


def _averages(of_part: pl.DataFrame, part: str, settings: Evaluate) -> Iterator[EstimateRow]:
    names = of_part["concept"].unique(maintain_order=True).to_list()
    both = [
        name for name in names if not estimate.one_class(of_part.filter(pl.col("concept") == name))
    ]
    left_out = ", ".join(name for name in names if name not in both)
    labels, score, images = _wide(of_part.filter(pl.col("concept").is_in(both)), both)
    about: EstimateRow = {
        **estimate.place(part, estimate.ALL),
        "side": "",
        "warning": f"left out, of one class: {left_out}" if left_out else "",
    }
    what: list[EstimateRow] = []
    statistics = []
    for kind, average, form in (
        (estimate.MACRO, discrimination.macro, weighted.macro),
        (estimate.MICRO, discrimination.micro, weighted.micro),
    ):
        for name, metric in discrimination.METRICS.items():
            what.append({**about, "concept": kind, "metric": name})
            of_metric = partial(form, weighted.OF_METRIC[name])
            statistics.append(_Average(partial(average, metric), labels, score, of_metric))
    if len(both) < 2:
        why = "fewer than two findings with both classes"
        yield from (estimate.no_estimate(row, images, NAN, why) for row in what)
        return
    for statistic, row in zip(statistics, what, strict=True):
        # One after another: of a million images each sorts a hundred megabytes of its own.
        (found,) = estimate.estimate(settings, images, [statistic], [row])
        yield {**found, "positives": int(np.nansum(labels))}


def _wide(rows: pl.DataFrame, concepts: list[str]) -> tuple[np.ndarray, np.ndarray, pl.DataFrame]:
    """Return truth and scores (images, concepts), and the images with their groups.

    All three are in one order; an entry is nan where the concept is not known.
    """
    images = rows.select("image_id", "group").unique(maintain_order=True)
    columns = []
    for concept in concepts:
        of = rows.filter(pl.col("concept") == concept).select("image_id", "state", "score")
        columns.append(images.join(of, on="image_id", how="left", maintain_order="left"))
    labels, score = (
        np.column_stack(
            [column[name].cast(pl.Float64).fill_null(NAN).to_numpy() for column in columns]
            or [np.empty(0)]
        )
        for name in ("state", "score")
    )
    return labels, score, images


@dataclass(frozen=True)
class _Average:
    """An average over concepts of truth and scores (rows, concepts), as a statistic of rows."""

    average: Metric
    truth: np.ndarray
    score: np.ndarray
    form: weighted.Form

    def __call__(self, rows: np.ndarray) -> float:
        return self.average(self.truth[rows], self.score[rows])

    def weighted(self, patient_of_row: np.ndarray, patients: int) -> Linear | Counted:
        return self.form(self.truth, self.score, patient_of_row, patients)
