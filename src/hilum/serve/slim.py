"""Tables of many rows in little memory.

Polars keeps 16 bytes for each cell of text, also for an empty one. A column of a few words takes 4
as categories, and a column without any value takes nothing.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from hilum.dataset.manifest import COLUMNS, LABEL_COLUMNS, Manifest

KEYS = ("image_id",)  # columns by which tables are joined
TEXT = ("patient_id", "path", "reading")  # columns that are searched as text
MOST_WORDS = 4096  # different words of a column that is kept as categories


def table(full: pl.DataFrame) -> pl.DataFrame:
    """Return a table with the same values, in less memory."""
    return full.with_columns(_column(full[name]) for name in full.columns)


def _column(values: pl.Series) -> pl.Series | pl.Expr:
    if values.name in KEYS or not len(values):
        return values
    if values.null_count() == len(values):
        return pl.lit(None).alias(values.name)
    if values.name in TEXT or values.dtype != pl.String:
        return values
    if values.n_unique() <= min(MOST_WORDS, len(values) // 2):
        return values.cast(pl.Categorical)
    return values


def manifest(full: Manifest) -> Manifest:
    """Return a manifest with the same values, in less memory; only `some` of it is one again."""
    return replace(full, table=table(full.table), labels=table(full.labels))


def some(slim: Manifest, image_ids: list[str]) -> Manifest:
    """Return the manifest of some images, with the types that a manifest has."""
    here = slim.only(image_ids)
    return replace(
        here,
        table=here.table.cast(pl.Schema(COLUMNS)),
        labels=here.labels.cast(pl.Schema(LABEL_COLUMNS)),
    )
