"""Agreement of two readers beyond chance.

Cohen's kappa is (observed - expected) / (1 - expected) of the fraction of images on which two
readers agree, where `expected` is what two readers with the same frequencies would agree on by
chance (Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological
Measurement 20:37, 1960). It falls as a state becomes rare, however well the readers agree, so the
observed agreement belongs beside it (Feinstein and Cicchetti, J Clin Epidemiol 43:543, 1990).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hilum.statistics.bootstrap import Interval, bootstrap_many


class Agreement(NamedTuple):
    """Kappa and observed agreement with their intervals over patients."""

    kappa: Interval
    observed: Interval


def cohens_kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Return Cohen's unweighted kappa of two readers' states, integer codes (images,).

    nan where there is no image, and where both readers gave every image one and the same state.
    """
    if not len(first):
        return float("nan")
    states = int(max(first.max(), second.max())) + 1
    counts = np.bincount(first * states + second, minlength=states * states)
    table = counts.reshape(states, states) / len(first)
    observed, expected = np.trace(table), table.sum(axis=1) @ table.sum(axis=0)
    if np.isclose(expected, 1):
        return float("nan")
    return float((observed - expected) / (1 - expected))


def agreement(
    first: Sequence[str],
    second: Sequence[str],
    patients: Sequence[str],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Return the agreement of two readers on the same images, with intervals over patients.

    `first`, `second` and `patients` (images,) give each image's state by either reader, and its
    patient. See `hilum.statistics.bootstrap` for the intervals.
    """
    codes = np.unique(np.array([*first, *second]), return_inverse=True)[1].reshape(2, -1)

    def kappa(rows: np.ndarray) -> float:
        """Return kappa of some rows."""
        return cohens_kappa(codes[0, rows], codes[1, rows])

    def observed(rows: np.ndarray) -> float:
        """Return the fraction of rows on which the readers agree."""
        return float((codes[0, rows] == codes[1, rows]).mean()) if len(rows) else float("nan")

    return Agreement(
        *bootstrap_many(
            [kappa, observed], patients, resamples=resamples, confidence=confidence, seed=seed
        )
    )
