"""The test images with labels, scores and calls, as a CSV file beside the report and in it."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import polars as pl

from hilum.annotations.vocabulary import STATE_NAMES
from hilum.dataset.manifest import Manifest

FILE = "test_scores.csv"
MOST_BYTES = 2_000_000  # inside the report; browsers open larger pages slowly


@dataclass(frozen=True)
class Link:
    """Where the table is: `address` holds its bytes, or names the file where they are too many."""

    address: str
    file: str
    inside: bool
    images: int


def table(scores: pl.DataFrame, split: pl.DataFrame, manifest: Manifest) -> pl.DataFrame:
    """Return a row for each test image, sorted by image_id.

    Columns are image_id, path, patient_id, fold (empty where there is one split), quality_flags,
    then for each concept `CONCEPT label`, and for each task `TASK CONCEPT score` and
    `TASK CONCEPT called`; a cell without a value is empty. `scores` are as
    `hilum.pipeline.evaluation.classification.transfer` gives them.
    """
    test = scores.filter(pl.col("part") == "test")
    images = test.select("image_id", "quality_flags").unique("image_id", maintain_order=True)
    places = manifest.table.select("image_id", "path", "patient_id")
    made = images.join(places, on="image_id", maintain_order="left").join(
        split.select("image_id", "fold"), on="image_id", maintain_order="left"
    )
    made = made.select("image_id", "path", "patient_id", "fold", "quality_flags")
    for concept in test["concept"].unique(maintain_order=True):
        label = manifest.states(concept).select(
            "image_id",
            pl.col("state")
            .replace_strict(STATE_NAMES, default="", return_dtype=pl.String)
            .alias(f"{concept} label"),
        )
        made = made.join(label, on="image_id", how="left", maintain_order="left")
        for task in test["task"].unique(maintain_order=True):
            rows = test.filter((pl.col("task") == task) & (pl.col("concept") == concept))
            if rows.height:
                scored = _scored(rows, f"{task} {concept}")
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
    data = text.encode()
    inside = len(data) <= MOST_BYTES
    if not inside:
        return Link(FILE, FILE, inside, images)
    encoded = base64.b64encode(data).decode()
    return Link(f"data:text/csv;charset=utf-8;base64,{encoded}", FILE, inside, images)
