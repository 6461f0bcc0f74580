"""Train: a classifier of the findings, and an anomaly model of images without the leading finding.

Both are trained on the training part's regions (`hilum.pipeline.crop`).

    train/finding.onnx, train/anomaly.onnx   the models
                                             and what the training part is like
                                             (`hilum.pipeline.training_domain`)
    train/training.parquet                   model, image_id: what each was trained on

The recipe says how an uncertain label and a finding that is not mentioned are trained on, and
the summary counts what became of them, see `hilum.pipeline.label_policy`. The tune part, where
it is large enough, decides which weights are kept; its labels count as they are. Without a
finding that has both states neither model can be trained, and both are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations.vocabulary import State
from hilum.config import ALL, Recipe
from hilum.dataset.manifest import Manifest
from hilum.inference.domain import Domain
from hilum.inference.onnx_model import OnnxModel
from hilum.pipeline import division, label_policy, split
from hilum.pipeline._training import TRAINING, TrainingJob, digests
from hilum.pipeline.crop import Crops
from hilum.pipeline.division import Division
from hilum.pipeline.label_policy import Targets
from hilum.pipeline.step import Inputs, StepResult, Summary
from hilum.pipeline.training_domain import fit_domain
from hilum.pipeline.truth import truths
from hilum.progress import Progress, portion
from hilum.run_folder import Run
from hilum.storage import integrity
from hilum.training.settings import BALANCED

VERSION = 8
Describe = Callable[[OnnxModel], Domain | None]
FINDING, ANOMALY = "train/finding.onnx", "train/anomaly.onnx"


def made_from(run: Run, recipe: Recipe) -> Inputs:
    """Return the digests of split, labels, regions and initial weights, and the settings."""
    return {
        "split": run.made("split")["split.parquet"],
        "division": integrity.digest_of(run.data / division.FILE),
        "labels": run.made("ingest")["manifest.parquet"],
        "crop": run.made("crop"),
        "classify": recipe.section("classify"),
        "anomaly": recipe.section("anomaly"),
        "weights": _weights(recipe),
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> StepResult:
    """Train both models, or none where there is no finding to train on."""
    decided = Division.of(run)
    if decided.trained is None:
        _write_training(run, {})
        reason = {"model": "none", "reason": _why_none(decided)}
        return StepResult(digests(run, [f"train/{TRAINING}"]), reason)
    manifest, concept = run.manifest(), decided.trained
    of_part = _images_of_parts(run)
    absent = truths(manifest, [concept]).filter(pl.col("state") == State.ABSENT)["image_id"]
    normal = of_part["train"].filter(of_part["train"].is_in(absent.implode()))
    training, tuning, said = train_targets(manifest, of_part, recipe, decided, concept)
    _write_training(run, {FINDING: training.image_ids, ANOMALY: normal})
    regions = Crops.of(run, recipe.crop.size)
    shared = {"crop": run.made("crop"), "version": VERSION}
    sources = _sources(manifest, training.image_ids, recipe)
    of_finding = {
        **shared,
        "classify": recipe.section("classify"),
        "weights": _weights(recipe),
        "training": _digest(training),
        "watched": _digest(tuning),
    }
    if sources is not None:
        of_finding["sources"] = storage.digest(sources.to_list())
    watch = portion(progress, 0, 2)
    describe = _describing(manifest, regions, training.image_ids, of_part["tune"])
    job = _finding(recipe, training, sources, tuning, regions, describe)
    job.run(run, of_finding, watch)
    of_anomaly = {
        **shared,
        "anomaly": recipe.section("anomaly"),
        "described": _digest(training),
    }
    watch = portion(progress, 1, 2)
    _anomaly(recipe, concept, normal, regions, describe).run(run, of_anomaly, watch)
    counts = {
        "finding": concept,
        "classifier": recipe.classify.model,
        "trained on images": len(training.image_ids),
        **said,
        "anomaly model": recipe.anomaly.model,
        "fitted on normal images": normal.len(),
    }
    return StepResult(digests(run, [FINDING, ANOMALY, f"train/{TRAINING}"]), counts)


def _describing(
    manifest: Manifest, regions: Crops, trained: pl.Series, tune: pl.Series
) -> Describe:
    """Return a function that fits a model's domain to the regions of the training part."""
    of_patient = manifest.table.select("image_id", "patient_id")
    patients = trained.to_frame("image_id").join(
        of_patient, on="image_id", how="left", maintain_order="left"
    )["patient_id"]

    def describe(model: OnnxModel) -> Domain | None:
        """Fit the domain."""
        rows, held = regions.rows(trained), regions.rows(tune)
        return fit_domain(model, regions.images, rows, held, patients)

    return describe


def _images_of_parts(run: Run) -> dict[str, pl.Series]:
    """Return image_id of train and tune, by part."""
    table = run.table("split", "split.parquet")
    return {part: table.filter(pl.col("part") == part)["image_id"] for part in ("train", "tune")}


def _write_training(run: Run, image_ids: Mapping[str, pl.Series]) -> None:
    """Write what each model is trained on, once it is sure that nothing leaks."""
    training = pl.DataFrame(
        [(file, image_id) for file, of_file in image_ids.items() for image_id in of_file],
        schema={"model": pl.String, "image_id": pl.String},
        orient="row",
    )
    table = run.table("split", "split.parquet")
    split.refuse_leak(table, training, "the classifier or the anomaly model")
    storage.write_table(run / "train" / TRAINING, training)


def _why_none(decided: Division) -> str:
    if not decided.finding:
        return "no finding is both present and absent on some images"
    return f"too few patients: {decided.too_rare.get(decided.finding, decided.why)}"


def train_targets(
    manifest: Manifest,
    of_part: Mapping[str, pl.Series],
    recipe: Recipe,
    decided: Division,
    leading: str,
) -> tuple[Targets, Targets, Summary]:
    """Return the targets of the train part, those of the tune part, and what became of labels."""
    settings = recipe.classify
    wanted = label_policy.wanted(manifest, leading, settings)
    concepts = wanted if decided.concepts is None else decided.concepts
    whole = label_policy.targets(
        manifest, concepts, uncertain=settings.uncertain, unmentioned=settings.unmentioned
    ).of(of_part["train"])
    kept = list(concepts)
    # A concept that cannot be trained on is refused by the model if the recipe names it; where the
    # recipe says "all", it is left out here.
    if settings.other_findings == (ALL,) and decided.concepts is None:
        kept = [leading, *(one for one in whole.learnable() if one != leading)]
    training = whole.only(kept)
    said: Summary = {"labels trained on": training.report()}
    if left_out := [concept for concept in concepts if concept not in kept]:
        said["left out, as the training part has not both states"] = ", ".join(left_out)
    tuning = label_policy.targets(manifest, kept).of(of_part["tune"])
    return _known(training), _known(tuning), said


def _known(all_of: Targets) -> Targets:
    """Return the targets of images of which something is known."""
    rows = np.flatnonzero(np.count_nonzero(~np.isnan(all_of.values), axis=1))
    return all_of.of(all_of.image_ids.gather(rows))


def _sources(manifest: Manifest, image_ids: pl.Series, recipe: Recipe) -> pl.Series | None:
    """Return the source of each image where the recipe balances them; None otherwise."""
    if recipe.classify.settings.get("sampling") != BALANCED:
        return None
    of_image = manifest.table.select("image_id", "source")
    return image_ids.to_frame("image_id").join(
        of_image, on="image_id", how="left", maintain_order="left"
    )["source"]


def _digest(some: Targets) -> str:
    return storage.digest([some.image_ids.to_list(), storage.digest(some.values.tobytes())])


def _weights(recipe: Recipe) -> str | None:
    """Return the digest of the weights that the classifier starts from.

    None: it starts from none, or the file is not there, which the model refuses.
    """
    named = str(recipe.classify.settings.get("weights") or "")
    return storage.digest_of_file(Path(named)) if named and Path(named).is_file() else None


def _finding(
    recipe: Recipe,
    training: Targets,
    sources: pl.Series | None,
    tuning: Targets,
    regions: Crops,
    describe: Describe,
) -> TrainingJob:
    epochs: list[Any] = []

    def fit(module, settings, checkpoint, progress):
        """Train on the regions of the training part."""
        rows, tune = regions.rows(training.image_ids), regions.rows(tuning.image_ids)
        labels = np.full((len(regions.images), len(training.concepts)), np.nan, np.float32)
        labels[rows], labels[tune] = training.values, tuning.values
        return module.fit(
            regions.images,
            labels,
            rows,
            settings,
            tune=tune,
            on_epoch=epochs.append,
            concepts=training.concepts,
            seed=recipe.classify.seed,
            checkpoint=checkpoint,
            progress=progress,
            **({} if sources is None else {"sources": sources.to_numpy()}),
        )

    images = training.image_ids.to_list()
    return TrainingJob(
        FINDING,
        recipe.classify,
        recipe.crop.size,
        "crop",
        recipe.pixels.normalisation,
        images,
        fit,
        training.concepts,
        epochs,
        describe,
    )


def _anomaly(
    recipe: Recipe,
    concept: str,
    normal: pl.Series,
    regions: Crops,
    describe: Describe,
) -> TrainingJob:
    def fit(module, settings, checkpoint, progress):
        """Train on the regions of the training part."""
        return module.fit(
            regions.images,
            regions.rows(normal),
            settings,
            seed=recipe.anomaly.seed,
            progress=progress,
        )

    return TrainingJob(
        ANOMALY,
        recipe.anomaly,
        recipe.crop.size,
        "crop",
        recipe.pixels.normalisation,
        normal.to_list(),
        fit,
        (concept,),
        describe=describe,
    )
