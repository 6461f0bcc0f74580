"""Intervals over patients: patients are drawn and not images, the bounds hold what they say or are
left out.
"""

from __future__ import annotations

import math
import time

import numpy as np
import oracles
import pytest

from hilum.statistics.bootstrap import MAX_UNDEFINED, bootstrap_patients
from hilum.statistics.metrics import discrimination


def mean_of(values: np.ndarray):
    return lambda rows: values[rows].mean()


def test_all_rows_of_a_drawn_patient_come_along_and_as_many_patients_as_there_are():
    patients = np.array(["c", "a", "b", "a", "c", "c", "d"])
    seen = []
    bootstrap_patients(lambda rows: float(seen.append(rows) or 0), patients, resamples=50)
    everything, *resamples = seen
    np.testing.assert_array_equal(everything, np.arange(7))
    for rows in resamples:
        times = {name: np.bincount(rows, minlength=7)[patients == name] for name in "abcd"}
        assert all(len(set(count)) == 1 for count in times.values())
        assert sum(count[0] for count in times.values()) == 4
    assert len({tuple(rows) for rows in resamples}) > 10


def test_the_interval_is_that_of_an_explicit_loop():
    generator = np.random.default_rng(5)
    patients = [f"p{number}" for number in generator.integers(0, 40, 120)]
    truth = generator.integers(0, 2, 120)
    score = generator.normal(size=120) + truth

    def slow(rows: list[int]) -> float:
        return oracles.auroc([int(truth[row]) for row in rows], [float(score[row]) for row in rows])

    low, high, undefined = oracles.bootstrap(slow, patients, resamples=400, confidence=0.8, seed=1)
    got = bootstrap_patients(
        lambda rows: discrimination.auroc(truth[rows], score[rows]),
        patients,
        resamples=4000,
        confidence=0.8,
    )
    assert got.value == pytest.approx(slow(list(range(120))))
    width = high - low
    # the loop's own chance error is about 0.04 of the width
    assert (got.ci_low, got.ci_high) == pytest.approx((low, high), abs=0.15 * width)
    assert got.n_undefined == undefined == 0


def test_the_interval_of_two_patients_by_hand():
    # means of resamples: 0, 1/2, 1 with chances 1/4, 1/2, 1/4
    values = np.array([0.0, 1.0])
    assert bootstrap_patients(mean_of(values), ["a", "b"], confidence=0.95) == (0.5, 0, 1, 0)
    assert bootstrap_patients(mean_of(values), ["a", "b"], confidence=0.4) == (0.5, 0.5, 0.5, 0)


def test_images_of_one_patient_do_not_count_as_independent():
    generator = np.random.default_rng(6)
    of_patient = generator.normal(size=25)
    values = np.repeat(of_patient, 10) + generator.normal(scale=0.1, size=250)
    patients = np.repeat([f"p{number}" for number in range(25)], 10)
    interval = bootstrap_patients(mean_of(values), patients)
    by_image = bootstrap_patients(mean_of(values), np.arange(250))
    width = interval.ci_high - interval.ci_low
    assert width == pytest.approx(2 * 1.96 * of_patient.std() / math.sqrt(25), rel=0.15)
    assert width > 2.5 * (by_image.ci_high - by_image.ci_low)


def test_about_95_of_100_intervals_hold_the_truth():
    generator = np.random.default_rng(7)
    patients = np.repeat(np.arange(30), 2)
    held = 0
    for seed in range(200):
        values = np.repeat(generator.normal(size=30), 2) + generator.normal(size=60)
        interval = bootstrap_patients(mean_of(values), patients, resamples=200, seed=seed)
        held += interval.ci_low <= 0 <= interval.ci_high
    assert 0.89 <= held / 200 <= 0.98


def test_the_same_seed_gives_the_same_interval_in_any_order_of_rows():
    generator = np.random.default_rng(8)
    patients = np.array([f"p{number}" for number in generator.integers(0, 20, 60)])
    truth = generator.integers(0, 2, 60)
    score = generator.integers(0, 9, 60) + truth

    def interval(order: np.ndarray, seed: int):
        shuffled = truth[order], score[order]
        return bootstrap_patients(
            lambda rows: discrimination.auroc(*(values[rows] for values in shuffled)),
            patients[order],
            resamples=200,
            seed=seed,
        )

    as_is = interval(np.arange(60), 0)
    assert interval(np.arange(60), 0) == as_is
    assert interval(generator.permutation(60), 0) == as_is
    assert interval(np.arange(60), 1) != as_is


def test_a_wider_confidence_gives_a_wider_interval_around_the_value():
    values = np.random.default_rng(9).normal(size=40)
    narrow, wide = (
        bootstrap_patients(mean_of(values), np.arange(40), confidence=level)
        for level in (0.5, 0.99)
    )
    assert wide.ci_low < narrow.ci_low < narrow.value < narrow.ci_high < wide.ci_high


@pytest.mark.parametrize("patients", [["a"], ["a", "a", "a"]])
def test_a_single_patient_has_a_value_and_no_bounds(patients):
    value, low, high, undefined = bootstrap_patients(lambda rows: float(len(rows)), patients)
    assert value == len(patients)
    assert math.isnan(low) and math.isnan(high) and undefined == 0


def test_one_class_is_undefined_throughout():
    score = np.linspace(0, 1, 12)
    value, low, high, undefined = bootstrap_patients(
        lambda rows: discrimination.auroc(np.ones(12)[rows], score[rows]),
        np.arange(12),
        resamples=50,
    )
    assert math.isnan(value) and math.isnan(low) and math.isnan(high)
    assert undefined == 50


@pytest.mark.parametrize(("negatives", "enough"), [(1, False), (4, True)])
def test_undefined_resamples_are_counted_and_too_many_leave_no_bounds(negatives, enough):
    # a resample of 20 patients misses all of k negatives with chance (1 - k/20)^20: 36 % for one,
    # 1.2 % for four
    truth = np.arange(20) >= negatives
    score = np.random.default_rng(10).normal(size=20)
    got = bootstrap_patients(
        lambda rows: discrimination.auroc(truth[rows], score[rows]), np.arange(20), resamples=2000
    )
    assert got.n_undefined / 2000 == pytest.approx((1 - negatives / 20) ** 20, abs=0.04)
    assert got.n_undefined > 0 and (got.n_undefined <= MAX_UNDEFINED * 2000) == enough
    assert not math.isnan(got.value)
    assert math.isnan(got.ci_low) == math.isnan(got.ci_high) == (not enough)


@pytest.mark.parametrize(
    "setting", [{"resamples": 0}, {"confidence": 0.0}, {"confidence": 1.0}, {"confidence": 95}]
)
def test_settings_that_make_no_interval_are_refused(setting):
    with pytest.raises(ValueError, match="got"):
        bootstrap_patients(lambda rows: 0.0, ["a", "b"], **setting)


def test_a_thousand_resamples_of_140_images_take_at_most_a_third_of_a_second():
    generator = np.random.default_rng(11)
    truth, score = generator.integers(0, 2, 140), generator.normal(size=140)
    patients = [f"p{number}" for number in generator.integers(0, 100, 140)]

    def seconds() -> float:
        start = time.process_time()
        bootstrap_patients(lambda rows: discrimination.auroc(truth[rows], score[rows]), patients)
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) <= 0.3
