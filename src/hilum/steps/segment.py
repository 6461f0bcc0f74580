"""Segment: train a lung segmenter on the training part's masks, and find the lungs of every picture.

Masks of training pictures come out of fold: the patients' groups are dealt into folds, and each fold's lungs are found by a model
that saw none of it. Masks of tune and test pictures come from the model of the whole training part, which learnt from none of them.
The tune pictures' masks are looked at while training, to keep the best weights and to stop in time, and the test pictures' are not.
Pictures without a usable mask are simply not in the loss. Without enough masks no model is trained, and regions are whole pictures.

    segment/lungs.onnx, segment/fold0.onnx …   the models
    segment/training.parquet                   model, image_id: what each was trained on
    segment/epochs.parquet                     model, number, batches, loss, tune: how each training went; tune is the mean Dice of the
                                               tune pictures' lungs, null where none was looked at
    segment/masks.u8                           uint8 (n, size, size) found lungs: 0, 1 right, 2 left
    segment/lungs.parquet                      image_id, row in masks.u8, model that found them, right_pixels, left_pixels
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from hilum import lungs, store
from hilum.exported import Exported
from hilum.recipe import Recipe
from hilum.run import Run
from hilum.steps import Progress, cache, portion, split
from hilum.steps._training import TRAINING, Lesson, digests

VERSION = 3
FEWEST_MASKS = 8  # for one training; fewer teach nothing
WHOLE = "lungs"  # the model of the whole training part
EPOCHS = "segment/epochs.parquet"
HEARD = {"model": pl.String, "number": pl.Int64, "batches": pl.Int64, "loss": pl.Float64, "tune": pl.Float64}
MASKS, INDEX = "segment/masks.u8", "segment/lungs.parquet"
LUNGS = {"image_id": pl.String, "row": pl.Int64, "model": pl.String, "right_pixels": pl.Int64, "left_pixels": pl.Int64}


def find(model: Exported, image: np.ndarray) -> np.ndarray:
    """The lungs of one cached picture as labels uint8 (size, size)."""
    return lungs.from_probabilities(model(image)["lungs"])


def plan(table: pl.DataFrame, with_mask: pl.DataFrame, folds: int, seed: int) -> pl.DataFrame:
    """The split's rows with `fold` (null outside train), `finder` (the model that is to find the lungs) and `learnt` (its mask is learnt from)."""
    training = table.filter(pl.col("part") == "train")
    fold = split.deal(training, {}, {str(number): 1 / folds for number in range(folds)}, seed)
    fold_of = pl.col("group").replace_strict({group: int(number) for group, number in fold.items()}, default=None, return_dtype=pl.Int64)
    return table.with_columns(
        fold=fold_of,
        finder=pl.when(fold_of.is_null()).then(pl.lit(WHOLE)).otherwise(pl.format("fold{}", fold_of)),
        learnt=pl.col("image_id").is_in(with_mask["image_id"].implode()) & (pl.col("part") == "train"),
    )


def lessons(planned: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Rows to learn from, by model; empty where a model would have too few."""
    learnt = planned.filter("learnt")
    folds = planned["fold"].drop_nulls().unique().sort()
    rows = {f"fold{fold}": learnt.filter(pl.col("fold") != fold) for fold in folds} | {WHOLE: learnt}
    return rows if min(part.height for part in rows.values()) >= FEWEST_MASKS else {}


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    return {
        "split": run.made("split")["split.parquet"],
        "cache": run.made("cache"),
        "segment": recipe.section("segment"),
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    pictures = cache.opened(run, recipe)
    table = store.read_table(run / "split.parquet")
    planned = plan(table, pictures.with_mask, recipe.segment.folds, recipe.segment.seed)
    rows = lessons(planned)
    training = pl.concat([pl.DataFrame(schema={"model": pl.String, "image_id": pl.String})] + [
        part.select(model=pl.lit(model), image_id="image_id") for model, part in rows.items()
    ])  # fmt: skip
    split.refuse_leak(table, training, "the lung segmenter")
    store.write_table(run / "segment" / TRAINING, training)
    tune = planned.filter((pl.col("part") == "tune") & pl.col("image_id").is_in(pictures.with_mask["image_id"].implode()))
    models = {}
    for index, (model, part) in enumerate(rows.items()):
        lesson = _lesson(recipe, model, part, tune, pictures, portion(progress, index, len(rows) + 1))
        models[model] = lesson.learn(run, {**made_from(run, recipe), "tune": store.digest(tune["image_id"].to_list())})
    store.write_table(run / EPOCHS, _epochs(models))
    _find_all(run, planned if models else planned.clear(), models, pictures, portion(progress, len(rows), len(rows) + 1))
    files = [*(f"segment/{model}.onnx" for model in models), f"segment/{TRAINING}", EPOCHS, MASKS, INDEX]
    return digests(run, files), _summary(recipe, rows)


def _lesson(recipe: Recipe, model: str, part: pl.DataFrame, tune: pl.DataFrame, pictures: cache.Cache, progress: Progress) -> Lesson:
    epochs: list[Any] = []

    def fit(module, settings, checkpoint):
        rows, watched = pictures.rows(part["image_id"]), pictures.rows(tune["image_id"])
        told = {"seed": recipe.segment.seed, "checkpoint": checkpoint, "progress": progress, "tune": watched, "heard": epochs.append}
        return module.fit(pictures.stored, pictures.masks, rows, settings, **told)

    images = part["image_id"].to_list()
    return Lesson(f"segment/{model}.onnx", recipe.segment, pictures.size, "whole", recipe.pixels.window, images, fit, epochs=epochs)


def _epochs(models: dict[str, Exported]) -> pl.DataFrame:
    return pl.DataFrame([{"model": name, **epoch} for name, model in models.items() for epoch in model.metadata["epochs"]], schema=HEARD)


def _find_all(run: Run, planned: pl.DataFrame, models: dict[str, Exported], pictures: cache.Cache, progress: Progress) -> None:
    index = []
    with store.replacing(run / MASKS) as beside, open(beside, "wb") as stream:
        for row, (image_id, finder) in enumerate(planned.select("image_id", "finder").iter_rows()):
            labels = find(models[finder], pictures.images[pictures.rows([image_id])[0]])
            stream.write(labels.tobytes())
            index.append([image_id, row, finder, *(int((labels == side).sum()) for side in (lungs.RIGHT, lungs.LEFT))])
            progress(row + 1, planned.height)
    store.write_table(run / INDEX, pl.DataFrame(index, schema=LUNGS, orient="row"))


def _summary(recipe: Recipe, rows: dict[str, pl.DataFrame]) -> dict[str, Any]:
    if not rows:
        return {"model": "none", "why": f"fewer than {FEWEST_MASKS} lung masks to learn from: regions are whole pictures"}
    return {"model": recipe.segment.model, "trained on masks": rows[WHOLE].height, "folds for training pictures": len(rows) - 1}
