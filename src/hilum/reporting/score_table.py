"""The test images with labels, scores and calls, as a CSV file beside the report and in it."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import polars as pl

from hilum.annotations.vocabulary import STATE_NAMES
from hilum.dataset.manifest import Manifest
from hilum.pipeline.evaluation.transferred_scores import TransferredScores

FILE = "test_scores.csv"
MOST_BYTES = 2_000_000  # inside the report; browsers open larger pages slowly


@dataclass(frozen=True)
class Link:
    """Where the table is: `address` holds its bytes, or names the file where they are too many."""

    address: str
    file: str
    inside: bool
    images: int


def table(scores: TransferredScores, split: pl.DataFrame, manifest: Manifest) -> pl.DataFrame:
    """Return a row for each test image, sorted by image_id.

    Columns are image_id, path, patient_id, fold (empty where there is one split), quality_flags,
    then for each concept `CONCEPT label`, and for each task `TASK CONCEPT score` and
    `TASK CONCEPT called`; a cell without a value is empty.
    """
    each = scores.each("test")
    places = manifest.table.select("image_id", "path", "patient_id").with_row_index("row")
    images = scores.images("test").join(places, on="image_id", how="left", maintain_order="left")
    images = images.join(
        split.select("image_id", "fold"), on="image_id", how="left", maintain_order="left"
    )
    made = images.select("image_id", "path", "patient_id", "fold", "quality_flags")
    for concept in dict.fromkeys(concept for _, concept in each):
        label = manifest.label_states.column(concept).gather(images["row"])
        words = label.replace_strict(STATE_NAMES, default="", return_dtype=pl.String)
        made = made.with_columns(words.alias(f"{concept} label"))
        for task in dict.fromkeys(task for task, _ in each):
            if (task, concept) in each:
                scored = _scored(scores.of(task, concept, "test"), f"{task} {concept}")
                made = made.join(scored, on="image_id", how="left", maintain_order="left")
    return made.sort("image_id")


def _scored(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    called = (
        pl.when(pl.col("called").is_nan())
        .then(pl.lit(""))
        .when(pl.col("called") == 1)
        .then(pl.lit("positive"))
        .otherwise(pl.lit("negative"))
    )
    return rows.select(
        "image_id", pl.col("score").alias(f"{name} score"), called.alias(f"{name} called")
    )


def table_link(text: str, images: int) -> Link:
    """Return the link to the table whose CSV is `text`."""
    # A long one is not even encoded: of a million images it has hundreds of megabytes.
    data = text.encode() if len(text) <= MOST_BYTES else None
    if data is None or len(data) > MOST_BYTES:
        return Link(FILE, FILE, False, images)
    encoded = base64.b64encode(data).decode()
    return Link(f"data:text/csv;charset=utf-8;base64,{encoded}", FILE, True, images)
