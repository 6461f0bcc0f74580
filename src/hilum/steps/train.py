"""Train: a classifier of the finding on the training part's regions, and an anomaly model on its normal ones.

    train/finding.onnx, train/anomaly.onnx   the models
    train/training.parquet                   model, image_id: what each was trained on

Images on which the finding is uncertain or not mentioned are not learnt from. Without a finding that has both states neither model
can be trained, and both are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from hilum import store
from hilum.recipe import Recipe
from hilum.run import Run
from hilum.steps import Progress, portion, split
from hilum.steps._training import TRAINING, Lesson, digests
from hilum.steps.region import Regions
from hilum.vocabulary import State

VERSION = 2
FINDING, ANOMALY = "train/finding.onnx", "train/anomaly.onnx"


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    return {
        "split": run.made("split")["split.parquet"],
        "region": run.made("region"),
        "classify": recipe.section("classify"),
        "anomaly": recipe.section("anomaly"),
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    concept = run.summary("split")["finding"]
    table = store.read_table(run / "split.parquet")
    known = table.filter((pl.col("part") == "train") & (pl.col("state") >= State.ABSENT))
    normal = known.filter(pl.col("state") == State.ABSENT)
    taught = {FINDING: known, ANOMALY: normal} if concept else {}
    training = pl.DataFrame(
        [(file, image_id) for file, rows in taught.items() for image_id in rows["image_id"]],
        schema={"model": pl.String, "image_id": pl.String}, orient="row",
    )  # fmt: skip
    split.refuse_leak(table, training, "the classifier or the anomaly model")
    store.write_table(run / "train" / TRAINING, training)
    if not concept:
        return digests(run, [f"train/{TRAINING}"]), {"model": "none", "why": "no finding is both present and absent on some images"}
    regions = Regions.of(run.folder, recipe.region.size)
    for lesson in (
        _finding(recipe, concept, known, regions, portion(progress, 0, 2)),
        _anomaly(recipe, concept, normal, regions, portion(progress, 1, 2)),
    ):
        lesson.learn(run, made_from(run, recipe))
    told = {
        "finding": concept, "classifier": recipe.classify.model, "trained on images": known.height,
        "anomaly model": recipe.anomaly.model, "fitted on normal images": normal.height,
    }  # fmt: skip
    return digests(run, [FINDING, ANOMALY, f"train/{TRAINING}"]), told


def _finding(recipe: Recipe, concept: str, known: pl.DataFrame, regions: Regions, progress: Progress) -> Lesson:
    def fit(module, settings, checkpoint):
        rows = regions.rows(known["image_id"])
        targets = np.full(len(regions.images), np.nan, np.float32)
        targets[rows] = known["state"].to_numpy()
        return module.fit(regions.images, targets, rows, settings, seed=recipe.classify.seed, checkpoint=checkpoint, progress=progress)

    return Lesson(FINDING, recipe.classify, recipe.region.size, "region", recipe.pixels.window, known["image_id"].to_list(), fit, concept)


def _anomaly(recipe: Recipe, concept: str, normal: pl.DataFrame, regions: Regions, progress: Progress) -> Lesson:
    def fit(module, settings, checkpoint):
        return module.fit(regions.images, regions.rows(normal["image_id"]), settings, seed=recipe.anomaly.seed, progress=progress)

    return Lesson(ANOMALY, recipe.anomaly, recipe.region.size, "region", recipe.pixels.window, normal["image_id"].to_list(), fit, concept)
