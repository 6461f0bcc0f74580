"""Check ages: possible values, no decrease within a patient, and one age for each examination."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.annotations.acquisition import OLDEST_YEARS
from hilum.audit.checks._pairs import spans, wide
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card

CARD = Card(
    title="Ages",
    caveats=f"An age below 0 or above {OLDEST_YEARS} years is certain to be wrong. Ages that "
    "decrease, or that are far apart, are as certain as the names of the patients: one of the ages "
    "is wrong, or two people have one name. A wrong age that is possible and fits the others is "
    "not detected.",
)
ROUNDED_YEARS = 1.0  # whole years of two images of one day differ by up to one
# Between a patient's first and last image; of 30,805 patients of ChestX-ray14 none exceeds 14.
LONGEST_YEARS = 30

RANGE = Rule(
    "age-range",
    "warning",
    f"An age is below 0 or above {OLDEST_YEARS} years.",
    "No person has it; figures by age and models that use it are wrong for this image.",
    "Correct the age in the source's table, or leave it empty. Three digits are often months or "
    "days without their letter.",
)
FALLS = Rule(
    "age-decreases",
    "warning",
    "A patient is younger at a later examination.",
    "An age or the order of the examinations is wrong, or two people have one name, which also "
    "invalidates a split by patient.",
    "Check the patient in the source; correct the age, or separate the two people.",
)
APART = Rule(
    "age-apart",
    "warning",
    f"The ages of one patient are more than {LONGEST_YEARS} years apart.",
    "Few archives go back that far: an age is wrong, or two people have one name, which also "
    "invalidates a split by patient.",
    "Check the patient in the source; correct the age, or separate the two people.",
)
STUDY = Rule(
    "age-study",
    "warning",
    "Images of one examination state different ages.",
    "They were taken within an hour or so, so an age is wrong, or an image was filed under the "
    "wrong examination.",
    "Check the examination in the source, and correct the age or the image's examination.",
)
RULES = (RANGE, FALLS, APART, STUDY)


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    """Yield issues of ages that no person has, and that contradict one another."""
    table = manifest.table.select(
        "image_id", "path", "patient_id", "study", "age_years", "follow_up"
    )
    known = table.filter(pl.col("age_years").is_not_null() & pl.col("age_years").is_finite())
    age = pl.col("age_years")
    impossible = (age < 0) | (age > OLDEST_YEARS)
    yield from RANGE.issue(
        known.filter(impossible).select(
            "image_id", message=pl.format("{}: an age of {} years", "path", "age_years")
        )
    )
    known = known.filter(~impossible)
    yield from FALLS.issue(_falling(known))
    message = pl.format(
        "patient {}: {} years in {}, {} in {}",
        "patient_id",
        "other_age_years",
        "other_path",
        "age_years",
        "path",
    )
    yield from APART.issue(_pair(spans(known, ["patient_id"], "age_years", LONGEST_YEARS), message))
    message = pl.format(
        "examination {}: {} years in {}, {} in {}",
        "study",
        "other_age_years",
        "other_path",
        "age_years",
        "path",
    )
    yield from STUDY.issue(
        _pair(spans(known, ["patient_id", "study"], "age_years", ROUNDED_YEARS), message)
    )


def _falling(known: pl.DataFrame) -> pl.DataFrame:
    """Return each patient's largest decrease of age from one numbered examination to the next."""
    numbered = known.drop_nulls("follow_up")
    ordered = wide(numbered, ["patient_id"], "age_years", ROUNDED_YEARS).sort(
        "patient_id", "follow_up", "image_id"
    )
    before = [
        pl.col(name).shift().alias(f"other_{name}")
        for name in ("image_id", "path", "age_years", "follow_up", "patient_id")
    ]
    falls = ordered.with_columns(*before).filter(
        (pl.col("patient_id") == pl.col("other_patient_id"))
        & (pl.col("other_age_years") - pl.col("age_years") > ROUNDED_YEARS)
    )
    fall = pl.col("other_age_years") - pl.col("age_years")
    deepest = falls.sort(fall, "image_id", descending=[True, False]).unique(
        "patient_id", keep="first", maintain_order=True
    )
    columns = ("patient_id", "other_age_years", "other_follow_up", "age_years", "follow_up")
    return _pair(
        deepest, pl.format("patient {}: {} years at examination {}, {} at examination {}", *columns)
    )


def _pair(found: pl.DataFrame, message: pl.Expr) -> pl.DataFrame:
    return found.select("image_id", "other_image_id", message=message)
