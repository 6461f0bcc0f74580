"""Evaluate: figures with their intervals, from scores and masks alone; no model is run.

    metrics.parquet   one row a figure, see `hilum.pipeline.evaluation.estimate`; those of scores:
                      `hilum.pipeline.evaluation.classification`, those of lungs:
                      `hilum.pipeline.evaluation.segmentation`
    overlap.parquet   of predicted lungs against reference masks, in the cached pixels: image_id,
                      part, source, side, dice, iou, precision, recall, and hausdorff95 and
                      average_distance, each in _pixels and _mm
    overlap_in_file.parquet   the same of test images in the pixels of their files
                      (`hilum.pipeline.evaluation.file_grid`)
    calibration.json  by task and concept, fitted on the tune part alone: the threshold (Youden)
                      that the test part's figures use, temperature with bias and isotonic corners
                      (`hilum.statistics.calibration`), and why what is missing is missing
    fold_calibration.json   of a cross-validated run (`hilum.pipeline.division`) the same by fold,
                      fitted on the fold's own tune part, which the figures use; calibration.json
                      is then fitted on the pooled scores, for the final models, which are trained
                      on all images

    left_out_scores.parquet   with `[evaluate] leave_out = "source"` the labelled scores of each
                      source by models trained without it (`hilum.pipeline.left_out`), with fold
                      (the number of its run), source, group, state and what was chosen for them

Intervals resample patients (groups of the split), not images; `n_undefined` counts the resamples in
which a metric is undefined. First of all the step proves that no image of tune or test, nor another
image of their patients, was in the training of any stage. Where a recipe asks for the pretrained
lung model although it was trained on some of the images, figures of lungs leave their patients out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from hilum import storage
from hilum.config import Recipe
from hilum.dataset.manifest import Manifest
from hilum.errors import Mismatch
from hilum.pipeline import division, left_out, predict, split
from hilum.pipeline._training import TRAINING, digests
from hilum.pipeline.evaluation import classification, file_grid, left_out_figures
from hilum.pipeline.evaluation.estimate import ALL, ESTIMATE, EstimateRow
from hilum.pipeline.evaluation.run_tables import RunLungs, fitted_on_tune, people, unseen
from hilum.pipeline.evaluation.segmentation import (
    BOTH,
    CACHED,
    DISTANCES,
    FILE,
    file_spacing,
    lung_figures,
    overlaps,
)
from hilum.pipeline.evaluation.transferred_scores import TransferredScores
from hilum.pipeline.step import Inputs, StepResult, Summary
from hilum.pipeline.truth import by_image, truths
from hilum.progress import Progress, quietly
from hilum.run_folder import Run

__all__ = [
    "ALL",
    "BOTH",
    "CACHED",
    "CALIBRATION",
    "DISTANCES",
    "ESTIMATE",
    "FILE",
    "METRICS",
    "OVERLAP",
    "OVERLAP_IN_FILE",
    "figures",
    "file_spacing",
    "lung_figures",
    "overlaps",
    "refuse_leaks",
    "truths",
    "unseen",
]

VERSION = 7
METRICS, CALIBRATION, OF_FOLDS = "metrics.parquet", "calibration.json", "fold_calibration.json"
OVERLAP, OVERLAP_IN_FILE = "overlap.parquet", "overlap_in_file.parquet"
LEFT_OUT = "left_out_scores.parquet"


class Figures(NamedTuple):
    """All figures of a run, what they were computed from, and what was fitted on tune parts."""

    metrics: pl.DataFrame
    overlap: pl.DataFrame
    overlap_in_file: pl.DataFrame
    unreadable: tuple[str, ...]  # image_id, not measured in the file's pixels
    calibration: classification.Calibrations
    of_folds: dict[int, classification.Calibrations]  # {} where there is one split
    left_out: pl.DataFrame  # see `LeftOut.scores`


def refuse_leaks(run: Run, table: pl.DataFrame) -> None:
    """Raise `Mismatch` where a stage of the run, or of a fold, was trained on its tune or test
    part.
    """
    for stage in ("segment", "train"):
        split.refuse_leak(table, run.table(stage, f"{stage}/{TRAINING}"), f"stage '{stage}'")
    for source, one in left_out.runs(run, run.recipe()):
        parts = one.table("split", "split.parquet")
        for stage in ("segment", "train"):
            training = one.table(stage, f"{stage}/{TRAINING}")
            split.refuse_leak(parts, training, f"stage '{stage}' without {source}")
    folds = division.folds(run)
    if not folds:
        return
    fold_counts = table.group_by("group").agg(pl.col("fold").n_unique())
    torn = fold_counts.filter(pl.col("fold") > 1)["group"].sort().to_list()
    if torn:
        raise Mismatch(
            f"patients are in several folds: {', '.join(torn[:5])}; make the split again with "
            f"`hilum split`"
        )
    for number, fold in enumerate(folds):
        parts = fold.table("split", "split.parquet")
        tested = parts.filter(pl.col("part") == "test")["image_id"]
        expected = table.filter(pl.col("fold") == number)["image_id"]
        if set(tested) != set(expected):
            raise Mismatch(
                f"the test part of fold {number} differs from the images that split.parquet "
                f"assigns "
                f"to it; make the split again with `hilum split`"
            )
        for stage in ("segment", "train"):
            training = fold.table(stage, f"{stage}/{TRAINING}")
            split.refuse_leak(parts, training, f"stage '{stage}' of fold {number}")


def figures(
    run: Run,
    recipe: Recipe,
    progress: Progress = quietly,
    *,
    in_file: pl.DataFrame | None = None,
) -> Figures:
    """Compute all figures of a run whose scores and masks are there.

    `in_file`: the rows of `overlap_in_file.parquet` where they are there, so that no image file is
    read; None measures them. Raises `Mismatch` where a stage was trained on what it is tested on.
    """
    table, manifest = run.table("split", "split.parquet"), run.manifest()
    refuse_leaks(run, table)
    lungs = [RunLungs.of(one, recipe, manifest) for one in division.folds(run) or [run]]
    per_image = pl.concat([one.in_cache() for one in lungs])
    progress(1, 3)
    unreadable: tuple[str, ...] = ()
    if in_file is None:
        measured = [one.in_files() for one in lungs]
        in_file = pl.concat([one.per_image for one in measured])
        unreadable = tuple(image_id for one in measured for image_id in one.unreadable)
    progress(2, 3)
    of_lungs = [
        *lung_figures(per_image, table, recipe.evaluate, CACHED),
        *lung_figures(in_file, table, recipe.evaluate, FILE),
    ]
    of_scores, fitted, of_folds = _of_scores(run, recipe, manifest, table)
    without = left_out_figures.figures(run, recipe, manifest)
    metrics = as_table([*of_lungs, *of_scores, *without.rows])
    return Figures(metrics, per_image, in_file, unreadable, fitted, of_folds, without.scores)


def _of_scores(
    run: Run, recipe: Recipe, manifest: Manifest, table: pl.DataFrame
) -> tuple[list[EstimateRow], classification.Calibrations, dict[int, classification.Calibrations]]:
    """Return the figures of scores, and what was fitted on the tune part, or on each fold's."""
    scores, folds = run.stored("predict", predict.SCORES), division.folds(run)
    if folds:
        _refuse_another_pool(scores.table(), folds)
    of_folds = {number: fitted_on_tune(fold, manifest) for number, fold in enumerate(folds)}
    images, concepts = (
        scores.scan().select(one).unique().collect()[one] for one in ("image_id", "concept")
    )
    found, fitted = classification.figures(
        scores.scan(),
        people(manifest, table, images),
        by_image(manifest, concepts, images),
        recipe.evaluate,
        of_folds if folds else None,
    )
    return found, fitted, of_folds


def _refuse_another_pool(scores: pl.DataFrame, folds: Sequence[Run]) -> None:
    if not scores.equals(predict.pool(folds)):
        raise Mismatch(
            f"{predict.SCORES} differs from the scores of the folds' models; make it again with "
            f"`hilum predict`"
        )
    if scores.select("image_id", "task", "concept").is_duplicated().any():
        raise Mismatch(
            f"{predict.SCORES} scores an image twice; make the folds again with `hilum split`"
        )


def transferred(run: Run, scores: pl.DataFrame) -> pl.DataFrame:
    """Add calls and probabilities to a finished run's scores, see `classification.transfer`."""
    return classification.transfer(scores, _fitted(run))


def transferred_scores(run: Run) -> TransferredScores:
    """Return a finished run's scores, with calls and probabilities where they are read."""
    return TransferredScores(run.stored("predict", predict.SCORES).scan(), _fitted(run))


def _fitted(run: Run) -> dict[int | None, classification.Calibrations]:
    """Return what was fitted by the fold whose tune part it was, None where there is one split."""
    if not division.folds(run):
        return {None: run.json("evaluate", CALIBRATION)}
    return {int(number): one for number, one in run.json("evaluate", OF_FOLDS).items()}


def as_table(found: Iterable[EstimateRow]) -> pl.DataFrame:
    """Return figures as rows of `ESTIMATE`; a column not given is "" or null, as each is
    described.
    """
    empty: EstimateRow = {"concept": "", "grid": "", "warning": ""}
    rows = [{**empty, **one} for one in found]
    return pl.DataFrame(
        [{name: row.get(name) for name in ESTIMATE} for row in rows], schema=ESTIMATE
    )


# ---------------------------------------------------------------------------------------- the step


def made_from(run: Run, recipe: Recipe) -> Inputs:
    """Return the digests of all earlier results that the figures depend on, and the settings."""
    steps = ("ingest", "split", "cache", "segment", "train", "predict")
    made: Inputs = {step: run.made(step) for step in steps}
    if folds := division.folds(run):
        made["folds"] = [fold.made("segment") for fold in folds]
    if without := left_out.runs(run, recipe):
        made["left_out"] = [
            {"source": source, **{step: one.made(step) for step in ("segment", "predict")}}
            for source, one in without
        ]
    return {**made, "evaluate": recipe.section("evaluate"), "version": VERSION}


def make(run: Run, recipe: Recipe, progress: Progress) -> StepResult:
    """Compute and write all figures."""
    found = figures(run, recipe, progress)
    storage.write_table(run / OVERLAP, found.overlap)
    storage.write_table(run / OVERLAP_IN_FILE, found.overlap_in_file)
    storage.write_json(run / CALIBRATION, found.calibration)
    storage.write_json(run / OF_FOLDS, found.of_folds)
    storage.write_table(run / LEFT_OUT, found.left_out)
    storage.write_table(run / METRICS, found.metrics)
    progress(3, 3)
    table = run.table("split", "split.parquet")
    said = summary(found.metrics, run.summary("split")["finding"])
    if left_out := table.height - unseen(run, table).height:
        said["not measured, the pretrained lung model was trained on these patients"] = (
            f"{left_out} images"
        )
    said |= _of_files(found)
    files = [METRICS, OVERLAP, OVERLAP_IN_FILE, CALIBRATION, OF_FOLDS, LEFT_OUT]
    return StepResult(digests(run, files), said)


def _of_files(found: Figures) -> Summary:
    """Say of how many images lungs were not measured in the file's own pixels, where of some."""
    in_cache, in_file = (
        table.filter((pl.col("side") == BOTH) & (pl.col("part") == "test")).height
        for table in (found.overlap, found.overlap_in_file)
    )
    if in_cache == in_file:
        return {}
    why = f"of a sample of {file_grid.MOST}"
    if found.unreadable:
        why = f"{len(found.unreadable)} files or masks can no longer be read"
    return {"lungs measured in the file's own pixels": f"{in_file} of {in_cache} images, {why}"}


def summary(metrics: pl.DataFrame, finding: str | None) -> Summary:
    """Summarise the test part's leading figures, with their intervals.

    Of several findings these are the leading one, `finding`, and the macro average.
    """
    leading = {
        ("lungs", "dice", CACHED): "lung Dice at the cached size",
        ("lungs", "dice", FILE): "lung Dice in the file's own pixels",
        ("finding", "auroc", ""): "finding AUROC",
        ("anomaly", "auroc", ""): "anomaly AUROC",
    }
    names = {"": "", finding or "": "", "macro": "macro "}
    said: Summary = {}
    whole = metrics.filter(
        (pl.col("part") == "test")
        & (pl.col("source") == ALL)
        & pl.col("side").is_in([BOTH, ""])
        & pl.col("concept").is_in(list(names))
    )
    for row in whole.iter_rows(named=True):
        if name := leading.get((row["task"], row["metric"], row["grid"])):
            value = f"{row['value']:.3f}"
            interval = f"({row['ci_low']:.3f} to {row['ci_high']:.3f}, {row['patients']} patients)"
            said[f"test {names[row['concept']]}{name}"] = (
                f"{value}, no interval: {row['reason']}" if row["reason"] else f"{value} {interval}"
            )
    said |= _left_out(metrics, leading, finding)
    if missed := ", ".join(_missed(metrics)):
        said["test lungs missed, without a distance"] = missed
    return said


def _left_out(
    metrics: pl.DataFrame, leading: Mapping[tuple[str, str, str], str], finding: str | None
) -> Summary:
    """Summarise the leading figures of sources that were left out, pooled."""
    rows = metrics.filter(
        (pl.col("part") == left_out.PART)
        & (pl.col("by") == ALL)
        & pl.col("side").is_in([BOTH, ""])
        & pl.col("concept").is_in(["", finding or ""])
    )
    said: Summary = {}
    for row in rows.iter_rows(named=True):
        if name := leading.get((row["task"], row["metric"], row["grid"])):
            interval = f"({row['ci_low']:.3f} to {row['ci_high']:.3f}, {row['patients']} patients)"
            said[f"{name} at sources left out"] = row["reason"] or f"{row['value']:.3f} {interval}"
    return said


def _missed(metrics: pl.DataFrame) -> Iterator[str]:
    """Say how many lungs of the test part were missed; the distances are means without these."""
    of_dice = (
        (pl.col("task") == "lungs")
        & (pl.col("grid") == CACHED)
        & (pl.col("part") == "test")
        & (pl.col("metric") == "dice")
        & (pl.col("source") == ALL)
    )
    sides = metrics.filter(of_dice & (pl.col("side") != BOTH) & (pl.col("missed") > 0))
    for row in sides.iter_rows(named=True):
        yield f"{row['side']} in {row['missed']} of {row['images']} images"
