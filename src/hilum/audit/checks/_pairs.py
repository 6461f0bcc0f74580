"""Rows that share something and differ in something else, as pairs; exact copies of pictures; and values far apart within a group."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def pairs(rows: pl.DataFrame, alike: Sequence[str], differ: str) -> pl.DataFrame:
    """Rows alike in columns `alike`: of each further value of `differ` the first image, beside the first image of all.

    Columns of the first stand with the prefix `other_`. A null is no value. First is by image_id.
    """
    chosen = (
        rows.drop_nulls([*alike, differ])
        .sort("image_id")
        .unique([*alike, differ], keep="first", maintain_order=True)
    )
    first = chosen.unique(alike, keep="first", maintain_order=True)
    first = first.select(*alike, pl.exclude(*alike).name.prefix("other_"))
    return chosen.join(first, on=alike, maintain_order="left").filter(
        pl.col("image_id") != pl.col("other_image_id")
    )


def copies(pictures: pl.DataFrame, digest: str = "pixel_digest") -> pl.DataFrame:
    """The pictures of which there are several with one digest. Those of a single value are left out: they show nobody."""
    shown = pictures.filter(pl.col(digest).is_not_null() & (pl.col("minimum") < pl.col("maximum")))
    return shown.filter(pl.len().over(digest) > 1)


def spans(rows: pl.DataFrame, alike: Sequence[str], value: str, widest: float) -> pl.DataFrame:
    """Groups alike in columns `alike` whose `value` reaches further than `widest`: the row with the largest beside that with the smallest.

    Columns of the smallest stand with the prefix `other_`. A null is no value; of equals the first by image_id is taken.
    """
    known = rows.drop_nulls([*alike, value])
    wide = (
        known.group_by(alike)
        .agg(_span=pl.col(value).max() - pl.col(value).min())
        .filter(pl.col("_span") > widest)
        .drop("_span")
    )
    ordered = known.join(wide, on=alike, how="semi").sort(value, "image_id")
    smallest = ordered.unique(alike, keep="first", maintain_order=True).select(
        *alike, pl.exclude(*alike).name.prefix("other_")
    )
    largest = ordered.sort(value, "image_id", descending=[True, False]).unique(
        alike, keep="first", maintain_order=True
    )
    return largest.join(smallest, on=alike, maintain_order="left")
