"""Check patients: what a split by patient would miss, and what the given split got wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from hilum.audit.checks._pairs import copies, mixed, pairs, with_facts
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card

CARD = Card(
    title="Patients and given splits",
    caveats="As certain as the names of the patients: where a data set has none, each image is "
    "taken for a patient of its own, and a person in two parts is not detected unless the very "
    "same image is in both.",
)
IN_TWO_PARTS = Rule(
    "patient-parts",
    "error",
    "A patient is in two parts of the split that the data set comes with.",
    "A model is tested on people it was trained on, which makes its figures too good.",
    'Ignore the given split: with [split] official = "ignore" Hilum makes one by patient.',
)
COPY_IN_TWO_PARTS = Rule(
    "duplicate-parts",
    "error",
    "One image is in two parts of the split that the data set comes with.",
    "A model is tested on an image it was trained on, which makes its figures too good.",
    'Take one of the two out, or ignore the given split: with [split] official = "ignore" Hilum '
    "keeps copies in one part.",
    correction="keep one of pair",
)
TWO_PATIENTS = Rule(
    "duplicate-patients",
    "warning",
    "One image belongs to two patients.",
    "It is one person under two names, or one of the two is a wrong image; a split by patient "
    "alone would separate them.",
    "Find out whose image it is. Until then Hilum's split keeps both patients in one part.",
    correction="same patient as",
)
SEX_DIFFERS = Rule(
    "patient-sex",
    "warning",
    "The images of one patient state different sexes.",
    "Two people may have one name in the table, or an image was filed under the wrong one.",
    "Check the patient in the source; separate the images or correct the entry.",
)
NEAR_IN_TWO_PARTS = Rule(
    "duplicate-processed-parts",
    "error",
    "One image and a processed copy of it are in two parts of the split that the data set comes "
    "with.",
    COPY_IN_TWO_PARTS.rationale,
    COPY_IN_TWO_PARTS.remedy,
    correction="keep one of pair",
)
NEAR_TWO_PATIENTS = Rule(
    "duplicate-processed-patients",
    "warning",
    "One image and a processed copy of it belong to two patients.",
    TWO_PATIENTS.rationale,
    TWO_PATIENTS.remedy,
    correction="keep one of pair",
)
STUDY_TWO_PATIENTS = Rule(
    "study-patients",
    "warning",
    "Images of one examination belong to two patients.",
    "An examination is one person's: one of the names is wrong, and a split by patient would "
    "separate the two images.",
    "Check the examination in the source, and correct the patient or the examination.",
)
STUDY_IN_TWO_PARTS = Rule(
    "study-parts",
    "error",
    "Images of one examination are in two parts of the split that the data set comes with, under "
    "two patients.",
    "A model is tested on people it was trained on, which makes its figures too good.",
    'Correct the patients, or ignore the given split: with [split] official = "ignore" Hilum makes '
    "one by patient.",
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
PROCESSED = "duplicate-processed"  # the rule of a processed copy; exact copies are found here
_WORDS = {"given_part": "in part '{}'", "patient_id": "of patient {}"}
_NAMELESS = "no-patients"  # the remark of a data set in which nothing names the patients


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    """Yield issues of patients, exact copies and examinations against parts and patients."""
    yield from _within_patients(manifest.table)
    table = manifest.table.select("image_id", "path", "patient_id", "given_part")
    duplicated = copies(with_facts(table, facts, "pixel_digest", "minimum", "maximum"))
    parts = pl.format(
        "{} in part '{}' and {} in part '{}' are the same image",
        "path",
        "given_part",
        "other_path",
        "other_given_part",
    )
    yield from COPY_IN_TWO_PARTS.issue(
        _pair(pairs(duplicated, ["pixel_digest"], "given_part"), parts)
    )
    named = _NAMELESS not in manifest.remarks["rule"]
    yield from _within_studies(manifest.table, named=named)
    if not named:  # each image is then a patient of its own, and every copy would be two
        return
    patients = pl.format(
        "{} of patient {} and {} of patient {} are the same image",
        "path",
        "patient_id",
        "other_path",
        "other_patient_id",
    )
    yield from TWO_PATIENTS.issue(
        _pair(pairs(duplicated, ["pixel_digest"], "patient_id"), patients)
    )


def afterwards(manifest: Manifest, found: Sequence[Issue]) -> Iterator[Issue]:
    """Yield what processed copies, which another check finds, mean for parts and patients."""
    named_pairs = [(one.image_id, one.other_image_id) for one in found if one.rule == PROCESSED]
    couples = pl.DataFrame(
        named_pairs, schema={"image_id": pl.String, "other_image_id": pl.String}, orient="row"
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
        separated = couples.filter(pl.col(column) != pl.col(f"other_{column}"))
        message = pl.format(
            f"{{}} {_WORDS[column]} and {{}} {_WORDS[column]} show the same image, one of them "
            "processed",
            *_of_pair(column),
        )
        yield from rule.issue(_pair(separated, message))


def _within_studies(table: pl.DataFrame, *, named: bool) -> Iterator[Issue]:
    """Yield examinations of two patients, without their names where nothing names patients."""
    studies = table.select(
        "image_id", "path", "dataset", "source", "study", "patient_id", "given_part"
    )
    separated = mixed(studies.drop_nulls("study"), ["dataset", "source", "study"], "patient_id")
    for rule, column in (
        (STUDY_IN_TWO_PARTS, "given_part"),
        *([(STUDY_TWO_PATIENTS, "patient_id")] if named else []),
    ):
        message = pl.format(
            f"examination {{}}: {{}} is {_WORDS[column]}, {{}} {_WORDS[column]}",
            "study",
            *_of_pair(column),
        )
        yield from rule.issue(
            _pair(pairs(separated, ["dataset", "source", "study"], column), message)
        )


def _of_pair(column: str) -> tuple[str, str, str, str]:
    return "path", column, "other_path", f"other_{column}"


def _within_patients(table: pl.DataFrame) -> Iterator[Issue]:
    for rule, column, words in (
        (IN_TWO_PARTS, "given_part", "part '{}' holds {} of the images, part '{}' {}"),
        (SEX_DIFFERS, "sex", "stated {} in {} of the images, {} in {}"),
    ):
        known = table.select("image_id", "path", "patient_id", column)
        counted = mixed(known, ["patient_id"], column).with_columns(
            images=pl.len().over("patient_id", column)
        )
        message = pl.format(
            f"patient {{}}: {words}",
            "patient_id",
            column,
            "images",
            f"other_{column}",
            "other_images",
        )
        yield from rule.issue(_pair(pairs(counted, ["patient_id"], column), message))


def _pair(found: pl.DataFrame, message: pl.Expr) -> pl.DataFrame:
    return found.select("image_id", "other_image_id", message=message)
