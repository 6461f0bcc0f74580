"""Lung masks: missing, unusable on their picture, or not what a lung mask looks like."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum import lungs
from hilum.findings import Finding, Rule
from hilum.manifest import Manifest
from hilum.shelf import Card

CARD = Card(
    title="Lung masks",
    caveats="Missing, unusable, grey and empty masks are certain. One lung alone is told by the parts of the mask: two lungs that touch "
    "and are narrow are taken for one, and a patient may truly have one aerated lung. Whether an outline follows the lung is not checked.",
)
COLUMNS = ("lung_mask", "right_lung_mask", "left_lung_mask")

MISSING = Rule(
    "mask-missing",
    "info",
    "A picture has no lung mask.",
    "It takes no part in training or measuring the lung outlines; the lungs found in it are not compared with anything.",
    "Nothing, where that is meant; else put the mask beside the others under its picture's name.",
)
UNUSABLE = Rule(
    "mask-unusable",
    "error",
    "A mask cannot be read, or has another size than its picture.",
    "Stretched to fit it would mark the wrong place, so the picture is treated as one without a mask.",
    "Export the mask again, in the size of its picture; check that it is this picture's mask.",
)
GREY = Rule(
    "mask-not-binary",
    "warning",
    "A mask holds more than two values.",
    "Where its edge lies depends on a threshold (half of its largest value here): resized or lossy masks look like this.",
    "Export the mask with two values and without lossy compression, 0 outside and 255 inside.",
)
EMPTY = Rule(
    "mask-empty",
    "warning",
    "A mask marks no pixel, or all of them.",
    "An empty mask would teach that there is no lung; it is treated as none, and a full one is an outline of nothing.",
    "Draw the mask, or take it out, which leaves the picture without one.",
)
ONE_LUNG = Rule(
    "mask-one-lung",
    "warning",
    "A mask marks the lung of one side only.",
    "Overlap per lung is undefined on the other side, and the lung region is cut in half.",
    "Complete the mask, unless the patient truly has one aerated lung.",
)
RULES = (MISSING, UNUSABLE, GREY, EMPTY, ONE_LUNG)


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Finding]:
    masks = manifest.table.with_columns(mask=pl.concat_str(COLUMNS, separator=" and ", ignore_nulls=True))
    drawn = manifest.shapes.filter(pl.col("concept").is_in(list(lungs.DRAWN)))["image_id"]
    outlined = pl.when(pl.col("image_id").is_in(drawn.implode())).then(pl.format("the lungs drawn on {}", "path"))
    masks = masks.with_columns(mask=pl.coalesce(pl.col("mask").replace("", None), outlined))
    yield from _missing(masks)
    masks = masks.join(facts, on="image_id")
    yield from UNUSABLE.found(masks.filter(pl.col("mask_error").is_not_null()).select("image_id", message="mask_error"))
    yield from _content(masks.filter(pl.col("mask_error").is_null() & pl.col("mask_value_count").is_not_null()))


def _missing(masks: pl.DataFrame) -> Iterator[Finding]:
    """One finding an image where others have a mask, and one for all where nobody has."""
    some = pl.col("mask").is_not_null().any().over("dataset")
    missing = masks.filter(pl.col("mask").is_null())
    bare = masks.filter(~some).group_by("dataset").len()
    yield from MISSING.found(bare.select(message=pl.format("no picture of {} has a lung mask (pictures: {})", "dataset", "len")))
    alone = missing.join(bare, on="dataset", how="anti")
    yield from MISSING.found(alone.select("image_id", message=pl.format("{} has no lung mask", "path")))


def _content(masks: pl.DataFrame) -> Iterator[Finding]:
    right, left = pl.col("right_pixels"), pl.col("left_pixels")
    none, full = right + left == 0, right + left == pl.col("height") * pl.col("width")
    grey = pl.format("{}: {} different values, expected 2", "mask", "mask_value_count")
    yield from GREY.found(masks.filter(pl.col("mask_value_count") > 2).select("image_id", message=grey))
    inside = pl.format("{}: {} pixel is inside", "mask", pl.when(none).then(pl.lit("no")).otherwise(pl.lit("every")))
    yield from EMPTY.found(masks.filter(none | full).select("image_id", message=inside))
    side = pl.when(right == 0).then(pl.lit("right")).otherwise(pl.lit("left"))
    other = pl.when(right == 0).then(pl.lit("left")).otherwise(pl.lit("right"))
    alone = pl.format("{}: {} pixels of the {} lung, none of the {} one", "mask", right + left, other, side)
    yield from ONE_LUNG.found(masks.filter(~none & ~full & ((right == 0) | (left == 0))).select("image_id", message=alone))
