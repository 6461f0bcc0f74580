"""Choose the two thresholds between which the bundled tuberculosis model gives no call.

They are chosen on scores out of fold (tools/build_models/out_of_fold.py). Two steps bring them to
the bundled network's scale, since networks of one recipe differ in the scale of their log-odds:

1. Each fold's scores become probabilities by Platt's scaling, fitted on the same fold; pooled, the
   narrowest band is chosen whose calls reach the aims and a margin.
2. The bundled network and the folds' networks have all scored the tune films without having been
   trained on them. The linear function that matches mean and standard deviation of these paired
   log-odds takes the two thresholds from probabilities to the bundled network's scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hilum.statistics import bootstrap, calibration

SENSITIVITY, SPECIFICITY = 0.93, 0.88  # that calls of new films should reach
# The scale of each fold and the band are fitted to the films that judge them, so calls of new films
# are slightly worse: a margin allows for it. It is the least of these with which the films of every
# fold, called by the band that is chosen on the other folds, reach both aims; else the largest.
MARGINS = (0.0, 0.005, 0.01)


def band(truth: np.ndarray, score: np.ndarray, margin: float) -> tuple[float, float]:
    """Return the thresholds (absent_below, present_from) between which there is no call.

    `truth` (n,) of 0 and 1 with both states, `score` (n,) in (0, 1). The band is the one with the
    fewest films in it whose calls reach both aims and `margin`, of several the one with the fewest
    wrong calls; where none reaches them, the one that lacks least. Thresholds lie half way between
    two scores.
    """
    ordered = np.unique(score)
    edges = np.concatenate([[ordered[0] / 2], (ordered[:-1] + ordered[1:]) / 2])
    ill, well = np.sort(score[truth == 1]), np.sort(score[truth == 0])
    missed, rejected = (np.searchsorted(of, edges)[:, None] for of in (ill, well))
    found, false = len(ill) - missed.T, len(well) - rejected.T
    positive, negative = missed + found, rejected + false  # called, (edges, edges)
    usable = np.tri(len(edges), dtype=bool).T & (positive > 0) & (negative > 0)
    lacking = np.maximum(0, SENSITIVITY + margin - found / np.maximum(positive, 1))
    lacking += np.maximum(0, SPECIFICITY + margin - rejected / np.maximum(negative, 1))
    lower, upper = np.nonzero(usable)
    order = (missed + false, -(positive + negative), np.round(lacking, 4))  # the last counts most
    best = np.lexsort([key[usable] for key in order])[0]
    return float(edges[lower[best]]), float(edges[upper[best]])


def rescaling(score: np.ndarray, to: np.ndarray) -> calibration.Temperature:
    """Return the function from one network's scores to another's, both (n,) of the same films.

    Log-odds get the mean and standard deviation of the other network's.
    """
    log_odds, wanted = calibration.logit(score), calibration.logit(to)
    slope = float(wanted.std() / log_odds.std())
    return calibration.Temperature(1 / slope, float(wanted.mean() - slope * log_odds.mean()))


@dataclass(frozen=True)
class OutOfFold:
    """Truth, score, fold and patient of films, (n,) each; no score is by a network that knew it."""

    truth: np.ndarray
    score: np.ndarray
    fold: np.ndarray
    patients: np.ndarray

    def probabilities(self) -> np.ndarray:
        """Return the scores (n,) of all folds on the scale of probabilities.

        Raises `ValueError` for a fold that cannot be calibrated.
        """
        pooled = np.empty(len(self.score))
        for number in np.unique(self.fold):
            rows = self.fold == number
            scale, reason = calibration.temperature(self.truth[rows], self.score[rows])
            if scale is None:
                raise ValueError(f"fold {number} of {rows.sum()} films cannot be scaled: {reason}")
            pooled[rows] = scale(self.score[rows])
        return pooled

    def thresholds_of(self, score: np.ndarray, paired: np.ndarray) -> tuple[float, float]:
        """Return the band on the scale of another network with scores (n,) of the same films.

        `paired` bool (n,) marks those that it was not trained on.
        """
        pooled = self.probabilities()
        to = rescaling(pooled[paired], score[paired])
        low, high = to(np.array(band(self.truth, pooled, self.margin())))
        return float(low), float(high)

    def called(self, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """Return which films get a call and which are called present, bool (n,) each.

        Each fold is called by the band that is chosen on the others with `margin`.
        """
        pooled = self.probabilities()
        called, present = np.zeros(len(pooled), bool), np.zeros(len(pooled), bool)
        for number in np.unique(self.fold):
            rows = self.fold == number
            low, high = band(self.truth[~rows], pooled[~rows], margin)
            present[rows] = pooled[rows] >= high
            called[rows] = present[rows] | (pooled[rows] < low)
        return called, present

    def margin(self) -> float:
        """Return the least of `MARGINS` with which calls reach the aims, the largest if none."""
        for margin in MARGINS:
            called, present = self.called(margin)
            ill, well = called & (self.truth == 1), called & (self.truth == 0)
            if present[ill].mean() >= SENSITIVITY and (~present[well]).mean() >= SPECIFICITY:
                return margin
        return MARGINS[-1]

    def in_words(self) -> dict[str, str]:
        """Return the calls' figures with their intervals over patients.

        Each fold is called by the band that is chosen on the others.
        """
        called, present = self.called(self.margin())
        right = present == (self.truth == 1)
        measured = {
            "coverage of calls": (called, np.ones(len(called), bool)),
            "sensitivity of calls": (right, called & (self.truth == 1)),
            "specificity of calls": (right, called & (self.truth == 0)),
        }
        head = f"out of fold, {len(called)} images of {len(np.unique(self.patients))} patients"
        figures = {}
        for name, (value, among) in measured.items():
            of = bootstrap.bootstrap_patients(
                lambda rows, value=value, among=among: float(value[rows][among[rows]].mean()),
                self.patients,
            )
            figures[f"{head}, {name}"] = f"{of.value:.3f} ({of.ci_low:.3f} to {of.ci_high:.3f})"
        return figures


def read(path: Path, facts: pl.DataFrame) -> OutOfFold:
    """Return the films of `facts` in their order, with the scores of a file of out_of_fold.py.

    Raises `ValueError` where the file does not hold every film of `facts`.
    """
    found = facts.join(
        pl.read_parquet(path), on="image_id", how="left", maintain_order="left", validate="1:1"
    )
    if missing := found["score"].null_count():
        raise ValueError(
            f"{path} lacks {missing} of {facts.height} films; run "
            "tools/build_models/out_of_fold.py again on the same films"
        )
    return OutOfFold(
        found["tuberculosis"].to_numpy().astype(int),
        found["score"].to_numpy(),
        found["fold"].to_numpy(),
        found["patient_id"].to_numpy(),
    )
