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
from typing import Any

import numpy as np

from hilum.inference import domain
from hilum.inference.domain import Domain

METADATA = "site_direction"
FAINT = 0.05  # of a feature's overall deviation, so that a constant feature does not decide


def at_site(
    metadata: Mapping[str, Any],
    scores: Mapping[str, float],
    features: np.ndarray | None,
    of_site: Domain | None,
) -> dict[str, float]:
    """Return an image's scores by concept as they count at a site.

    `features` are float32 (d,), the model's output for the image; `of_site` is the site's domain.
    `scores` are returned as they are where the model's do not count from a site's usual images.
    """
    stored = metadata.get(METADATA)
    if stored is None or of_site is None or features is None:
        return dict(scores)
    usual = of_site.detectors[domain.FEATURES].subspace
    scale = usual.scale + FAINT * np.asarray(stored["overall"])
    standardised = (np.asarray(features, np.float64) - usual.mean) / scale
    score = float(standardised @ np.asarray(stored["weights"]) + stored["bias"])
    return dict.fromkeys(scores, score)
