"""Patients dealt to folds, and some of many patients; both by their names alone, so that the order of rows plays no part."""

from __future__ import annotations

import numpy as np
import polars as pl

FOLDS = 5


def folds(patients: pl.Series) -> np.ndarray:
    """int64 fold of each row. Neighbours in the order of names go to different folds: names often follow sources or labels."""
    return _number(patients) % FOLDS


def some(patients: pl.Series, most: int) -> np.ndarray:
    """bool of each row: every row where there are at most `most`, else those of every so-manieth patient, about `most` rows."""
    step = -(-len(patients) // most)
    return _number(patients) // FOLDS % step == 0 if step > 1 else np.ones(len(patients), bool)


def _number(patients: pl.Series) -> np.ndarray:
    """Place of each row's patient in the order of names, from 0."""
    return (
        patients.rank("dense").to_numpy().astype(np.int64) - 1
        if len(patients)
        else np.zeros(0, np.int64)
    )
