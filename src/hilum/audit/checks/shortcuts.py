"""Shortcuts: parts of a split that differ in more than chance, and labels that can be told without looking at the lungs.

A fact of a picture is its sex, age, view, modality, source, size, depth or kind of file. Facts are compared on one picture a patient, the first by
image_id, because a patient's pictures are alike and a test would count them as so many people.

How well facts alone tell a label: each fact is cut into groups (numbers at their tenths, sizes also as they are where they are common),
the groups go into one linear regression of the label with a small ridge, fitted five times without a fifth of the patients and asked about
that fifth; the AUROC is that of these answers. Sources: Zech et al. 2018, PLoS Med 15(11):e1002683; DeGrave, Janizek and Lee 2021,
Nat Mach Intell 3:610-619.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import State, name_of
from hilum.audit.checks._folds import FOLDS, folds, some
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import PARTS, Manifest
from hilum.plugins import Card
from hilum.statistics.metrics.discrimination import auroc
from hilum.statistics.sample_size import half_width

FEWEST = 20  # patients of each state, or of each part, below which nothing is said
MOST = 20_000  # images that the regression looks at; of more, whole patients are taken at even steps through their names
TOLD = 0.7  # AUROC from facts alone that is a warning
SURELY = 0.6  # and the lower end of its interval
NOTED = 0.55  # AUROC of a single fact that is named in the message
TENTHS = 10  # groups of a number
COMMON_SIZES = 30  # that are groups of their own
RIDGE = 1.0  # images' worth of doubt a group
EFFECT = 0.1  # Cramér's V, or Kolmogorov and Smirnov's distance, of a difference worth telling
CHANCE = 0.001  # probability of a difference by chance, after Bonferroni's correction
CATEGORIES = ("source", "view", "modality", "sex", "bits", "kind", "size")
NUMBERS = ("age_years", "height", "width")
WORDS = {"age_years": "age", "bits": "bit depth", "kind": "kind of file"}

CARD = Card(
    title="Shortcuts",
    source="Zech et al. 2018, PLoS Med 15(11):e1002683; DeGrave, Janizek and Lee 2021, Nat Mach Intell 3:610-619",
    caveats="That facts tell a label is measured out of fold and certain as such; whether a model uses them is not: sex and age are causes of "
    "disease, too. What the pictures themselves give away (markers, borders, a scanner's look) is not asked here. Differences of parts are "
    f"told where chance is under {CHANCE} after correction for the number of tests and the effect is at least {EFFECT}.",
)
SHORTCUT = Rule(
    "shortcut",
    "warning",
    "A label can be told from facts that are not what it is about.",
    "A model may learn the hospital, the view or the patient's age in place of the finding, look good here and fail elsewhere.",
    "Report figures within each group of the fact, balance the groups, or test on a set in which the fact tells nothing.",
)
PARTS_DIFFER = Rule(
    "parts-differ",
    "warning",
    "Parts of the split that the set comes with differ in their patients, pictures or labels.",
    "Thresholds and figures of one part do not carry over to the other, and figures are not those of people like the training part's.",
    'Report figures within groups, or leave the given split: with [split] official = "ignore" Hilum makes one by patient.',
)
RULES = (SHORTCUT, PARTS_DIFFER)


def check(
    manifest: Manifest, facts: pl.DataFrame, include: Collection[str] = ()
) -> Iterator[Issue]:
    manifest = manifest.eligible(include)
    pictures = _facts(manifest.table, facts)
    yield from SHORTCUT.issue(_told_without_looking(pictures, manifest.labels))
    for (dataset,), rows in pictures.drop_nulls("given_part").group_by(
        "dataset", maintain_order=True
    ):
        yield from PARTS_DIFFER.issue(_differences(dataset, rows, manifest.labels))


def _facts(table: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """One row an image by image_id: `CATEGORIES` as text and `NUMBERS`; sizes are the file's, or as stated where it was not read."""
    read = facts.select("image_id", "height", "width", "bits")
    kind = (
        pl.col("path")
        .str.extract(r"\.([A-Za-z]+)$")
        .str.to_lowercase()
        .replace({"jpeg": "jpg", "tiff": "tif", "dicom": "dcm"})
    )
    joined = (
        table.join(read, on="image_id", how="left")
        .sort("image_id")
        .with_columns(
            pl.coalesce("height", "stated_height"),
            pl.coalesce("width", "stated_width"),
            pl.col("bits").cast(pl.String),
            kind=kind,
        )
    )
    size = pl.format("{}x{}", "height", "width")
    common = (
        joined.select(size=size)
        .drop_nulls()
        .group_by("size")
        .len()
        .sort("len", "size", descending=[True, False])["size"]
        .head(COMMON_SIZES)
    )
    return joined.with_columns(
        size=pl.when(size.is_in(common.implode()))
        .then(size)
        .when(size.is_not_null())
        .then(pl.lit("another"))
    )


# ------------------------------------------------------------------------------------------------------------------ labels from facts


def _told_without_looking(pictures: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    chosen = pictures.filter(some(pictures["patient_id"], MOST)).with_row_index()
    groups = {
        name: codes
        for name in (*CATEGORIES, *NUMBERS)
        if len(np.unique(codes := _groups(chosen[name]))) > 1
    }
    stated = labels.filter(pl.col("state") != State.UNCERTAIN).select(
        "image_id", "concept", "state"
    )
    stated = stated.join(chosen.select("image_id", "index", "patient_id"), on="image_id").sort(
        "concept", "index"
    )
    people = (
        stated.group_by("concept", "state")
        .agg(pl.col("patient_id").n_unique())
        .filter(pl.col("patient_id") >= FEWEST)
    )
    people = people.filter(pl.len().over("concept") == 2)
    if not groups or not people.height:
        return pl.DataFrame(schema={"message": pl.String})
    fold, rows = folds(chosen["patient_id"]), []
    regression: _Regression | None = None
    for (concept,), cells in stated.join(
        people.select("concept").unique(), on="concept", how="semi"
    ).group_by("concept", maintain_order=True):
        index, truth = cells["index"].to_numpy(), cells["state"].to_numpy()
        if regression is None or not np.array_equal(
            index, regression.index
        ):  # findings of one table are stated on the same images
            regression = _Regression.of(groups, index, fold)
        counts = dict(
            people.filter(pl.col("concept") == concept).select("state", "patient_id").iter_rows()
        )
        rows += [told] if (told := _message(concept, regression, truth, counts)) else []
    return pl.DataFrame({"message": rows}, schema={"message": pl.String})


def _message(
    concept: str, regression: _Regression, truth: np.ndarray, people: Mapping[int, int]
) -> str | None:
    """What facts alone tell of a concept, where that is worth a warning."""
    reached = auroc(truth, regression.scores(truth))
    half = half_width(reached, people[1], people[0])
    if reached < TOLD or reached - half < SURELY:
        return None
    alone = {name: auroc(truth, regression.scores(truth, name)) for name in regression.places}
    best = sorted(
        ((value, name) for name, value in alone.items() if value >= NOTED),
        key=lambda one: (-one[0], one[1]),
    )
    named = ", ".join(f"{WORDS.get(name, name)} alone {value:.2f}" for value, name in best)
    return (
        f"{name_of(concept).lower()} is told from {', '.join(WORDS.get(name, name) for name in regression.places)} with an AUROC of {reached:.2f} "
        f"({max(0.0, reached - half):.2f} to {min(1.0, reached + half):.2f}), no picture seen{': ' if named else ''}{named}"
    )


def _groups(values: pl.Series) -> np.ndarray:
    """int64 codes from 0; a missing value is a group of its own."""
    if values.dtype.is_numeric():
        known = values.drop_nulls().to_numpy()
        edges = (
            np.unique(np.quantile(known, np.arange(1, TENTHS) / TENTHS))
            if known.size
            else np.zeros(0)
        )
        codes = np.searchsorted(edges, values.fill_null(0).to_numpy(), side="left")
        return (
            np.where(values.is_null().to_numpy(), len(edges) + 1, codes)
            if values.null_count()
            else codes
        )
    return values.rank("dense").fill_null(0).to_numpy().astype(np.int64)


@dataclass(frozen=True)
class _Regression:
    """Indicators of the groups of each fact, of the images `index`, fold by fold."""

    index: np.ndarray
    places: dict[str, slice]  # columns of each fact; the last column is all ones
    rows: list[np.ndarray]  # of each fold, as row numbers
    designs: list[np.ndarray]  # float32 (images of the fold, columns)
    grams: list[np.ndarray]  # products of the columns

    @classmethod
    def of(
        cls, groups: Mapping[str, np.ndarray], index: np.ndarray, fold: np.ndarray
    ) -> _Regression:
        ends = np.cumsum([0, *(codes.max() + 1 for codes in groups.values())]).tolist()
        design = np.zeros((len(index), ends[-1] + 1), np.float32)
        design[:, -1] = 1
        for start, codes in zip(ends, groups.values(), strict=False):
            design[np.arange(len(index)), start + codes[index]] = 1
        rows = [np.flatnonzero(fold[index] == one) for one in range(FOLDS)]
        designs = [design[at] for at in rows]
        places = {name: slice(*ends[at : at + 2]) for at, name in enumerate(groups)}
        return cls(
            index, places, rows, designs, [(part.T @ part).astype(np.float64) for part in designs]
        )

    def scores(self, truth: np.ndarray, fact: str | None = None) -> np.ndarray:
        """From all facts or from one: of each image by the fit that did not see its patient."""
        columns = np.r_[
            self.places[fact] if fact else slice(0, self.designs[0].shape[1] - 1),
            self.designs[0].shape[1] - 1,
        ]
        moments = [
            part.T @ truth[at].astype(np.float32)
            for at, part in zip(self.rows, self.designs, strict=True)
        ]
        penalty = np.diag([RIDGE] * (len(columns) - 1) + [RIDGE / 1000])
        scores = np.empty(len(truth))
        for fold, at in enumerate(self.rows):
            gram, moment = (
                sum(one for other, one in enumerate(parts) if other != fold)
                for parts in (self.grams, moments)
            )
            weights = np.linalg.solve(gram[np.ix_(columns, columns)] + penalty, moment[columns])
            # Rounded, so that pictures with the same facts have the same score however their sums were added up.
            scores[at] = np.round(self.designs[fold][:, columns] @ weights, 6)
        return scores


# ------------------------------------------------------------------------------------------------------------------- parts of a split


def _differences(dataset: str, rows: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """One row a fact or label in which two of the parts differ: the test part, or where there is none the tune part, against the training part."""
    people = rows.unique("patient_id", keep="first", maintain_order=True)
    sizes = dict(people["given_part"].value_counts().iter_rows())
    parts = [part for part in PARTS if sizes.get(part, 0) >= FEWEST]
    if len(parts) < 2:
        return pl.DataFrame(schema={"message": pl.String})
    first, other = parts[0], parts[-1]
    two = people.filter(pl.col("given_part").is_in([first, other])).with_columns(
        second=pl.col("given_part") == other
    )
    stated = labels.join(two.select("image_id", "second"), on="image_id").filter(
        pl.col("state") != State.UNCERTAIN
    )
    found = [_categories(two[name], two["second"], WORDS.get(name, name)) for name in CATEGORIES]
    found += [_numbers(two[name], two["second"], WORDS.get(name, name)) for name in NUMBERS]
    for (concept,), cells in stated.sort("concept").group_by("concept", maintain_order=True):
        words = cells["state"].replace_strict({1: "present", 0: "absent"}, return_dtype=pl.String)
        found.append(_categories(words, cells["second"], name_of(concept).lower()))
    tests = [one for one in found if one is not None]
    sure = [one for one in tests if one[0] * len(tests) < CHANCE and one[1] >= EFFECT]
    rows_told = [
        f"{dataset}: {words} differs between {first} ({sizes[first]} patients) and {other} ({sizes[other]}): {seen} "
        f"(effect {effect:.2f}, {len(tests)} tests)"
        for _, effect, words, seen in sure
    ]
    return pl.DataFrame({"message": rows_told}, schema={"message": pl.String})


Test = tuple[
    float, float, str, str
]  # probability by chance, effect, what, and what was seen in the two parts


def _categories(values: pl.Series, second: pl.Series, words: str) -> Test | None:
    """Chi-square test and Cramér's V; None where there is nothing to compare."""
    from scipy.special import chdtrc

    table = (
        pl.DataFrame({"value": values, "second": second})
        .drop_nulls()
        .group_by("value")
        .agg(first=(~pl.col("second")).sum(), other=pl.col("second").sum())
    )
    counts = table.select("first", "other").to_numpy().astype(np.float64)
    if len(counts) < 2 or counts.sum(axis=0).min() < FEWEST:
        return None
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    square = float(((counts - expected) ** 2 / expected).sum())
    shares = table.with_columns(
        pl.col("first") / pl.col("first").sum(), pl.col("other") / pl.col("other").sum()
    )
    apart = shares.sort(
        (pl.col("first") - pl.col("other")).abs().round(9), "value", descending=[True, False]
    ).row(0)
    return (
        float(chdtrc(len(counts) - 1, square)),
        float(np.sqrt(square / counts.sum())),
        words,
        f"{apart[0]} {apart[1]:.0%} and {apart[2]:.0%}",
    )


def _numbers(values: pl.Series, second: pl.Series, words: str) -> Test | None:
    """Kolmogorov and Smirnov's test of two samples with its asymptotic probability, and its distance; None where there is nothing to compare."""
    from scipy.special import kolmogorov

    known = values.is_not_null()
    one, two = (
        np.sort(values.filter(known & side).to_numpy().astype(np.float64))
        for side in (~second, second)
    )
    if min(len(one), len(two)) < FEWEST or one[0] == one[-1] == two[0] == two[-1]:
        return None
    at = np.concatenate([one, two])
    distance = float(
        np.abs(
            np.searchsorted(one, at, "right") / len(one)
            - np.searchsorted(two, at, "right") / len(two)
        ).max()
    )
    chance = float(kolmogorov(distance * np.sqrt(len(one) * len(two) / (len(one) + len(two)))))
    return chance, distance, words, f"median {np.median(one):g} and {np.median(two):g}"
