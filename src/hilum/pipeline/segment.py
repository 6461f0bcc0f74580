"""Segment: train a lung segmenter on the training part's masks, and find the lungs of every picture.

Masks of training pictures come out of fold: the patients' groups are dealt into folds, and each fold's lungs are found by a model
that saw none of it. Masks of tune and test pictures come from the model of the whole training part, which learnt from none of them.
The tune pictures' masks are looked at while training, to keep the best weights and to stop in time, and the test pictures' are not.
Pictures without a usable mask are simply not in the loss, and of those with one lung drawn neither is where the other may be. Without
enough masks no model is trained, and the one that comes with Hilum finds the lungs (`hilum.inference.pretrained`), as it does where the recipe says
`model = "pretrained"`. Where it has learnt from a picture of the tune or test part, or of their patients, it is used only if the recipe says
so, and figures of lungs leave these out. Where it cannot be used, regions are whole pictures. Each mask is told how far it can be trusted
(`hilum.inference.lung_finder`).

    segment/lungs.onnx, segment/fold0.onnx …   the models
    segment/training.parquet                   model, image_id: what each was trained on
    segment/epochs.parquet                     model, number, batches, loss, tune: how each training went; tune is the mean Dice of the
                                               tune pictures' lungs, null where none was looked at
    segment/masks.u8                           uint8 (n, size, size) found lungs: 0, 1 right, 2 left
    segment/lungs.parquet                      image_id, row in masks.u8, model that found them ("pretrained": the one that comes with Hilum),
                                               right_pixels, left_pixels, quality, crc32 of the mask
    segment/issues.parquet                   the doubtful ones of these masks as findings of an audit (`hilum.audit.issues`), worst first
    segment/seen.parquet                       image_id: pictures of the run that the pretrained model has learnt from, where it is used
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations import lung_masks
from hilum.audit.issues import COLUMNS, Rule
from hilum.config import Recipe
from hilum.errors import BadRecipe
from hilum.imaging.image_stack import Checksums, ImageStack
from hilum.inference import lung_finder, pretrained
from hilum.inference.onnx_model import OnnxModel
from hilum.pipeline import audit, cache, division, split
from hilum.pipeline._training import FEWEST_MASKS, TRAINING, TrainingJob, digests
from hilum.progress import Progress, portion
from hilum.run_folder import Run
from hilum.storage import integrity

VERSION = 9
FEWEST_OF_A_FOLD = 8  # likewise where a fold of these is left out
WHOLE = "lungs"  # the model of the whole training part
EPOCHS = "segment/epochs.parquet"
HEARD = {
    "model": pl.String,
    "number": pl.Int64,
    "batches": pl.Int64,
    "loss": pl.Float64,
    "tune": pl.Float64,
}
MASKS, INDEX, SEEN, FINDINGS = (
    "segment/masks.u8",
    "segment/lungs.parquet",
    "segment/seen.parquet",
    "segment/issues.parquet",
)
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
    "The lungs found in a picture are not to be trusted without a look.",
    "What is cut out along them may not be lung, and then a score is of something else.",
    "Look at the picture with the found outline. Where the picture is no upright frontal chest, leave it out; where lungs are white or cut off, "
    "draw them, so that the model learns such lungs too. Below [crop] min_mask_quality the region is not cut along them.",
)


@dataclass(frozen=True)
class Masks:
    """The lungs that a run found."""

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
        return self.labels[self.rows[image_id]]

    def get(self, image_id: str) -> np.ndarray:
        """No lung where none was looked for."""
        return (
            self[image_id] if image_id in self.rows else np.zeros(self.labels.shape[1:], np.uint8)
        )


def found_masks(run: Run, size: int) -> ImageStack:
    """Return the masks that a run, or a fold, found: uint8 (n, size, size), in the rows of lungs.parquet."""
    rows = run.table("segment", INDEX)
    sums = Checksums.of(rows["row"], rows["crc32"], run.remedy)
    return ImageStack(run / MASKS, size, checksums=sums)


def index(run: Run) -> pl.DataFrame:
    """Read lungs.parquet, or of a cross-validated run that of each fold's test part, with `fold`."""
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


def plan(table: pl.DataFrame, with_mask: pl.DataFrame, folds: int, seed: int) -> pl.DataFrame:
    """The split's rows with `fold` (null outside train), `finder` (the model that is to find the lungs) and `learnt` (its mask is learnt from)."""
    training = table.filter(pl.col("part") == "train")
    fold = split.assign_parts(
        training, {}, {str(number): 1 / folds for number in range(folds)}, seed
    )
    fold_of = pl.col("group").replace_strict(
        {group: int(number) for group, number in fold.items()}, default=None, return_dtype=pl.Int64
    )
    return table.with_columns(
        fold=fold_of,
        finder=pl.when(fold_of.is_null())
        .then(pl.lit(WHOLE))
        .otherwise(pl.format("fold{}", fold_of)),
        learnt=pl.col("image_id").is_in(with_mask["image_id"].implode())
        & (pl.col("part") == "train"),
    )


def lessons(planned: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Rows to learn from, by model; empty where a model would have too few."""
    learnt = planned.filter("learnt")
    folds = planned["fold"].drop_nulls().unique().sort()
    rows = {f"fold{fold}": learnt.filter(pl.col("fold") != fold) for fold in folds} | {
        WHOLE: learnt
    }
    return (
        rows
        if learnt.height >= FEWEST_MASKS
        and min(part.height for part in rows.values()) >= FEWEST_OF_A_FOLD
        else {}
    )


def _trainings(run: Run, recipe: Recipe, masked: pl.DataFrame) -> list[pl.DataFrame]:
    """Return the plan of every training part whose masks decide whether a model is trained.

    In a cross-validated run these are the folds' and the whole, so that the folds measure what the
    final models are.
    """
    whole = Run(run.data, checked=run.checked)
    tables = [one.table("split", "split.parquet") for one in (whole, *division.folds(whole))]
    return [plan(table, masked, recipe.segment.folds, recipe.segment.seed) for table in tables]


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    ready = storage.digest_of_file(pretrained.path()) if pretrained.is_bundled() else None
    return {
        **_learnt_from(run, recipe),
        "pretrained": ready,
        "quality": storage.digest(lung_finder.rule()),
        "least": recipe.crop.min_mask_quality,
    }


def _learnt_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    """What a training of its own depends on."""
    return {
        "split": run.made("split")["split.parquet"],
        "folds": storage.digest(
            Run(run.data).made("split")
        ),  # of all folds: whether a model is trained depends on each
        "cache": run.made("cache"),
        "segment": recipe.section("segment"),
        "version": VERSION,
    }


def findings(run: Run, recipe: Recipe) -> pl.DataFrame:
    """The audit's findings, and below them the doubtful lungs, worst first, where the lungs of the run as it is have been found."""
    found = [run.table("audit", audit.FINDINGS)]
    if run.done("split") and run.finished("segment", made_from(run, recipe)):
        found.append(run.table("segment", FINDINGS))
    return pl.concat(found)


def unreliable(found: pl.DataFrame, least: float) -> pl.DataFrame:
    """Findings of the masks in `found` (LUNGS) whose quality is below what is good; a warning below `least`, which no region is cut along."""
    return (
        found.filter(pl.col("quality") < lung_finder.GOOD)
        .sort("quality", "image_id")
        .select(
            rule=pl.lit(UNRELIABLE.name),
            severity=pl.when(pl.col("quality") < least)
            .then(pl.lit("warning"))
            .otherwise(pl.lit(UNRELIABLE.severity)),
            image_id="image_id",
            other_image_id=pl.lit(None, pl.String),
            message=pl.format(
                "the Dice of the found lungs is estimated at {}", pl.col("quality").round(2)
            ),
            remedy=pl.lit(UNRELIABLE.remedy),
        )
        .cast(COLUMNS)
    )


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    pictures = cache.opened(run, recipe)
    table = run.table("split", "split.parquet")
    masked = pl.concat([pictures.with_mask, pictures.with_part_of_mask])
    planned = plan(table, masked, recipe.segment.folds, recipe.segment.seed)
    trainings = _trainings(run, recipe, masked)
    rows = (
        lessons(planned)
        if recipe.segment.model != pretrained.NAME and all(map(lessons, trainings))
        else {}
    )
    fewest = min(int(each["learnt"].sum()) for each in trainings)
    ready = (
        None
        if rows
        else choose(
            recipe,
            table.join(
                pictures.index.select("image_id", "pixel_digest", "fingerprint"), on="image_id"
            ),
            fewest,
        )
    )
    training = pl.concat(
        [pl.DataFrame(schema={"model": pl.String, "image_id": pl.String})]
        + [part.select(model=pl.lit(model), image_id="image_id") for model, part in rows.items()]
    )
    split.refuse_leak(table, training, "the lung segmenter")
    storage.write_table(run / "segment" / TRAINING, training)
    models = _trained(run, recipe, rows, planned, pictures, portion(progress, 0, 2))
    storage.write_table(run / EPOCHS, _epochs(models))
    if ready and ready.model:
        storage.write_bytes(run / "segment" / f"{WHOLE}.onnx", ready.model.path.read_bytes())
        models, planned = (
            {pretrained.NAME: OnnxModel(run / "segment" / f"{WHOLE}.onnx", run.folder)},
            planned.with_columns(finder=pl.lit(pretrained.NAME)),
        )
    storage.write_table(run / SEEN, ready.seen if ready else table.select("image_id").clear())
    if not _taken_over(run, models):
        _find_all(
            run, planned if models else planned.clear(), models, pictures, portion(progress, 1, 2)
        )
    found = storage.read_table(run / INDEX)
    storage.write_table(run / FINDINGS, unreliable(found, recipe.crop.min_mask_quality))
    files = [
        *(f"segment/{model.path.name}" for model in models.values()),
        f"segment/{TRAINING}",
        EPOCHS,
        MASKS,
        INDEX,
        SEEN,
        FINDINGS,
    ]
    return digests(run, files), _summary(recipe, rows, ready, found)


def _trained(
    run: Run,
    recipe: Recipe,
    rows: dict[str, pl.DataFrame],
    planned: pl.DataFrame,
    pictures: cache.Cache,
    progress: Progress,
) -> dict[str, OnnxModel]:
    tune = planned.filter(
        (pl.col("part") == "tune")
        & pl.col("image_id").is_in(pictures.with_mask["image_id"].implode())
    )
    made_of = {**_learnt_from(run, recipe), "tune": storage.digest(tune["image_id"].to_list())}
    models = {}
    for index, (model, part) in enumerate(rows.items()):
        models[model] = _lesson(
            recipe, model, part, tune, pictures, portion(progress, index, len(rows))
        ).run(run, made_of)
    return models


@dataclass(frozen=True)
class LungModelChoice:
    """The model that comes with Hilum, for a run; `why` it is used or, with None, is not; the run's pictures that it has `seen` (image_id)."""

    model: OnnxModel | None
    why: str
    seen: pl.DataFrame


def choose(recipe: Recipe, pictures: pl.DataFrame, masks: int = 0) -> LungModelChoice:
    """For a run of `pictures` (image_id, source, pixel_digest, fingerprint, group, part, fold) without a model of its own, for want of `masks` to train on.

    Where the recipe asks for it, raises `NotFound` where there is none and `BadRecipe` where the recipe's pictures do not fit it.
    """
    wanted = recipe.segment.model == pretrained.NAME
    few = (
        ""
        if wanted
        else f"{masks} lung masks in {'the training part' if pictures['fold'].count() == 0 else 'a training part'}, and at least {FEWEST_MASKS} are needed"
    )
    none = pictures.select("image_id").clear()
    if not wanted and not pretrained.is_bundled():
        return LungModelChoice(
            None,
            f"{few}, and no lung model comes with this installation: regions are whole pictures",
            none,
        )
    model = pretrained.lung_model()
    if wrong := model.contract.mismatches(
        content="whole", size=recipe.pixels.size, normalisation=recipe.pixels.normalisation
    ):
        if wanted:
            raise BadRecipe(
                f'[segment] model = "{pretrained.NAME}" wants other pictures: {"; ".join(wrong)}; change it in [pixels]'
            )
        return LungModelChoice(
            None,
            f"{few}, and the lung model that comes with Hilum wants other pictures ({'; '.join(wrong)}): regions are whole pictures",
            none,
        )
    seen = pretrained.training_sets(model, pictures)
    in_test = (pl.col("part") != "train") | pl.col(
        "fold"
    ).is_not_null()  # of a cross-validated run each image is, in one fold
    held = pictures.filter(in_test).join(seen.select("group").unique(), on="group", how="semi")
    if held.height and not wanted:
        return LungModelChoice(
            None,
            f"{few}, and the lung model that comes with Hilum has learnt from {held.height} of the tune and test images or from their patients: "
            f'regions are whole pictures. [segment] model = "{pretrained.NAME}" uses it all the same, and leaves these out of the figures of lungs',
            none,
        )
    return LungModelChoice(
        model, "asked for in the recipe" if wanted else few, seen.select("image_id")
    )


def seen(run: Run) -> pl.DataFrame:
    """image_id of the run's pictures that the pretrained model has learnt from, where it found the lungs."""
    if SEEN not in run.made("segment"):
        return pl.DataFrame(schema={"image_id": pl.String})
    return run.table("segment", SEEN)


def _lesson(
    recipe: Recipe,
    model: str,
    part: pl.DataFrame,
    tune: pl.DataFrame,
    pictures: cache.Cache,
    progress: Progress,
) -> TrainingJob:
    epochs: list[Any] = []

    def fit(module, settings, checkpoint):
        rows, watched = pictures.rows(part["image_id"]), pictures.rows(tune["image_id"])
        told = {
            "seed": recipe.segment.seed,
            "checkpoint": checkpoint,
            "progress": progress,
            "tune": watched,
            "on_epoch": epochs.append,
        }
        return module.fit(pictures.stored, pictures.known_masks, rows, settings, **told)

    images = part["image_id"].to_list()
    return TrainingJob(
        f"segment/{model}.onnx",
        recipe.segment,
        pictures.size,
        "whole",
        recipe.pixels.normalisation,
        images,
        fit,
        epochs=epochs,
    )


def _epochs(models: dict[str, OnnxModel]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"model": name, **epoch}
            for name, model in models.items()
            for epoch in model.metadata["epochs"]
        ],
        schema=HEARD,
    )


def _find_all(
    run: Run,
    planned: pl.DataFrame,
    models: dict[str, OnnxModel],
    pictures: cache.Cache,
    progress: Progress,
) -> None:
    index = []
    sizes = {
        image_id: size
        for image_id, *size in pictures.index.select("image_id", "height", "width").iter_rows()
    }
    with storage.writing(run / MASKS) as stream:
        for row, (image_id, finder) in enumerate(planned.select("image_id", "finder").iter_rows()):
            found = lung_finder.segment_lungs(
                models[finder],
                pictures.images[pictures.rows([image_id])[0]],
                tuple(sizes[image_id]),
            )
            stream.write(found.labels.tobytes())
            index.append(
                [
                    image_id,
                    row,
                    finder,
                    *(
                        int((found.labels == side).sum())
                        for side in (lung_masks.RIGHT, lung_masks.LEFT)
                    ),
                    found.quality,
                    integrity.checksum(found.labels),
                ]
            )
            progress(row + 1, planned.height)
    storage.write_table(run / INDEX, pl.DataFrame(index, schema=LUNGS, orient="row"))


def _taken_over(run: Run, models: Mapping[str, OnnxModel]) -> bool:
    """Take over the masks of the whole run, if the very same model is to find those of its fold."""
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
    rows: dict[str, pl.DataFrame],
    ready: LungModelChoice | None,
    found: pl.DataFrame,
) -> dict[str, Any]:
    doubtful = {"doubtful masks": int((found["quality"] < lung_finder.GOOD).sum())}
    if rows:
        return {
            "model": recipe.segment.model,
            "trained on masks": rows[WHOLE].height,
            "folds for training pictures": len(rows) - 1,
            **doubtful,
        }
    if ready.model is None:
        return {"model": "none", "reason": ready.why}
    return {
        "model": pretrained.NAME,
        "reason": ready.why,
        "images it has learnt from": ready.seen.height,
        **doubtful,
    }
