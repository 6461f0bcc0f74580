"""Evaluate: figures with their doubt, from scores and masks alone; it never sees a model.

    metrics.parquet   one row a figure: stage, part, source, side, metric, value, low, high, images, patients, positives, undefined
    overlap.parquet   image_id, part, source, side, dice, iou, precision, recall, and hausdorff95 and average_distance, each in _pixels
                      and _mm: found lungs against drawn ones, in the cached pictures
    thresholds.json   by stage: the threshold chosen on the tune part (Youden), which the test part's figures use

Distances between outlines are in pixels of the cached pictures, and in millimetres too where the manifest tells the file's spacing (of
rows and columns as the picture stands; detectors have square pixels). They are nan, and left out of the means, where one side has no
pixel: such images have a Dice of 0 and are counted by it. Millimetres are also nan where no spacing is known, and stand for the others.

Intervals resample patients (groups of the split), not images. `undefined` counts the resamples in which a figure had no meaning.
First it holds the run to its promise: no image of tune or test, nor of their patients, was in the training of any stage. Where a recipe asks
for the lung model that comes with Hilum although it has learnt from some of the images, figures of lungs leave their patients out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from hilum import intervals, lungs, store
from hilum.manifest import Manifest
from hilum.metrics import overlap, ranking, surface
from hilum.radiograph import Letterbox, Size
from hilum.recipe import Evaluate, Recipe
from hilum.run import Run
from hilum.steps import Progress, cache, predict, segment, split
from hilum.steps._training import TRAINING, digests
from hilum.vocabulary import State

VERSION = 2
METRICS, OVERLAP, THRESHOLDS = "metrics.parquet", "overlap.parquet", "thresholds.json"
ALL, BOTH = "all", "both"
FEW_PATIENTS = 20  # a source with fewer in a part gets no row of its own
Spacing = Mapping[str, tuple[float | None, float | None]]
FIGURE = {
    "stage": pl.String, "part": pl.String, "source": pl.String, "side": pl.String, "metric": pl.String, "value": pl.Float64, "low": pl.Float64,
    "high": pl.Float64, "images": pl.Int64, "patients": pl.Int64, "positives": pl.Int64, "undefined": pl.Int64,
}  # fmt: skip
DISTANCES = tuple(f"{metric}_{unit}" for unit in ("pixels", "mm") for metric in surface.METRICS)
PER_IMAGE = dict.fromkeys(("image_id", "part", "source", "side"), pl.String) | dict.fromkeys((*overlap.METRICS, *DISTANCES), pl.Float64)


def refuse_leaks(run: Run, table: pl.DataFrame) -> None:
    """Raise `Mismatch` where any stage of the run was trained on a tune or test image."""
    for stage in ("segment", "train"):
        split.refuse_leak(table, store.read_table(run / stage / TRAINING), f"stage '{stage}'")


def unseen(run: Run, table: pl.DataFrame) -> pl.DataFrame:
    """The split's rows but those of patients from whom a shipped lung model has learnt: it cannot be measured on them."""
    learnt = table.join(segment.seen(run), on="image_id", how="semi").select("group").unique()
    return table.join(learnt, on="group", how="anti", maintain_order="left")


def overlaps(table: pl.DataFrame, truth: cache.Cache, found: pl.DataFrame, masks: np.ndarray, spacing: Spacing | None = None) -> pl.DataFrame:
    """Agreement of found and drawn lungs of the tune and test images that have a mask, per image and side.

    `spacing`: millimetres between rows and between columns of the file's pixels, by image id; where it is not known, none or None.
    """
    row_of = dict(zip(found["image_id"], found["row"], strict=True))
    drawn = table.filter((pl.col("part") != "train") & pl.col("image_id").is_in(truth.with_mask["image_id"].implode()))
    size_of = {image_id: size for image_id, *size in truth.index.select("image_id", "height", "width").iter_rows()}
    rows = []
    for image_id, part, source in drawn.select("image_id", "part", "source").iter_rows():
        if image_id not in row_of:
            continue
        expected, got = truth.masks[truth.rows([image_id])[0]], masks[row_of[image_id]]
        in_mm = _cached_spacing(tuple(size_of[image_id]), truth.size, (spacing or {}).get(image_id))
        for side, lung in ((BOTH, None), *lungs.SIDES.items()):
            pair = (expected > 0, got > 0) if lung is None else (expected == lung, got == lung)
            rows.append([image_id, part, source, side, *(float(metric(*pair)) for metric in overlap.METRICS.values()), *_distances(*pair, in_mm)])
    return pl.DataFrame(rows, schema=PER_IMAGE, orient="row")


def _cached_spacing(size: Size, to: int, spacing: tuple[float | None, float | None] | None) -> tuple[float, float] | None:
    """Millimetres between rows and columns of the cached picture of a file of (height, width) `size`."""
    if spacing is None or None in spacing or min(spacing) <= 0:
        return None
    return tuple(own * side / inner for own, side, inner in zip(spacing, size, Letterbox(size, to).inner, strict=True))


def _distances(expected: np.ndarray, got: np.ndarray, in_mm: tuple[float, float] | None) -> list[float]:
    """In the order of DISTANCES."""
    units = (surface.PIXELS, in_mm)
    return [metric(expected, got, unit) if unit else float("nan") for unit in units for metric in surface.METRICS.values()]


def lung_figures(per_image: pl.DataFrame, table: pl.DataFrame, settings: Evaluate) -> Iterator[dict[str, Any]]:
    """Means over images of each overlap and distance, by part, source and side; no millimetres where no image of a cell has any."""
    told = per_image.join(table.select("image_id", "group"), on="image_id", maintain_order="left")
    for part, source, rows in _cells(told):
        for (side,), of_side in rows.group_by("side", maintain_order=True):
            for metric in (*overlap.METRICS, *DISTANCES):
                values = of_side[metric].to_numpy()
                if metric.endswith("_mm") and np.isnan(values).all():
                    continue
                yield _figure(settings, of_side, partial(_mean, values), stage="lungs", part=part, source=source, side=side, metric=metric)


def score_figures(scores: pl.DataFrame, table: pl.DataFrame, settings: Evaluate) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Figures of every scored stage, and the thresholds chosen on tune. Images whose finding is not known take no part."""
    known = scores.join(table.select("image_id", "group", "source", "state"), on="image_id", maintain_order="left").filter(pl.col("state") >= State.ABSENT)
    figures, thresholds = [], {}
    for (stage,), rows in known.group_by("stage", maintain_order=True):
        tune = rows.filter(pl.col("part") == "tune")
        thresholds[stage] = ranking.youden_threshold(tune["state"].to_numpy(), tune["score"].to_numpy())
        metrics: dict[str, Callable] = dict(ranking.METRICS)
        if not np.isnan(thresholds[stage]):  # it has none where tune holds one class only
            metrics |= {name: partial(metric, threshold=thresholds[stage]) for name, metric in ranking.METRICS_AT.items()}
        for part, source, cell in _cells(rows):
            truth, score = cell["state"].to_numpy(), cell["score"].to_numpy()
            for name, metric in metrics.items():
                statistic = partial(_of_rows, metric, truth, score)
                figures.append(_figure(settings, cell, statistic, stage=stage, part=part, source=source, side="", metric=name))
    return figures, thresholds


def _cells(rows: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """part, source, rows: each part as a whole, then source by source where there are several with enough patients."""
    for part in ("tune", "test"):
        of_part = rows.filter(pl.col("part") == part)
        if of_part.height:
            yield part, ALL, of_part
        sources = of_part["source"].unique().sort()
        for source in sources if len(sources) > 1 else []:
            of_source = of_part.filter(pl.col("source") == source)
            if of_source["group"].n_unique() >= FEW_PATIENTS:
                yield part, source, of_source


def _mean(values: np.ndarray, rows: np.ndarray) -> float:
    chosen = values[rows]
    defined = chosen[~np.isnan(chosen)]
    return float(defined.mean()) if defined.size else float("nan")


def _of_rows(metric: Callable, truth: np.ndarray, score: np.ndarray, rows: np.ndarray) -> float:
    return metric(truth[rows], score[rows])


def _figure(settings: Evaluate, rows: pl.DataFrame, statistic: Callable, **about: str) -> dict[str, Any]:
    found = intervals.over_patients(
        statistic, rows["group"].to_list(), resamples=settings.resamples, confidence=settings.confidence, seed=settings.seed
    )
    positives = int((rows["state"] == State.PRESENT).sum()) if "state" in rows.columns else None
    return {**about, **found._asdict(), "images": rows.height, "patients": rows["group"].n_unique(), "positives": positives}


# ------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    made = {step: run.made(step) for step in ("split", "cache", "segment", "train", "predict")}
    return {**made, "evaluate": recipe.section("evaluate"), "version": VERSION}


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    table = store.read_table(run / "split.parquet")
    refuse_leaks(run, table)
    masks = store.map_pictures(run / segment.MASKS, recipe.pixels.size)
    spaced = Manifest.read(run.folder).table.select("image_id", "row_spacing_mm", "column_spacing_mm").drop_nulls()
    spacing = {image_id: tuple(spaces) for image_id, *spaces in spaced.iter_rows()}
    per_image = overlaps(unseen(run, table), cache.opened(run, recipe), store.read_table(run / segment.INDEX), masks, spacing)
    figures = list(lung_figures(per_image, table, recipe.evaluate))
    progress(1, 2)
    scores = store.read_table(run / predict.SCORES).filter(pl.col("concept") == (run.summary("split")["finding"] or ""))
    of_scores, thresholds = score_figures(scores, table, recipe.evaluate)
    metrics = pl.DataFrame(figures + of_scores, schema=FIGURE)
    store.write_table(run / OVERLAP, per_image)
    store.write_json(run / THRESHOLDS, thresholds)
    store.write_table(run / METRICS, metrics)
    progress(2, 2)
    left_out = table.height - unseen(run, table).height
    told = {"not measured, the shipped lung model learnt from these patients": f"{left_out} images"} if left_out else {}
    return digests(run, [METRICS, OVERLAP, THRESHOLDS]), {**summary(metrics), **told}


def summary(metrics: pl.DataFrame) -> dict[str, str]:
    """The test part's leading figures, with their intervals, in words."""
    leading = {("lungs", "dice"): "lung Dice", ("finding", "auroc"): "finding AUROC", ("anomaly", "auroc"): "anomaly AUROC"}
    told = {}
    for row in metrics.filter((pl.col("part") == "test") & (pl.col("source") == ALL) & pl.col("side").is_in([BOTH, ""])).iter_rows(named=True):
        name = leading.get((row["stage"], row["metric"]))
        if name:
            told[f"test {name}"] = f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f}, {row['patients']} patients)"
    return told
