"""Detect likely label errors: labels that the appearance of the image contradicts.

The features of a cached image are its 32x32 pixels, standardised to mean 0 and standard deviation
1, and a histogram of edge directions in each of 8x8 fields of its 64x64 pixels (Dalal and Triggs,
CVPR 2005:886-893), both reduced to their principal axes. A logistic regression with a ridge penalty
is fitted five times, each time without a fifth of the patients, and applied to that fifth. The
probability that it gives to the label of an image is the confidence in this label.

A label is suspected where confident learning assigns the image to the other class (its probability
for that class is at least the mean probability of the images that have it) and its confidence is
below `LEAST_CONFIDENCE`, both as it is and as it would be if both states were equally frequent: for
a rare finding, every image is predicted to be without it. Source: Northcutt, Jiang and Chuang 2021,
Confident learning: estimating uncertainty in dataset labels, JAIR 70:1373-1411, sections 3.1, 3.2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import State, name_of
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.imaging.geometry import resize
from hilum.plugins import Card
from hilum.safety import threads
from hilum.statistics import folds
from hilum.statistics.metrics.discrimination import auroc

FEWEST = 50  # patients of each state, below which nothing is reported
LEAST_AUROC = 0.82  # out of fold, below which single labels are not suspected
LEAST_CONFIDENCE = 0.1  # in the label of an image, below which it may be suspected
FITTED = 10_000  # images that a regression is fitted to, at most
SAMPLED = 3_000  # images from which the principal axes are computed, at most
PIXELS, EDGES, FIELD, DIRECTIONS = 32, 64, 8, 9
AXES = (100, 150)  # kept of the pixels and of the edges
RIDGE = 1.0  # keeps the fit finite where the features separate the classes
AT_ONCE = 128  # images in memory
_THREADS = min(8, threads.cores())
STEPS = 25  # of Newton's method, far more than it takes

CARD = Card(
    title="Likely label errors",
    source="Northcutt, Jiang and Chuang 2021, Confident learning, JAIR 70:1373-1411",
    caveats="These are suspicions, the most certain first: a rare or early form of a disease is "
    "suspected as easily as a wrong label. Where the features separate a finding well (children "
    "with and without pneumonia, AUROC 0.99), 17 of 20 suspicions or more were labels that had "
    "been made wrong on purpose, and a quarter (of 10 in 100) to 7 in 10 (of 2 in 100) of these "
    "were detected; where they separate it less well (tuberculosis, 0.88), one suspicion in eight "
    "with 2 in 100 labels made wrong and six in ten with 5 in 100, and a fifth were detected. Of "
    f"the original labels, 1 to 3 in 100 were suspected. Below an AUROC of {LEAST_AUROC} nothing "
    "is listed, because it would be noise. benchmarks/accuracy/label_errors.py measures it.",
)
SUSPECT = Rule(
    "label-suspect",
    "info",
    "Images similar to this one are labelled otherwise.",
    "If the label is wrong, a model is trained on it and evaluated with it; if it is right, the "
    "image is a hard one that is worth knowing.",
    "Have the image read again, the first suspicions first, by somebody who does not see the "
    "label; change no label on this alone.",
    correction="leave out",
)
UNDETERMINED = Rule(
    "label-suspect-unknown",
    "info",
    "Wrong labels of a finding cannot be detected from the images in this way.",
    "The finding is too subtle for the features used here, or so many labels are wrong that "
    "nothing can be learned from them.",
    "Nothing; to detect wrong labels of it, have a sample read again, or review the images on "
    "which a trained model is most confident and wrong.",
)
RULES = (SUSPECT, UNDETERMINED)


def check(
    manifest: Manifest,
    facts: pl.DataFrame,
    cache: Cache | None = None,
    include: Collection[str] = (),
) -> Iterator[Issue]:
    """Yield suspected labels of each finding, or state that none can be determined."""
    if cache is None:
        return
    manifest = manifest.eligible(include)
    readable = facts.filter(
        pl.col("error").is_null() & (pl.col("minimum") < pl.col("maximum"))
    ).select("image_id", "row")
    images = (
        manifest.table.select("image_id", "patient_id")
        .join(readable, on="image_id")
        .sort("image_id")
    )
    stated = _stated(manifest, images)
    images = images.join(stated, on="image_id", how="semi", maintain_order="left").with_row_index()
    if not images.height:
        return
    seen = features(cache, images["row"].to_numpy())
    for (concept,), cells in stated.join(
        images.select("image_id", "index"), on="image_id", maintain_order="left"
    ).group_by("concept", maintain_order=True):
        yield from _of_concept(str(concept), cells, seen[cells["index"].to_numpy()])


def _stated(manifest: Manifest, images: pl.DataFrame) -> pl.DataFrame:
    """Return certain labels of `images`, of findings with enough patients of both states."""
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
    return stated.join(enough, on="concept", how="semi", maintain_order="left")


def _of_concept(concept: str, cells: pl.DataFrame, seen: np.ndarray) -> Iterator[Issue]:
    state, name = cells["state"].to_numpy() == State.PRESENT, name_of(concept).lower()
    present = out_of_fold(seen, state, cells["patient_id"])
    reached = auroc(state, present)
    if reached < LEAST_AUROC:
        message = (
            f"{name}: {len(state)} images separate its labels with an AUROC of {reached:.2f} out "
            f"of fold, {LEAST_AUROC} is required to suspect a label"
        )
        yield from UNDETERMINED.issue(pl.DataFrame({"message": [message]}))
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
        "suspicion {} of {}: {} is labelled {} ({}), similar images {}; "
        "confidence in the label {}, AUROC of its labels {}",
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
    """Return the confidence in each label, float (n,), and whether it is suspected, bool (n,).

    `state` is bool (n,), true where present; `present` is the out-of-fold probability of present.
    """
    own = np.where(state, present, 1 - present)
    odds = state.mean() / (1 - state.mean())
    level = present / (present + (1 - present) * odds)  # as if both states were equally frequent
    confidence = np.round(np.maximum(own, np.where(state, level, 1 - level)), 4)
    usual = {value: own[state == value].mean() for value in (True, False)}
    other_class = (1 - own >= np.where(state, usual[False], usual[True])) & (1 - own > own)
    return confidence, other_class & (confidence < LEAST_CONFIDENCE)


def out_of_fold(seen: np.ndarray, state: np.ndarray, patients: pl.Series) -> np.ndarray:
    """Return the probability of present, float (n,), of each image by the regression that was not
    fitted to its patient.
    """
    fold = folds.by_name_order(patients)
    most = FITTED * folds.FOLDS // (folds.FOLDS - 1)  # of which a fit sees all folds but one
    chosen = folds.subset_by_name_order(patients, most)
    answer = np.empty(len(state))

    def fill(left_out: int) -> None:
        """Fit without one fold, and predict it."""
        at = fold == left_out
        if at.any():
            fitted = chosen & ~at
            weights = _logistic(seen[fitted].astype(np.float64), state[fitted].astype(np.float64))
            answer[at] = seen[at].astype(np.float64) @ weights[:-1] + weights[-1]

    with threads.numeric_pool(_THREADS) as pool:
        list(pool.map(fill, range(folds.FOLDS)))
    # Rounded, because the last bits depend on the number of threads.
    return np.round(1 / (1 + np.exp(-np.clip(answer, -30, 30))), 6)


def _logistic(rows: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Fit a logistic regression by Newton's method; return weights (columns + 1,), constant last.

    The ridge penalty does not apply to the constant.
    """
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


# Features of the cached images.


def features(cache: Cache, rows: np.ndarray) -> np.ndarray:
    """Compute features of the cached images `rows`, float16 (n, columns).

    Up to `AXES` columns of pixels and of edges; the first axis of each has standard deviation 1.
    """
    sampled = rows[:: -(-len(rows) // SAMPLED)]
    with threads.numeric_pool(_THREADS) as pool:
        some = pool.map(lambda batch: _descriptors(cache, batch), _batches(sampled))
        sample = [np.concatenate(kind) for kind in zip(*some, strict=True)]
        axes = list(pool.map(_axes, sample, AXES))
        projected = pool.map(
            lambda batch: _projected(_descriptors(cache, batch), axes), _batches(rows)
        )
        return np.concatenate(list(projected))


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]


def _projected(
    batch: tuple[np.ndarray, np.ndarray], axes: Sequence[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    projections = [
        (kind - middle) @ rotation for kind, (middle, rotation) in zip(batch, axes, strict=True)
    ]
    return np.column_stack(projections).astype(np.float16)


def _descriptors(cache: Cache, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels and edges of cached images, float32 (n, columns) each."""
    images = cache.images[rows]
    small, middle = (
        np.stack([resize(image, (side, side)) for image in images]).astype(np.float32)
        / np.iinfo(images.dtype).max
        for side in (PIXELS, EDGES)
    )
    small = small.reshape(len(small), -1)
    spread = small.std(axis=1, keepdims=True) + 0.004
    return (small - small.mean(axis=1, keepdims=True)) / spread, _edges(middle)


def _edges(images: np.ndarray) -> np.ndarray:
    """Compute histograms of edge directions in each field, float32 (n, fields * DIRECTIONS).

    Each is normalised by the edges of the fields around it.
    """
    down, right = (np.zeros_like(images) for _ in range(2))
    down[:, 1:-1] = images[:, 2:] - images[:, :-2]
    right[:, :, 1:-1] = images[:, :, 2:] - images[:, :, :-2]
    strength, direction = (
        np.hypot(down, right),
        np.arctan2(down, right) % np.pi * (DIRECTIONS / np.pi),
    )
    count = images.shape[1] // FIELD
    histograms = np.empty((len(images), count, count, DIRECTIONS), np.float32)
    for number in range(DIRECTIONS):
        apart = np.abs(direction - number)
        # An edge between two directions counts for both.
        weight = np.maximum(0, 1 - np.minimum(apart, DIRECTIONS - apart))
        histograms[..., number] = (
            (strength * weight).reshape(len(images), count, FIELD, count, FIELD).sum(axis=(2, 4))
        )
    around = np.pad((histograms**2).sum(axis=-1), ((0, 0), (1, 1), (1, 1)), "edge")
    total = sum(around[:, i : i + count, j : j + count] for i in range(3) for j in range(3))
    return (histograms / np.sqrt(total + 1e-4)[..., None]).reshape(len(images), -1)


def _axes(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean (columns,) and up to `count` principal axes (columns, axes) of (n, columns).

    They are scaled to a standard deviation of 1 along the first.
    """
    middle = values.mean(axis=0)
    around = (values - middle).astype(np.float64)
    # With fewer rows than columns the axes are in the span of the rows: the smaller product does.
    few = len(around) < around.shape[1]
    spread, rotation = np.linalg.eigh(
        (around @ around.T if few else around.T @ around) / max(len(around), 1)
    )
    kept = np.flatnonzero(spread > 1e-9 * max(spread[-1], 1e-12))[::-1][:count]
    widest = (
        around.T @ rotation[:, kept] / np.sqrt(spread[kept] * len(around))
        if few
        else rotation[:, kept]
    )
    # The sign of an axis is arbitrary: its largest element is made positive.
    largest = widest[np.abs(widest).argmax(axis=0), np.arange(len(kept))]
    widest = widest * np.where(largest < 0, -1, 1)
    return middle, (widest / np.sqrt(max(spread[-1], 1e-12))).astype(np.float32)
