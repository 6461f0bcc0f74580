"""Scores that count from what is usual at a site, for models whose features say more of a hospital
than of disease.

Such a model carries as metadata `site_direction` {"weights": (d,), "bias":
number, "overall": (d,)}. Its score at a
site is

    weights . (features - mean) / (scale + FAINT * overall) + bias

with mean and scale of the features of the site's own images, which need no labels; `overall` are
the deviations among the training images of all sources. The score that the network itself gives is
the same with mean and scale of an average source. The anomaly model needs it: see
benchmarks/results/accuracy.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hilum.errors import BadData
from hilum.inference import domain
from hilum.inference.domain import Domain

METADATA = "site_direction"
FAINT = 0.05  # of a feature's overall deviation, so that a constant feature does not decide
REMEDY = "the model's file and the site's do not belong together; calibrate again"


@dataclass(frozen=True)
class Direction:
    """The direction among a model's features that its score follows: weights (d,), overall (d,)."""

    weights: np.ndarray
    overall: np.ndarray
    bias: float

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Direction:
        """Read it from a model's metadata. Raises `BadData` for what is none."""
        stored = metadata[METADATA]
        try:
            weights = domain.unpacked(stored["weights"], 1)
            overall = domain.unpacked(stored["overall"], 1)
            bias = float(stored["bias"])
            if weights.shape != overall.shape or (overall < 0).any() or not np.isfinite(bias):
                raise ValueError(f"{weights.size} weights, {overall.size} deviations, bias {bias}")
        except (KeyError, TypeError, ValueError, OverflowError) as fault:
            raise BadData(
                f"the model's {METADATA} cannot be read: {type(fault).__name__}: {fault}; train it "
                f"again or copy it anew"
            ) from None
        return cls(weights, overall, bias)

    def scores(self, features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return the scores of features (n, d) by mean and scale (d,) of the usual images, (n,).

        Raises `BadData` for another number of features than the direction has.
        """
        if not features.shape[1:] == mean.shape == self.weights.shape:
            raise BadData(
                f"there are {features.shape[1]} features of an image, {mean.size} of the site's "
                f"usual images and {self.weights.size} weights: {REMEDY}"
            )
        standardised = (np.asarray(features, np.float64) - mean) / (scale + FAINT * self.overall)
        return standardised @ self.weights + self.bias

    def without_own(self, features: np.ndarray, patients: np.ndarray) -> np.ndarray:
        """Return the score of each of a site's images, as it counts from the other patients', (n,).

        A further image has no part in the site's mean and scale, so neither may the images that a
        threshold is chosen on. `features` are (n, d), `patients` (n,) of two names or more.
        """
        found = np.empty(len(features))
        for name in np.unique(patients):
            own = patients == name
            others = np.asarray(features[~own], np.float64)
            found[own] = self.scores(features[own], others.mean(0), others.std(0))
        return found


def at_site(
    metadata: Mapping[str, Any],
    scores: Mapping[str, float],
    features: np.ndarray | None,
    of_site: Domain | None,
) -> dict[str, float]:
    """Return an image's scores by concept as they count at a site.

    `features` are float32 (d,), the model's output for the image; `of_site` is the site's domain.
    `scores` are returned as they are where the model's do not count from a site's usual images.
    Raises `BadData` where model and site do not belong together.
    """
    if METADATA not in metadata or of_site is None or features is None:
        return dict(scores)
    if domain.FEATURES not in of_site.detectors:
        raise BadData(f"the site's file does not say what features are usual there: {REMEDY}")
    usual = of_site.detectors[domain.FEATURES].subspace
    found = Direction.of(metadata).scores(features[None], usual.mean, usual.scale)
    return dict.fromkeys(scores, float(found[0]))
