"""The table of labels concept by concept.

What joins labels with images does so for one concept at a time: those of a million images at once
take gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl


def of(labels: pl.DataFrame, concept: str) -> pl.DataFrame:
    """Return image_id and state of the labels of one concept, in the table's order."""
    # In one query, so that the other columns are not copied.
    of_concept = labels.lazy().filter(pl.col("concept") == concept)
    return of_concept.select("image_id", "state").collect()


def each(labels: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each concept that is labelled, sorted by name, with its labels as `of` gives them."""
    for concept in labels["concept"].unique().sort():
        yield concept, of(labels, concept)
