"""Compare rows of a table: pairs that agree in one thing and differ in another, exact copies of
images, and values that are far apart within a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from hilum.dataset.groups import duplicated


def with_facts(
    table: pl.DataFrame, facts: pl.DataFrame, *columns: str, how: Literal["inner", "left"] = "inner"
) -> pl.DataFrame:
    """Return images with these columns of their facts, in the order of `table`.

    `how`: whether images without facts are left out, or have nulls in their place.

    The index of a cache has the order of its manifest: nothing is searched for then.
    """
    measured = facts.select("image_id", *columns)
    if table.height == facts.height and (table["image_id"] == facts["image_id"]).all():
        return table.hstack(measured.drop("image_id"))
    return table.join(measured, on="image_id", how=how, maintain_order="left")


def mixed(rows: pl.DataFrame, alike: Sequence[str], differ: str) -> pl.DataFrame:
    """Return rows of groups, equal in columns `alike`, with several values of `differ`.

    A null is not a value.
    """
    key, value, known = pl.col(alike), pl.col(differ), rows.select(*alike, differ).drop_nulls()
    again = pl.all_horizontal(key == key.shift()).fill_null(value=False)
    first = known.filter(~again).select(alike)
    if first.n_unique() == first.height:  # of groups that are neighbours: a quarter of the time
        groups = known.filter(again & (value != value.shift()))
    else:
        groups = known.group_by(alike).agg((value != value.first()).any()).filter(differ)
    if groups.is_empty():
        return rows.clear()
    return rows.join(groups, on=alike, how="semi", maintain_order="left")


def pairs(rows: pl.DataFrame, alike: Sequence[str], differ: str) -> pl.DataFrame:
    """Pair rows that agree in columns `alike` and differ in column `differ`.

    For each further value of `differ`, its first image is paired with the first image of all, by
    image_id, whose columns have the prefix `other_`. A null is not a value.
    """
    chosen = (
        mixed(rows, alike, differ)
        .drop_nulls([*alike, differ])
        .sort("image_id")
        .unique([*alike, differ], keep="first", maintain_order=True)
    )
    first = chosen.unique(alike, keep="first", maintain_order=True)
    first = first.select(*alike, pl.exclude(*alike).name.prefix("other_"))
    return chosen.join(first, on=alike, maintain_order="left").filter(
        pl.col("image_id") != pl.col("other_image_id")
    )


def copies(images: pl.DataFrame, digest: str = "pixel_digest") -> pl.DataFrame:
    """Return images whose digest occurs several times.

    Constant images are left out: they are equal, but show nobody.
    """
    shown = pl.col(digest).is_not_null() & (pl.col("minimum") < pl.col("maximum"))
    return duplicated(images, digest, shown)


def wide(rows: pl.DataFrame, alike: Sequence[str], value: str, widest: float) -> pl.DataFrame:
    """Return rows of groups, equal in columns `alike`, whose `value` has a range above `widest`.

    Rows without a value are left out.
    """
    known, column = rows.drop_nulls(value), pl.col(value)
    groups = known.group_by(alike).agg(_span=column.max() - column.min())
    return known.join(groups.filter(pl.col("_span") > widest), on=alike, how="semi")


def spans(rows: pl.DataFrame, alike: Sequence[str], value: str, widest: float) -> pl.DataFrame:
    """Return groups of rows, equal in columns `alike`, whose `value` has a range above `widest`.

    Each group is one row: the row of the largest value, with the columns of the row of the
    smallest value under the prefix `other_`. A null is not a value; ties go to the first image_id.
    """
    ordered = wide(rows.drop_nulls(alike), alike, value, widest).sort(value, "image_id")
    smallest = ordered.unique(alike, keep="first", maintain_order=True).select(
        *alike, pl.exclude(*alike).name.prefix("other_")
    )
    largest = ordered.sort(value, "image_id", descending=[True, False]).unique(
        alike, keep="first", maintain_order=True
    )
    return largest.join(smallest, on=alike, maintain_order="left")
