"""Deterministic folds and subsamples of patients, from the order of their names alone.

The order of rows has no influence, and no random numbers are drawn.
"""

from __future__ import annotations

import numpy as np
import polars as pl

FOLDS = 5


def folds(patients: pl.Series) -> np.ndarray:
    """Return the fold of each row, int64 (n,) in [0, FOLDS).

    Neighbours in the order of names go to different folds, because names often follow sources or
    labels.
    """
    return _number(patients) % FOLDS


def some(patients: pl.Series, most: int) -> np.ndarray:
    """Return which rows belong to a subsample of about `most` rows, bool (n,).

    All rows if there are no more; otherwise those of every k-th patient.
    """
    step = -(-len(patients) // most)
    return _number(patients) // FOLDS % step == 0 if step > 1 else np.ones(len(patients), bool)


def _number(patients: pl.Series) -> np.ndarray:
    """Return the rank of each row's patient in the order of names, from 0."""
    if not len(patients):
        return np.zeros(0, np.int64)
    return patients.rank("dense").to_numpy().astype(np.int64) - 1
