"""Segment: train a lung segmenter on the training part's masks, and apply it to every image.

Masks of training images are out of fold: the patients' groups are dealt into folds, and the
lungs of each fold are found by a model that was not trained on it. Masks of tune and test images
come from the model of the whole training part. The tune images' masks are evaluated while
training, to keep the best weights and to stop early; the test images' masks are not. The models
are trained side by side, as none depends on another. Images without a usable mask are not in the
loss; of an image with one lung outlined, neither is the side where the other lung may be. With too
few masks, or where the recipe says `model = "pretrained"`, the pretrained model is used, see
`hilum.pipeline.lung_model`; without any model, regions are whole images. Each predicted mask gets
an estimate of its quality (`hilum.inference.lung_finder`).

    segment/lungs.onnx, segment/fold0.onnx …   the models
    segment/training.parquet   model, image_id: what each was trained on
    segment/epochs.parquet     model, number, batches, loss, tune: how each training went; tune is
                               the mean Dice of the tune images, null where it was not evaluated
    segment/masks.u8           uint8 (n, size, size) predicted lungs: 0, 1 right, 2 left
    segment/lungs.parquet      image_id, row in masks.u8, model that was applied ("pretrained":
                               the one that comes with Hilum), right_pixels, left_pixels, quality,
                               crc32 of the mask
    segment/issues.parquet     the unreliable ones of these masks as issues of an audit
                               (`hilum.audit.issues`), worst first
    segment/seen.parquet       image_id: images of the run that the pretrained model was trained on,
                               where it is used
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.audit.issues import Rule, decided
from hilum.config import Recipe
from hilum.dataset.pixel_cache import Cache
from hilum.imaging.image_stack import Checksums, ImageStack
from hilum.inference import lung_finder, pretrained
from hilum.inference.onnx_model import OnnxModel
from hilum.pipeline import audit, cache, division, found_lungs, reader_corrections, split
from hilum.pipeline._training import TRAINING, TrainingJob, digests
from hilum.pipeline.lung_model import LungModelChoice, choose
from hilum.pipeline.mask_folds import WHOLE, lessons, plan
from hilum.pipeline.step import Inputs, StepResult, Summary
from hilum.progress import Progress, portion
from hilum.revisions import uptake
from hilum.run_folder import Run
from hilum.storage import integrity

VERSION = 9
EPOCHS = "segment/epochs.parquet"
HEARD = {"model": pl.String} | dict.fromkeys(("number", "batches"), pl.Int64)
HEARD |= dict.fromkeys(("loss", "tune"), pl.Float64)
MASKS, INDEX = "segment/masks.u8", "segment/lungs.parquet"
SEEN, ISSUES = "segment/seen.parquet", "segment/issues.parquet"
LUNGS = {
    "image_id": pl.String,
    "row": pl.Int64,
    "model": pl.String,
    "right_pixels": pl.Int64,
    "left_pixels": pl.Int64,
    "quality": pl.Float64,
    "crc32": pl.Int64,
}
UNRELIABLE = Rule(
    "lungs-unreliable",
    "info",
    "The predicted lungs of an image are not to be relied on unseen.",
    "What is cropped along them may not be lung, and then a score is of something else.",
    "View the image with the predicted outline. If it is no upright frontal chest "
    "radiograph, leave "
    "it out; where lungs are opaque or cut off, outline them, so that the model is trained on such "
    "lungs too. Below [crop] min_mask_quality the region is not cropped along them.",
)


@dataclass(frozen=True)
class Masks:
    """Predicted lungs of a run, by image id."""

    labels: np.ndarray | ImageStack  # uint8 (n, size, size): 0, 1 right, 2 left
    rows: Mapping[str, int]  # by image_id

    @classmethod
    def of(cls, run: Run, size: int) -> Masks:
        """Read the masks that a run found, or where it has folds those of each image's own fold."""
        folds = division.folds(run)
        if not folds:
            return cls(
                found_masks(run, size),
                dict(run.table("segment", INDEX).select("image_id", "row").iter_rows()),
            )
        found = [np.zeros((0, size, size), np.uint8)]
        for number, fold in enumerate(folds):
            rows = index(run).filter(pl.col("fold") == number)["row"]
            found.append(found_masks(fold, size)[rows.to_numpy()])
        return cls(
            np.concatenate(found),
            {image_id: place for place, image_id in enumerate(index(run)["image_id"])},
        )

    def __getitem__(self, image_id: str) -> np.ndarray:
        """Return the labels of an image, uint8 (size, size)."""
        return self.labels[self.rows[image_id]]

    def get(self, image_id: str) -> np.ndarray:
        """Return the labels of an image, all background where no model was applied to it."""
        return (
            self[image_id] if image_id in self.rows else np.zeros(self.labels.shape[1:], np.uint8)
        )


def found_masks(run: Run, size: int) -> ImageStack:
    """Return the masks that a run, or a fold, found: uint8 (n, size, size), in the rows of
    lungs.parquet.
    """
    rows = run.table("segment", INDEX)
    sums = Checksums.of(rows["row"], rows["crc32"], run.remedy)
    return ImageStack(run / MASKS, size, checksums=sums)


def index(run: Run) -> pl.DataFrame:
    """Read lungs.parquet, or of a cross-validated run that of each fold's test part, with
    `fold`.
    """
    folds = division.folds(run)
    if not folds:
        return run.table("segment", INDEX)
    found = []
    for number, fold in enumerate(folds):
        test = fold.table("split", "split.parquet").filter(pl.col("part") == "test")
        found.append(
            fold.table("segment", INDEX)
            .join(test, on="image_id", how="semi", maintain_order="left")
            .with_columns(fold=pl.lit(number, pl.Int64))
        )
    return pl.concat(found)


def _trainings(run: Run, recipe: Recipe, masked: pl.DataFrame) -> list[pl.DataFrame]:
    """Return the plan of every training part whose masks decide whether a model is trained.

    In a cross-validated run these are the folds' and the whole, so that the folds measure what the
    final models are.
    """
    whole = Run(run.data, checked=run.checked)
    tables = [one.table("split", "split.parquet") for one in (whole, *division.folds(whole))]
    return [plan(table, masked, recipe.segment.folds, recipe.segment.seed) for table in tables]


def made_from(run: Run, recipe: Recipe) -> Inputs:
    """Return the digests of split, cache and pretrained model, and the settings."""
    bundled = storage.digest_of_file(pretrained.path()) if pretrained.is_bundled() else None
    return {
        **_training_inputs(run, recipe),
        "pretrained": bundled,
        "quality": storage.digest(lung_finder.rule()),
        "least": recipe.crop.min_mask_quality,
    }


def _training_inputs(run: Run, recipe: Recipe) -> Inputs:
    """Return what a training of the run's own depends on."""
    return {
        "split": run.made("split")["split.parquet"],
        # of all folds: whether a model is trained depends on each
        "folds": storage.digest(Run(run.data).made("split")),
        "cache": run.made("cache"),
        "segment": recipe.section("segment"),
        "version": VERSION,
    }


def issues(run: Run, recipe: Recipe) -> pl.DataFrame:
    """Return the audit's issues, then those of the predicted lungs, worst first.

    The latter only where the step segment is finished for the run as it is.
    """
    found = [run.table("audit", audit.ISSUES)]
    if run.done("split") and run.finished("segment", made_from(run, recipe)):
        found.append(run.table("segment", ISSUES))
    return decided(pl.concat(found, how="diagonal"), reader_corrections.decisions(run))


def unreliable(found: pl.DataFrame, least: float) -> pl.DataFrame:
    """Return issues of the masks in `found` (LUNGS) whose quality is below `lung_finder.GOOD`.

    They are warnings below `least`, the quality from which a region is cropped along a mask.
    """
    severity = (
        pl.when(pl.col("quality") < least)
        .then(pl.lit("warning"))
        .otherwise(pl.lit(UNRELIABLE.severity))
    )
    message = pl.format(
        "the Dice of the found lungs is estimated at {}", pl.col("quality").round(2)
    )
    return (
        found.filter(pl.col("quality") < lung_finder.GOOD)
        .sort("quality", "image_id")
        .select(
            rule=pl.lit(UNRELIABLE.name),
            severity=severity,
            image_id="image_id",
            other_image_id=pl.lit(None, pl.String),
            message=message,
            remedy=pl.lit(UNRELIABLE.remedy),
            value=pl.lit(None, pl.String),
        )
        .pipe(decided, uptake.empty())
    )


def make(run: Run, recipe: Recipe, progress: Progress) -> StepResult:
    """Train the models, or choose the pretrained one, and predict the lungs of every image."""
    cached = cache.opened(run, recipe)
    table = run.table("split", "split.parquet")
    masked = pl.concat([cached.with_mask, cached.with_part_of_mask])
    planned = plan(table, masked, recipe.segment.folds, recipe.segment.seed)
    trainings = _trainings(run, recipe, masked)
    rows = {}
    if recipe.segment.model != pretrained.NAME and all(map(lessons, trainings)):
        rows = lessons(planned)
    choice = None
    if not rows:
        fewest = min(int(each["trains"].sum()) for each in trainings)
        digests_of = cached.index.select("image_id", "pixel_digest", "fingerprint")
        choice = choose(recipe, table.join(digests_of, on="image_id"), fewest)
    _write_training(run, table, rows)
    models = _trained(run, recipe, rows, planned, cached, portion(progress, 0, 2))
    storage.write_table(run / EPOCHS, _epochs(models))
    if choice is not None and choice.model is not None:
        copied = run / "segment" / f"{WHOLE}.onnx"
        storage.write_bytes(copied, choice.model.path.read_bytes())
        models = {pretrained.NAME: OnnxModel(copied, run.folder)}
        planned = planned.with_columns(finder=pl.lit(pretrained.NAME))
    seen_images = table.select("image_id").clear() if choice is None else choice.seen
    storage.write_table(run / SEEN, seen_images)
    if not _taken_over(run, models):
        searched = planned if models else planned.clear()
        index_rows = found_lungs.find(
            run / MASKS,
            searched,
            models,
            cached,
            portion(progress, 1, 2),
            changes=recipe.segment.test_time_changes,
        )
        storage.write_table(run / INDEX, pl.DataFrame(index_rows, schema=LUNGS))
    found = storage.read_table(run / INDEX)
    storage.write_table(run / ISSUES, unreliable(found, recipe.crop.min_mask_quality))
    files = [f"segment/{model.path.name}" for model in models.values()]
    files += [f"segment/{TRAINING}", EPOCHS, MASKS, INDEX, SEEN, ISSUES]
    return StepResult(digests(run, files), _summary(recipe, rows, choice, found))


def _write_training(run: Run, table: pl.DataFrame, rows: Mapping[str, pl.DataFrame]) -> None:
    """Write what each model is trained on, once it is sure that nothing leaks."""
    training = pl.concat(
        [pl.DataFrame(schema={"model": pl.String, "image_id": pl.String})]
        + [part.select(model=pl.lit(model), image_id="image_id") for model, part in rows.items()]
    )
    split.refuse_leak(table, training, "the lung segmenter")
    storage.write_table(run / "segment" / TRAINING, training)


def _trained(
    run: Run,
    recipe: Recipe,
    rows: Mapping[str, pl.DataFrame],
    planned: pl.DataFrame,
    cached: Cache,
    progress: Progress,
) -> dict[str, OnnxModel]:
    tune = planned.filter(
        (pl.col("part") == "tune")
        & pl.col("image_id").is_in(cached.with_mask["image_id"].implode())
    )
    inputs = {**_training_inputs(run, recipe), "tune": storage.digest(tune["image_id"].to_list())}
    jobs = [_job(recipe, model, part, tune, cached) for model, part in rows.items()]
    return dict(zip(rows, TrainingJob.run_all(jobs, run, inputs, progress), strict=True))


def seen(run: Run) -> pl.DataFrame:
    """Return image_id of the run's images that the pretrained model was trained on, if it is
    used.
    """
    if SEEN not in run.made("segment"):
        return pl.DataFrame(schema={"image_id": pl.String})
    return run.table("segment", SEEN)


def _job(
    recipe: Recipe,
    model: str,
    part: pl.DataFrame,
    tune: pl.DataFrame,
    cached: Cache,
) -> TrainingJob:
    epochs: list[Any] = []

    def fit(module, settings, checkpoint, progress):
        """Train on the cached images and masks."""
        return module.fit(
            cached.stored,
            cached.known_masks,
            cached.rows(part["image_id"]),
            settings,
            seed=recipe.segment.seed,
            checkpoint=checkpoint,
            progress=progress,
            tune=cached.rows(tune["image_id"]),
            on_epoch=epochs.append,
        )

    return TrainingJob(
        f"segment/{model}.onnx",
        recipe.segment,
        cached.size,
        "whole",
        recipe.pixels.normalisation,
        part["image_id"].to_list(),
        fit,
        epochs=epochs,
    )


def _epochs(models: Mapping[str, OnnxModel]) -> pl.DataFrame:
    rows = [
        {"model": name, **epoch}
        for name, model in models.items()
        for epoch in model.metadata["epochs"]
    ]
    return pl.DataFrame(rows, schema=HEARD)


def _taken_over(run: Run, models: Mapping[str, OnnxModel]) -> bool:
    """Copy the masks of the whole run to its fold, if the very same model would predict both."""
    if run.parent is None or list(models) != [pretrained.NAME]:
        return False
    whole, file = Run(run.parent), f"segment/{WHOLE}.onnx"
    same = whole.made("segment").get(file) == integrity.digest_of(run / file)
    if not same or set(whole.table("segment", INDEX)["model"]) != {pretrained.NAME}:
        return False
    for name in (MASKS, INDEX):
        storage.write_bytes(run / name, whole.file("segment", name).read_bytes())
    return True


def _summary(
    recipe: Recipe,
    rows: Mapping[str, pl.DataFrame],
    choice: LungModelChoice | None,
    found: pl.DataFrame,
) -> Summary:
    unreliable_masks = {"unreliable masks": int((found["quality"] < lung_finder.GOOD).sum())}
    if choice is None:
        return {
            "model": recipe.segment.model,
            "trained on masks": rows[WHOLE].height,
            "folds for training images": len(rows) - 1,
            **unreliable_masks,
        }
    if choice.model is None:
        return {"model": "none", "reason": choice.why}
    return {
        "model": pretrained.NAME,
        "reason": choice.why,
        "images it was trained on": choice.seen.height,
        **unreliable_masks,
    }
