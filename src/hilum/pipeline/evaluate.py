"""Evaluate: figures with their doubt, from scores and masks alone; it never sees a model.

    metrics.parquet   one row a figure, see `hilum.pipeline.evaluation.estimate`; what is measured of scores: `hilum.pipeline.evaluation.classification`
    overlap.parquet   image_id, part, source, side, dice, iou, precision, recall, and hausdorff95 and average_distance, each in _pixels
                      and _mm: found lungs against drawn ones, in the cached pictures
    calibration.json  by stage and concept, fitted on the tune part alone: the threshold (Youden) that the test part's figures use, temperature
                      with bias and isotonic corners (`hilum.statistics.calibration`), and why what is missing is missing
    fold_calibration.json   of a cross-validated run (`hilum.pipeline.division`) the same by fold, fitted on
                      the fold's own tune part, which the figures use; calibration.json is then fitted
                      on the pooled scores, for the final models, which are trained on all images

Intervals resample patients (groups of the split), not images. `undefined` counts the resamples in which a figure had no meaning.
First it holds the run to its promise: no image of tune or test, nor of their patients, was in the training of any stage. Where a recipe asks
for the lung model that comes with Hilum although it has learnt from some of the images, figures of lungs leave their patients out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from hilum import storage
from hilum.config import Recipe
from hilum.dataset.manifest import Manifest
from hilum.errors import Mismatch
from hilum.pipeline import cache, division, predict, segment, split
from hilum.pipeline._training import TRAINING, digests
from hilum.pipeline.evaluation import classification as of_scores
from hilum.pipeline.evaluation.estimate import ALL, ESTIMATE, banded
from hilum.pipeline.evaluation.segmentation import (
    BOTH,
    DISTANCES,
    file_spacing,
    lung_figures,
    overlaps,
)
from hilum.progress import Progress, quietly
from hilum.run_folder import Run

__all__ = [
    "ALL",
    "BOTH",
    "CALIBRATION",
    "DISTANCES",
    "ESTIMATE",
    "METRICS",
    "OVERLAP",
    "figures",
    "file_spacing",
    "lung_figures",
    "overlaps",
    "refuse_leaks",
    "truths",
    "unseen",
]

VERSION = 4
METRICS, OVERLAP, CALIBRATION, OF_FOLDS = (
    "metrics.parquet",
    "overlap.parquet",
    "calibration.json",
    "fold_calibration.json",
)


class Figures(NamedTuple):
    metrics: pl.DataFrame
    overlap: pl.DataFrame
    calibration: of_scores.Calibration
    of_folds: dict[int, of_scores.Calibration]  # {} where there is one split


def refuse_leaks(run: Run, table: pl.DataFrame) -> None:
    """Raise `Mismatch` where a stage of the run, or of a fold, was trained on its tune or test part."""
    for stage in ("segment", "train"):
        split.refuse_leak(table, run.table(stage, f"{stage}/{TRAINING}"), f"stage '{stage}'")
    folds = division.folds(run)
    if not folds:
        return
    if (
        torn := table.group_by("group")
        .agg(pl.col("fold").n_unique())
        .filter(pl.col("fold") > 1)["group"]
        .sort()
        .to_list()
    ):
        raise Mismatch(
            f"patients stand in several folds: {', '.join(torn[:5])}; make the split again with `hilum split`"
        )
    for number, fold in enumerate(folds):
        parts = fold.table("split", "split.parquet")
        tested, expected = (
            set(rows["image_id"])
            for rows in (
                parts.filter(pl.col("part") == "test"),
                table.filter(pl.col("fold") == number),
            )
        )
        if tested != expected:
            raise Mismatch(
                f"the test part of fold {number} is not the images that split.parquet gives it; make the split again with `hilum split`"
            )
        for stage in ("segment", "train"):
            split.refuse_leak(
                parts,
                fold.table(stage, f"{stage}/{TRAINING}"),
                f"stage '{stage}' of fold {number}",
            )


def unseen(run: Run, table: pl.DataFrame) -> pl.DataFrame:
    """The split's rows but those of patients from whom a pretrained lung model has learnt: it cannot be measured on them."""
    learnt = table.join(segment.seen(run), on="image_id", how="semi").select("group").unique()
    return table.join(learnt, on="group", how="anti", maintain_order="left")


def truths(manifest: Manifest, scores: pl.DataFrame) -> pl.DataFrame:
    """image_id, concept and state (null: not mentioned) of every concept that is scored, one row an image and concept."""
    of = [
        manifest.states(concept).select("image_id", "state", concept=pl.lit(concept))
        for concept in scores["concept"].unique().sort()
    ]
    return (
        pl.concat(of)
        if of
        else pl.DataFrame(schema={"image_id": pl.String, "state": pl.Int8, "concept": pl.String})
    )


def people(manifest: Manifest, table: pl.DataFrame) -> pl.DataFrame:
    """image_id, group, source, sex, age (its band) and view of the split's images."""
    told = table.select("image_id", "group", "source").join(
        manifest.table.select("image_id", "sex", "age_years", "view"),
        on="image_id",
        maintain_order="left",
    )
    return banded(told)


def figures(run: Run, recipe: Recipe, progress: Progress = quietly) -> Figures:
    """All figures of a run whose scores and masks are there, after the proof that nothing leaked. Raises `Mismatch` where something did."""
    table, manifest = run.table("split", "split.parquet"), run.manifest()
    refuse_leaks(run, table)
    per_image = _overlaps(run, recipe, manifest)
    found = list(lung_figures(per_image, table, recipe.evaluate))
    progress(1, 2)
    scores, folds = run.table("predict", predict.SCORES), division.folds(run)
    if folds:
        _refuse_another_pool(scores, folds)
    of_folds = {number: _fitted(fold, manifest) for number, fold in enumerate(folds)}
    more, fitted = of_scores.figures(
        scores,
        people(manifest, table),
        truths(manifest, scores),
        recipe.evaluate,
        of_folds if folds else None,
    )
    return Figures(as_table([*found, *more]), per_image, fitted, of_folds)


def _overlaps(run: Run, recipe: Recipe, manifest: Manifest) -> pl.DataFrame:
    """Measure found lungs against drawn ones, those that each image's own fold found."""
    cached, folds, found = cache.opened(run, recipe), division.folds(run), []
    spacing = file_spacing(manifest.table, cached.index)
    for one in folds or [run]:
        table = unseen(one, one.table("split", "split.parquet"))
        measured = table.filter(pl.col("part") == "test") if folds else table
        masks = segment.found_masks(one, recipe.pixels.size)
        found.append(
            overlaps(
                measured,
                cached,
                one.table("segment", segment.INDEX),
                masks,
                spacing,
                cached.known_masks,
            )
        )
    return pl.concat(found)


def _refuse_another_pool(scores: pl.DataFrame, folds: Sequence[Run]) -> None:
    if not scores.equals(predict.pool(folds)):
        raise Mismatch(
            f"{predict.SCORES} is not what the folds' models gave; make it again with `hilum predict`"
        )
    if scores.select("image_id", "task", "concept").is_duplicated().any():
        raise Mismatch(
            f"{predict.SCORES} scores an image twice; make the folds again with `hilum split`"
        )


def _fitted(fold: Run, manifest: Manifest) -> of_scores.Calibration:
    """Fit thresholds and calibrations on a fold's tune part."""
    scores = fold.table("predict", predict.SCORES)
    tune = of_scores.known(
        scores.filter(pl.col("part") == "tune"),
        people(manifest, fold.table("split", "split.parquet")),
        truths(manifest, scores),
    )
    return of_scores.fits(tune, scores)


def transferred(run: Run, scores: pl.DataFrame) -> pl.DataFrame:
    """Add to a finished run's scores what was chosen for them, see `_evaluate.scores.carry`."""
    if not division.folds(run):
        return of_scores.transfer(scores, {None: run.json("evaluate", CALIBRATION)})
    return of_scores.transfer(
        scores, {int(number): fitted for number, fitted in run.json("evaluate", OF_FOLDS).items()}
    )


def as_table(found: list[dict[str, Any]]) -> pl.DataFrame:
    """Figures as rows of `FIGURE`; what a figure does not tell is "" where it is text, else null."""
    empty = {"concept": "", "warning": ""}
    return pl.DataFrame(
        [{name: (empty | one).get(name) for name in ESTIMATE} for one in found], schema=ESTIMATE
    )


# ------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    made = {
        step: run.made(step) for step in ("ingest", "split", "cache", "segment", "train", "predict")
    }
    if folds := division.folds(run):
        made["folds"] = [fold.made("segment") for fold in folds]
    return {**made, "evaluate": recipe.section("evaluate"), "version": VERSION}


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    found = figures(run, recipe, progress)
    storage.write_table(run / OVERLAP, found.overlap)
    storage.write_json(run / CALIBRATION, found.calibration)
    storage.write_json(run / OF_FOLDS, found.of_folds)
    storage.write_table(run / METRICS, found.metrics)
    progress(2, 2)
    table = run.table("split", "split.parquet")
    left_out = table.height - unseen(run, table).height
    told = (
        {"not measured, the pretrained lung model learnt from these patients": f"{left_out} images"}
        if left_out
        else {}
    )
    return digests(run, [METRICS, OVERLAP, CALIBRATION, OF_FOLDS]), {
        **summary(found.metrics, run.summary("split")["finding"]),
        **told,
    }


def summary(metrics: pl.DataFrame, finding: str | None) -> dict[str, str]:
    """The test part's leading figures, with their intervals, in words; of several findings the leading one, and the macro average."""
    leading = {
        ("lungs", "dice"): "lung Dice",
        ("finding", "auroc"): "finding AUROC",
        ("anomaly", "auroc"): "anomaly AUROC",
    }
    names = {"": "", finding or "": "", "macro": "macro "}
    told = {}
    whole = metrics.filter(
        (pl.col("part") == "test")
        & (pl.col("source") == ALL)
        & pl.col("side").is_in([BOTH, ""])
        & pl.col("concept").is_in(list(names))
    )
    for row in whole.iter_rows(named=True):
        if name := leading.get((row["task"], row["metric"])):
            interval = f"{row['value']:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f}, {row['patients']} patients)"
            told[f"test {names[row['concept']]}{name}"] = (
                f"{row['value']:.3f}, no interval: {row['reason']}" if row["reason"] else interval
            )
    return told | _missed(metrics)


def _missed(metrics: pl.DataFrame) -> dict[str, str]:
    """How many drawn lungs of the test part were missed, where any were: the distances are means without these."""
    dice = (
        (pl.col("task") == "lungs")
        & (pl.col("part") == "test")
        & (pl.col("metric") == "dice")
        & (pl.col("source") == ALL)
    )
    sides = metrics.filter(dice & (pl.col("side") != BOTH) & (pl.col("missed") > 0))
    told = [
        f"{row['side']} in {row['missed']} of {row['images']} images"
        for row in sides.iter_rows(named=True)
    ]
    return {"test lungs missed, without a distance": ", ".join(told)} if told else {}
