"""Check the balance of labels: missing, uncertain, unmentioned or rare states, and how precisely a
test part could measure them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import State, name_of
from hilum.audit.issues import Issue, Rule
from hilum.config import Split
from hilum.dataset.groups import Groups
from hilum.dataset.label_states import NO_LABEL
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card
from hilum.statistics.sample_size import half_width

FEWEST = 20  # labels of a finding below which its fractions are not reported
LARGE_FRACTION = 0.05  # of uncertain or unmentioned images that is reported
RARE_FRACTION = 0.05  # of the rarer state, below which accuracy is uninformative
AUROC = 0.8  # the true value at which the width of its interval is estimated
WIDEST = 0.1  # half of the interval, beyond which two models can hardly be distinguished
SHOWN = 8  # findings named in a message that counts many

CARD = Card(
    title="Class balance",
    source="Hanley and McNeil, Radiology 143:29 (1982)",
    caveats="Counts are certain. The interval of an AUROC is what Hanley and McNeil's formula "
    f"gives for a true value of {AUROC} and as many patients with and without the finding as the "
    "test part would hold; the bootstrap of an evaluation may give a little more or less.",
)
ONE_STATE = Rule(
    "label-one-state",
    "info",
    "A finding is labelled in one state only.",
    "It can be neither trained nor evaluated: there is no other class to distinguish it from.",
    "Nothing, where the finding is not needed; else add images in the other state, or state in the "
    "folder's hilum.toml what a missing word means.",
)
UNCERTAIN = Rule(
    "label-uncertain",
    "info",
    "The source is uncertain of a finding on many images.",
    "These images are used neither for training nor for evaluation, so figures hold for the clear "
    "images alone.",
    "Nothing, where that is intended; else have the uncertain images read again.",
)
UNMENTIONED = Rule(
    "label-unmentioned",
    "info",
    "A finding that other images are labelled with is not mentioned on many images.",
    "Not mentioned is not absent: these images are not used, and those that are may differ from "
    "them.",
    "Nothing, where that is intended; else have the images read for the finding.",
)
IMBALANCE = Rule(
    "label-imbalance",
    "info",
    f"Fewer than {RARE_FRACTION:.0%} of a finding's labels are of one state.",
    "Always answering the other state is nearly always right, so accuracy is uninformative; the "
    "positive predictive value falls with prevalence.",
    "Read average precision, sensitivity and specificity with their intervals, and state the "
    "prevalence beside them.",
)
RARE = Rule(
    "class-rare",
    "warning",
    "A finding has too few images of one state to be evaluated.",
    f"The test part would leave an AUROC uncertain by more than {WIDEST} either way, so two models "
    "can hardly be distinguished.",
    "Add images of that state, enlarge the test part, or leave the finding out of the evaluation.",
)
_COUNTED = {
    "dataset": pl.String,
    "concept": pl.String,
    **dict.fromkeys(
        ("labelled", "present", "absent", "uncertain", "patients_present", "patients_absent"),
        pl.UInt32,
    ),
}
RULES = (ONE_STATE, UNCERTAIN, UNMENTIONED, IMBALANCE, RARE)


def check(
    manifest: Manifest, facts: pl.DataFrame, include: Collection[str] = ()
) -> Iterator[Issue]:
    """Yield issues of the counts of each finding's labels, by data set."""
    manifest = manifest.eligible(include)
    counts = _counts(manifest)
    labelled = counts.filter(pl.col("labelled") >= FEWEST)
    one, both = (
        pl.min_horizontal("present", "absent") == 0,
        pl.min_horizontal("present", "absent") > 0,
    )
    only = pl.when(pl.col("present") > 0).then(pl.lit("present")).otherwise(pl.lit("absent"))
    stated = labelled.filter(one & (pl.col("present") + pl.col("absent") > 0))
    yield from ONE_STATE.issue(
        _together(
            stated,
            "findings are labelled in one state only",
            pl.format("{} {} on {}", _name(), only, "stated"),
        )
    )
    for rule, column, words in (
        (UNCERTAIN, "uncertain", "are uncertain on many images"),
        (UNMENTIONED, "unmentioned", "are not mentioned on many images"),
    ):
        many = labelled.filter(pl.col(column) >= LARGE_FRACTION * pl.col("images")).sort(
            column, "concept", descending=[True, False]
        )
        yield from rule.issue(
            _together(
                many, f"findings {words}", pl.format("{} {} of {}", _name(), column, "images")
            )
        )
    fraction = pl.min_horizontal("present", "absent") / pl.col("stated")
    rarer = pl.format("{} {} of {}", _name(), pl.min_horizontal("present", "absent"), "stated")
    yield from IMBALANCE.issue(
        _together(
            labelled.filter(both & (fraction < RARE_FRACTION)),
            f"findings have under {RARE_FRACTION:.0%} of their labels in one state",
            rarer,
        )
    )
    yield from RARE.issue(
        _rare(counts.filter(both & (pl.col("labelled") >= FEWEST)), _test_fraction(manifest.table))
    )


def _counts(manifest: Manifest) -> pl.DataFrame:
    """Count images in each state and in all, and patients with and without the finding.

    One row for each data set and concept.
    """
    images, rows = manifest.table.select("dataset", "patient_id"), []
    names = images["dataset"].unique().sort()
    of_set = [(images["dataset"] == name).to_numpy() for name in names]
    people = [Groups.of(images["patient_id"].filter(pl.Series(here))) for here in of_set]
    for concept in manifest.label_states.of:
        states = manifest.label_states.numbers(concept)
        for name, here, patients in zip(names, of_set, people, strict=True):
            known = states if len(names) == 1 else states[here]
            if labelled := np.count_nonzero(known != NO_LABEL):
                present, absent, uncertain = (
                    known == state for state in (State.PRESENT, State.ABSENT, State.UNCERTAIN)
                )
                counted = map(np.count_nonzero, (present, absent, uncertain))
                both = map(patients.count, (present, absent))
                rows.append((name, concept, labelled, *counted, *both))
    counts = pl.DataFrame(rows, schema=_COUNTED, orient="row")
    counts = counts.join(images.group_by("dataset").agg(images=pl.len()), on="dataset")
    return counts.with_columns(
        unmentioned=pl.col("images") - pl.col("labelled"),
        stated=pl.col("present") + pl.col("absent"),
    ).sort("dataset", "concept")


def _together(counts: pl.DataFrame, what: str, each: pl.Expr) -> pl.DataFrame:
    """Return one message for each data set: how many findings, and the first of them."""
    named = counts.select("dataset", each=each).group_by("dataset", maintain_order=True)
    listed = pl.col("shown").list.join(", ") + pl.when(pl.col("count") > SHOWN).then(
        pl.lit(", …")
    ).otherwise(pl.lit(""))
    return named.agg(shown=pl.col("each").head(SHOWN), count=pl.len()).select(
        message=pl.format("{}: {} " + what + " ({})", "dataset", "count", listed)
    )


def _test_fraction(table: pl.DataFrame) -> pl.DataFrame:
    """Return the fraction of the test part by data set: the given one's, or a split's default."""
    parts = table.group_by("dataset").agg(given=(pl.col("given_part") == "test").sum() / pl.len())
    return parts.select(
        "dataset", fraction=pl.when(pl.col("given") > 0).then("given").otherwise(Split().test)
    )


def _rare(counts: pl.DataFrame, fractions: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for row in counts.join(fractions, on="dataset", maintain_order="left").iter_rows(named=True):
        with_it, without = (
            max(1, round(row["fraction"] * row[f"patients_{state}"]))
            for state in ("present", "absent")
        )
        half = half_width(AUROC, with_it, without)
        if half <= WIDEST:
            continue
        low, high = max(0.0, AUROC - half), min(1.0, AUROC + half)
        name, test = name_of(row["concept"]).lower(), row["fraction"]
        rows.append(
            f"{row['dataset']}: {name} is present on {row['present']} images of "
            f"{row['patients_present']} patients and absent on {row['absent']} of "
            f"{row['patients_absent']}; a test part of {test:.0%} would hold about {with_it} "
            f"patients with it and {without} without, and an AUROC of {AUROC:.2f} in it an "
            f"interval of {low:.2f} to {high:.2f}"
        )
    return pl.DataFrame({"message": rows}, schema={"message": pl.String})


def _name() -> pl.Expr:
    return pl.col("concept").map_elements(lambda concept: name_of(concept).lower(), pl.String)
