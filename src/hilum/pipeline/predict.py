"""Predict: scores of the tune and test parts, and of any file, by ONNX Runtime alone.

    scores.parquet     image_id, part, task (finding: one row for each concept that the classifier
                       knows; anomaly: one, of the leading finding), concept, score, quality_flags
                       (comma separated; empty for an image as the models expect it, see
                       `hilum.inference.orientation`), percentile (the percentage of the training
                       images that are closer, see `hilum.inference.domain`; nan where the model
                       carries no domain) and no_call (why the model does not call it whatever the
                       score; "" where it may); the anomaly model, which gives no features,
                       calls nothing that lies outside the classifier's domain
    predict/maps.npy   float16 (n, MAP, MAP): anomaly maps, in the order of the anomaly rows of
                       scores.parquet

Of a cross-validated run scores.parquet is pooled from its folds: each image once, in part test,
with `fold`, the one whose models gave the score.

An image that seems inverted, rotated, mirrored, empty or no chest is scored, and its quality
flags are given beside the score; of other files `hilum.runs.predict_images` refuses these. The
flags follow from the orientation features that the step audit stored. A file is scored by the
very functions that scored the run's images, so an image of the test part gets the same score
either way.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from hilum import storage
from hilum.config import Recipe
from hilum.errors import BadData, Mismatch
from hilum.imaging.files import dicom, image_file, raster
from hilum.imaging.radiograph import Radiograph
from hilum.inference import acceptance, lung_crop, orientation
from hilum.inference.domain import Placement, farther
from hilum.inference.examination import examine
from hilum.inference.onnx_model import OnnxModel
from hilum.pipeline import _sharded, audit, crop, division, segment, train
from hilum.pipeline._region_scores import MAP, Answer, Scoring, by_concept
from hilum.pipeline._training import digests
from hilum.pipeline.step import Inputs, StepResult
from hilum.progress import Progress
from hilum.run_folder import Run

VERSION = 5
SCORES, MAPS = "scores.parquet", "predict/maps.npy"
COLUMNS = {
    "image_id": pl.String,
    "part": pl.String,
    "task": pl.String,
    "concept": pl.String,
    "score": pl.Float64,
    "quality_flags": pl.String,
    "percentile": pl.Float64,
    "no_call": pl.String,
}  # and fold, see `pool`
STAGES = {"finding": train.FINDING, "anomaly": train.ANOMALY}


@dataclass(frozen=True)
class Prediction:
    """What a run's models say of one file; masks and maps are in the file's own pixels."""

    # By task and concept, the leading finding first; a score is not a probability.
    scores: Mapping[str, Mapping[str, float]]
    concept: str  # the leading finding
    lungs: np.ndarray  # uint8 (height, width): 0, 1 right, 2 left
    anomaly_map: np.ndarray | None  # float32 (height, width), 0 outside the region
    quality: float  # of the lungs, see `hilum.inference.lung_finder`
    cut: str  # what the scores are of, one of `lung_crop.CUTS`
    quality_flags: tuple[orientation.QualityFlag, ...]
    seen: np.ndarray  # the image as the cache would hold it, uint8 (size, size)
    labels: np.ndarray  # its lungs, uint8 (size, size)
    region: lung_crop.Cut  # what the finding and anomaly models were shown
    placements: Mapping[str, Placement]  # by task, in the domain of its model


@dataclass(frozen=True)
class RunModels:
    """A finished run's models, to score files with."""

    run: Run
    recipe: Recipe

    @classmethod
    def of(cls, run: Run) -> RunModels:
        """Return the models of a run. Raises `NotFound` where it was not trained."""
        recipe = run.recipe()
        run.made("train")
        return cls(run, recipe)

    @cached_property
    def models(self) -> dict[str, OnnxModel]:
        """The run's models by task, as far as they were trained.

        Raises `Mismatch` where a model does not fit the recipe.
        """
        files = {"lungs": f"segment/{segment.WHOLE}.onnx", **STAGES}
        made = {step: self.run.made(step) for step in ("segment", "train")}
        found = {
            task: OnnxModel(self.run.file(step, file), self.run.folder)
            for task, file in files.items()
            for step in made
            if file in made[step]
        }
        for task, model in found.items():
            content, size = "crop", self.recipe.crop.size
            if task == "lungs":
                content, size = "whole", self.recipe.pixels.size
            normalisation = self.recipe.pixels.normalisation
            if wrong := model.contract.mismatches(
                content=content, size=size, normalisation=normalisation
            ):
                raise Mismatch(
                    f"{model.path} does not fit the run's recipe: {'; '.join(wrong)}; train it "
                    f"again with `hilum train`"
                )
        return found

    @cached_property
    def typical(self) -> dict[str, float]:
        """The mean box of the training part's lungs, see `hilum.pipeline.crop`."""
        return self.run.json("crop", crop.TYPICAL)

    def read(self, path: Path) -> Prediction:
        """Score a file.

        Raises `BadData` where it cannot be read, is too small or too narrow to show a chest, or has
        one value in all pixels.
        """
        return self.of_file(path, image_file.read(path))

    def of_file(self, path: Path, file: raster.Raster | dicom.Dicom) -> Prediction:
        """Score a file that was read; see `read`."""
        radiograph = file.radiograph()
        if wrong := acceptance.impossible_size(radiograph.size):
            raise BadData(f"{path}: {wrong}")
        if radiograph.stored_values.min() == radiograph.stored_values.max():
            raise BadData(
                f"{path}: every pixel has the same value, so there is nothing to score; export the "
                f"image again from its source"
            )
        found = self.of_radiograph(radiograph)
        heat = None if found.anomaly_map is None else image_file.to_native(file, found.anomaly_map)
        lungs = image_file.to_native(file, found.lungs, labels=True)
        return replace(found, lungs=lungs, anomaly_map=heat)

    def of_radiograph(self, radiograph: Radiograph) -> Prediction:
        """Score an image; masks and maps are in its display orientation."""
        examined = examine(radiograph, self.models.get("lungs"), self.recipe.pixels)
        cut = examined.crop(self.recipe.crop, self.typical)
        found = {task: self.models[task](cut.image) for task in STAGES if task in self.models}
        to_file = cut.to_file(radiograph.size)
        scores = {task: by_concept(self.models[task], outputs) for task, outputs in found.items()}
        return Prediction(
            scores=scores,
            concept=next(iter(scores.get("finding", {})), ""),
            lungs=examined.upright_labels(),
            anomaly_map=to_file.back(found["anomaly"]["map"]) if "anomaly" in found else None,
            quality=examined.quality,
            cut=cut.how,
            quality_flags=examined.quality_flags,
            seen=examined.image,
            labels=examined.lungs.labels,
            region=cut,
            placements=self._placements(cut.image, found),
        )

    def _placements(
        self, image: np.ndarray, found: Mapping[str, Mapping[str, np.ndarray]]
    ) -> dict[str, Placement]:
        """Place an image in the domain of each task's model, and of those before it."""
        placed: dict[str, Placement] = {}
        for task, outputs in found.items():
            own = self.models[task].place(image, outputs)
            before = list(placed.values())
            placed[task] = farther(before[-1], own) if before else own
        return placed


# ---------------------------------------------------------------------------------------- the step


def made_from(run: Run, recipe: Recipe) -> Inputs:
    """Return the digests of models, crops, split and orientation features, or of the folds."""
    if folds := division.folds(run):
        return {
            "folds": [fold.made("predict") for fold in folds],
            "split": run.made("split"),
            "version": VERSION,
        }
    return {
        "train": run.made("train"),
        "crop": run.made("crop"),
        "split": run.made("split"),
        "orientation": [orientation.digest(), run.made("audit")[audit.ORIENTATION]],
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> StepResult:
    """Score the tune and test parts, or pool the scores of the folds' test parts."""
    if folds := division.folds(run):
        return _pooled(run, folds)
    table = run.table("split", "split.parquet").filter(pl.col("part") != "train")
    regions = crop.Crops.of(run, recipe.crop.size)
    places = regions.rows(table["image_id"])
    models = {
        task: OnnxModel(run.file("train", file), run.folder)
        for task, file in STAGES.items()
        if file in run.made("train")
    }
    flags = quality_flags(run.table("audit", audit.ORIENTATION), table["image_id"])
    images = dict(zip(table["image_id"], map(int, places), strict=True))
    answers = _sharded.results(
        run / "predict",
        Scoring(models, regions.images),
        images,
        progress,
        made_from=made_from(run, recipe),
    )
    rows = {task: list[list[object]]() for task in models}
    maps = np.empty((len(answers) * ("anomaly" in models), MAP, MAP), np.float16)
    parts = table.select("image_id", "part").iter_rows()
    for place, ((image_id, part), answer) in enumerate(zip(parts, answers, strict=True)):
        of_tasks: dict[str, Answer] = json.loads(answer)
        for task, one in of_tasks.items():
            about = [flags[image_id], one["percentile"], one["reason"]]
            rows[task] += [
                [image_id, part, task, concept, score, *about]
                for concept, score in one["scores"].items()
            ]
            if one["map"]:
                stored = np.frombuffer(base64.b64decode(one["map"]), np.float16)
                maps[place] = stored.reshape(MAP, MAP)
    scores = [row for of_task in rows.values() for row in of_task]
    _write(run, pl.DataFrame(scores, schema=COLUMNS, orient="row"), maps)
    counts = {
        "scores": len(scores),
        "of images": table.height,
        "images with quality flags": sum(map(bool, flags.values())),
    }
    return StepResult(digests(run, [SCORES, MAPS]), counts)


def _write(run: Run, scores: pl.DataFrame, maps: np.ndarray) -> None:
    storage.write_table(run / SCORES, scores)
    stream = io.BytesIO()
    np.save(stream, maps)
    storage.write_bytes(run / MAPS, stream.getvalue())


def _pooled(run: Run, folds: Sequence[Run]) -> StepResult:
    """Pool the scores of each fold's test part, and the maps in their order."""
    pooled, maps = pool(folds), []
    for fold in folds:
        anomalies = fold.table("predict", SCORES).filter(pl.col("task") == "anomaly")
        maps.append(
            storage.read_array(fold.file("predict", MAPS))[(anomalies["part"] == "test").to_numpy()]
        )
    _write(run, pooled, np.concatenate(maps))
    flagged = pooled.filter(pl.col("quality_flags") != "")["image_id"].n_unique()
    counts = {
        "scores": pooled.height,
        "of images": pooled["image_id"].n_unique(),
        "images with quality flags": flagged,
        "folds": len(folds),
    }
    return StepResult(digests(run, [SCORES, MAPS]), counts)


def pool(folds: Sequence[Run]) -> pl.DataFrame:
    """Return the scores of each fold's test part, fold by fold, with `fold`."""
    scored = [
        fold.table("predict", SCORES).with_columns(fold=pl.lit(number, pl.Int64))
        for number, fold in enumerate(folds)
    ]
    return pl.concat(scored).filter(pl.col("part") == "test")


def quality_flags(features: pl.DataFrame, image_ids: pl.Series) -> dict[str, str]:
    """Return the faults that each image may have, comma separated, by image id.

    `features`: image_id and `orientation.FEATURES`, as the step audit stored them.
    """
    chosen = features.filter(pl.col("image_id").is_in(image_ids.implode()))
    each = zip(chosen["image_id"], orientation.quality_flags(chosen), strict=True)
    return {image_id: ", ".join(one.fault for one in flags) for image_id, flags in each}
