"""What a small set allows: cross-validation in place of one split, findings left out, or nothing but a short report that says what is missing."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from hilum import division as dividing
from hilum.division import CROSS_VALIDATED, FEWEST_OF_A_STATE, FEWEST_PATIENTS, Division
from hilum.manifest import Manifest
from hilum.recipe import Split
from hilum.steps._report.words import plural
from hilum.steps.cache import Cache
from hilum.steps.segment import FEWEST_MASKS
from hilum.vocabulary import name_of

NO_FINDING = "No finding is both present and absent on some images, so there was nothing to train on and nothing to measure."


def division(divided: Division, table: pl.DataFrame, settings: Split) -> dict[str, Any]:
    """How the set was divided, why, what one split would need, and the findings that no model was trained on."""
    return {
        "needed": math.ceil(settings.minimum / min(settings.train, settings.tune, settings.test)),
        "mode": divided.mode,
        "cross_validated": divided.mode == CROSS_VALIDATED,
        "folds": divided.folds,
        "why": divided.why,
        "images": table.height,
        "patients": table["group"].n_unique(),
        "concepts": [name_of(concept) for concept in divided.concepts or ()],
        "too_rare": [{"name": name_of(concept), "why": why} for concept, why in divided.too_rare.items()],
        "fewest": FEWEST_OF_A_STATE,
    }


def no_finding(divided: Division) -> str:
    """Why no classifier was trained."""
    if not divided.finding:
        return NO_FINDING
    return f"No classifier and no anomaly model was trained: {divided.too_rare.get(divided.finding, divided.why)}."


def short(divided: Division, manifest: Manifest, table: pl.DataFrame, cached: Cache) -> dict[str, Any]:
    """What is missing for models of one's own and figures of them: a row each, what there is and what is needed."""
    counted = {row["concept"]: row for row in dividing.patients(manifest, table).iter_rows(named=True)}
    needed = f"{FEWEST_OF_A_STATE} patients with it, {FEWEST_OF_A_STATE} without, {FEWEST_PATIENTS} in all"
    rows = [
        {"what": f"Labels: {name_of(concept).lower()}", "there": f"{plural(row['present'], 'patient')} with it, {row['absent']:,} without", "needed": needed}
        for concept, row in counted.items()
        if row["present"] + row["absent"] < FEWEST_PATIENTS or min(row["present"], row["absent"]) < FEWEST_OF_A_STATE
    ]
    if not counted:
        rows.append({"what": "Labels", "there": "none", "needed": f"of one finding or more: {needed}; a folder a class, or a table with a column a finding"})
    masks = cached.with_mask.height
    if masks < FEWEST_MASKS:
        rows.append({"what": "Reference lung masks", "there": plural(masks, "image"), "needed": f"{FEWEST_MASKS} in every training part, to train a segmenter on; the shipped one needs none"})
    return {"rows": rows, "why": divided.why}
