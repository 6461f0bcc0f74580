"""Check for shortcuts: parts of a split that differ by more than chance, and labels that can be
predicted without the pixels.

A fact of an image is its sex, age, view, modality, source, size, bit depth or file format. Parts
are compared on one image of each patient, the first by image_id, because a patient's images are
alike and a test would count them as so many people.

How well facts alone predict a label: each fact is cut into groups (numbers at their tenths, sizes
also as they are where they are common), the groups enter one linear regression of the label with a
small ridge penalty, fitted five times, each time without a fifth of the patients, and applied to
that fifth; the AUROC is that of these predictions. Sources: Zech et al. 2018, PLoS Med
15(11):e1002683; DeGrave, Janizek and Lee 2021, Nat Mach Intell 3:610-619.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import STATE_NAMES, State, name_of
from hilum.audit.checks._pairs import with_facts
from hilum.audit.issues import Issue, Rule
from hilum.dataset.label_states import LabelStates
from hilum.dataset.manifest import PARTS, Manifest
from hilum.plugins import Card
from hilum.statistics import folds
from hilum.statistics.metrics.discrimination import auroc
from hilum.statistics.sample_size import half_width

FEWEST = 20  # patients of each state, or of each part, below which nothing is reported
MOST = 20_000  # images of the regression; of more, whole patients are sampled by their names
LEAST_AUROC = 0.7  # from facts alone, from which it is a warning
LEAST_LOWER_END = 0.6  # of the interval of this AUROC
NOTED = 0.55  # AUROC of a single fact that is named in the message
TENTHS = 10  # groups of a number
COMMON_SIZES = 30  # that are groups of their own
RIDGE = 1.0  # weight of the penalty, in images of each group
EFFECT = 0.1  # least Cramer's V, or Kolmogorov-Smirnov distance, of a reported difference
CHANCE = 0.001  # largest p-value of a reported difference, after Bonferroni's correction
NO_CHANCE = 1e-12  # p-value that is below `CHANCE` however many tests it is corrected for
CATEGORIES = ("source", "view", "modality", "sex", "bits", "kind", "size")
NUMBERS = ("age_years", "height", "width")
_STATED = (
    "dataset", "patient_id", "given_part", "source", "view", "modality", "sex", "age_years",
    "stated_height", "stated_width",
)  # fmt: skip
_SIZE = pl.format("{}x{}", "height", "width")
WORDS = {"age_years": "age", "bits": "bit depth", "kind": "kind of file"}

CARD = Card(
    title="Shortcuts",
    source="Zech et al. 2018, PLoS Med 15(11):e1002683; DeGrave, Janizek and Lee 2021, Nat Mach "
    "Intell 3:610-619",
    caveats="That facts predict a label is measured out of fold and certain as such; whether a "
    "model uses them is not: sex and age are causes of disease, too. What the images themselves "
    "reveal (markers, borders, the characteristics of a scanner) is not evaluated here. "
    f"Differences of parts are reported where the p-value is below {CHANCE} after correction for "
    f"the number of tests and the effect is at least {EFFECT}.",
)
SHORTCUT = Rule(
    "shortcut",
    "warning",
    "A label can be predicted from facts that are not what it is about.",
    "A model may learn the hospital, the view or the patient's age in place of the finding, "
    "perform well here and fail elsewhere.",
    "Report figures within each group of the fact, balance the groups, or test on a data set in "
    "which the fact predicts nothing.",
)
PARTS_DIFFER = Rule(
    "parts-differ",
    "warning",
    "Parts of the split that the data set comes with differ in their patients, images or labels.",
    "Thresholds and figures of one part do not carry over to the other, and figures are not those "
    "of people like the training part's.",
    "Report figures within groups, or ignore the given split: with [split] official = "
    '"ignore" Hilum makes one by patient.',
)
RULES = (SHORTCUT, PARTS_DIFFER)


def check(
    manifest: Manifest, facts: pl.DataFrame, include: Collection[str] = ()
) -> Iterator[Issue]:
    """Yield labels that facts predict, and facts in which the given parts differ."""
    manifest = manifest.eligible(include)
    images = _facts(manifest.table, facts)
    common = _common_sizes(images)
    chosen = images.filter(folds.subset_by_name_order(images["patient_id"], MOST))
    predicted = _predicted_by_facts(_grouped(chosen, common), manifest.label_states)
    yield from SHORTCUT.issue(predicted)
    of_patients = images.select("dataset", "patient_id", "given_part").with_row_index("at")
    for (dataset,), rows in of_patients.drop_nulls("given_part").group_by(
        "dataset", maintain_order=True
    ):
        first = rows.filter(pl.col("patient_id").is_first_distinct())["at"]
        people = _grouped(images[first], common)
        yield from PARTS_DIFFER.issue(_differences(str(dataset), people, manifest.label_states))


def _facts(table: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each image, by image_id: its `row` in the table, path and facts.

    Sizes are the file's, or as stated where it was not read.
    """
    images = table.select("image_id", "path", *_STATED).with_row_index("row")
    images = images if images["image_id"].is_sorted() else images.sort("image_id")
    return with_facts(images, facts, "height", "width", "bits", how="left").with_columns(
        pl.coalesce("height", "stated_height"), pl.coalesce("width", "stated_width")
    )


def _common_sizes(images: pl.DataFrame) -> pl.Series:
    """Return the sizes of most images as text, at most `COMMON_SIZES`."""
    counted = images.group_by("height", "width").len().select("len", size=_SIZE).drop_nulls()
    return counted.sort("len", "size", descending=[True, False])["size"].head(COMMON_SIZES)


def _grouped(images: pl.DataFrame, common: pl.Series) -> pl.DataFrame:
    """Return images with all of `CATEGORIES`. `common`: the sizes that are groups of their own."""
    kind = (
        pl.col("path")
        .str.extract(r"\.([A-Za-z]+)$")
        .str.to_lowercase()
        .replace({"jpeg": "jpg", "tiff": "tif", "dicom": "dcm"})
    )
    size = (
        pl.when(_SIZE.is_in(common.implode()))
        .then(_SIZE)
        .when(_SIZE.is_not_null())
        .then(pl.lit("another"))
    )
    return images.with_columns(pl.col("bits").cast(pl.String), kind=kind, size=size)


# Labels predicted from facts.


def _predicted_by_facts(chosen: pl.DataFrame, labels: LabelStates) -> pl.DataFrame:
    """Return a message for each finding whose labels facts predict well on these images."""
    groups = {
        name: codes
        for name in (*CATEGORIES, *NUMBERS)
        if len(np.unique(codes := _groups(chosen[name]))) > 1
    }
    fold, rows = folds.by_name_order(chosen["patient_id"]), []
    person = chosen["patient_id"].rank("dense").to_numpy()
    regression: _Regression | None = None
    for concept, index, truth in _known(labels, chosen["row"]) if groups else ():
        people = {
            state.value: len(np.unique(person[index[truth == state]]))
            for state in (State.ABSENT, State.PRESENT)
        }
        if min(people.values()) < FEWEST:
            continue
        # Findings of one table are stated on the same images, whose design matrix is kept.
        if regression is None or not np.array_equal(index, regression.index):
            regression = _Regression.of(groups, index, fold)
        message = _message(concept, regression, truth, people)
        rows += [message] if message else []
    return pl.DataFrame({"message": rows}, schema={"message": pl.String})


def _known(labels: LabelStates, rows: pl.Series) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield each concept with the known states of images, and their places in `rows`, ascending.

    `rows`: those of the images in the table.
    """
    for concept in labels.of:
        states = labels.column(concept).gather(rows)
        known = states.is_not_null() & (states != State.UNCERTAIN)
        yield concept, known.arg_true().to_numpy(), states.filter(known).to_numpy()


def _message(
    concept: str, regression: _Regression, truth: np.ndarray, people: Mapping[int, int]
) -> str | None:
    """State how well facts alone predict a concept, where that deserves a warning, else None."""
    reached = auroc(truth, regression.scores(truth))
    half = half_width(reached, people[1], people[0])
    if reached < LEAST_AUROC or reached - half < LEAST_LOWER_END:
        return None
    alone = {name: auroc(truth, regression.scores(truth, name)) for name in regression.places}
    best = sorted(
        ((value, name) for name, value in alone.items() if value >= NOTED),
        key=lambda one: (-one[0], one[1]),
    )
    named = ", ".join(f"{WORDS.get(name, name)} alone {value:.2f}" for value, name in best)
    facts = ", ".join(WORDS.get(name, name) for name in regression.places)
    low, high = max(0.0, reached - half), min(1.0, reached + half)
    return (
        f"{name_of(concept).lower()} is predicted from {facts} with an AUROC of {reached:.2f} "
        f"({low:.2f} to {high:.2f}), without the pixels{': ' if named else ''}{named}"
    )


def _groups(values: pl.Series) -> np.ndarray:
    """Return the group of each value, int64 codes from 0; a missing value is its own group."""
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
    """Linear regression on indicators of the groups of each fact, of the images `index`."""

    index: np.ndarray
    places: dict[str, slice]  # columns of each fact; the last column is all ones
    rows: list[np.ndarray]  # of each fold, as row numbers
    designs: list[np.ndarray]  # float32 (images of the fold, columns)
    grams: list[np.ndarray]  # products of the columns

    @classmethod
    def of(
        cls, groups: Mapping[str, np.ndarray], index: np.ndarray, fold: np.ndarray
    ) -> _Regression:
        """Build the design matrix of the images `index` from codes of each fact, fold by fold."""
        sizes = [int(codes.max()) + 1 for codes in groups.values()]
        ends = [sum(sizes[:count]) for count in range(len(sizes) + 1)]
        design = np.zeros((len(index), ends[-1] + 1), np.float32)
        design[:, -1] = 1
        for start, codes in zip(ends, groups.values(), strict=False):
            design[np.arange(len(index)), start + codes[index]] = 1
        rows = [np.flatnonzero(fold[index] == one) for one in range(folds.FOLDS)]
        designs = [design[at] for at in rows]
        places = {name: slice(*span) for name, span in zip(groups, pairwise(ends), strict=True)}
        return cls(
            index, places, rows, designs, [(part.T @ part).astype(np.float64) for part in designs]
        )

    def scores(self, truth: np.ndarray, fact: str | None = None) -> np.ndarray:
        """Predict each image from all facts or from one, by the fit without its patient."""
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
            others = [other for other in range(folds.FOLDS) if other != fold]
            gram = np.sum([self.grams[other] for other in others], axis=0)
            moment = np.sum([moments[other] for other in others], axis=0)
            weights = np.linalg.solve(gram[np.ix_(columns, columns)] + penalty, moment[columns])
            # Rounded, so that images with the same facts have the same score in any order of
            # summation.
            scores[at] = np.round(self.designs[fold][:, columns] @ weights, 6)
        return scores


# Parts of a split that differ.


def _differences(dataset: str, people: pl.DataFrame, labels: LabelStates) -> pl.DataFrame:
    """Return a message for each fact or label in which two parts of the given split differ.

    `people`: an image of each patient. The test part, or without one the tune part, is compared
    with the training part.
    """
    sizes = dict(people["given_part"].value_counts().iter_rows())
    parts = [part for part in PARTS if sizes.get(part, 0) >= FEWEST]
    if len(parts) < 2:
        return pl.DataFrame(schema={"message": pl.String})
    first, other = parts[0], parts[-1]
    two = people.filter(pl.col("given_part").is_in([first, other])).with_columns(
        second=pl.col("given_part") == other
    )
    found = [_categories(two[name], two["second"], WORDS.get(name, name)) for name in CATEGORIES]
    found += [_numbers(two[name], two["second"], WORDS.get(name, name)) for name in NUMBERS]
    for concept, index, states in _known(labels, two["row"]):
        words = pl.Series(states).replace_strict(STATE_NAMES, return_dtype=pl.String)
        found.append(_categories(words, two["second"].gather(index), name_of(concept).lower()))
    tests = [one for one in found if one is not None]
    large = [one for one in tests if one.effect >= EFFECT]
    sure = [one for one in large if one.chance() * len(tests) < CHANCE]
    messages = [
        f"{dataset}: {one.what} differs between {first} ({sizes[first]} patients) and {other} "
        f"({sizes[other]}): {one.observed} (effect {one.effect:.2f}, {len(tests)} tests)"
        for one in sure
    ]
    return pl.DataFrame({"message": messages}, schema={"message": pl.String})


@dataclass(frozen=True)
class _Test:
    """A test of one fact or label: p-value, effect size, what is compared, what was observed.

    The p-value is computed where it is needed: most effects are too small to be reported.
    """

    chance: Callable[[], float]
    effect: float
    what: str
    observed: str


def _categories(values: pl.Series, second: pl.Series, words: str) -> _Test | None:
    """Return a chi-square test with Cramer's V; None where there is nothing to compare."""
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
    fractions = table.with_columns(
        pl.col("first") / pl.col("first").sum(), pl.col("other") / pl.col("other").sum()
    )
    apart = fractions.sort(
        (pl.col("first") - pl.col("other")).abs().round(9), "value", descending=[True, False]
    ).row(0)
    return _Test(
        partial(_chi_square_chance, len(counts) - 1, square),
        float(np.sqrt(square / counts.sum())),
        words,
        f"{apart[0]} {apart[1]:.0%} and {apart[2]:.0%}",
    )


def _numbers(values: pl.Series, second: pl.Series, words: str) -> _Test | None:
    """Return a two-sample Kolmogorov-Smirnov test with its asymptotic p-value and its distance.

    None where there is nothing to compare.
    """
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
    chance = partial(
        _kolmogorov_chance, distance * np.sqrt(len(one) * len(two) / (len(one) + len(two)))
    )
    return _Test(chance, distance, words, f"median {np.median(one):g} and {np.median(two):g}")


# The p-values. scipy.special takes half a second to load, which a bound that settles it saves.


def _chi_square_chance(freedom: int, square: float) -> float:
    """Return the p-value of a chi-square statistic, or a bound of it that is `NO_CHANCE` or less.

    The bound is Chernoff's, of the tail above the mean.
    """
    ratio = max(square / freedom, 1.0)
    bound = math.exp(freedom / 2 * (math.log(ratio) + 1 - ratio))
    if bound <= NO_CHANCE:
        return bound
    from scipy.special import chdtrc

    return float(chdtrc(freedom, square))


def _kolmogorov_chance(distance: float) -> float:
    """Return the asymptotic p-value of a scaled distance, or a bound that is `NO_CHANCE` or less.

    The bound is the first term of the alternating series that the p-value is.
    """
    bound = 2 * math.exp(-2 * distance**2)
    if bound <= NO_CHANCE:
        return bound
    from scipy.special import kolmogorov

    return float(kolmogorov(distance))
