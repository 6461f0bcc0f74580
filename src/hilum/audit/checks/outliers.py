"""Check for images unlike all others of their source, by single features
(`hilum.inference.orientation.FEATURES`) and as a whole.

The distance of an image is measured in units of its source: its distance from the median, divided
by the distance within which `USUAL` percent of the source are. Unlike multiples of the median
absolute deviation, that holds for heavy tails too, such as of borders, which most images are
without. As a whole: the image at `SIDE` x `SIDE` pixels, standardised to mean 0 and standard
deviation 1, on the first `AXES` principal axes of its source, each in such units; the root mean
square is a distance from the centre of the source, with the residual of the axes as one more
coordinate. The outliers of a source do not hide themselves: fewer than 5 % of its images cannot
change these units much.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.imaging.geometry import resize
from hilum.inference import orientation
from hilum.plugins import Card

FEWEST = 50  # images of a source, below which nothing is reported
USUAL = 95  # percent of a source that define what is usual
# Times the usual distance. Beyond it are 6 of 2,152 real radiographs of three sources: tilted, tiny
# or pale ones.
FAR, FAR_AS_A_WHOLE = 2.8, 1.5
MOST = 100  # at most one in so many images of a source is reported
SIDE, AXES = 16, 24
AT_ONCE = 128  # images in memory
SAMPLED = 3_000  # images from which the axes are computed, at most
WHOLE = "whole"


@dataclass(frozen=True)
class _Measure:
    """A feature: its name, and the least usual distance, below which differences are invisible."""

    words: str
    floor: float


MEASURES = {
    "border": _Measure("the fraction of flat border", 0.05),
    "flat": _Measure("the fraction of its most frequent grey level", 0.03),
    "black": _Measure("the fraction of black", 0.03),
    "white": _Measure("the fraction of white", 0.02),
    "spread": _Measure("the levels of 256 that hold 90 % of its pixels", 8.0),
    "shape": _Measure("its height over its width", 0.05),
    orientation.DISTANCE: _Measure(
        "its distance from chest radiographs, in features of the orientation model", 0.1
    ),
}

CARD = Card(
    title="Images unlike the others of their source",
    caveats="Questions, not faults: a rare disease, a child among adults or another device is "
    f"unlike the others too. A source needs {FEWEST} images, and no more than one in {MOST} is "
    "reported, the farthest first. Images that appear rotated, inverted, mirrored, empty or like "
    "no chest are reported as such and left out here. Faults that many images of a source have are "
    "usual in it, and not detected.",
)
OUTLIER = Rule(
    "image-outlier",
    "info",
    "An image is unlike all others of its source.",
    "It may be another kind of image, a broken export or a rare case; a model learns little from "
    "it, and is easily wrong on it.",
    "Review the image; keep it if it belongs to the data set, and take it out of the folder if it "
    "does not.",
    correction="leave out",
)
RULES = (OUTLIER,)


def check(
    manifest: Manifest,
    facts: pl.DataFrame,
    cache: Cache | None = None,
    include: Collection[str] = (),
) -> Iterator[Issue]:
    """Yield the most distant images of each source; none where features were not measured."""
    if orientation.DISTANCE not in facts.columns:
        return
    manifest = manifest.eligible(include)
    images = (
        manifest.table.select("image_id", "path", "source")
        .join(facts, on="image_id")
        .filter(pl.col("error").is_null())
    )
    measured = images.filter(
        pl.col(orientation.DISTANCE).is_not_null() & (pl.col("minimum") < pl.col("maximum"))
    )
    measured = measured.with_columns(shape=pl.col("height") / pl.col("width"))
    measured = measured.sort("source", "image_id")
    for (source,), group in measured.group_by("source", maintain_order=True):
        if group.height >= FEWEST:
            yield from _of_source(str(source), group, cache)


def _of_source(source: str, group: pl.DataFrame, cache: Cache | None) -> Iterator[Issue]:
    off = {
        column: times_usual(group[column].to_numpy().astype(np.float64), measure.floor)
        for column, measure in MEASURES.items()
    }
    if cache is not None:
        off[WHOLE] = whole(small(cache, group["row"].to_numpy()))
    limits = np.array([FAR_AS_A_WHOLE if column == WHOLE else FAR for column in off])
    beyond = np.round(np.column_stack(list(off.values())) / limits, 3)
    far, which = beyond.max(axis=1), np.array(list(off))[beyond.argmax(axis=1)]
    times = far * limits[beyond.argmax(axis=1)]
    distant = group.with_columns(far=far, which=which, times=times).filter(pl.col("far") > 1)
    unflagged = [not flags for flags in orientation.quality_flags(distant)]
    distant = distant.filter(pl.Series(unflagged, dtype=pl.Boolean))
    distant = distant.sort("far", "image_id", descending=[True, False])
    distant = distant.head(-(-group.height // MOST))
    rows = [
        {
            "image_id": row["image_id"],
            "message": f"outlier {place} of {distant.height} of {source}: {row['path']}: "
            f"{_words(row['which'], row['times'], row.get(row['which']), group)}",
        }
        for place, row in enumerate(distant.iter_rows(named=True), start=1)
    ]
    if rows:
        yield from OUTLIER.issue(pl.DataFrame(rows))


def _words(column: str, far: float, value: float | None, group: pl.DataFrame) -> str:
    """Say how far off an image is, as a whole where there is no single `value`."""
    times = f"{far:.1f}"
    if value is None:
        return f"as a whole {times} times as far from the source's centre as {USUAL} % of it"
    low, middle, high = np.percentile(group[column].to_numpy(), (100 - USUAL, 50, USUAL))
    return (
        f"{MEASURES[column].words} is {value:.3g}, usual are {low:.3g} to {high:.3g}, "
        f"median {middle:.3g}; {times} times as far off as {USUAL} %"
    )


def times_usual(values: np.ndarray, least: float) -> np.ndarray:
    """Return distances from the median (n,) in units of the usual distance.

    That is the distance within which `USUAL` percent are, or `least` where it is larger.
    """
    off = np.abs(values - np.median(values))
    return off / max(float(np.percentile(off, USUAL)), least)


def whole(images: np.ndarray) -> np.ndarray:
    """Return the distance (n,) of each image, float32 (n, SIDE * SIDE), from their centre, in
    units of the usual distance.
    """
    around = (images - np.median(images, axis=0)).astype(np.float64)
    some = around[:: -(-len(around) // SAMPLED)]
    rotation = np.linalg.eigh(some.T @ some)[1][:, ::-1][:, : min(AXES, len(some) // 4)]
    along = around @ rotation
    residual = np.sqrt(np.maximum((around**2).sum(axis=1) - (along**2).sum(axis=1), 0))
    coordinates = np.column_stack([along, residual])
    off = np.abs(coordinates - np.median(coordinates, axis=0))
    far = np.sqrt(((off / np.maximum(np.percentile(off, USUAL, axis=0), 1e-6)) ** 2).mean(axis=1))
    return far / max(float(np.percentile(far, USUAL)), 1e-6)


def small(cache: Cache, rows: np.ndarray) -> np.ndarray:
    """Return the cached images `rows`, small and standardised, float32 (n, SIDE * SIDE)."""
    standardised = np.empty((len(rows), SIDE * SIDE), np.float32)
    for start in range(0, len(rows), AT_ONCE):
        images = cache.images[rows[start : start + AT_ONCE]]
        flat = (
            np.stack([resize(image, (SIDE, SIDE)) for image in images])
            .reshape(len(images), -1)
            .astype(np.float32)
        )
        standardised[start : start + AT_ONCE] = (flat - flat.mean(axis=1, keepdims=True)) / (
            flat.std(axis=1, keepdims=True) + 1
        )
    return standardised
