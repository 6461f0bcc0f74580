"""Distances between outlines, beside a slow oracle and cases worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hilum.statistics.metrics import surface_distance
from hilum.statistics.metrics.surface_distance import (
    METRICS,
    average_distance,
    distances,
    hausdorff95,
)

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def slow_outline(mask):
    height, width = mask.shape

    def outside(row, column):
        return not (0 <= row < height and 0 <= column < width and mask[row, column])

    steps = ((-1, 0), (1, 0), (0, -1), (0, 1))
    return [
        (r, c)
        for r in range(height)
        for c in range(width)
        if mask[r, c] and any(outside(r + dr, c + dc) for dr, dc in steps)
    ]


def slow_distances(one, other, spacing):
    ends = slow_outline(other)
    return sorted(
        min(math.hypot((r - a) * spacing[0], (c - b) * spacing[1]) for a, b in ends)
        for r, c in slow_outline(one)
    )


@settings(max_examples=150, deadline=None)
@given(truth=MASKS, rows=st.floats(0.1, 4), columns=st.floats(0.1, 4), seed=st.integers(0, 99))
def test_distances_are_those_of_a_slow_oracle(truth, rows, columns, seed):
    found = np.random.default_rng(seed).random(truth.shape) < 0.4
    there, back = distances(truth, found, (rows, columns))
    if not truth.any() or not found.any():
        assert there.size == back.size == 0
        return
    np.testing.assert_allclose(np.sort(there), slow_distances(truth, found, (rows, columns)))
    np.testing.assert_allclose(np.sort(back), slow_distances(found, truth, (rows, columns)))
    both = [*there, *back]
    assert average_distance(truth, found, (rows, columns)) == pytest.approx(sum(both) / len(both))
    assert hausdorff95(truth, found, (rows, columns)) <= max(both) + 1e-9


def test_a_square_moved_by_three_columns_is_three_pixels_away_and_their_millimetres():
    square = np.zeros((20, 20), bool)
    square[5:10, 5:6] = True
    moved = np.roll(square, 3, axis=1)
    assert hausdorff95(square, moved) == average_distance(square, moved) == 3
    assert (
        hausdorff95(square, moved, (1.0, 0.5)) == average_distance(square, moved, (0.1, 0.5)) == 1.5
    )


def test_one_far_pixel_among_many_does_not_move_the_95th_percentile():
    square = np.zeros((60, 60), bool)
    square[10:40, 10:40] = True
    speck = square.copy()
    speck[59, 59] = True
    assert hausdorff95(square, speck) == 0 < average_distance(square, speck)


@pytest.mark.parametrize("metric", METRICS.values())
def test_equal_masks_agree_and_an_empty_mask_has_no_distance(metric):
    some, none = np.eye(6, dtype=bool), np.zeros((6, 6), bool)
    assert metric(some, some) == 0
    assert all(math.isnan(metric(*pair)) for pair in ((some, none), (none, some), (none, none)))


@pytest.mark.parametrize(
    ("truth", "found"),
    [(np.ones((3, 3)), np.ones((3, 3))), (np.ones((3, 3), bool), np.ones((3, 4), bool))],
)
def test_what_is_no_pair_of_masks_is_refused(truth, found):
    with pytest.raises(ValueError, match="boolean and share one shape"):
        distances(truth, found)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_distances_of_large_masks_are_those_of_small_ones(seed):
    generator = np.random.default_rng(seed)
    truth, found = (generator.random((23, 31)) < generator.random() for _ in range(2))
    spacings = [(1.0, 1.0), (0.7, 0.14)]
    for spacing, measured in zip(
        spacings, surface_distance.of_large_masks(truth, found, spacings), strict=True
    ):
        for name, metric in surface_distance.METRICS.items():
            assert measured[name] == pytest.approx(metric(truth, found, spacing), nan_ok=True)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.4, 0.7)])
def test_all_metrics_at_once_are_those_computed_one_by_one(spacing):
    rng = np.random.default_rng(4)
    truth, found = rng.random((2, 24, 30)) > 0.6
    measured = surface_distance.of_masks(truth, found, spacing)
    assert measured == {
        name: metric(truth, found, spacing) for name, metric in surface_distance.METRICS.items()
    }
    nothing = surface_distance.of_masks(truth, np.zeros_like(found), spacing)
    assert list(nothing) == list(measured)
    assert np.isnan(list(nothing.values())).all()
