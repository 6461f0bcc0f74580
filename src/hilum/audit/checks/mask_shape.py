"""Lung masks by their own form: sides exchanged, in pieces, with holes, drawn once for two pictures, or like no other of the set."""

from __future__ import annotations

from collections.abc import Iterator

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
    title="Form of lung masks",
    caveats="Measured on the cached masks, so a piece or hole of less than a few pixels there is not seen. Exchanged sides are certain unless the "
    "picture is mirrored or the patient has situs inversus. A form unlike the others of its set may be a disease, and is told from 40 masks on.",
)
SWAPPED = Rule(
    "mask-sides-exchanged",
    "error",
    "The mask of the right lung lies on the patient's left, and that of the left lung on the right.",
    "Every figure and finding by side is exchanged. In a frontal radiograph the patient's right lung lies on the image's left.",
    "Exchange the two masks, or their names; if the picture is the one that is mirrored, mirror it back.",
    correction="exchange mask sides",
)
TWICE = Rule(
    "mask-of-another",
    "error",
    "Two different pictures have the very same mask.",
    "Nobody draws the same outline twice: at least one of the two pictures has the mask of another.",
    "Look at both, and give each its own mask; until then leave the masks out.",
    correction="leave out mask",
    corrects_both=True,
)
PIECES = Rule(
    "mask-pieces",
    "warning",
    "A mask has more parts than two lungs.",
    "Loose pieces widen the lung region and count as lung, in learning and in measuring.",
    "Erase the loose pieces, unless something that crosses the lung truly divides it.",
    correction="leave out mask",
)
HOLES = Rule(
    "mask-holes",
    "warning",
    "A lung of a mask has a hole.",
    "A model learns that what lies there is not lung; often the hole is a slip, or a nodule that was left out.",
    "Fill the hole, unless the set means its masks so.",
    correction="leave out mask",
)
ODD = Rule(
    "mask-odd-form",
    "info",
    "A mask has a size or form far from the set's others.",
    "It may be of another view, of a part of the lungs, or drawn by another rule; it may also be a collapsed lung.",
    "Look at the picture with its mask, and draw it again where it is wrong.",
    correction="leave out mask",
)
RULES = (SWAPPED, TWICE, PIECES, HOLES, ODD)

LEAST_PIECE = (
    0.01  # of the lung's largest part; at most 0.002 in real masks drawn with care, but for one
)
LEAST_HOLE = 0.005  # of the lung; at most 0.002
FEWEST = 40  # masks of a source from which one can be called odd
FAR = 6.0  # standard deviations, outliers left out
SAME_PICTURE = 0.975  # correlation of two small pictures of even contrast from which they may share a mask; of different real ones at most 0.968
FORMS = {  # what is compared, in words; the least standard deviation it is given; whether it is a logarithm
    "area": ("the lungs' share of the picture", 0.05, True),
    "balance": ("the right lung's area over the left one's", 0.05, True),
    "right_height": ("the right lung's height over the picture's", 0.02, False),
    "left_height": ("the left lung's height over the picture's", 0.02, False),
    "width": ("the width of both lungs over the picture's", 0.02, False),
    "down": ("the height at which the lungs lie", 0.02, False),
    "right_solidity": ("the right lung's share of its convex hull", 0.01, False),
    "left_solidity": ("the left lung's share of its convex hull", 0.01, False),
}


def check(manifest: Manifest, facts: pl.DataFrame, cache: Cache | None = None) -> Iterator[Issue]:
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
    """Of each image: digest of its cached mask, whether the sides are exchanged, pieces and holes, and `FORMS`, null without both lungs."""
    found = [
        _of(mask)
        for places in _mask_contours.batches(cache.rows(image_ids))
        for mask in cache.masks.read(places)
    ]
    kinds = {
        "mask_digest": pl.String,
        "exchanged": pl.Boolean,
        "pieces": pl.Int64,
        "hole": pl.Float64,
        **dict.fromkeys(FORMS, pl.Float64),
    }
    return pl.DataFrame(found, schema=kinds)


def _of(mask: np.ndarray) -> dict[str, object]:
    sides = {
        name: _side((mask == side).astype(np.uint8)) for name, side in lung_masks.SIDES.items()
    }
    right, left = sides["right"], sides["left"]
    present = [side for side in sides.values() if side]
    told = {
        "mask_digest": storage.digest(mask.tobytes()),
        "exchanged": bool(right and left and right["across"] > left["across"]),
        "pieces": sum(side["pieces"] for side in present),
        "hole": max((side["hole"] for side in present), default=0.0),
    }
    if right and left:
        told |= {
            "area": np.log((right["area"] + left["area"]) / mask.size),
            "balance": np.log(right["area"] / left["area"]),
        }
        told |= {
            "right_height": right["height"] / len(mask),
            "left_height": left["height"] / len(mask),
            "down": (right["down"] + left["down"]) / 2 / len(mask),
        }
        told |= {
            "width": (max(right["end"], left["end"]) - min(right["start"], left["start"]))
            / len(mask)
        }
        told |= {"right_solidity": right["solidity"], "left_solidity": left["solidity"]}
    return told


def _side(lung: np.ndarray) -> dict[str, float] | None:
    """Measures of one lung, uint8 0 and 1, in pixels; None where there is none."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(lung, connectivity=8)
    if count == 1:
        return None
    areas = stats[1:, cv2.CC_STAT_AREA]
    contours, tree = cv2.findContours(lung, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outer = [
        contour for contour, (_, _, _, parent) in zip(contours, tree[0], strict=True) if parent < 0
    ]
    filled = cv2.drawContours(np.zeros_like(lung), outer, -1, 1, -1)
    left, top, width, height = cv2.boundingRect(np.concatenate(outer))
    rows, columns = np.nonzero(lung)
    hull = cv2.contourArea(cv2.convexHull(np.concatenate(outer)))
    return {
        "area": float(lung.sum()),
        "pieces": int((areas >= LEAST_PIECE * areas.max()).sum()) - 1,
        "hole": float(filled.sum() - lung.sum()) / float(lung.sum()),
        "start": left,
        "end": left + width,
        "height": height,
        "across": columns.mean(),
        "down": rows.mean(),
        "top": top,
        "solidity": float(lung.sum()) / max(hull, 1.0),
    }


def _wrong(rows: pl.DataFrame) -> Iterator[Issue]:
    exchanged = pl.format(
        "{}: what is called the right lung lies on the picture's right, beside the left lung",
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
    """Each image beside the first one with its mask, unless they show one picture."""
    again = rows.filter(pl.len().over("mask_digest") > 1)
    first = again.unique("mask_digest", keep="first", maintain_order=True).select(
        "mask_digest", pl.exclude("mask_digest").name.prefix("other_")
    )
    pairs = again.join(first, on="mask_digest", maintain_order="left").filter(
        pl.col("pixel_digest") != pl.col("other_pixel_digest")
    )
    unlike = [
        _correlation(cache, row["image_id"], row["other_image_id"]) < SAME_PICTURE
        for row in pairs.iter_rows(named=True)
    ]
    message = pl.format(
        "{} and {} have the same mask, pixel for pixel, and show different pictures",
        "path",
        "other_path",
    )
    yield from TWICE.issue(
        pairs.filter(pl.Series(unlike, dtype=pl.Boolean)).select(
            "image_id", "other_image_id", message=message
        )
    )


def _correlation(cache: Cache, first: str, second: str) -> float:
    one, other = _mask_contours.small_pictures(cache.images.read(cache.rows([first, second])))
    return float(one @ other)


def _odd(rows: pl.DataFrame) -> Iterator[Issue]:
    """One finding an image: the measure that is farthest off."""
    rows = rows.filter(pl.col("area").is_not_null())
    if rows.height < FEWEST:
        return
    far = np.stack(
        [
            _mask_contours.robust(rows[name].to_numpy(), floor)
            for name, (_, floor, _) in FORMS.items()
        ],
        axis=1,
    )
    worst = np.abs(far).argmax(axis=1)
    words = [_words(rows, at, list(FORMS)[one]) for at, one in enumerate(worst)]
    told = rows.with_columns(
        far=pl.Series(np.abs(far).max(axis=1)), words=pl.Series(words, dtype=pl.String)
    ).filter(pl.col("far") > FAR)
    yield from ODD.issue(told.select("image_id", message=pl.format("{}: {}", "mask", "words")))


def _words(rows: pl.DataFrame, at: int, name: str) -> str:
    words, _, logarithm = FORMS[name]
    mine, usual = (
        float(np.exp(value)) if logarithm else value
        for value in (rows[name][at], rows[name].median())
    )
    return f"{words} is {mine:.2f}, usual in its source is {usual:.2f}"
