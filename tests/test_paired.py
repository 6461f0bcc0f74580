"""Areas with their variance, differences of two models, and what a test set of some size can
detect: against loops, a published case, simulation.
"""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest

from hilum.statistics import auroc_tests, sample_size
from hilum.statistics.metrics import discrimination

# Hanley and McNeil (1982), table 1: ratings 1 to 5 of computed tomography by 58 normal and 51
# abnormal patients.
RATED = np.repeat([1, 2, 3, 4, 5] * 2, [33, 6, 6, 11, 2, 3, 2, 2, 11, 33]).astype(float)
ABNORMAL = np.repeat([0, 1], [58, 51])


def rows(seed: int, count: int = 60, steps: int = 12):
    generator = np.random.default_rng(seed)
    truth = generator.permutation(np.r_[0, 0, 1, 1, generator.integers(0, 2, count - 4)])
    shared = generator.normal(size=count) + truth
    return truth, *(
        np.round(shared * steps / 4 + generator.normal(size=count, scale=steps / 4))
        for _ in range(2)
    )


def clustered(generator: np.random.Generator, patients: int, each: int = 4):
    """Truth, score and patients: images of one patient are alike in both."""
    of_patient = np.repeat(generator.normal(size=patients), each)
    patient = np.repeat(np.arange(patients), each)
    truth = (
        generator.random(patients * each) < np.repeat(generator.random(patients), each)
    ).astype(int)
    return truth, of_patient * 1.5 + generator.normal(size=patients * each) + truth, patient


def test_the_area_of_the_published_ratings_and_its_standard_error():
    """0.893 (Hanley and McNeil 1982); DeLong's standard error of these ratings is 0.0307 (Stata's
    manual, `roctab`), theirs 0.032.
    """
    found = auroc_tests.area(ABNORMAL, RATED)
    assert found.value == pytest.approx(0.8932, abs=5e-5)
    assert math.sqrt(found.variance) == pytest.approx(0.0307, abs=5e-5)
    assert math.sqrt(sample_size.variance(found.value, 51, 58)) == pytest.approx(0.032, abs=7e-4)
    assert (
        found.ci_low < 0.833 < found.value < found.ci_high < 0.953
    )  # on the logit's scale it leans towards a half


def test_variances_and_differences_are_those_of_loops_over_pairs():
    for seed in range(30):
        truth, first, second = rows(seed)
        plain = truth.tolist(), first.tolist(), second.tolist()
        variances = [oracles.area_covariance(plain[0], score, score) for score in plain[1:]]
        for score, variance in zip((first, second), variances, strict=True):
            found = auroc_tests.area(truth, score)
            assert found.value == pytest.approx(
                discrimination.auroc(truth, score)
            ) and found.variance == pytest.approx(variance)
        reported = auroc_tests.area_difference(truth, first, second)
        expected = math.sqrt(sum(variances) - 2 * oracles.area_covariance(*plain))
        assert reported.value == pytest.approx(
            discrimination.auroc(truth, second) - discrimination.auroc(truth, first)
        )
        assert (reported.ci_high - reported.ci_low) / 2 / 1.959964 == pytest.approx(expected)
        assert reported.p == pytest.approx(math.erfc(abs(reported.value) / expected / math.sqrt(2)))


def test_a_patient_of_several_images_counts_once_as_the_spread_over_many_such_sets_shows():
    generator = np.random.default_rng(3)
    drawn = [clustered(generator, 40) for _ in range(300)]
    spread = np.var([discrimination.auroc(truth, score) for truth, score, _ in drawn])
    clusters, images = (
        np.mean(
            [
                auroc_tests.area(truth, score, patient if by else None).variance
                for truth, score, patient in drawn
            ]
        )
        for by in (True, False)
    )
    assert clusters == pytest.approx(spread, rel=0.2)
    assert images < 0.7 * spread


def test_one_image_a_patient_gives_the_plain_variance_whatever_the_names():
    truth, first, second = rows(5)
    names = [f"p{number}" for number in np.random.default_rng(0).permutation(truth.size)]
    assert auroc_tests.area(truth, first, names) == pytest.approx(auroc_tests.area(truth, first))
    assert auroc_tests.area_difference(truth, first, second, names)[:4] == pytest.approx(
        auroc_tests.area_difference(truth, first, second)[:4]
    )


def test_equal_models_are_distinguished_in_about_5_of_100_sets_and_intervals_hold_the_truth():
    generator, false_alarms, held = np.random.default_rng(7), 0, 0
    true_area = 0.5 * math.erfc(-1 / 2 / math.sqrt(1.25))  # of N(1, 1.25) over N(0, 1.25)
    for _ in range(400):
        truth = np.repeat([0, 1], [50, 40])
        shared = generator.normal(size=90) + truth
        first, second = (shared + generator.normal(size=90, scale=0.5) for _ in range(2))
        false_alarms += auroc_tests.area_difference(truth, first, second).p < 0.05
        found = auroc_tests.area(truth, first)
        held += found.ci_low <= true_area <= found.ci_high
    assert 0.02 <= false_alarms / 400 <= 0.09 and 0.92 <= held / 400 <= 0.98


def test_the_bootstrap_agrees_with_delong_where_both_hold():
    truth, first, second = rows(11, count=200)
    statistics = [
        lambda chosen, score=score: discrimination.auroc(truth[chosen], score[chosen])
        for score in (first, second)
    ]
    reported, exact = (
        auroc_tests.bootstrap_difference(*statistics, np.arange(200), resamples=1500),
        auroc_tests.area_difference(truth, first, second),
    )
    assert reported.value == pytest.approx(exact.value)
    assert (reported.ci_low, reported.ci_high) == pytest.approx(
        (exact.ci_low, exact.ci_high), abs=0.15 * (exact.ci_high - exact.ci_low)
    )
    assert reported.p == pytest.approx(exact.p, abs=0.1)


def test_the_bootstrap_pairs_the_two_models_and_is_never_wholly_sure():
    values = np.random.default_rng(1).normal(size=40)
    reported = auroc_tests.bootstrap_difference(
        lambda chosen: values[chosen].mean(),
        lambda chosen: values[chosen].mean() + 0.3,
        np.arange(40),
        resamples=199,
    )
    assert (reported.value, reported.ci_low, reported.ci_high) == pytest.approx(
        (0.3, 0.3, 0.3)
    ) and reported.p == pytest.approx(2 / 200)


def test_mcnemar_is_the_exact_binomial_and_refuses_several_images_a_patient():
    generator = np.random.default_rng(2)
    for _ in range(50):
        truth, first, second = generator.integers(0, 2, (3, int(generator.integers(1, 40))))
        found = auroc_tests.mcnemar(truth, first, second)
        assert found.first_only == sum(
            a == t != b for t, a, b in zip(truth, first, second, strict=True)
        )
        assert found.p == pytest.approx(oracles.mcnemar(found.first_only, found.second_only))
    assert auroc_tests.mcnemar(truth, first, second, np.arange(truth.size)).p == found.p
    clusters = auroc_tests.mcnemar([1, 1], [1, 1], [0, 0], ["a", "a"])
    assert math.isnan(clusters.p) and "several images" in clusters.reason
    assert math.isnan(auroc_tests.mcnemar(np.array([]), np.array([]), np.array([])).p)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("truth", "score", "patients", "why"),
    [
        ([], [], None, "one class"),
        ([1, 1, 1], [0.1, 0.2, 0.3], None, "one class"),
        ([0, 1, 1], [0.1, 0.0, 0.3], None, "fewer than two patients"),
        ([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.5], ["a"] * 4, "fewer than two patients"),
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.5], None, "part the classes wholly"),
        ([0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5], None, "says nothing there"),
    ],
)
def test_an_area_that_has_no_interval_says_why(truth, score, patients, why):
    found = auroc_tests.area(np.array(truth), np.array(score), patients)
    assert math.isnan(found.ci_low) and math.isnan(found.ci_high) and why in found.reason
    assert math.isnan(found.value) == (why == "one class")


def test_a_difference_that_is_not_distinguishable_says_why():
    truth, first, _ = rows(1)
    same = auroc_tests.area_difference(truth, first, 2 * first)
    assert same.value == 0 and math.isnan(same.p) and "one order" in same.reason
    assert "one class" in auroc_tests.area_difference(np.ones(4), np.arange(4), np.arange(4)).reason
    nothing = auroc_tests.bootstrap_difference(
        lambda chosen: math.nan, lambda chosen: 0.5, ["a", "b"], resamples=100
    )
    assert math.isnan(nothing.value) and nothing.reason == "undefined for one of the two"
    single = auroc_tests.bootstrap_difference(
        lambda chosen: 0.4, lambda chosen: 0.5, ["a", "a"], resamples=100
    )
    assert (
        single.value == pytest.approx(0.1)
        and math.isnan(single.p)
        and single.reason == "fewer than two patients"
    )


# --------------------------------------------------------------------------- what a size can detect


def test_28_images_cannot_distinguish_085_from_093_and_a_thousand_of_each_can():
    assert not sample_size.distinguishable(0.85, 0.93, 9, 19) and sample_size.distinguishable(
        0.85, 0.93, 1000, 1000
    )
    reported = sample_size.sentence(0.85, 9, 19)
    assert reported.startswith(
        "28 test images (9 positive) cannot distinguish an AUROC of 0.85 from "
    )
    low, high = sample_size.indistinguishable_range(0.85, 9, 19)
    assert low < 0.7 and high > 0.93


def test_more_images_detect_smaller_differences_and_one_class_detects_none():
    widths = [sample_size.half_width(0.85, count, count) for count in (5, 20, 100, 1000)]
    reaches = [
        np.subtract(*sample_size.indistinguishable_range(0.85, count, count)[::-1])
        for count in (5, 20, 100, 1000)
    ]
    assert widths == sorted(widths, reverse=True) and reaches == sorted(reaches, reverse=True)
    assert math.isnan(sample_size.variance(0.8, 0, 12)) and not sample_size.distinguishable(
        0.1, 0.9, 0, 12
    )
    assert (
        sample_size.sentence(math.nan, 0, 12)
        == "12 test images (0 positive) give no AUROC: all are of one class"
    )


def test_a_difference_said_to_be_detectable_is_detected_in_four_of_five_simulated_sets():
    """Normal scores of equal spread: a model of 0.80 against the stated area furthest below it that
    is not distinguishable.
    """
    generator, count, reported = np.random.default_rng(9), 60, 0
    stated = sample_size.indistinguishable_range(0.8, count, count)[0]
    for _ in range(300):
        score = np.r_[generator.normal(size=count), generator.normal(1.190, 1, count)]  # AUROC 0.80
        area = discrimination.auroc(np.repeat([0, 1], count), score)
        reported += abs(area - stated) > 1.96 * math.sqrt(
            sample_size.variance(stated, count, count)
        )
    assert 0.7 <= reported / 300 <= 0.92


@pytest.mark.parametrize("area", [-0.1, 1.1])
def test_an_area_beyond_0_and_1_is_refused(area):
    with pytest.raises(ValueError, match="from 0 to 1"):
        sample_size.variance(area, 5, 5)
