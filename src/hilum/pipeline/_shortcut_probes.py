"""Probe what image parts predict, by features too simple to show disease; no run and no model.

Images are uint8 (height, width), letterboxed squares as cached; lungs are label maps of the same
shape (`hilum.annotations.lung_masks`). Parts of PARTS:

    whole      the image as it is
    unmarked   black where side markers and text usually are: the ring of `border` and corners of
               0.3 of each side, but for the lungs. The same places in every image, since a marker
               painted over would leave a trace of its own
    border     a ring of a tenth of the shorter side along the edge of the image, the rest black
    outside    the lungs and a rim of 1/40 of the side black
    outline    the lungs white, all else black: their shape and place alone, which `outside`
               cannot help showing too

Features, float32: a thumbnail of 32 x 32, a histogram of 32 bins, and the fineness of detail in
each of 8 x 8 tiles, which differs between scanners. On them a ridge regression of each class,
its penalty chosen by leave-one-out on the training folds, is evaluated on patients of the
left-out fold. The control is the same with labels shuffled between patients: what it reaches is
chance.

Sources: Zech et al. 2018, PLoS Med 15(11):e1002683 (the hospital predicted from radiographs);
Maguolo and Nanni 2021, Information Fusion 76:1-7 (the finding predicted with the lungs blacked
out); Golub, Heath and Wahba 1979, Technometrics 21:215-223 (leave-one-out of a ridge
regression).
"""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import cv2
import numpy as np

from hilum.imaging.geometry import Size, resize
from hilum.statistics.folds import FOLDS, by_class

PARTS = ("whole", "unmarked", "border", "outside", "outline")
RING = 0.1  # of the shorter side
CORNER = 0.3  # of each side
RIM = 1 / 40  # of the square's side, around predicted lungs: their outline is not exact
# Too coarse to show disease: what these predict, the hospital or its machine shows.
THUMBNAIL, BINS, TILES = 32, 32, 8
FEATURES = THUMBNAIL**2 + BINS + TILES**2
SHUFFLES = 20  # their largest is exceeded by chance once in 21 times
_PENALTIES = 10.0 ** np.arange(-2, 4)  # times the mean square length of a row of features


class ProbeRow(TypedDict, total=False):
    """One row of `probes.parquet`, whole or in the making; see
    `hilum.pipeline.shortcuts.PROBES`.
    """

    target: str
    within: str
    view: str
    classes: str
    value: float
    ci_low: float
    ci_high: float
    n_undefined: int
    shuffled: float
    shuffled_most: float
    images: int
    patients: int
    reason: str


class CrossValidatedScores(NamedTuple):
    """Scores by fits that did not include the patient, higher for the class."""

    scores: np.ndarray  # float64 (n, classes)
    shuffled: np.ndarray  # float64 (SHUFFLES, n, classes), by fits to shuffled labels
    shuffled_classes: np.ndarray  # int64 (SHUFFLES, n), the labels those were fitted to


# ------------------------------------------------------------------------------ parts of an image


def part(
    name: str, image: np.ndarray, labels: np.ndarray, inside: tuple[slice, slice]
) -> np.ndarray:
    """Return one of PARTS; `inside` is where the image lies in its square (`Letterbox.inside`)."""
    if name == "whole":
        return image
    if name == "outline":
        return (labels > 0).astype(np.uint8) * 255
    if name == "outside":
        return np.where(rimmed(labels), 0, image).astype(np.uint8)
    shown = image.copy()
    view, ring = shown[inside], _ring(shown[inside].shape)
    if name == "border":
        view[~ring] = 0
    elif name == "unmarked":
        view[(ring | _corners(view.shape)) & (labels[inside] == 0)] = 0
    else:
        raise ValueError(f"expected one of {', '.join(PARTS)}, got '{name}'")
    return shown


def _ring(size: Size) -> np.ndarray:
    mask, width = np.ones(size, bool), max(1, round(RING * min(size)))
    mask[width:-width, width:-width] = False
    return mask


def _corners(size: Size) -> np.ndarray:
    ends = []
    for length in size:
        place, reach = np.arange(length), round(CORNER * length)
        ends.append((place < reach) | (place >= length - reach))
    return ends[0][:, None] & ends[1]


def rimmed(labels: np.ndarray) -> np.ndarray:
    """Return the lungs and the rim around them, bool (height, width)."""
    reach = 2 * max(1, round(RIM * labels.shape[0])) + 1
    return (
        cv2.dilate(
            (labels > 0).astype(np.uint8),
            cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)),
        )
        > 0
    )


# ---------------------------------------------------------------------------------------- features


def features(images: np.ndarray) -> np.ndarray:
    """Return float32 (n, FEATURES) of uint8 (n, side, side) images, side at least THUMBNAIL."""
    return (
        np.stack([_features(image) for image in images])
        if len(images)
        else np.zeros((0, FEATURES), np.float32)
    )


def _features(image: np.ndarray) -> np.ndarray:
    small = resize(image, (THUMBNAIL, THUMBNAIL)).astype(np.float32)
    counts = np.bincount(image.ravel() // (256 // BINS), minlength=BINS)
    fine = np.abs(cv2.Laplacian(image, cv2.CV_32F))
    tiles = resize(fine, (TILES, TILES))
    return np.concatenate(
        [small.ravel(), np.sqrt(counts / image.size), np.log1p(tiles.ravel())]
    ).astype(np.float32)


# ----------------------------------------------------------------------------------------- answers


def cross_validate(
    features: np.ndarray, classes: np.ndarray, groups: np.ndarray, *, seed: int = 0
) -> CrossValidatedScores:
    """Score every row by a fit to other patients.

    `features`: (n, p); `classes`: int64 (n,) from 0, each of them there; `groups` (n,) name the
    patients.
    """
    count = int(classes.max()) + 1
    fold = by_class(classes, groups, seed, FOLDS)
    others = np.stack([shuffled(classes, groups, seed + 1 + k) for k in range(SHUFFLES)])
    targets = np.concatenate(
        [one[:, None] == np.arange(count) for one in (classes, *others)], axis=1
    ).astype(np.float64)
    scores = np.empty(targets.shape)
    for one in range(FOLDS):
        held_out = fold == one
        if held_out.any():
            training = features[~held_out]
            scores[held_out] = ridge(training, targets[~held_out], features[held_out])
    answers = scores.reshape(len(scores), SHUFFLES + 1, count).transpose(1, 0, 2)
    return CrossValidatedScores(answers[0], answers[1:], others)


def fold_of(classes: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return the fold of each row, int64 (n,).

    Groups stay whole; those of one class, that of their first row, are dealt evenly, in an order
    that the seed decides.
    """
    names, first, of_row = np.unique(groups, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(classes[first][order], kind="stable")]
    fold = np.empty(len(names), np.int64)
    fold[order] = np.arange(len(names)) % FOLDS
    return fold[of_row]


def shuffled(classes: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return shuffled classes: each group's rows get the class of the first row of another group.

    So what the images of one patient have in common stays together.
    """
    _, first, of_row = np.unique(groups, return_index=True, return_inverse=True)
    return classes[first][np.random.default_rng(seed).permutation(len(first))][of_row]


def ridge(known: np.ndarray, targets: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return predictions for `new`, float64 (rows, targets), by a ridge regression on `known`.

    They are centred and scaled to one spread, so that those of several folds can be ranked
    together.
    """
    mean, spread = known.mean(0, dtype=np.float64), known.std(0, dtype=np.float64)
    spread = np.where(spread > 1e-6, spread, np.inf)  # a constant feature carries nothing
    rows, new = (known - mean) / spread, (new - mean) / spread
    wanted = targets - targets.mean(0)
    left, values, right = _decomposed(rows)
    if not values.size:
        return np.zeros((len(new), targets.shape[1]))
    along, size = left.T @ wanted, values.sum() / len(rows)
    best, answers, fitted_spread = (
        np.full(targets.shape[1], np.inf),
        np.zeros((len(new), targets.shape[1])),
        np.zeros(targets.shape[1]),
    )
    for penalty in _PENALTIES * size:
        kept = (values / (values + penalty))[:, None]
        fitted = left @ (kept * along)
        reach = np.minimum((left**2) @ kept[:, 0] + 1 / len(rows), 1 - 1e-6)
        error = (((wanted - fitted) / (1 - reach)[:, None]) ** 2).mean(0)
        better = error < best
        best = np.where(better, error, best)
        found = new @ (right @ (kept / np.sqrt(values)[:, None] * along))
        answers, fitted_spread = (
            np.where(better, found, answers),
            np.where(better, fitted.std(0), fitted_spread),
        )
    return answers / np.where(fitted_spread > 0, fitted_spread, 1)


def _decomposed(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return left singular vectors, squared singular values and right singular vectors.

    They are computed from the smaller of the two Gram matrices.
    """
    wide = rows.shape[1] > len(rows)
    values, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    kept = values > 1e-8 * max(values[-1], 1e-12)
    values, vectors = values[kept], vectors[:, kept]
    other = (rows.T if wide else rows) @ vectors / np.sqrt(values)
    return (vectors, values, other) if wide else (other, values, vectors)
