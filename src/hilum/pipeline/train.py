"""Train: a classifier of the findings on the training part's regions, and an anomaly model on those without the leading finding.

    train/finding.onnx, train/anomaly.onnx   the models
    train/training.parquet                   model, image_id: what each was trained on

What the classifier learns from an uncertain label and from a finding that is not mentioned, the recipe says; how many images became what is
told, see `hilum.pipeline.label_policy`. The tune part, where it is large enough, says which weights are kept; its labels count as they are. Without a finding
that has both states neither model can be trained, and both are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations.vocabulary import State
from hilum.config import ALL, Recipe
from hilum.dataset.manifest import Manifest
from hilum.pipeline import division, label_policy, split
from hilum.pipeline._training import TRAINING, TrainingJob, digests
from hilum.pipeline.crop import Crops
from hilum.pipeline.division import Division
from hilum.pipeline.label_policy import Targets
from hilum.progress import Progress, portion
from hilum.run_folder import Run
from hilum.storage import integrity

VERSION = 5
FINDING, ANOMALY = "train/finding.onnx", "train/anomaly.onnx"


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
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


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    decided = Division.of(run)
    concept = decided.trained
    table = run.table("split", "split.parquet")
    normal = table.filter((pl.col("part") == "train") & (pl.col("state") == State.ABSENT))
    learnt, watched, told = (
        _lessons(run.manifest(), table, recipe, decided) if concept else (None, None, {})
    )
    taught = {FINDING: learnt.image_ids, ANOMALY: normal["image_id"]} if concept else {}
    training = pl.DataFrame(
        [(file, image_id) for file, image_ids in taught.items() for image_id in image_ids],
        schema={"model": pl.String, "image_id": pl.String},
        orient="row",
    )
    split.refuse_leak(table, training, "the classifier or the anomaly model")
    storage.write_table(run / "train" / TRAINING, training)
    if not concept:
        return digests(run, [f"train/{TRAINING}"]), {"model": "none", "reason": _why_none(decided)}
    regions = Crops.of(run, recipe.crop.size)
    made_of = {"crop": run.made("crop"), "version": VERSION}
    _finding(recipe, learnt, watched, regions, portion(progress, 0, 2)).run(
        run,
        {
            **made_of,
            "classify": recipe.section("classify"),
            "weights": _weights(recipe),
            "learnt": _digest(learnt),
            "watched": _digest(watched),
        },
    )
    _anomaly(recipe, concept, normal, regions, portion(progress, 1, 2)).run(
        run, {**made_of, "anomaly": recipe.section("anomaly")}
    )
    told = {
        "finding": concept,
        "classifier": recipe.classify.model,
        "trained on images": len(learnt.image_ids),
        **told,
        "anomaly model": recipe.anomaly.model,
        "fitted on normal images": normal.height,
    }
    return digests(run, [FINDING, ANOMALY, f"train/{TRAINING}"]), told


def _why_none(decided: Division) -> str:
    if not decided.finding:
        return "no finding is both present and absent on some images"
    return f"too few patients: {decided.too_rare.get(decided.finding, decided.why)}"


def _lessons(
    manifest: Manifest, table: pl.DataFrame, recipe: Recipe, decided: Division
) -> tuple[Targets, Targets, dict[str, Any]]:
    """What is trained on, what is only watched, and what a person should hear of both."""
    settings, leading = recipe.classify, decided.trained
    wanted = label_policy.wanted(manifest, leading, settings)
    concepts = wanted if decided.concepts is None else decided.concepts
    of_part = {part: table.filter(pl.col("part") == part)["image_id"] for part in ("train", "tune")}
    whole = label_policy.targets(
        manifest, concepts, uncertain=settings.uncertain, unmentioned=settings.unmentioned
    ).of(of_part["train"])
    # Asked for by name, a concept that cannot be learnt is refused by the model; asked for as one of all, it is left out.
    kept = (
        [leading, *(one for one in whole.learnable() if one != leading)]
        if settings.other_findings == (ALL,) and decided.concepts is None
        else concepts
    )
    learnt = whole.only(kept)
    told: dict[str, Any] = {"learnt from": learnt.report()}
    if left_out := [concept for concept in concepts if concept not in kept]:
        told["left out, as the training part has not both states"] = ", ".join(left_out)
    return _known(learnt), _known(label_policy.targets(manifest, kept).of(of_part["tune"])), told


def _known(all_of: Targets) -> Targets:
    """The images of which something is known."""
    return all_of.of(all_of.image_ids.filter(~np.isnan(all_of.values).all(1)))


def _digest(some: Targets) -> str:
    return storage.digest([some.image_ids.to_list(), storage.digest(some.values.tobytes())])


def _weights(recipe: Recipe) -> str | None:
    """The digest of the file that the classifier starts from; None: it starts from none, or it is not there, which the model refuses."""
    named = recipe.classify.settings.get("weights")
    return storage.digest_of_file(Path(named)) if named and Path(named).is_file() else None


def _finding(
    recipe: Recipe, learnt: Targets, watched: Targets, regions: Crops, progress: Progress
) -> TrainingJob:
    epochs: list[Any] = []

    def fit(module, settings, checkpoint):
        rows, tune = regions.rows(learnt.image_ids), regions.rows(watched.image_ids)
        truth = np.full((len(regions.images), len(learnt.concepts)), np.nan, np.float32)
        truth[rows], truth[tune] = learnt.values, watched.values
        told = {
            "concepts": learnt.concepts,
            "seed": recipe.classify.seed,
            "checkpoint": checkpoint,
            "progress": progress,
        }
        return module.fit(
            regions.images, truth, rows, settings, tune=tune, on_epoch=epochs.append, **told
        )

    images = learnt.image_ids.to_list()
    return TrainingJob(
        FINDING,
        recipe.classify,
        recipe.crop.size,
        "crop",
        recipe.pixels.normalisation,
        images,
        fit,
        learnt.concepts,
        epochs,
    )


def _anomaly(
    recipe: Recipe, concept: str, normal: pl.DataFrame, regions: Crops, progress: Progress
) -> TrainingJob:
    def fit(module, settings, checkpoint):
        return module.fit(
            regions.images,
            regions.rows(normal["image_id"]),
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
        normal["image_id"].to_list(),
        fit,
        (concept,),
    )
