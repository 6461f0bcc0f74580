"""Patients in cross-validation folds: whole, independent of the order of rows, evenly spread."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from hilum.statistics import folds

PATIENTS = pl.Series([f"set/P{number // 3:03d}" for number in range(180)])
CLASSES = np.repeat(np.arange(60) % 3, 3)
RULES = {
    "by name order": lambda order: folds.by_name_order(PATIENTS[order]),
    "by digest": lambda order: folds.by_digest(PATIENTS[order]),
    "by class": lambda order: folds.by_class(CLASSES[order], PATIENTS[order].to_numpy(), 4),
}
ROWS = np.arange(len(PATIENTS))


@pytest.mark.parametrize("rule", RULES)
def test_a_patient_is_in_one_fold_whatever_the_order_of_the_rows(rule):
    fold = RULES[rule](ROWS)
    assert fold.dtype == np.int64 and set(fold.tolist()) == set(range(folds.FOLDS))
    by_patient = pl.DataFrame({"patient": PATIENTS, "fold": fold}).unique()
    assert by_patient.height == PATIENTS.n_unique()
    order = np.random.default_rng(1).permutation(len(PATIENTS))
    assert RULES[rule](order).tolist() == fold[order].tolist()


def test_neighbours_in_the_order_of_names_are_in_different_folds():
    assert folds.by_name_order(pl.Series(["b", "a", "c", "a"])).tolist() == [1, 0, 2, 0]
    assert folds.by_name_order(pl.Series([], dtype=pl.String)).size == 0


def test_a_fold_by_digest_does_not_depend_on_other_patients():
    assert folds.by_digest(PATIENTS[30:40]).tolist() == folds.by_digest(PATIENTS)[30:40].tolist()


def test_each_class_is_spread_evenly_and_the_seed_changes_the_folds():
    fold = folds.by_class(CLASSES, PATIENTS.to_numpy(), 4)
    counts = np.array([np.bincount(fold[one == CLASSES]) for one in range(3)])
    assert np.ptp(counts, axis=1).max() == 0
    assert fold.tolist() != folds.by_class(CLASSES, PATIENTS.to_numpy(), 5).tolist()


def test_a_subset_takes_whole_patients_evenly_from_each_fold():
    chosen = folds.subset_by_name_order(PATIENTS, 90)
    assert abs(chosen.sum() - 90) <= 15
    assert set(PATIENTS.filter(chosen)).isdisjoint(PATIENTS.filter(~chosen))
    assert len(set(np.bincount(folds.by_name_order(PATIENTS)[chosen]).tolist())) == 1
    assert folds.subset_by_name_order(PATIENTS, 180).all()
