"""How labels are shared out: states that are missing, uncertain, not mentioned or rare, and what a test part could say of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import polars as pl

from hilum.annotations.vocabulary import State, name_of
from hilum.audit.issues import Issue, Rule
from hilum.config import Split
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card
from hilum.statistics.sample_size import half_width

FEWEST = 20  # labels of a finding below which nothing is said of its shares
LARGE_SHARE = 0.05  # of uncertain or unmentioned images that is worth knowing
RARE_SHARE = 0.05  # of the rarer state, below which accuracy says nothing
AUROC = 0.8  # the figure whose doubt is told
WIDEST = 0.1  # half of the interval, beyond which two models can hardly be told apart
SHOWN = 8  # findings named in a message that counts many

CARD = Card(
    title="Shares of labels",
    source="Hanley and McNeil, Radiology 143:29 (1982)",
    caveats=f"Counts are certain. The interval of an AUROC is what Hanley and McNeil's formula gives for a true value of {AUROC} and as many "
    "patients with and without the finding as the test part would hold; the bootstrap of an evaluation may give a little more or less.",
)
ONE_STATE = Rule(
    "label-one-state",
    "info",
    "A finding is labelled in one state only.",
    "Nothing can be learnt or measured of it: there is nothing to tell it from.",
    "Nothing, where the finding is not wanted; else add images in the other state, or say in the folder's hilum.toml what a missing word means.",
)
UNCERTAIN = Rule(
    "label-uncertain",
    "info",
    "The source is uncertain of a finding on many images.",
    "These images are neither learnt from nor measured, so figures speak for the clear ones alone.",
    "Nothing, where that is meant; else have the uncertain images read again.",
)
UNMENTIONED = Rule(
    "label-unmentioned",
    "info",
    "A finding that others are labelled with is not mentioned on many images.",
    "Not mentioned is not absent: these images take no part, and those that do may differ from them.",
    "Nothing, where that is meant; else have the images read for the finding.",
)
IMBALANCE = Rule(
    "label-imbalance",
    "info",
    f"Fewer than {RARE_SHARE:.0%} of a finding's labels are of one state.",
    "Whoever always says the other state is right nearly always, so accuracy says nothing; positive predictive value falls with prevalence.",
    "Read average precision, sensitivity and specificity with their intervals, and tell the prevalence beside them.",
)
RARE = Rule(
    "class-rare",
    "warning",
    "A finding has too few images of one state to be evaluated.",
    f"The test part would leave an AUROC uncertain by more than {WIDEST} either way, so two models can hardly be told apart.",
    "Add images of that state, give the test part a larger share, or leave the finding out of the evaluation.",
)
RULES = (ONE_STATE, UNCERTAIN, UNMENTIONED, IMBALANCE, RARE)


def check(
    manifest: Manifest, facts: pl.DataFrame, include: Collection[str] = ()
) -> Iterator[Issue]:
    manifest = manifest.eligible(include)
    counts = _counts(manifest)
    told = counts.filter(pl.col("labelled") >= FEWEST)
    one, both = (
        pl.min_horizontal("present", "absent") == 0,
        pl.min_horizontal("present", "absent") > 0,
    )
    only = pl.when(pl.col("present") > 0).then(pl.lit("present")).otherwise(pl.lit("absent"))
    stated = told.filter(one & (pl.col("present") + pl.col("absent") > 0))
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
        many = told.filter(pl.col(column) >= LARGE_SHARE * pl.col("images")).sort(
            column, "concept", descending=[True, False]
        )
        yield from rule.issue(
            _together(
                many, f"findings {words}", pl.format("{} {} of {}", _name(), column, "images")
            )
        )
    share = pl.min_horizontal("present", "absent") / pl.col("stated")
    rarer = pl.format("{} {} of {}", _name(), pl.min_horizontal("present", "absent"), "stated")
    yield from IMBALANCE.issue(
        _together(
            told.filter(both & (share < RARE_SHARE)),
            f"findings have under {RARE_SHARE:.0%} of their labels in one state",
            rarer,
        )
    )
    yield from RARE.issue(
        _rare(counts.filter(both & (pl.col("labelled") >= FEWEST)), _test_share(manifest.table))
    )


def _counts(manifest: Manifest) -> pl.DataFrame:
    """One row a data set and concept: images in each state and in all, patients with it present and with it absent."""
    images = manifest.table.select("image_id", "dataset", "patient_id")
    labels = manifest.labels.select("image_id", "concept", "state").join(images, on="image_id")
    state = pl.col("state")
    counts = labels.group_by("dataset", "concept").agg(
        labelled=pl.len(),
        **{
            word: (state == value).sum()
            for word, value in (
                ("present", State.PRESENT),
                ("absent", State.ABSENT),
                ("uncertain", State.UNCERTAIN),
            )
        },
        patients_present=pl.col("patient_id").filter(state == State.PRESENT).n_unique(),
        patients_absent=pl.col("patient_id").filter(state == State.ABSENT).n_unique(),
    )
    counts = counts.join(images.group_by("dataset").agg(images=pl.len()), on="dataset")
    return counts.with_columns(
        unmentioned=pl.col("images") - pl.col("labelled"),
        stated=pl.col("present") + pl.col("absent"),
    ).sort("dataset", "concept")


def _together(counts: pl.DataFrame, what: str, each: pl.Expr) -> pl.DataFrame:
    """One finding a data set: how many, and the first of them."""
    named = counts.select("dataset", each=each).group_by("dataset", maintain_order=True)
    listed = pl.col("shown").list.join(", ") + pl.when(pl.col("count") > SHOWN).then(
        pl.lit(", …")
    ).otherwise(pl.lit(""))
    return named.agg(shown=pl.col("each").head(SHOWN), count=pl.len()).select(
        message=pl.format("{}: {} " + what + " ({})", "dataset", "count", listed)
    )


def _test_share(table: pl.DataFrame) -> pl.DataFrame:
    """Share of the test part by data set: the given one's, or that which a split would deal."""
    parts = table.group_by("dataset").agg(given=(pl.col("given_part") == "test").sum() / pl.len())
    return parts.select(
        "dataset", share=pl.when(pl.col("given") > 0).then("given").otherwise(Split().test)
    )


def _rare(counts: pl.DataFrame, shares: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for row in counts.join(shares, on="dataset", maintain_order="left").iter_rows(named=True):
        with_it, without = (
            max(1, round(row["share"] * row[f"patients_{state}"]))
            for state in ("present", "absent")
        )
        half = half_width(AUROC, with_it, without)
        if half <= WIDEST:
            continue
        low, high = max(0.0, AUROC - half), min(1.0, AUROC + half)
        rows.append(
            f"{row['dataset']}: {name_of(row['concept']).lower()} is present on {row['present']} images of {row['patients_present']} patients and absent on "
            f"{row['absent']} of {row['patients_absent']}; a test part of {row['share']:.0%} would hold about {with_it} patients with it and {without} without, "
            f"and an AUROC of {AUROC:.2f} in it an interval of {low:.2f} to {high:.2f}"
        )
    return pl.DataFrame({"message": rows}, schema={"message": pl.String})


def _name() -> pl.Expr:
    return pl.col("concept").map_elements(lambda concept: name_of(concept).lower(), pl.String)
