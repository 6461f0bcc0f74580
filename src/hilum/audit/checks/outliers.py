"""Pictures unlike all others of their source: by single looks (`hilum.inference.orientation.FEATURES`), and as a whole.

How far a picture lies off is measured in the source's own spread: its distance from the median over the distance that 95 % of the source
stay within. Unlike multiples of the median distance (MAD), that fits heavy tails too, such as of borders, which most pictures have none
of. As a whole: the picture at `SIDE` x `SIDE` pixels with mean 0 and spread 1, on the `AXES` widest principal axes of its source, each in its own spread;
the root of the mean square is a distance from the source's middle, with what the axes leave as one more. A source's own outliers do
not hide themselves: fewer than 5 % of its pictures cannot move these measures much.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import polars as pl

from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.imaging.geometry import resize
from hilum.inference import orientation
from hilum.plugins import Card

FEWEST = 50  # pictures of a source, below which nothing is said
USUAL = 95  # percent of a source that tell what is usual
FAR, FAR_AS_A_WHOLE = (
    2.8,
    1.5,
)  # times the usual distance; 6 of 2,152 real radiographs of three sources lie beyond, tilted, tiny or pale ones
MOST = 100  # one in so many of a source is told, at most
SIDE, AXES = 16, 24
AT_ONCE = 128  # pictures in memory
LOOKED_AT = 3_000  # pictures that the axes are found in, at most
WHOLE = "whole"
MEASURES = {  # column: words, and the least that counts as a usual distance, below which differences cannot be seen
    "border": ("the share of flat border", 0.05),
    "flat": ("the share of its commonest grey level", 0.03),
    "black": ("the share of black", 0.03),
    "white": ("the share of white", 0.02),
    "spread": ("the levels of 256 that hold 90 % of its pixels", 8.0),
    "shape": ("its height over its width", 0.05),
    orientation.DISTANCE: (
        "its distance from chest radiographs, as the posture model sees it",
        0.1,
    ),
}

CARD = Card(
    title="Pictures unlike the others of their source",
    caveats=f"Questions, not faults: a rare disease, a child among adults or another device is unlike the others too. A source needs {FEWEST} pictures, "
    f"and no more than one in {MOST} is told, the farthest first. Pictures that look turned, inverted, mirrored, empty or like no chest are "
    "told as such and left out here. Faults that many pictures of a source share are usual in it, and not found.",
)
OUTLIER = Rule(
    "image-outlier",
    "info",
    "A picture is unlike all others of its source.",
    "It may be another kind of picture, a broken export or a rare case; a model learns little from it, and is easily wrong about it.",
    "Look at the picture; keep it if it belongs to the set, and take it out of the folder if it does not.",
    correction="leave out",
)
RULES = (OUTLIER,)


def check(
    manifest: Manifest,
    facts: pl.DataFrame,
    cache: Cache | None = None,
    include: Collection[str] = (),
) -> Iterator[Issue]:
    if orientation.DISTANCE not in facts.columns:  # the pictures were not looked at
        return
    manifest = manifest.eligible(include)
    pictures = (
        manifest.table.select("image_id", "path", "source")
        .join(facts, on="image_id")
        .filter(pl.col("error").is_null())
    )
    shown = pictures.filter(
        pl.col(orientation.DISTANCE).is_not_null() & (pl.col("minimum") < pl.col("maximum"))
    )
    shown = shown.with_columns(shape=pl.col("height") / pl.col("width")).sort("source", "image_id")
    for (source,), group in shown.group_by("source", maintain_order=True):
        if group.height >= FEWEST:
            yield from _of_source(str(source), group, cache)


def _of_source(source: str, group: pl.DataFrame, cache: Cache | None) -> Iterator[Issue]:
    off = {
        column: times_usual(group[column].to_numpy().astype(np.float64), least)
        for column, (_, least) in MEASURES.items()
    }
    if cache is not None:
        off[WHOLE] = whole(small(cache, group["row"].to_numpy()))
    limits = np.array([FAR_AS_A_WHOLE if column == WHOLE else FAR for column in off])
    beyond = np.round(np.column_stack(list(off.values())) / limits, 3)
    far, which = beyond.max(axis=1), np.array(list(off))[beyond.argmax(axis=1)]
    times = far * limits[beyond.argmax(axis=1)]
    told = group.with_columns(far=far, which=which, times=times).filter(pl.col("far") > 1)
    told = told.filter(
        pl.Series([not doubts for doubts in orientation.quality_flags(told)], dtype=pl.Boolean)
    )
    told = told.sort("far", "image_id", descending=[True, False]).head(-(-group.height // MOST))
    rows = [
        {
            "image_id": row["image_id"],
            "message": f"outlier {place} of {told.height} of {source}: {row['path']}: {_words(row, group)}",
        }
        for place, row in enumerate(told.iter_rows(named=True), start=1)
    ]
    if rows:
        yield from OUTLIER.issue(pl.DataFrame(rows))


def _words(row: dict, group: pl.DataFrame) -> str:
    times, column = f"{row['times']:.1f}", row["which"]
    if column == WHOLE:
        return f"as a whole {times} times as far from the source's middle as {USUAL} % of it"
    low, middle, high = np.percentile(group[column].to_numpy(), (100 - USUAL, 50, USUAL))
    return f"{MEASURES[column][0]} is {row[column]:.3g}, usual are {low:.3g} to {high:.3g}, median {middle:.3g}; {times} times as far off as {USUAL} %"


def times_usual(values: np.ndarray, least: float) -> np.ndarray:
    """(n,) distance from the median, in units of the distance that `USUAL` percent stay within, or of `least` where that is larger."""
    off = np.abs(values - np.median(values))
    return off / max(float(np.percentile(off, USUAL)), least)


def whole(pictures: np.ndarray) -> np.ndarray:
    """(n,) how far each of the pictures, float32 (n, SIDE * SIDE), lies from their middle, in units of what is usual."""
    around = (pictures - np.median(pictures, axis=0)).astype(np.float64)
    some = around[:: -(-len(around) // LOOKED_AT)]
    turn = np.linalg.eigh(some.T @ some)[1][:, ::-1][:, : min(AXES, len(some) // 4)]
    along = around @ turn
    left = np.sqrt(np.maximum((around**2).sum(axis=1) - (along**2).sum(axis=1), 0))
    told = np.column_stack([along, left])
    off = np.abs(told - np.median(told, axis=0))
    far = np.sqrt(((off / np.maximum(np.percentile(off, USUAL, axis=0), 1e-6)) ** 2).mean(axis=1))
    return far / max(float(np.percentile(far, USUAL)), 1e-6)


def small(cache: Cache, rows: np.ndarray) -> np.ndarray:
    """float32 (n, SIDE * SIDE): the cached pictures `rows`, each with mean 0 and spread 1."""
    told = np.empty((len(rows), SIDE * SIDE), np.float32)
    for start in range(0, len(rows), AT_ONCE):
        pictures = cache.images.read(rows[start : start + AT_ONCE])
        flat = (
            np.stack([resize(picture, (SIDE, SIDE)) for picture in pictures])
            .reshape(len(pictures), -1)
            .astype(np.float32)
        )
        told[start : start + AT_ONCE] = (flat - flat.mean(axis=1, keepdims=True)) / (
            flat.std(axis=1, keepdims=True) + 1
        )
    return told
