"""Found lungs against drawn ones: overlap and distance of each image, and their means with intervals.

Distances between outlines are in pixels of the cached pictures, and in millimetres too where the manifest tells the file's spacing (of
rows and columns as the picture stands; detectors have square pixels). They are nan, and left out of the means, where one side has no
pixel: such images have a Dice of 0 and are counted by it. Millimetres are also nan where no spacing is known, and stand for the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from hilum import lungs
from hilum.metrics import overlap, surface
from hilum.radiograph import Letterbox, Size
from hilum.recipe import Evaluate
from hilum.steps import cache
from hilum.steps._evaluate import figure

BOTH = "both"
Spacing = Mapping[str, tuple[float | None, float | None]]
DISTANCES = tuple(f"{metric}_{unit}" for unit in ("pixels", "mm") for metric in surface.METRICS)
PER_IMAGE = dict.fromkeys(("image_id", "part", "source", "side"), pl.String) | dict.fromkeys((*overlap.METRICS, *DISTANCES), pl.Float64)


def overlaps(table: pl.DataFrame, truth: cache.Cache, found: pl.DataFrame, masks: np.ndarray, spacing: Spacing | None = None) -> pl.DataFrame:
    """Agreement of found and drawn lungs of the tune and test images that have a mask, per image and side.

    Pixels that a mask says to ignore count neither as found nor as drawn.

    `spacing`: millimetres between rows and between columns of the file's pixels, by image id; where it is not known, none or None.
    """
    row_of = dict(zip(found["image_id"], found["row"], strict=True))
    drawn = table.filter((pl.col("part") != "train") & pl.col("image_id").is_in(truth.with_mask["image_id"].implode()))
    size_of = {image_id: size for image_id, *size in truth.index.select("image_id", "height", "width").iter_rows()}
    rows = []
    for image_id, part, source in drawn.select("image_id", "part", "source").iter_rows():
        if image_id not in row_of:
            continue
        known, got = truth.known_masks[truth.rows([image_id])[0]], masks[row_of[image_id]]
        ignored = known == lungs.UNKNOWN
        expected, got = (np.where(ignored, np.uint8(0), one) for one in (known, got))
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
    for part, source, rows in figure.cells(told):
        for (side,), of_side in rows.group_by("side", maintain_order=True):
            values = {metric: of_side[metric].to_numpy() for metric in (*overlap.METRICS, *DISTANCES)}
            told = {metric: of for metric, of in values.items() if not (metric.endswith("_mm") and np.isnan(of).all())}
            about = [{"stage": "lungs", "side": side, "metric": metric, **figure.place(part, source)} for metric in told]
            yield from figure.measured(settings, of_side, [partial(_mean, of) for of in told.values()], about)


def _mean(values: np.ndarray, rows: np.ndarray) -> float:
    chosen = values[rows]
    defined = chosen[~np.isnan(chosen)]
    return float(defined.mean()) if defined.size else float("nan")
