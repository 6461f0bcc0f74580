"""Does a map point at what is drawn: against slow loops over pixels, and what must hold
of any map.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hilum.statistics.metrics import localisation

relaxed = settings(deadline=None)  # the machine may be shared
masks = hnp.arrays(bool, (5, 6))
maps = hnp.arrays(np.float64, (5, 6), elements=st.integers(-4, 4).map(float))


def pixels(array):
    return [(row, column) for row in range(array.shape[0]) for column in range(array.shape[1])]


def slow_pointing(truth, strength):
    highest = max(float(strength[at]) for at in pixels(strength))
    places = [at for at in pixels(strength) if strength[at] == highest]
    if not any(truth[at] for at in pixels(truth)) or highest <= 0 or len(places) == strength.size:
        return math.nan
    return sum(bool(truth[at]) for at in places) / len(places)


def slow_fraction(truth, strength):
    whole = sum(max(float(strength[at]), 0) for at in pixels(strength))
    inside = [at for at in pixels(truth) if truth[at]]
    return (
        sum(max(float(strength[at]), 0) for at in inside) / whole if whole and inside else math.nan
    )


def slow_parts(mask):
    left, parts = {at for at in pixels(mask) if mask[at]}, []
    while left:
        part, edge = set(), [min(left)]
        while edge:
            at = edge.pop()
            if at in left:
                left.discard(at)
                part.add(at)
                edge += [
                    (at[0] + 1, at[1]),
                    (at[0] - 1, at[1]),
                    (at[0], at[1] + 1),
                    (at[0], at[1] - 1),
                ]
        parts.append(part)
    return parts


def box_of(part):
    rows, columns = [row for row, _ in part], [column for _, column in part]
    return {
        (row, column)
        for row in range(min(rows), max(rows) + 1)
        for column in range(min(columns), max(columns) + 1)
    }


def slow_ious(truth, strength, level):
    """IoU by each of the largest parts: of equal ones any may be meant."""
    highest = float(strength.max())
    if highest <= 0 or not truth.any():
        return [math.nan]
    expected, parts = (
        box_of([at for at in pixels(truth) if truth[at]]),
        slow_parts(strength >= level * highest),
    )
    largest = max(map(len, parts))
    return [
        len(expected & box_of(part)) / len(expected | box_of(part))
        for part in parts
        if len(part) == largest
    ]


@relaxed
@given(masks, maps)
def test_pointing_and_fractions_are_those_of_loops_over_pixels(truth, strength):
    assert localisation.pointing_game(truth, strength) == pytest.approx(
        slow_pointing(truth, strength), nan_ok=True
    )
    assert localisation.fraction_inside(truth, strength) == pytest.approx(
        slow_fraction(truth, strength), nan_ok=True
    )
    expected = (
        slow_fraction(truth, strength) / (sum(bool(truth[at]) for at in pixels(truth)) / truth.size)
        if truth.any()
        else math.nan
    )
    assert localisation.gain_inside(truth, strength) == pytest.approx(expected, nan_ok=True)


@relaxed
@given(masks, maps, st.sampled_from([0.25, 0.5, 1.0]))
def test_box_iou_is_that_of_sets_of_pixels(truth, strength, level):
    got = localisation.box_iou(truth, strength, level)
    assert any(
        got == pytest.approx(expected, nan_ok=True)
        for expected in slow_ious(truth, strength, level)
    )


@relaxed
@given(masks, maps, st.integers(1, 5))
def test_only_the_order_counts_for_pointing_and_no_metric_knows_the_scale(truth, strength, scale):
    for metric in localisation.METRICS.values():
        assert metric(truth, strength * scale) == pytest.approx(
            metric(truth, strength), nan_ok=True
        )
    assert localisation.pointing_game(truth, np.maximum(strength, 0) ** 3) == pytest.approx(
        localisation.pointing_game(truth, np.maximum(strength, 0)), nan_ok=True
    )


def test_a_map_of_the_truth_itself_is_perfect_and_of_the_rest_is_none():
    truth = np.zeros((8, 9), bool)
    truth[2:5, 3:7] = True
    one, other = truth.astype(float), (~truth).astype(float)
    assert (
        localisation.pointing_game(truth, one)
        == localisation.fraction_inside(truth, one)
        == localisation.box_iou(truth, one)
        == 1
    )
    assert localisation.gain_inside(truth, one) == pytest.approx(72 / 12)
    assert (
        localisation.pointing_game(truth, other) == localisation.fraction_inside(truth, other) == 0
    )


def test_a_map_of_the_lungs_is_a_random_point_in_them():
    lungs, truth = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    lungs[2:8, 1:4], truth[4:6, 2:6] = True, True
    assert (
        localisation.pointing_game(truth, lungs.astype(float))
        == (lungs & truth).sum() / lungs.sum()
    )


@pytest.mark.parametrize("metric", localisation.METRICS.values(), ids=localisation.METRICS)
def test_what_is_undefined_is_nan_and_what_is_no_map_is_refused(metric):
    truth, flat = np.zeros((4, 4), bool), np.zeros((4, 4))
    assert (
        math.isnan(metric(truth, flat + 1))
        and math.isnan(metric(~truth, flat))
        and math.isnan(metric(~truth, flat - 1))
    )
    for wrong in ((truth.astype(int), flat), (truth, flat[:3]), (truth, flat * np.nan)):
        with pytest.raises(ValueError, match="expected a bool mask|finite"):
            metric(*wrong)


def test_a_map_without_a_highest_place_points_nowhere():
    truth = np.zeros((4, 4), bool)
    truth[0] = True
    assert math.isnan(localisation.pointing_game(truth, np.ones((4, 4))))
