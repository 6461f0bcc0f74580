"""Tabulate the test images with their scores, for a CSV file beside the report and inside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import polars as pl

from hilum.annotations.vocabulary import STATE_NAMES
from hilum.dataset.manifest import Manifest

FILE = "test_scores.csv"
MOST_BYTES = 2_000_000  # inside the report; a larger table stands beside it alone


def table(rows: pl.DataFrame, split: pl.DataFrame, manifest: Manifest) -> pl.DataFrame:
    """Make one row a test image: image_id, path, patient_id, fold, doubts, labels, scores, calls.

    Columns are `CONCEPT label`, and of each stage `STAGE CONCEPT score` and `STAGE CONCEPT called`;
    a cell is empty where there is no such thing, as `fold` is where there is one split.
    `rows`: scores as `hilum.pipeline.evaluation.classification.transfer` gives them.
    """
    test = rows.filter(pl.col("part") == "test")
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
        for stage in test["task"].unique(maintain_order=True):
            of = test.filter((pl.col("task") == stage) & (pl.col("concept") == concept))
            if of.height:
                called = (
                    pl.when(pl.col("called").is_nan())
                    .then(pl.lit(""))
                    .when(pl.col("called") == 1)
                    .then(pl.lit("positive"))
                    .otherwise(pl.lit("negative"))
                )
                scored = of.select(
                    "image_id",
                    pl.col("score").alias(f"{stage} {concept} score"),
                    called.alias(f"{stage} {concept} called"),
                )
                made = made.join(scored, on="image_id", how="left", maintain_order="left")
    return made.sort("image_id")


def section(text: str, images: int) -> Mapping[str, Any]:
    """Link the table: `link` holds it, or names the file beside the page where it is too large."""
    data = text.encode()
    inside = len(data) <= MOST_BYTES
    link = (
        f"data:text/csv;charset=utf-8;base64,{base64.b64encode(data).decode()}" if inside else FILE
    )
    return {"link": link, "file": FILE, "inside": inside, "images": images}
