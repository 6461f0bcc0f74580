"""Bounds are exact, and a threshold that is promised keeps its promise."""

import numpy as np
import pytest
from scipy import stats

from hilum.statistics import risk_control, selective, subspace, two_samples


@pytest.mark.parametrize(("count", "images"), [(0, 5), (1, 1), (3, 20), (50, 50), (7, 400)])
def test_bounds_are_those_of_clopper_and_pearson(count, images):
    expected = stats.binomtest(count, images).proportion_ci(0.95, method="exact")
    assert risk_control.interval(count, images) == pytest.approx(tuple(expected))
    one_sided = stats.binomtest(count, images, alternative="less").proportion_ci(0.9)
    assert risk_control.upper_bound(count, images, 0.9) == pytest.approx(one_sided.high)


def test_of_no_images_nothing_is_known():
    assert risk_control.interval(0, 0) == (0.0, 1.0)


def test_the_least_number_of_images_is_29_for_10_percent_with_95_percent_confidence():
    assert risk_control.negatives_needed(0.1) == 29
    scores = np.linspace(0, 1, 29)
    assert risk_control.guaranteed_threshold(scores[:28], 0.1) is None
    found = risk_control.guaranteed_threshold(scores, 0.1)
    assert found.allowed == 0 and found.threshold > 1.0 and found.rate_bound <= 0.1


@pytest.mark.parametrize(("images", "rate"), [(40, 0.1), (60, 0.1), (200, 0.05), (150, 0.3)])
def test_as_many_lie_above_as_the_exact_test_allows(images, rate):
    allowed = risk_control.guaranteed_threshold(np.arange(images), rate).allowed
    assert stats.binom.cdf(allowed, images, rate) <= 0.05
    assert stats.binom.cdf(allowed + 1, images, rate) > 0.05
    assert risk_control.negatives_needed(rate, allowed=allowed) <= images


@pytest.mark.parametrize("ties", [False, True])
def test_the_promised_rate_holds_in_95_of_100_draws(ties):
    generator = np.random.default_rng(3)
    broken, draws = 0, 2000
    for _ in range(draws):
        scores = generator.beta(2, 5, 60)
        scores = scores.round(1) if ties else scores
        threshold = risk_control.guaranteed_threshold(scores, 0.1).threshold
        # P(score >= threshold), exact: with ties, scores are rounded to tenths.
        edge = np.ceil(threshold * 10) / 10 - 0.05 if ties else threshold
        broken += stats.beta(2, 5).sf(edge) > 0.1
    assert broken / draws <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)
    assert ties or broken > 0  # else the threshold would be needlessly strict


def test_more_images_make_an_interval_as_narrow_as_wanted():
    images = risk_control.images_needed(0.8, 0.1)
    low, high = risk_control.interval(round(0.8 * images), images)
    assert (high - low) / 2 <= 0.1 and 50 < images < 90


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.999, 1 - 1e-9, 1 - 1e-13])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_the_promise_is_exact_at_any_confidence(rate, confidence):
    needed = risk_control.negatives_needed(rate, confidence)
    assert (1 - rate) ** needed <= (1 - confidence) * 1.000001
    assert needed == 1 or (1 - rate) ** (needed - 1) > 1 - confidence


def test_what_no_number_of_images_supports_needs_no_number():
    assert risk_control.negatives_needed(1e-6) is None
    assert risk_control.guaranteed_threshold(np.arange(1000), 1e-6) is None


def test_impossible_rates_and_scores_are_refused():
    with pytest.raises(ValueError, match="rate within"):
        risk_control.guaranteed_threshold(np.zeros(50), 0.0)
    with pytest.raises(ValueError, match="finite"):
        risk_control.guaranteed_threshold(np.array([0.1, np.nan]), 0.1)
    with pytest.raises(ValueError, match="from 0 to 3"):
        risk_control.interval(4, 3)


def test_the_risk_coverage_curve_is_that_of_every_limit():
    generator = np.random.default_rng(0)
    certainty = generator.integers(0, 12, 200).astype(float)
    error = (generator.random(200) < 0.3).astype(float)
    curve = selective.risk_coverage(certainty, error)
    oracle = [
        ((certainty >= limit).mean(), error[certainty >= limit].mean())
        for limit in np.unique(certainty)[::-1]
    ]
    assert np.allclose(np.column_stack(curve), oracle)
    fit = [coverage for coverage, risk in oracle if risk <= 0.3]
    assert selective.coverage_at_risk(certainty, error, 0.3) == max(fit, default=0.0)
    assert selective.coverage_at_risk(certainty, np.ones(200), 0.3) == 0.0


def test_an_order_that_puts_errors_last_has_the_least_mean_risk():
    error = np.array([0, 0, 0, 1.0])
    best = selective.mean_risk(np.array([4, 3, 2, 1]), error)
    worst = selective.mean_risk(np.array([1, 2, 3, 4]), error)
    assert best == pytest.approx(0.25 / 4) and worst > best
    assert selective.mean_risk(np.zeros(4), error) == pytest.approx(0.25)
    assert np.isnan(selective.coverage_at_risk(np.empty(0), np.empty(0), 0.1))


@pytest.mark.parametrize("shift", [0.0, 0.4, 2.0])
def test_two_samples_are_compared_as_the_reference_does(shift):
    generator = np.random.default_rng(1)
    first, second = generator.normal(0, 1, 150), generator.normal(shift, 1, 90)
    expected = stats.ks_2samp(first, second, method="exact")
    distance, p_value = two_samples.kolmogorov_smirnov(first, second)
    assert distance == pytest.approx(expected.statistic)
    assert p_value == pytest.approx(expected.pvalue, rel=0.15, abs=1e-4)


def test_a_row_off_the_subspace_is_far_and_a_typical_one_near():
    generator = np.random.default_rng(2)
    mixing = generator.normal(size=(4, 30))
    rows = generator.normal(size=(300, 4)) @ mixing + 0.1 * generator.normal(size=(300, 30))
    for whitened in (False, True):
        fitted = subspace.fit(rows[:200], 4, whitened=whitened)
        near = fitted.distances(rows[200:])
        far = fitted.distances(rows[200:] + generator.normal(size=(100, 30)))
        assert np.median(near) < 2 < far.min()
    assert np.allclose(fitted.components @ fitted.components.T, np.eye(4))
    beyond = fitted.distances(rows[200:] * 6)
    assert np.median(beyond) > 3 * np.median(fitted.distances(rows[200:]))
