"""What a small data set allows: folds in place of one split, fewer findings, or a short report."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from hilum.annotations.vocabulary import name_of
from hilum.config import Split
from hilum.dataset.manifest import Manifest
from hilum.errors import plural
from hilum.pipeline import division as dividing
from hilum.pipeline._training import FEWEST_MASKS
from hilum.pipeline.cache import Cache
from hilum.pipeline.division import FEWEST_OF_A_STATE, FEWEST_PATIENTS, Division

NO_FINDING = (
    "No finding is both present and absent on some images, so there was nothing to train on and "
    "nothing to measure."
)


@dataclass(frozen=True)
class TooRare:
    """A finding that no model is trained on, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class DivisionNote:
    """How the set was divided and why.

    `needed` is the number of images with each finding, and without it, that one split takes.
    """

    needed: int
    cross_validated: bool
    requested: bool
    folds: int
    reason: str
    patients: int
    concepts: list[str]
    too_rare: list[TooRare]
    fewest: int


@dataclass(frozen=True)
class Shortage:
    """One thing that is missing for training: what, how much there is, how much is needed."""

    what: str
    there: str
    needed: str


@dataclass(frozen=True)
class Shortages:
    """Everything that is missing, and why the set was not divided."""

    rows: list[Shortage]
    reason: str


def division(divided: Division, table: pl.DataFrame, settings: Split) -> DivisionNote:
    """Return how the set was divided and why, what one split takes, which findings are too rare."""
    smallest = min(settings.train, settings.tune, settings.test)
    return DivisionNote(
        needed=math.ceil(settings.min_per_class / smallest),
        cross_validated=divided.cross_validated,
        requested=settings.folds >= 2,
        folds=divided.folds,
        reason=divided.why,
        patients=table["group"].n_unique(),
        concepts=[name_of(concept) for concept in divided.concepts or ()],
        too_rare=[TooRare(name_of(concept), why) for concept, why in divided.too_rare.items()],
        fewest=FEWEST_OF_A_STATE,
    )


def no_finding(divided: Division) -> str:
    """Return why no classifier was trained."""
    if not divided.finding:
        return NO_FINDING
    why = divided.too_rare.get(divided.finding, divided.why)
    return f"No classifier and no anomaly model was trained: {why}."


def shortages(
    divided: Division, manifest: Manifest, table: pl.DataFrame, cached: Cache
) -> Shortages:
    """Return what is missing for models and figures."""
    counted = {
        row["concept"]: row for row in dividing.patients(manifest, table).iter_rows(named=True)
    }
    least, total = FEWEST_OF_A_STATE, FEWEST_PATIENTS
    needed = f"{least} patients with it, {least} without, {total} in all"
    rows = [
        Shortage(
            f"Labels: {name_of(concept).lower()}",
            f"{plural(row['present'], 'patient')} with it, {row['absent']:,} without",
            needed,
        )
        for concept, row in counted.items()
        if row["present"] + row["absent"] < total or min(row["present"], row["absent"]) < least
    ]
    if not counted:
        of_one = f"of one finding or more: {needed}; one folder for each class, or a table"
        rows.append(Shortage("Labels", "none", of_one))
    masks = cached.with_mask.height
    if masks < FEWEST_MASKS:
        per_part = f"{FEWEST_MASKS} in every training part, for a segmenter of your own"
        rows.append(Shortage("Reference lung masks", plural(masks, "image"), per_part))
    return Shortages(rows, divided.why)
