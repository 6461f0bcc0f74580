"""Check the shape of lung masks: sides exchanged, in pieces, with holes, used for two images, or
unlike the others of the data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations import lung_masks
from hilum.audit.checks import _mask_contours
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.plugins import Card

CARD = Card(
    title="Shape of lung masks",
    caveats="Measured on the cached masks, so a piece or hole of less than a few pixels there is "
    "not detected. Exchanged sides are certain unless the image is mirrored or the patient has "
    "situs inversus. A shape unlike the others of its data set may be a disease, and is reported "
    "from 40 masks on.",
)
SWAPPED = Rule(
    "mask-sides-exchanged",
    "error",
    "The mask of the right lung is on the patient's left, and that of the left lung on the right.",
    "Every figure and finding by side is exchanged. In a frontal radiograph the patient's right "
    "lung is on the left of the image.",
    "Exchange the two masks, or their names; if it is the image that is mirrored, mirror it back.",
    correction="exchange mask sides",
)
TWICE = Rule(
    "mask-of-another",
    "error",
    "Two different images have the same mask, pixel for pixel.",
    "Nobody draws the same outline twice: at least one of the two images has the mask of another.",
    "Review both, and give each its own mask; until then leave the masks out.",
    correction="leave out mask",
    corrects_both=True,
)
PIECES = Rule(
    "mask-pieces",
    "warning",
    "A mask has more parts than two lungs.",
    "Loose pieces widen the lung crop and count as lung, in training and in evaluation.",
    "Erase the loose pieces, unless something that crosses the lung truly divides it.",
    correction="leave out mask",
)
HOLES = Rule(
    "mask-holes",
    "warning",
    "A lung of a mask has a hole.",
    "A model learns that the hole is not lung; often it is a slip, or a nodule that was left out.",
    "Fill the hole, unless the data set defines its masks so.",
    correction="leave out mask",
)
ODD = Rule(
    "mask-odd-form",
    "info",
    "A mask has a size or shape far from the others of the data set.",
    "It may be of another view, of a part of the lungs, or drawn by another protocol; it may also "
    "be a collapsed lung.",
    "Review the image with its mask, and draw it again where it is wrong.",
    correction="leave out mask",
)
RULES = (SWAPPED, TWICE, PIECES, HOLES, ODD)

# Of the lung's largest part; in carefully annotated masks at most 0.002, with one exception.
LEAST_PIECE = 0.01
LEAST_HOLE = 0.005  # of the lung; at most 0.002
FEWEST = 40  # masks of a source from which one can be called unlike the others
FAR = 6.0  # standard deviations, estimated without outliers
# Correlation of two small images of equalised contrast from which they may have one mask; of
# different real images at most 0.968.
SAME_IMAGE = 0.975


@dataclass(frozen=True)
class _Measure:
    """A compared measure: its name, the least standard deviation, whether it is a logarithm."""

    words: str
    floor: float
    logarithm: bool = False


MEASURES = {
    "area": _Measure("the lungs' fraction of the image", 0.05, logarithm=True),
    "balance": _Measure("the right lung's area over the left one's", 0.05, logarithm=True),
    "right_height": _Measure("the right lung's height over the image's", 0.02),
    "left_height": _Measure("the left lung's height over the image's", 0.02),
    "width": _Measure("the width of both lungs over the image's", 0.02),
    "down": _Measure("the vertical position of the lungs", 0.02),
    "right_solidity": _Measure("the right lung's fraction of its convex hull", 0.01),
    "left_solidity": _Measure("the left lung's fraction of its convex hull", 0.01),
}


@dataclass(frozen=True)
class _Lung:
    """Measures of one lung in pixels; `pieces` counts those beyond the first, `hole` is a
    fraction of the lung.
    """

    area: float
    pieces: int
    hole: float
    start: int
    end: int
    height: int
    across: float
    down: float
    solidity: float


def check(manifest: Manifest, facts: pl.DataFrame, cache: Cache | None = None) -> Iterator[Issue]:
    """Yield issues of the shapes of masks; none without a cache."""
    if cache is None:
        return
    usable = cache.readable.filter(
        pl.col("mask_error").is_null()
        & ((pl.col("right_pixels") > 0) | (pl.col("left_pixels") > 0))
    )
    rows = manifest.table.join(usable.select("image_id", "pixel_digest"), on="image_id").sort(
        "image_id"
    )
    if not rows.height:
        return
    rows = rows.with_columns(mask=_mask_contours.NAMED).hstack(measured(cache, rows["image_id"]))
    yield from _wrong(rows)
    yield from _twice(rows, cache)
    for _, some in rows.group_by("dataset", "source", maintain_order=True):
        yield from _odd(some)


def measured(cache: Cache, image_ids: pl.Series) -> pl.DataFrame:
    """Measure the cached mask of each image.

    Columns: digest of the mask, whether its sides are exchanged, extra pieces, largest hole, and
    `MEASURES`, null unless both lungs are marked.
    """
    found = [
        measure(mask)
        for places in _mask_contours.batches(cache.rows(image_ids))
        for mask in cache.masks[places]
    ]
    kinds = {
        "mask_digest": pl.String,
        "exchanged": pl.Boolean,
        "pieces": pl.Int64,
        "hole": pl.Float64,
        **dict.fromkeys(MEASURES, pl.Float64),
    }
    return pl.DataFrame(found, schema=kinds)


def measure(mask: np.ndarray) -> dict[str, object]:
    """Measure one cached mask, uint8 (size, size): the columns of `measured`."""
    right, left = (
        _lung((mask == lung_masks.SIDES[name]).astype(np.uint8)) for name in ("right", "left")
    )
    present = [lung for lung in (right, left) if lung]
    row: dict[str, object] = {
        "mask_digest": storage.digest(mask.tobytes()),
        "exchanged": bool(right and left and right.across > left.across),
        "pieces": sum(lung.pieces for lung in present),
        "hole": max((lung.hole for lung in present), default=0.0),
    }
    if right and left:
        side = len(mask)
        row |= {
            "area": np.log((right.area + left.area) / mask.size),
            "balance": np.log(right.area / left.area),
            "right_height": right.height / side,
            "left_height": left.height / side,
            "down": (right.down + left.down) / 2 / side,
            "width": (max(right.end, left.end) - min(right.start, left.start)) / side,
            "right_solidity": right.solidity,
            "left_solidity": left.solidity,
        }
    return row


def _lung(lung: np.ndarray) -> _Lung | None:
    """Measure one lung, uint8 (size, size) of 0 and 1; None where no pixel is marked."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(lung, connectivity=8)
    if count == 1:
        return None
    areas = stats[1:, cv2.CC_STAT_AREA]
    contours, tree = cv2.findContours(lung, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outer = [
        contour for contour, (_, _, _, parent) in zip(contours, tree[0], strict=True) if parent < 0
    ]
    filled = cv2.drawContours(np.zeros_like(lung), outer, -1, 1, -1)
    left, _, width, height = cv2.boundingRect(np.concatenate(outer))
    rows, columns = np.nonzero(lung)
    hull = cv2.contourArea(cv2.convexHull(np.concatenate(outer)))
    area = float(lung.sum())
    return _Lung(
        area=area,
        pieces=int((areas >= LEAST_PIECE * areas.max()).sum()) - 1,
        hole=float(filled.sum() - lung.sum()) / area,
        start=left,
        end=left + width,
        height=height,
        across=float(columns.mean()),
        down=float(rows.mean()),
        solidity=area / max(hull, 1.0),
    )


def _wrong(rows: pl.DataFrame) -> Iterator[Issue]:
    exchanged = pl.format(
        "{}: what is called the right lung is on the right of the image, beside the left lung",
        "mask",
    )
    yield from SWAPPED.issue(rows.filter("exchanged").select("image_id", message=exchanged))
    pieces = pl.format("{}: {} more than the two lungs", "mask", "pieces")
    yield from PIECES.issue(rows.filter(pl.col("pieces") > 0).select("image_id", message=pieces))
    hole = pl.format("{}: holes of {} % of a lung", "mask", (pl.col("hole") * 100).round(1))
    yield from HOLES.issue(
        rows.filter(pl.col("hole") >= LEAST_HOLE).select("image_id", message=hole)
    )


def _twice(rows: pl.DataFrame, cache: Cache) -> Iterator[Issue]:
    """Yield each image with the first one that has its mask, unless both are the same image."""
    again = rows.filter(pl.len().over("mask_digest") > 1)
    first = again.unique("mask_digest", keep="first", maintain_order=True).select(
        "mask_digest", pl.exclude("mask_digest").name.prefix("other_")
    )
    pairs = again.join(first, on="mask_digest", maintain_order="left").filter(
        pl.col("pixel_digest") != pl.col("other_pixel_digest")
    )
    unlike = [
        _correlation(cache, row["image_id"], row["other_image_id"]) < SAME_IMAGE
        for row in pairs.iter_rows(named=True)
    ]
    message = pl.format(
        "{} and {} have the same mask, pixel for pixel, and are different images",
        "path",
        "other_path",
    )
    yield from TWICE.issue(
        pairs.filter(pl.Series(unlike, dtype=pl.Boolean)).select(
            "image_id", "other_image_id", message=message
        )
    )


def _correlation(cache: Cache, first: str, second: str) -> float:
    one, other = _mask_contours.small_images(cache.images[cache.rows([first, second])])
    return float(one @ other)


def _odd(rows: pl.DataFrame) -> Iterator[Issue]:
    """Yield one issue for each image that is far off, by the measure that is farthest."""
    rows = rows.filter(pl.col("area").is_not_null())
    if rows.height < FEWEST:
        return
    far = np.stack(
        [
            _mask_contours.robust(rows[name].to_numpy(), measure.floor)
            for name, measure in MEASURES.items()
        ],
        axis=1,
    )
    names = list(MEASURES)
    words = [
        _words(rows[names[worst]], at, names[worst])
        for at, worst in enumerate(np.abs(far).argmax(axis=1))
    ]
    distant = rows.with_columns(
        far=pl.Series(np.abs(far).max(axis=1)), words=pl.Series(words, dtype=pl.String)
    ).filter(pl.col("far") > FAR)
    message = pl.format("{}: {}", "mask", "words")
    yield from ODD.issue(distant.select("image_id", message=message))


def _words(values: pl.Series, at: int, name: str) -> str:
    measure, numbers = MEASURES[name], values.to_numpy()
    own, usual = float(numbers[at]), float(np.median(numbers))
    if measure.logarithm:
        own, usual = float(np.exp(own)), float(np.exp(usual))
    return f"{measure.words} is {own:.2f}, usual in its source is {usual:.2f}"
