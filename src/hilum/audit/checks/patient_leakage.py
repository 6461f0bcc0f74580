"""Patients: what a split by patient would miss, and what a split that the source comes with got wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from hilum.audit.checks._pairs import copies, pairs
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card

CARD = Card(
    title="Patients and given splits",
    caveats="As sure as the names of the patients: where a set has none, each picture is taken for a patient of its own, and a person in "
    "two parts goes unseen unless the very same picture is in both.",
)
IN_TWO_PARTS = Rule(
    "patient-parts",
    "error",
    "A patient stands in two parts of the split that the set comes with.",
    "A model is tested on people it was trained on, which makes its figures too good.",
    'Leave the given split: with [split] official = "ignore" Hilum makes one by patient.',
)
COPY_IN_TWO_PARTS = Rule(
    "duplicate-parts",
    "error",
    "One picture stands in two parts of the split that the set comes with.",
    "A model is tested on a picture it was trained on, which makes its figures too good.",
    'Take one of the two out, or leave the given split: with [split] official = "ignore" Hilum keeps copies in one part.',
    correction="keep one of pair",
)
TWO_PATIENTS = Rule(
    "duplicate-patients",
    "warning",
    "One picture stands under two patients.",
    "It is one person under two names, or one of the two is a wrong picture; a split by patient alone would set them apart.",
    "Find out whose picture it is. Until then Hilum's split keeps both patients in one part.",
    correction="same patient as",
)
SEX_DIFFERS = Rule(
    "patient-sex",
    "warning",
    "The pictures of one patient state different sexes.",
    "Two people may share a name in the table, or a picture was filed under the wrong one.",
    "Look the patient up in the source; separate the pictures or correct the entry.",
)
NEAR_IN_TWO_PARTS = Rule(
    "duplicate-processed-parts",
    "error",
    "One picture and a processed copy of it stand in two parts of the split that the set comes with.",
    COPY_IN_TWO_PARTS.rationale,
    COPY_IN_TWO_PARTS.remedy,
    correction="keep one of pair",
)
NEAR_TWO_PATIENTS = Rule(
    "duplicate-processed-patients",
    "warning",
    "One picture and a processed copy of it stand under two patients.",
    TWO_PATIENTS.rationale,
    TWO_PATIENTS.remedy,
    correction="keep one of pair",
)
STUDY_TWO_PATIENTS = Rule(
    "study-patients",
    "warning",
    "Pictures of one examination stand under two patients.",
    "An examination is one person's: one of the names is wrong, and a split by patient would set the two pictures apart.",
    "Look the examination up in the source, and correct the patient or the examination.",
)
STUDY_IN_TWO_PARTS = Rule(
    "study-parts",
    "error",
    "Pictures of one examination stand in two parts of the split that the set comes with, under two patients.",
    "A model is tested on people it was trained on, which makes its figures too good.",
    'Correct the patients, or leave the given split: with [split] official = "ignore" Hilum makes one by patient.',
)
RULES = (
    IN_TWO_PARTS,
    COPY_IN_TWO_PARTS,
    TWO_PATIENTS,
    SEX_DIFFERS,
    NEAR_IN_TWO_PARTS,
    NEAR_TWO_PATIENTS,
    STUDY_TWO_PATIENTS,
    STUDY_IN_TWO_PARTS,
)
PROCESSED = "duplicate-processed"  # the finding of a processed copy; exact ones are found here
_WORDS = {"given_part": "the part", "patient_id": "the patient"}
_NAMELESS = "no-patients"  # the remark of a data set in which nothing names the patients


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    yield from _within_patients(manifest.table)
    doubled = copies(manifest.table.join(facts, on="image_id"))
    parts = pl.format(
        "{} is in {} and the same picture, {}, in {}",
        "path",
        "given_part",
        "other_path",
        "other_given_part",
    )
    yield from COPY_IN_TWO_PARTS.issue(_told(pairs(doubled, ["pixel_digest"], "given_part"), parts))
    named = _NAMELESS not in manifest.remarks["rule"]
    yield from _within_studies(manifest.table, named=named)
    if not named:  # each picture is then a patient of its own, and every copy would be two
        return
    patients = pl.format(
        "{} of patient {} and {} of patient {} are the same picture",
        "path",
        "patient_id",
        "other_path",
        "other_patient_id",
    )
    yield from TWO_PATIENTS.issue(_told(pairs(doubled, ["pixel_digest"], "patient_id"), patients))


def afterwards(manifest: Manifest, found: Sequence[Issue]) -> Iterator[Issue]:
    """What processed copies, which another check finds by looking at the pictures, mean for the given split and the patients."""
    told = [(one.image_id, one.other_image_id) for one in found if one.rule == PROCESSED]
    couples = pl.DataFrame(
        told, schema={"image_id": pl.String, "other_image_id": pl.String}, orient="row"
    )
    images = manifest.table.select("image_id", "path", "given_part", "patient_id")
    couples = couples.join(images, on="image_id").join(
        images.select(pl.all().name.prefix("other_")), on="other_image_id"
    )
    named = _NAMELESS not in manifest.remarks["rule"]
    for rule, column in (
        (NEAR_IN_TWO_PARTS, "given_part"),
        *([(NEAR_TWO_PATIENTS, "patient_id")] if named else []),
    ):
        torn = couples.filter(pl.col(column) != pl.col(f"other_{column}"))
        message = pl.format(
            "{} has {} {}, a processed copy of it, {}, has {}",
            "path",
            pl.lit(_WORDS[column]),
            column,
            "other_path",
            f"other_{column}",
        )
        yield from rule.issue(_told(torn, message))


def _within_studies(table: pl.DataFrame, *, named: bool) -> Iterator[Issue]:
    """Examinations under two patients; nothing is said of these where nothing names the patients."""
    torn = table.drop_nulls("study").filter(
        pl.col("patient_id").n_unique().over("dataset", "source", "study") > 1
    )
    for rule, column in (
        (STUDY_IN_TWO_PARTS, "given_part"),
        *([(STUDY_TWO_PATIENTS, "patient_id")] if named else []),
    ):
        message = pl.format(
            "examination {}: {} has {} {}, {} has {}",
            "study",
            "path",
            pl.lit(_WORDS[column]),
            column,
            "other_path",
            f"other_{column}",
        )
        yield from rule.issue(_told(pairs(torn, ["dataset", "source", "study"], column), message))


def _within_patients(table: pl.DataFrame) -> Iterator[Issue]:
    for rule, column in ((IN_TWO_PARTS, "given_part"), (SEX_DIFFERS, "sex")):
        counted = table.with_columns(images=pl.len().over("patient_id", column))
        message = pl.format(
            "patient {}: {} in {} pictures, {} in {}",
            "patient_id",
            column,
            "images",
            f"other_{column}",
            "other_images",
        )
        yield from rule.issue(_told(pairs(counted, ["patient_id"], column), message))


def _told(found: pl.DataFrame, message: pl.Expr) -> pl.DataFrame:
    return found.select("image_id", "other_image_id", message=message)
