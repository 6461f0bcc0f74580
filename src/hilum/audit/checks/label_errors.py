"""Likely label errors: labels that pictures like it contradict.

What is seen of a cached picture is its 32x32 pixels, brought to mean 0 and spread 1, and a histogram of edge directions in each of 8x8 fields
of its 64x64 pixels (Dalal and Triggs, CVPR 2005:886-893), both reduced to their principal axes. A logistic regression with a ridge is fitted
five times without a fifth of the patients and asked about that fifth. Its answer for the label that a picture bears is the label's confidence.

A label is suspected where confident learning puts the picture into the other class (its answer for that class is at least the mean answer of
the pictures that bear it) and its confidence is under `DOUBTED`, both as it is and as it would be were both states equally frequent: of a
rare finding, every picture looks as if it had none. Source: Northcutt, Jiang and Chuang 2021, Confident learning: estimating uncertainty in
dataset labels, JAIR 70:1373-1411, sections 3.1 and 3.2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import State, name_of
from hilum.audit.checks._folds import FOLDS, folds, some
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.imaging.geometry import resize
from hilum.plugins import Card
from hilum.statistics.metrics.discrimination import auroc

FEWEST = 50  # patients of each state, below which nothing is said
TELLS = 0.82  # AUROC out of fold, below which single labels are not suspected
DOUBTED = 0.1  # confidence in the label that a picture bears
TAUGHT = 10_000  # images that a regression is fitted to, at most
LOOKED_AT = 3_000  # images that the principal axes are found in, at most
PIXELS, EDGES, FIELD, DIRECTIONS = 32, 64, 8, 9
AXES = (100, 150)  # kept of the pixels and of the edges
RIDGE = 1.0
AT_ONCE = 128  # pictures in memory
STEPS = 25  # of Newton's method, far more than it takes

CARD = Card(
    title="Likely label errors",
    source="Northcutt, Jiang and Chuang 2021, Confident learning, JAIR 70:1373-1411",
    caveats="These are suspicions, the surest first: a rare or early form of a disease is suspected as easily as a wrong label. Where pictures tell "
    "a finding well (children with and without pneumonia, AUROC 0.99), 17 of 20 suspicions or more were labels planted wrong, and a quarter "
    "(of 10 in 100) to 7 in 10 (of 2 in 100) of the planted ones were found; where they tell it less well (tuberculosis, 0.88), one suspicion in eight with 2 in 100 labels planted wrong and "
    "six in ten with 5 in 100, and a fifth were found. Of the labels as they are, 1 to 3 in 100 were suspected. Below an AUROC of "
    f"{TELLS} nothing is listed, because it would be noise. bench/label_errors.py measures it.",
)
SUSPECT = Rule(
    "label-suspect",
    "info",
    "Pictures that look like this one are labelled otherwise.",
    "If the label is wrong, a model learns it and is measured by it; if it is right, the picture is a hard one that is worth knowing.",
    "Have the picture read again, the first suspicions first, by somebody who does not see the label; change no label on this alone.",
    correction="leave out",
)
CANNOT_TELL = Rule(
    "label-suspect-unknown",
    "info",
    "Whether labels of a finding are wrong cannot be told from the pictures in this way.",
    "The finding is too subtle for what is looked at here, or so many labels are wrong that there is nothing to go by.",
    "Nothing; to find wrong labels of it, have a sample read again, or look at what a trained model is surest of and wrong about.",
)
RULES = (SUSPECT, CANNOT_TELL)


def check(
    manifest: Manifest,
    facts: pl.DataFrame,
    cache: Cache | None = None,
    include: Collection[str] = (),
) -> Iterator[Issue]:
    if cache is None:
        return
    manifest = manifest.eligible(include)
    shown = facts.filter(
        pl.col("error").is_null() & (pl.col("minimum") < pl.col("maximum"))
    ).select("image_id", "row")
    images = (
        manifest.table.select("image_id", "patient_id").join(shown, on="image_id").sort("image_id")
    )
    stated = (
        manifest.labels.filter(pl.col("state") != State.UNCERTAIN)
        .join(images, on="image_id")
        .sort("concept", "image_id")
    )
    people = stated.group_by("concept", "state").agg(pl.col("patient_id").n_unique())
    enough = (
        people.filter(pl.col("patient_id") >= FEWEST)
        .filter(pl.len().over("concept") == 2)
        .select("concept")
        .unique()
    )
    stated = stated.join(enough, on="concept", how="semi", maintain_order="left")
    images = images.join(stated, on="image_id", how="semi", maintain_order="left").with_row_index()
    if not images.height:
        return
    seen = features(cache, images["row"].to_numpy())
    for (concept,), cells in stated.join(
        images.select("image_id", "index"), on="image_id", maintain_order="left"
    ).group_by("concept", maintain_order=True):
        yield from _of_concept(concept, cells, seen[cells["index"].to_numpy()])


def _of_concept(concept: str, cells: pl.DataFrame, seen: np.ndarray) -> Iterator[Issue]:
    state, name = cells["state"].to_numpy() == State.PRESENT, name_of(concept).lower()
    present = out_of_fold(seen, state, cells["patient_id"])
    reached = auroc(state, present)
    if reached < TELLS:
        message = f"{name}: {len(state)} pictures tell its labels with an AUROC of {reached:.2f} out of fold, {TELLS} is asked for to suspect a label"
        yield from CANNOT_TELL.issue(pl.DataFrame({"message": [message]}))
        return
    confidence, suspected = suspicions(state, present)
    listed = (
        cells.with_columns(confidence=confidence)
        .filter(suspected)
        .sort("confidence", "image_id")
        .with_row_index("place", 1)
    )
    word, other = (
        pl.when(pl.col("state") == State.PRESENT).then(pl.lit(one)).otherwise(pl.lit(two))
        for one, two in (("present", "absent"), ("absent", "present"))
    )
    message = pl.format(
        "suspicion {} of {}: {} is labelled {} ({}), pictures like it {}; confidence in the label {}, AUROC of its labels {}",
        "place",
        pl.lit(listed.height),
        pl.lit(name),
        word,
        "source",
        other,
        pl.col("confidence").round(3),
        pl.lit(f"{reached:.2f}"),
    )
    yield from SUSPECT.issue(listed.select("image_id", message=message))


def suspicions(state: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence (n,) in each label, and whether it is suspected (n,). `state` is bool, `present` the answer out of fold for present."""
    own = np.where(state, present, 1 - present)
    odds = state.mean() / (1 - state.mean())
    level = present / (present + (1 - present) * odds)  # as if both states were equally frequent
    confidence = np.round(np.maximum(own, np.where(state, level, 1 - level)), 4)
    usual = {value: own[state == value].mean() for value in (True, False)}
    other_class = (1 - own >= np.where(state, usual[False], usual[True])) & (1 - own > own)
    return confidence, other_class & (confidence < DOUBTED)


def out_of_fold(seen: np.ndarray, state: np.ndarray, patients: pl.Series) -> np.ndarray:
    """(n,) how likely present is, of each picture by the regression that saw none of its patient."""
    fold, taught = folds(patients), some(patients, TAUGHT * FOLDS // (FOLDS - 1))
    answer = np.empty(len(state))
    for left_out in range(FOLDS):
        at = fold == left_out
        if not at.any():
            continue
        learnt = taught & ~at
        weights = _logistic(seen[learnt].astype(np.float64), state[learnt].astype(np.float64))
        answer[at] = seen[at].astype(np.float64) @ weights[:-1] + weights[-1]
    return np.round(
        1 / (1 + np.exp(-np.clip(answer, -30, 30))), 6
    )  # rounded: the last bits depend on the number of threads


def _logistic(rows: np.ndarray, state: np.ndarray) -> np.ndarray:
    """(columns + 1,) weights of a logistic regression, the constant last, by Newton's method; the ridge spares the constant."""
    rows = np.column_stack([rows, np.ones(len(rows))])
    penalty = np.diag([RIDGE] * (rows.shape[1] - 1) + [1e-6])
    weights = np.zeros(rows.shape[1])
    for _ in range(STEPS):
        likely = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        slope = rows.T @ (likely - state) + penalty @ weights
        curvature = (rows * (likely * (1 - likely))[:, None]).T @ rows + penalty
        step = np.linalg.solve(curvature, slope)
        weights -= step
        if np.abs(step).max() < 1e-4:
            break
    return weights


# ---------------------------------------------------------------------------------------------------------------------- what is seen


def features(cache: Cache, rows: np.ndarray) -> np.ndarray:
    """float16 (n, columns) of the cached pictures `rows`: `AXES` columns of pixels and of edges, each kind's widest axis with spread 1."""
    step = -(-len(rows) // LOOKED_AT)
    sample = [np.concatenate(kind) for kind in zip(*_looks(cache, rows[::step]), strict=True)]
    axes = [_axes(kind, count) for kind, count in zip(sample, AXES, strict=True)]
    return np.concatenate(
        [
            np.column_stack(
                [(kind - middle) @ turn for kind, (middle, turn) in zip(looks, axes, strict=True)]
            ).astype(np.float16)
            for looks in _looks(cache, rows)
        ]
    )


def _looks(cache: Cache, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pixels and edges, float32 (up to AT_ONCE, columns), of one batch after another."""
    for start in range(0, len(rows), AT_ONCE):
        pictures = cache.images.read(rows[start : start + AT_ONCE])
        small, middle = (
            np.stack([resize(picture, (side, side)) for picture in pictures]).astype(np.float32)
            / np.iinfo(cache.images.dtype).max
            for side in (PIXELS, EDGES)
        )
        small = small.reshape(len(small), -1)
        yield (
            (small - small.mean(axis=1, keepdims=True))
            / (small.std(axis=1, keepdims=True) + 0.004),
            _edges(middle),
        )


def _edges(pictures: np.ndarray) -> np.ndarray:
    """float32 (n, fields * DIRECTIONS): strength of edges by direction in each field, beside that of the fields around it."""
    down, right = (np.zeros_like(pictures) for _ in range(2))
    down[:, 1:-1] = pictures[:, 2:] - pictures[:, :-2]
    right[:, :, 1:-1] = pictures[:, :, 2:] - pictures[:, :, :-2]
    strength, direction = (
        np.hypot(down, right),
        np.arctan2(down, right) % np.pi * (DIRECTIONS / np.pi),
    )
    count = pictures.shape[1] // FIELD
    told = np.empty((len(pictures), count, count, DIRECTIONS), np.float32)
    for number in range(DIRECTIONS):
        apart = np.abs(direction - number)
        share = np.maximum(
            0, 1 - np.minimum(apart, DIRECTIONS - apart)
        )  # an edge between two directions counts for both
        told[..., number] = (
            (strength * share).reshape(len(pictures), count, FIELD, count, FIELD).sum(axis=(2, 4))
        )
    around = np.pad((told**2).sum(axis=-1), ((0, 0), (1, 1), (1, 1)), "edge")
    total = sum(around[:, i : i + count, j : j + count] for i in range(3) for j in range(3))
    return (told / np.sqrt(total + 1e-4)[..., None]).reshape(len(pictures), -1)


def _axes(looks: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (columns,) and the widest axes (columns, `count` at most) of (n, columns), scaled to a spread of 1 along the widest."""
    middle = looks.mean(axis=0)
    around = (looks - middle).astype(np.float64)
    few = (
        len(around) < around.shape[1]
    )  # then the axes lie among the rows, and the small product tells them
    spread, turn = np.linalg.eigh(
        (around @ around.T if few else around.T @ around) / max(len(around), 1)
    )
    kept = np.flatnonzero(spread > 1e-9 * max(spread[-1], 1e-12))[::-1][:count]
    widest = (
        around.T @ turn[:, kept] / np.sqrt(spread[kept] * len(around)) if few else turn[:, kept]
    )
    widest = widest * np.where(
        widest[np.abs(widest).argmax(axis=0), np.arange(len(kept))] < 0, -1, 1
    )  # a sign that is always the same
    return middle, (widest / np.sqrt(max(spread[-1], 1e-12))).astype(np.float32)
