"""Figures of scores: every stage, concept, part and subgroup; thresholds and calibration come from tune alone and are carried over.

A metric's name says what it was measured with: `sensitivity` at the threshold carried over from tune, `sensitivity_retuned` at the one that
is best on the very rows it is told of (too good, and there to show how much a new threshold could mend at all); `ppv` at the rows' own
prevalence, `ppv_at_prevalence` at that of the recipe; `brier_temperature` of probabilities calibrated on tune, `brier_uncalibrated` of the
score taken for one. `threshold` and `threshold_retuned` are the thresholds themselves.

Of a cross-validated run every image has one score, by its fold's models, and what was chosen on that
fold's tune part is carried over to it: figures at a threshold are of the calls so made. `auroc` ranks
all scores together, though they are of several models; `auroc_within_folds` counts only pairs of
images that the same model has scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import State
from hilum.config import Evaluate
from hilum.pipeline.evaluation import estimate
from hilum.statistics import auroc_tests, calibration
from hilum.statistics.metrics import calibration as calibrated
from hilum.statistics.metrics import discrimination

REOPTIMISED, AT_PREVALENCE, WITHIN_FOLDS = "_retuned", "_at_prevalence", "auroc_within_folds"
KINDS = ("uncalibrated", "temperature", "isotonic")
TRANSFERRED = ("called", "temperature", "isotonic")
OF_SUBGROUPS = ("auroc", "average_precision", "sensitivity", "specificity")
NEEDS = {
    "sensitivity": "no positive image",
    "specificity": "no negative image",
    "ppv": "nothing was called positive",
    "npv": "nothing was called negative",
}
NO_THRESHOLD = "tune holds one class only, so no threshold was chosen"
NO_PROBABILITY = "the score does not lie from 0 to 1, so it is no probability"
NAN = float("nan")
Calibration = dict[
    str, dict[str, dict[str, Any]]
]  # by stage and concept, as `hilum.statistics.calibration.to_json` tells it


class Measure(NamedTuple):
    """Name a metric of truth and `values` (rows, …).

    `values` None: there is no such figure, and `why` says why not. A row whose value is nan, as its
    fold has none, is left out, and `warning` says so.
    """

    name: str
    function: Callable[[np.ndarray, np.ndarray], float]
    values: np.ndarray | None
    why: str = ""
    warning: str = ""


def known(scores: pl.DataFrame, people: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    """Scores whose finding is known to be present or absent, with `state` and what `people` (image_id, group, source …) tell of the image."""
    told = scores.join(people, on="image_id", maintain_order="left").join(
        states, on=["image_id", "concept"], maintain_order="left"
    )
    return told.filter(pl.col("state") >= State.ABSENT)


def transfer(rows: pl.DataFrame, fitted: Mapping[int | None, Calibration]) -> pl.DataFrame:
    """Add to rows of scores what was chosen for them on a tune part.

    The columns are `called` (1.0 or 0.0) and the probabilities `temperature` and `isotonic`; nan
    where there is none. `fitted`: by the rows' `fold`, None where there is one split.
    """
    parts = []
    rows = rows if "fold" in rows.columns else rows.with_columns(fold=pl.lit(None, pl.Int64))
    for (fold, stage, concept), of in rows.with_row_index("place").group_by(
        "fold", "task", "concept", maintain_order=True
    ):
        told, score = fitted.get(fold, {}).get(stage, {}).get(concept), of["score"].to_numpy()
        made: dict[str, np.ndarray] = (
            {}
            if told is None
            else {name: fit(score) for name, fit in calibration.from_json(told).items()}
        )
        if told is not None and told["threshold"] is not None:
            made["called"] = (score >= told["threshold"]).astype(float)
        parts.append(
            of.with_columns(
                pl.Series(name, made.get(name, np.full(of.height, NAN))) for name in TRANSFERRED
            )
        )
    empty = (
        rows.with_row_index("place")
        .with_columns(pl.lit(NAN).alias(name) for name in TRANSFERRED)
        .clear()
    )
    return pl.concat([empty, *parts]).sort("place").drop("place")


def figures(
    scores: pl.DataFrame,
    people: pl.DataFrame,
    states: pl.DataFrame,
    settings: Evaluate,
    of_folds: Mapping[int, Calibration] | None = None,
) -> tuple[list[dict[str, Any]], Calibration]:
    """All figures, and what was fitted on tune. `people`: image_id, group and what there is of source, sex, age and view; `states`: image_id,
    concept, state. Images whose finding is not known take no part in it. `of_folds`: what was fitted on each fold's tune part, where
    `scores` are pooled from folds; what is returned is then fitted on these pooled scores, for the models that are trained on all images."""
    rows, found = known(scores, people, states), []
    fitted = fits(rows.filter(pl.col("part") == ("tune" if of_folds is None else "test")), scores)
    rows = transfer(rows, {None: fitted} if of_folds is None else of_folds)
    for stage, concepts in fitted.items():
        for concept, told in concepts.items():
            of = rows.filter((pl.col("task") == stage) & (pl.col("concept") == concept))
            carried = (
                [told]
                if of_folds is None
                else [one.get(stage, {}).get(concept) for one in of_folds.values()]
            )
            for cell in estimate.subgroups(of, ("test",)):
                if of_folds is None or cell.part == "test":
                    found += [
                        {**one, "task": stage, "concept": concept}
                        for one in _of_cell(cell, carried, settings)
                    ]
    for stage in fitted:
        if len(fitted[stage]) > 1:
            found += [
                {**one, "task": stage}
                for one in averages(rows.filter(pl.col("task") == stage), settings)
            ]
    return found, fitted


def fits(rows: pl.DataFrame, scores: pl.DataFrame) -> Calibration:
    """`fit` of each stage and concept of `scores`, on its `rows`."""
    fitted: Calibration = {}
    for stage, concept in scores.select("task", "concept").unique(maintain_order=True).iter_rows():
        fitted.setdefault(stage, {})[concept] = fit(
            rows.filter((pl.col("task") == stage) & (pl.col("concept") == concept))
        )
    return fitted


def fit(tune: pl.DataFrame) -> dict[str, Any]:
    """Threshold (Youden) and calibrations of the tune part's rows (state, score)."""
    truth, score = _values(tune)
    return calibration.to_json(discrimination.youden_threshold(truth, score), truth, score)


def _of_cell(
    cell: estimate.Subgroup, fitted: Sequence[Mapping[str, Any] | None], settings: Evaluate
) -> Iterator[dict[str, Any]]:
    """Figures of one cell; `fitted` on the tune part, or on each fold's."""
    truth, score = _values(cell.rows)
    about = {
        **cell.place,
        "side": "",
        "warning": "" if cell.by == estimate.ALL else estimate.too_small(cell.rows),
    }
    measures = list(_measures(cell, fitted, settings))
    there = [measure for measure in measures if measure.values is not None]
    statistics = [
        partial(_of_carried, measure.function, truth, measure.values) for measure in there
    ]
    whys = [measure.why or estimate.one_class(cell.rows) for measure in there]
    told = [
        {**about, "metric": measure.name, "warning": measure.warning or about["warning"]}
        for measure in there
    ]
    for found in estimate.estimate(settings, cell.rows, statistics, told, whys):
        if found["metric"] == "auroc":
            area = auroc_tests.area(
                truth, score, cell.rows["group"].to_list(), confidence=settings.confidence
            )
            found |= {"delong_low": area.ci_low, "delong_high": area.ci_high}
        yield found
    for measure in measures:
        if measure.values is None:
            yield estimate.no_estimate(
                cell.rows, NAN, why=measure.why, metric=measure.name, **about
            )
    if cell.by == estimate.ALL:
        for name, (value, why) in (
            ("threshold", _threshold(fitted)),
            ("threshold" + REOPTIMISED, (discrimination.youden_threshold(truth, score), "")),
        ):
            missing = f"{cell.part} holds one class only" if np.isnan(value) else ""
            yield estimate.no_estimate(cell.rows, value, why=why or missing, metric=name, **about)


def _threshold(fitted: Sequence[Mapping[str, Any] | None]) -> tuple[float, str]:
    """The one that was chosen, or nan and why it is not one."""
    chosen = [
        told["threshold"] for told in fitted if told is not None and told["threshold"] is not None
    ]
    if not chosen:
        return NAN, "tune holds one class only"
    if len(fitted) == 1:
        return chosen[0], ""
    return NAN, f"each fold has its own: {min(chosen):.3g} to {max(chosen):.3g}" + (
        f", {len(fitted) - len(chosen)} have none" if len(chosen) < len(fitted) else ""
    )


def _measures(
    cell: estimate.Subgroup, fitted: Sequence[Mapping[str, Any] | None], settings: Evaluate
) -> Iterator[Measure]:
    """What is measured of a cell: of a subgroup the leading figures alone, of the test part as a whole everything."""
    truth, score = _values(cell.rows)
    whole = [Measure(name, metric, score) for name, metric in discrimination.METRICS.items()]
    whole += _at(cell.rows["called"].to_numpy(), "", NO_THRESHOLD, _incomplete(cell.rows["called"]))
    if cell.by != estimate.ALL:
        yield from (measure for measure in whole if measure.name in OF_SUBGROUPS)
        return
    yield from whole
    if cell.part == "tune":
        return
    if len(fitted) > 1:
        yield Measure(
            WITHIN_FOLDS, _within_folds, np.column_stack([score, cell.rows["fold"].to_numpy()])
        )
    retuned = discrimination.youden_threshold(truth, score)
    yield from _at(
        np.full(score.size, NAN) if np.isnan(retuned) else (score >= retuned).astype(float),
        REOPTIMISED,
        estimate.one_class(cell.rows),
    )
    if settings.prevalence:
        yield from _at_prevalence(cell.rows["called"].to_numpy(), settings.prevalence)
    yield from _of_probabilities(cell.rows, fitted)


def _incomplete(carried: pl.Series) -> str:
    """Say what to warn of where `carried` is nan on some rows, as their fold has no such thing."""
    lacking = int(carried.is_nan().sum())
    return (
        f"of {carried.len() - lacking} of {carried.len()} images: "
        f"the other folds' tune parts were too small for it"
        if 0 < lacking < carried.len()
        else ""
    )


def _none(carried: np.ndarray) -> bool:
    """Whether there are rows, and nothing was carried over to any."""
    return carried.size > 0 and bool(np.isnan(carried).all())


def _at(called: np.ndarray, suffix: str, why: str, warning: str = "") -> Iterator[Measure]:
    for name, metric in discrimination.METRICS_AT.items():
        if _none(called):
            yield Measure(name + suffix, metric, None, why)
        else:
            yield Measure(
                name + suffix,
                partial(metric, threshold=0.5),
                called,
                NEEDS.get(name, "") if called.size else "",
                warning,
            )


def _at_prevalence(called: np.ndarray, prevalence: float) -> Iterator[Measure]:
    none = _none(called)
    for name, rule in (("ppv", discrimination.ppv_at), ("npv", discrimination.npv_at)):
        function = partial(_by_bayes, rule, prevalence)
        yield Measure(
            name + AT_PREVALENCE,
            function,
            None if none else called,
            "no threshold was chosen" if none else "",
        )


def _by_bayes(rule: Callable, prevalence: float, truth: np.ndarray, called: np.ndarray) -> float:
    sensitivity, specificity = (
        metric(truth, called, 0.5)
        for metric in (discrimination.sensitivity, discrimination.specificity)
    )
    return (
        NAN if np.isnan(sensitivity + specificity) else rule(prevalence, sensitivity, specificity)
    )


def _within_folds(truth: np.ndarray, values: np.ndarray) -> float:
    """Compute the AUROC over pairs of images of one fold; `values` (rows, 2): score and fold."""
    won = pairs = 0.0
    for fold in np.unique(values[:, 1]):
        rows = values[:, 1] == fold
        positives = np.count_nonzero(truth[rows] == State.PRESENT)
        if of_fold := positives * (np.count_nonzero(rows) - positives):
            won, pairs = (
                won + of_fold * discrimination.auroc(truth[rows], values[rows, 0]),
                pairs + of_fold,
            )
    return won / pairs if pairs else NAN


def probabilities(rows: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return probabilities by each of `KINDS` that there is, nan where a row has none.

    `rows`: as `carry` gives them.
    """
    score = rows["score"].to_numpy()
    made = {kind: rows[kind].to_numpy() for kind in KINDS[1:]}
    return ({"uncalibrated": score} if _are_probabilities(score) else {}) | {
        kind: values for kind, values in made.items() if not np.isnan(values).all()
    }


def _are_probabilities(score: np.ndarray) -> bool:
    return not score.size or (score.min() >= 0 and score.max() <= 1)


def _of_probabilities(
    rows: pl.DataFrame, fitted: Sequence[Mapping[str, Any] | None]
) -> Iterator[Measure]:
    reason = next((told["reason"] for told in fitted if told is not None and told["reason"]), "")
    for kind in KINDS:
        values = rows["score" if kind == "uncalibrated" else kind].to_numpy()
        none = not _are_probabilities(values) if kind == "uncalibrated" else _none(values)
        why = NO_PROBABILITY if kind == "uncalibrated" else f"not calibrated on tune: {reason}"
        warning = "" if kind == "uncalibrated" else _incomplete(rows[kind])
        for name, metric in calibrated.METRICS.items():
            if kind == "isotonic" and name in ("calibration_slope", "calibration_intercept"):
                continue  # its steps at 0 and 1 have no logit
            yield Measure(
                f"{name}_{kind}", metric, None if none else values, why if none else "", warning
            )


def averages(rows: pl.DataFrame, settings: Evaluate) -> Iterator[dict[str, Any]]:
    """Macro and micro averages over the concepts of one stage, on all images with any of them known; those of one class are left out and named."""
    for part in ("tune", "test"):
        of_part = rows.filter(pl.col("part") == part)
        if not of_part.height:
            continue
        names = of_part["concept"].unique(maintain_order=True).to_list()
        both = [
            name
            for name in names
            if not estimate.one_class(of_part.filter(pl.col("concept") == name))
        ]
        left_out = ", ".join(name for name in names if name not in both)
        of_part = of_part.filter(pl.col("concept").is_in(both))
        truth, score, images = _wide(of_part, both)
        about = {
            **estimate.place(part, estimate.ALL),
            "side": "",
            "warning": f"left out, of one class: {left_out}" if left_out else "",
        }
        averaged = [
            (kind, average, name)
            for kind, average in (
                (estimate.MACRO, discrimination.macro),
                (estimate.MICRO, discrimination.micro),
            )
            for name in discrimination.METRICS
        ]
        named = [{**about, "concept": kind, "metric": name} for kind, _, name in averaged]
        if len(both) < 2:
            yield from (
                estimate.no_estimate(
                    images, NAN, why="fewer than two findings with both classes", **told
                )
                for told in named
            )
            continue
        statistics = [
            partial(_of_rows, partial(average, discrimination.METRICS[name]), truth, score)
            for _, average, name in averaged
        ]
        yield from (
            {**found, "positives": int(np.nansum(truth))}
            for found in estimate.estimate(settings, images, statistics, named)
        )


def _wide(rows: pl.DataFrame, concepts: list[str]) -> tuple[np.ndarray, np.ndarray, pl.DataFrame]:
    """Truth (images, concepts), nan where not known, scores alike, and the images with their groups, in one order."""
    images = rows.select("image_id", "group").unique(maintain_order=True)
    columns = []
    for concept in concepts:
        of = rows.filter(pl.col("concept") == concept).select("image_id", "state", "score")
        columns.append(images.join(of, on="image_id", how="left", maintain_order="left"))
    tables = [
        np.column_stack(
            [column[name].cast(pl.Float64).fill_null(NAN).to_numpy() for column in columns]
            or [np.empty(0)]
        )
        for name in ("state", "score")
    ]
    return *tables, images


def _values(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return rows["state"].to_numpy(), rows["score"].to_numpy()


def _of_rows(metric: Callable, truth: np.ndarray, score: np.ndarray, rows: np.ndarray) -> float:
    return metric(truth[rows], score[rows])


def _of_carried(metric: Callable, truth: np.ndarray, values: np.ndarray, rows: np.ndarray) -> float:
    """Of the rows that have a value; `values` is (rows,) or (rows, k)."""
    missing = np.isnan(values[rows])
    rows = rows[~(missing if missing.ndim == 1 else missing.any(1))]
    return metric(truth[rows], values[rows])
