"""Assign patients to cross-validation folds, so that no patient is in two folds.

Three rules, each a function of the patients' names alone (and of classes and a seed in the last),
so that the order of the rows never matters:

    by_name_order   neighbours in the order of names go to different folds
    by_digest       a hash of the name decides, so that adding patients moves nobody
    by_class        classes are spread evenly over the folds, in an order that a seed fixes

All return int64 fold numbers (rows,) from 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from hilum import storage

# Four fifths are left to fit on, and each patient is left out once, in five fits.
FOLDS = 5


def by_name_order(patients: pl.Series) -> np.ndarray:
    """Assign each row to one of `FOLDS` folds by the rank of its patient's name.

    Names often follow sources or labels, so consecutive names go to different folds.
    """
    return _rank(patients) % FOLDS


def subset_by_name_order(patients: pl.Series, most: int) -> np.ndarray:
    """Select about `most` rows of whole patients, evenly over the order of names; bool (rows,).

    Selects every row where there are at most `most`. The selection takes the same proportion of
    each fold of `by_name_order`.
    """
    step = -(-len(patients) // most)
    return _rank(patients) // FOLDS % step == 0 if step > 1 else np.ones(len(patients), bool)


def by_digest(patients: Iterable[str], count: int = FOLDS) -> np.ndarray:
    """Assign each row to one of `count` folds by the digest of its patient's name."""
    # 8 hexadecimal digits are 32 bits: the remainder is even to one part in a billion.
    return np.array([int(storage.digest(name)[:8], 16) % count for name in patients], np.int64)


def by_class(
    classes: np.ndarray, patients: np.ndarray, seed: int, count: int = FOLDS
) -> np.ndarray:
    """Assign each row to one of `count` folds so that each class is spread evenly over them.

    `classes` int64 (rows,) from 0, `patients` (rows,) names. A patient counts as of the class of
    its first row. The seed fixes the order in which the patients of a class are assigned.
    """
    names, first, of_row = np.unique(patients, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(classes[first][order], kind="stable")]
    fold = np.empty(len(names), np.int64)
    fold[order] = np.arange(len(names)) % count
    return fold[of_row]


def _rank(patients: pl.Series) -> np.ndarray:
    """Rank each row's patient in the order of names, from 0."""
    if not len(patients):
        return np.zeros(0, np.int64)
    return patients.rank("dense").to_numpy().astype(np.int64) - 1
