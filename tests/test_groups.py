"""Rows of a table by group: neighbours or not, what is counted is the same."""

import numpy as np
import polars as pl
import pytest

from hilum.dataset.groups import Groups, repeats, starts


@pytest.mark.parametrize("shuffled", [False, True])
def test_groups_with_something_are_counted_wherever_their_rows_lie(shuffled):
    rng = np.random.default_rng(0)
    names = np.repeat([f"p{number}" for number in range(40)], rng.integers(1, 5, 40))
    names = rng.permutation(names) if shuffled else names
    holds = rng.random(len(names)) < 0.3
    groups = Groups.of(pl.Series(names))
    assert (groups.order is None) is not shuffled
    assert groups.count(holds) == len(set(names[holds]))
    assert groups.count(np.zeros(len(names), bool)) == 0


def test_no_rows_are_no_groups():
    assert Groups.of(pl.Series([], dtype=pl.String)).count(np.zeros(0, bool)) == 0


def test_repeated_values_and_starts_of_runs_are_found():
    assert repeats(pl.Series(["a", "b", "a"]))
    assert repeats(pl.Series(["a", None, None]))
    assert not repeats(pl.Series(["a", "b", None]))
    assert starts(pl.Series(["a", "a", "b", "a"])).tolist() == [0, 2, 3]
