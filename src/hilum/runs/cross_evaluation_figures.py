"""Figures of one run's models on another run's images, with intervals over the latter's patients.

`transferred` figures use the threshold that was chosen on the tune part of the model's own set,
`reoptimised` ones that chosen on the tune part of the set it is measured on (Youden both). The
truth of a finding's score is that finding in the target set; of an anomaly's score, the target
set's own finding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import polars as pl

from hilum.annotations.vocabulary import State
from hilum.config import Evaluate
from hilum.pipeline import evaluate, predict
from hilum.runs.finished_run import FinishedRun
from hilum.statistics import bootstrap
from hilum.statistics.metrics import discrimination

NAN = float("nan")
OF_FOLDS = (
    "cross-validated: AUROC out of fold; each fold has its own threshold, see the run's report"
)
MEASURES = (
    "auroc",
    "transferred_sensitivity",
    "transferred_specificity",
    "reoptimised_sensitivity",
    "reoptimised_specificity",
)
FIGURES = tuple(f"{measure}{end}" for measure in MEASURES for end in ("", "_low", "_high"))
COLUMNS = {
    **dict.fromkeys(("model", "set", "task", "concept"), pl.String),
    **dict.fromkeys(("images", "patients", "positives", "left_out"), pl.Int64),
    **dict.fromkeys(FIGURES, pl.Float64),
    "transferred_threshold": pl.Float64,
    "reoptimised_threshold": pl.Float64,
    "reason": pl.String,
}

Row = dict[str, str | int | float]  # a row of `COLUMNS`


def rows(
    model: FinishedRun, target: FinishedRun, scores: pl.DataFrame, left_out: int
) -> Iterator[Row]:
    """Yield the figures of the model's `scores` of the target's images, by task and concept.

    `left_out` counts images of patients that the model was trained or tuned on.
    """
    for task in predict.STAGES:
        for concept in concepts(model, target, task):
            about: Row = {
                "model": model.name,
                "set": target.name,
                "task": task,
                "concept": concept,
                "left_out": left_out,
            }
            known = _of(scores, task, concept).join(
                target.truth(concept), on="image_id", maintain_order="left"
            )
            yield about | _measured(model, target, task, concept, known)


def _measured(
    model: FinishedRun, target: FinishedRun, task: str, concept: str, known: pl.DataFrame
) -> Row:
    own, settings = model is target, target.recipe.evaluate
    if own and model.cross_validated:
        # The final model's threshold was chosen on these very scores, so none is used.
        found = figures(known.filter(pl.col("part") != "tune"), NAN, NAN, settings)
        return found | {"reason": OF_FOLDS} if found["images"] else found
    measured = known.filter(pl.col("part") == "test" if own else pl.col("part") != "tune")
    transferred = _threshold(model, task, concept if task == "finding" else model.finding or "")
    reoptimised = transferred if own else _youden(known.filter(pl.col("part") == "tune"))
    return figures(measured, transferred, reoptimised, settings)


def concepts(model: FinishedRun, target: FinishedRun, task: str) -> list[str]:
    """Return the concepts that a task's scores are compared with in the target, in their order."""
    if task == "anomaly":
        return [target.finding] if target.finding else []
    of_task = model.scores.filter(pl.col("task") == task)
    return of_task["concept"].unique(maintain_order=True).to_list()


def _of(scores: pl.DataFrame, task: str, concept: str) -> pl.DataFrame:
    return scores.filter((pl.col("task") == task) & (pl.col("concept") == concept)).drop("task")


def _threshold(model: FinishedRun, task: str, concept: str) -> float:
    """Return the threshold of the model's own tune part.

    Of a cross-validated run that of its final model, chosen on the pooled scores.
    """
    if model.cross_validated:
        fitted = model.run.json("evaluate", evaluate.CALIBRATION).get(task, {}).get(concept, {})
        chosen = fitted.get("threshold")
        return NAN if chosen is None else chosen
    known = _of(model.scores, task, concept).join(
        model.truth(concept), on="image_id", maintain_order="left"
    )
    return _youden(known.filter(pl.col("part") == "tune"))


def _youden(rows: pl.DataFrame) -> float:
    return discrimination.youden_threshold(rows["state"].to_numpy(), rows["score"].to_numpy())


def figures(rows: pl.DataFrame, transferred: float, reoptimised: float, settings: Evaluate) -> Row:
    """Return the figures of rows (group, state, score); nan with a `reason` where undefined.

    `transferred` and `reoptimised` are thresholds, nan where none could be chosen.
    """
    truth, values = rows["state"].to_numpy(), rows["score"].to_numpy()
    metrics: dict[str, Callable[..., float]] = {"auroc": discrimination.auroc}
    for kind, threshold in (("transferred", transferred), ("reoptimised", reoptimised)):
        if not math.isnan(threshold):
            metrics |= {
                f"{kind}_{name}": partial(discrimination.METRICS_AT[name], threshold=threshold)
                for name in ("sensitivity", "specificity")
            }
    found: Row = dict.fromkeys(FIGURES, NAN)
    for measure, metric in metrics.items() if rows.height else ():
        interval = bootstrap.bootstrap_patients(
            lambda chosen, metric=metric: metric(truth[chosen], values[chosen]),
            rows["group"].to_list(),
            resamples=settings.bootstrap,
            confidence=settings.confidence,
            seed=settings.seed,
        )
        found |= {
            measure: interval.value,
            f"{measure}_low": interval.ci_low,
            f"{measure}_high": interval.ci_high,
        }
    positives = int((rows["state"] == State.PRESENT).sum())
    return {
        **found,
        "images": rows.height,
        "patients": rows["group"].n_unique(),
        "positives": positives,
        "transferred_threshold": transferred,
        "reoptimised_threshold": reoptimised,
        "reason": _reason(rows.height, positives, transferred, reoptimised),
    }


def _reason(images: int, positives: int, transferred: float, reoptimised: float) -> str:
    reasons = []
    if not images:
        reasons.append("no image of this set has a known label of the finding")
    elif positives in (0, images):
        reasons.append("all images with a known label are of one class")
    reasons += [
        f"no threshold {words}: its tune part lacks a class or is missing"
        for threshold, words in ((transferred, "to transfer"), (reoptimised, "of this set"))
        if math.isnan(threshold)
    ]
    return "; ".join(reasons)
