"""Report what a small set allows: folds in place of one split, fewer findings, or a short page."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from hilum.annotations.vocabulary import name_of
from hilum.config import Split
from hilum.dataset.manifest import Manifest
from hilum.pipeline import division as dividing
from hilum.pipeline._training import FEWEST_MASKS
from hilum.pipeline.cache import Cache
from hilum.pipeline.division import CROSS_VALIDATED, FEWEST_OF_A_STATE, FEWEST_PATIENTS, Division
from hilum.reporting.sections.text import plural

NO_FINDING = (
    "No finding is both present and absent on some images, so there was nothing to train on and "
    "nothing to measure."
)


def division(divided: Division, table: pl.DataFrame, settings: Split) -> dict[str, Any]:
    """Say how the set was divided and why, what one split needs, which findings are too rare."""
    return {
        "needed": math.ceil(
            settings.min_per_class / min(settings.train, settings.tune, settings.test)
        ),
        "mode": divided.mode,
        "cross_validated": divided.mode == CROSS_VALIDATED,
        "folds": divided.folds,
        "reason": divided.why,
        "asked": settings.folds >= 2,
        "images": table.height,
        "patients": table["group"].n_unique(),
        "concepts": [name_of(concept) for concept in divided.concepts or ()],
        "too_rare": [
            {"name": name_of(concept), "reason": why} for concept, why in divided.too_rare.items()
        ],
        "fewest": FEWEST_OF_A_STATE,
    }


def no_finding(divided: Division) -> str:
    """Say why no classifier was trained."""
    if not divided.finding:
        return NO_FINDING
    why = divided.too_rare.get(divided.finding, divided.why)
    return f"No classifier and no anomaly model was trained: {why}."


def short(
    divided: Division, manifest: Manifest, table: pl.DataFrame, cached: Cache
) -> dict[str, Any]:
    """List what is missing for models and figures: a row each, what there is, what is needed."""
    counted = {
        row["concept"]: row for row in dividing.patients(manifest, table).iter_rows(named=True)
    }
    least, total = FEWEST_OF_A_STATE, FEWEST_PATIENTS
    needed = f"{least} patients with it, {least} without, {total} in all"
    rows = [
        {
            "what": f"Labels: {name_of(concept).lower()}",
            "there": f"{plural(row['present'], 'patient')} with it, {row['absent']:,} without",
            "needed": needed,
        }
        for concept, row in counted.items()
        if row["present"] + row["absent"] < FEWEST_PATIENTS
        or min(row["present"], row["absent"]) < FEWEST_OF_A_STATE
    ]
    if not counted:
        rows.append(
            {
                "what": "Labels",
                "there": "none",
                "needed": f"of one finding or more: {needed}; a folder a class, or a table",
            }
        )
    masks = cached.with_mask.height
    if masks < FEWEST_MASKS:
        rows.append(
            {
                "what": "Reference lung masks",
                "there": plural(masks, "image"),
                "needed": f"{FEWEST_MASKS} in every training part, for a segmenter of your own",
            }
        )
    return {"rows": rows, "reason": divided.why}
