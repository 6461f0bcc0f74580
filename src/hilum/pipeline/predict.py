"""Predict: scores of the tune and test parts, and of any file, by ONNX Runtime alone.

    scores.parquet     image_id, part, stage (finding: a row each concept that the classifier knows; anomaly: one, of the leading finding),
                       concept, score, doubts (of the picture, comma separated; empty for a picture as the models want it, see `hilum.inference.orientation`)
    predict/maps.npy   float16 (n, MAP, MAP): anomaly maps, in the order of the anomaly rows of scores.parquet

Of a cross-validated run scores.parquet is pooled from its folds: each image once, in part test, with
`fold`, the one whose models gave the score.

Every picture of the run is looked at before it is scored. One that seems inverted, turned, mirrored, empty or no chest is scored and its
doubts are told beside the score; of other files `hilum.runs.predict_images` refuses these. A file's score is found by the very functions that made
the run's, so a picture of the test part scores the same either way.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.config import Recipe
from hilum.errors import BadData, Mismatch
from hilum.imaging.files import dicom, image_file, raster
from hilum.imaging.geometry import resize
from hilum.imaging.radiograph import Radiograph
from hilum.inference import acceptance, lung_crop, orientation
from hilum.inference.examination import examine
from hilum.inference.onnx_model import OnnxModel
from hilum.pipeline import cache, crop, division, segment, train
from hilum.pipeline._training import digests
from hilum.progress import Progress
from hilum.run_folder import Run

VERSION = 3
MAP = 56  # side of the stored anomaly maps: finer than the models' own grids
SCORES, MAPS = "scores.parquet", "predict/maps.npy"
COLUMNS = {
    "image_id": pl.String,
    "part": pl.String,
    "task": pl.String,
    "concept": pl.String,
    "score": pl.Float64,
    "quality_flags": pl.String,
}  # and fold, see `pool`
STAGES = {"finding": train.FINDING, "anomaly": train.ANOMALY}


@dataclass(frozen=True)
class Prediction:
    """What a run's models say of one file. Masks and maps are in the file's own pixels."""

    scores: Mapping[
        str, Mapping[str, float]
    ]  # by stage and concept, the leading finding first; a score is not a probability
    concept: str  # the leading finding
    lungs: np.ndarray  # uint8 (height, width): 0, 1 right, 2 left
    anomaly_map: np.ndarray | None  # float32 (height, width), 0 outside the region
    quality: float  # of the lungs, see `hilum.inference.lung_finder`
    cut: str  # what the scores are of, one of `region.CUTS`
    quality_flags: tuple[
        orientation.QualityFlag, ...
    ]  # why the picture may not be what the models want
    seen: np.ndarray  # the image as the cache would hold it, uint8 (size, size)
    labels: np.ndarray  # its lungs, uint8 (size, size)
    region: lung_crop.Cut  # what the finding and anomaly models were shown


@dataclass(frozen=True)
class RunModels:
    """A run's models, to be asked about files."""

    run: Run
    recipe: Recipe

    @classmethod
    def of(cls, run: Run) -> RunModels:
        recipe = run.recipe()
        run.made("train")
        return cls(run, recipe)

    @cached_property
    def models(self) -> dict[str, OnnxModel]:
        files = {"lungs": f"segment/{segment.WHOLE}.onnx", **STAGES}
        made = {step: self.run.made(step) for step in ("segment", "train")}
        found = {
            stage: OnnxModel(self.run.file(step, file), self.run.folder)
            for stage, file in files.items()
            for step in made
            if file in made[step]
        }
        for stage, model in found.items():
            content, size = (
                ("whole", self.recipe.pixels.size)
                if stage == "lungs"
                else ("crop", self.recipe.crop.size)
            )
            if wrong := model.contract.mismatches(
                content=content, size=size, normalisation=self.recipe.pixels.normalisation
            ):
                raise Mismatch(
                    f"{model.path} does not fit the run's recipe: {'; '.join(wrong)}; train it again with `hilum train`"
                )
        return found

    @cached_property
    def typical(self) -> dict[str, float]:
        return self.run.json("crop", crop.TYPICAL)

    def read(self, path: Path) -> Prediction:
        """Raises `BadData` where the file cannot be read, cannot show a chest by its size, or all its pixels are alike."""
        return self.of_file(path, image_file.read(path))

    def of_file(self, path: Path, file: raster.Raster | dicom.Dicom) -> Prediction:
        """As `read`, of a file that was read."""
        radiograph = file.radiograph()
        if wrong := acceptance.impossible_size(radiograph.size):
            raise BadData(f"{path}: {wrong}")
        if radiograph.stored_values.min() == radiograph.stored_values.max():
            raise BadData(
                f"{path}: every pixel has the same value, so there is nothing to score; export the picture again from its source"
            )
        found = self.examine(radiograph)
        heat = None if found.anomaly_map is None else image_file.to_native(file, found.anomaly_map)
        return replace(
            found, lungs=image_file.to_native(file, found.lungs, labels=True), anomaly_map=heat
        )

    def examine(self, radiograph: Radiograph) -> Prediction:
        """Score a radiograph; masks and maps are in its pixels, upright."""
        examination = examine(radiograph, self.models.get("lungs"), self.recipe.pixels)
        cut = examination.crop(self.recipe.crop, self.typical)
        found = {stage: self.models[stage](cut.image) for stage in STAGES if stage in self.models}
        heat = (
            cut.to_file(radiograph.size).back(found["anomaly"]["map"])
            if "anomaly" in found
            else None
        )
        scores = {
            stage: _by_concept(self.models[stage], outputs) for stage, outputs in found.items()
        }
        concept = next(iter(scores.get("finding", {})), "")
        return Prediction(
            scores,
            concept,
            examination.upright_labels(),
            heat,
            examination.quality,
            cut.how,
            examination.quality_flags,
            examination.image,
            examination.lungs.labels,
            cut,
        )


def _by_concept(model: OnnxModel, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    return dict(zip(model.contract.concepts, np.atleast_1d(outputs["score"]).tolist(), strict=True))


# ------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
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
        "orientation": orientation.digest(),
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    if folds := division.folds(run):
        return _pooled(run, folds)
    table = run.table("split", "split.parquet").filter(pl.col("part") != "train")
    regions = crop.Crops.of(run, recipe.crop.size)
    places = regions.rows(table["image_id"])
    models = {
        stage: OnnxModel(run.file("train", file), run.folder)
        for stage, file in STAGES.items()
        if file in run.made("train")
    }
    doubts = flagged(cache.opened(run, recipe), table["image_id"])
    scores, maps = [], []
    for index, (stage, model) in enumerate(models.items()):
        for number, (image_id, part) in enumerate(table.select("image_id", "part").iter_rows()):
            found = model(regions.images[places[number]])
            scores += [
                [image_id, part, stage, concept, score, doubts[image_id]]
                for concept, score in _by_concept(model, found).items()
            ]
            if stage == "anomaly":
                maps.append(resize(found["map"], (MAP, MAP)).astype(np.float16))
            progress(index * table.height + number + 1, len(models) * table.height)
    _write(
        run,
        pl.DataFrame(scores, schema=COLUMNS, orient="row"),
        np.stack(maps) if maps else np.zeros((0, MAP, MAP), np.float16),
    )
    return digests(run, [SCORES, MAPS]), {
        "scores": len(scores),
        "of images": table.height,
        "doubtful images": sum(map(bool, doubts.values())),
    }


def _write(run: Run, scores: pl.DataFrame, maps: np.ndarray) -> None:
    storage.write_table(run / SCORES, scores)
    stream = io.BytesIO()
    np.save(stream, maps)
    storage.write_bytes(run / MAPS, stream.getvalue())


def _pooled(run: Run, folds: Sequence[Run]) -> tuple[dict[str, str], dict[str, Any]]:
    """Pool the scores of each fold's test part, and the maps in their order."""
    pooled, maps = pool(folds), []
    for fold in folds:
        anomalies = fold.table("predict", SCORES).filter(pl.col("task") == "anomaly")
        maps.append(
            storage.read_array(fold.file("predict", MAPS))[(anomalies["part"] == "test").to_numpy()]
        )
    _write(run, pooled, np.concatenate(maps))
    doubtful = pooled.filter(pl.col("quality_flags") != "")["image_id"].n_unique()
    return digests(run, [SCORES, MAPS]), {
        "scores": pooled.height,
        "of images": pooled["image_id"].n_unique(),
        "doubtful images": doubtful,
        "folds": len(folds),
    }


def pool(folds: Sequence[Run]) -> pl.DataFrame:
    """Return the scores of each fold's test part, fold by fold, with `fold`."""
    scored = [
        fold.table("predict", SCORES).with_columns(fold=pl.lit(number, pl.Int64))
        for number, fold in enumerate(folds)
    ]
    return pl.concat(scored).filter(pl.col("part") == "test")


def flagged(cached: cache.Cache, image_ids: pl.Series) -> dict[str, str]:
    """The faults that are doubted of each image, comma separated."""
    looks = orientation.describe_cache(
        cached, cached.index.filter(pl.col("image_id").is_in(image_ids.implode()))
    )
    return {
        image_id: ", ".join(one.fault for one in doubts)
        for image_id, doubts in zip(
            looks["image_id"], orientation.quality_flags(looks), strict=True
        )
    }
