"""Probabilities: their measures against scikit-learn and loops, their fits against scikit-learn,
and a reason where there is no fit.
"""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from hilum import storage
from hilum.statistics import calibration
from hilum.statistics.metrics import calibration as measures

CASES = 200


def cases(seed: int = 0, rows: tuple[int, int] = (4, 80)):
    """Random rows with both classes whose probabilities take few values, 0 and 1 among them."""
    generator = np.random.default_rng(seed)
    for _ in range(CASES):
        count = int(generator.integers(*rows))
        truth = generator.permutation(np.r_[0, 1, generator.integers(0, 2, count - 2)])
        steps = int(generator.integers(1, 12))
        yield (
            truth,
            np.clip(
                generator.integers(0, steps + 1, count) / steps * 0.7
                + 0.3 * truth * generator.integers(0, 2),
                0,
                1,
            ),
        )


def drawn(
    rows: int, *, slope: float = 1.0, bias: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and truth that is present with the chance sigmoid(slope * logit(score) + bias)."""
    generator = np.random.default_rng(seed)
    score = calibration.sigmoid(generator.normal(size=rows, scale=1.5))
    truth = generator.random(rows) < calibration.sigmoid(slope * calibration.logit(score) + bias)
    return truth.astype(int), score


def test_brier_agrees_with_scikit_learn_on_tied_cases():
    for truth, probability in cases():
        assert measures.brier(truth, probability) == pytest.approx(
            brier_score_loss(truth, probability)
        )


def test_reliability_agrees_with_scikit_learn_where_no_two_probabilities_are_equal():
    generator = np.random.default_rng(1)
    for _ in range(CASES):
        count = measures.MOST_BINS * int(
            generator.integers(measures.ROWS, 12)
        )  # bins of exactly one size, where the two cut alike
        truth, probability = generator.integers(0, 2, count), generator.random(count)
        bins = measures.reliability(truth, probability)
        observed, expected = calibration_curve(
            truth, probability, n_bins=measures.MOST_BINS, strategy="quantile"
        )
        np.testing.assert_allclose(bins.expected, expected)
        np.testing.assert_allclose(bins.observed, observed)
        assert bins.rows.sum() == count


def test_the_calibration_error_is_that_of_its_bins_and_equal_probabilities_are_never_parted():
    for truth, probability in cases(2, (10, 120)):
        bins = measures.reliability(truth, probability)
        distinct = np.unique(probability)
        edges = np.r_[0, np.cumsum(bins.rows)]
        in_order = np.argsort(probability, kind="stable")
        rows = [in_order[low:high].tolist() for low, high in zip(edges, edges[1:], strict=False)]
        assert measures.expected_calibration_error(truth, probability) == pytest.approx(
            oracles.calibration_error(truth, probability, rows)
        )
        assert all(
            sum(value in probability[members] for members in rows) == 1 for value in distinct
        )
        assert (
            bins.rows.sum() == len(truth) and min(len(members) for members in rows) >= measures.ROWS
        )
        assert len(rows) <= max(1, min(measures.MOST_BINS, len(truth) // measures.ROWS))


def test_the_calibration_error_of_few_rows_is_undefined_and_of_wholly_right_ones_is_zero():
    assert math.isnan(measures.expected_calibration_error([0, 1] * 4, [0.5] * 8))
    assert measures.expected_calibration_error([0] * 10 + [1] * 10, [0.0] * 10 + [1.0] * 10) == 0


def test_slope_and_intercept_agree_with_scikit_learn():
    for seed in range(20):
        truth, probability = drawn(120, slope=0.7, bias=0.3, seed=seed)
        logit = np.log(probability / (1 - probability))
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit[:, None], truth)
        assert measures.calibration_slope(truth, probability) == pytest.approx(
            model.coef_[0, 0], rel=1e-4
        )
        shift = measures.calibration_intercept(truth, probability)
        assert calibration.sigmoid(logit + shift).sum() == pytest.approx(
            truth.sum()
        )  # the likelihood's own condition


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("truth", "probability"),
    [
        ([], []),
        ([1, 1], [0.2, 0.4]),
        ([0, 0], [0.2, 0.4]),
        ([0, 1], [0.5, 0.5]),
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]),
    ],
)
def test_what_is_undefined_is_nan_without_a_warning(truth, probability):
    assert math.isnan(measures.brier(truth, probability)) == (not truth)
    assert math.isnan(measures.calibration_slope(truth, probability))
    assert math.isnan(measures.calibration_intercept(truth, probability)) == (len(set(truth)) < 2)


@pytest.mark.parametrize("metric", [*measures.METRICS.values(), measures.reliability])
def test_what_is_no_probability_is_refused(metric):
    with pytest.raises(ValueError, match="calibrate the score first"):
        metric([0, 1, 1], [0.2, 0.5, 1.2])


# --------------------------------------------------------------------------------------------- fits


def test_isotonic_agrees_with_scikit_learn_on_tied_cases_and_beyond_their_range():
    fitted = 0
    for truth, score in cases(3, (24, 90)):
        found, why = calibration.isotonic(truth, score)
        assert (found is None) == bool(why) == bool(calibration.refusal(truth, score))
        if found:
            fitted += 1
            requested = np.linspace(-0.2, 1.2, 57)
            reference = IsotonicRegression(out_of_bounds="clip").fit(score, truth)
            np.testing.assert_allclose(found(requested), reference.predict(requested), atol=1e-9)
            assert (np.diff(found.score) > 0).all() and (np.diff(found.probability) >= 0).all()
    assert fitted > CASES / 2


def test_temperature_agrees_with_scikit_learn_on_softened_truth():
    for seed in range(20):
        truth, score = drawn(60, slope=1.6, bias=-0.5, seed=seed)
        found, _ = calibration.temperature(truth, score)
        softened = np.where(
            truth == 1, (truth.sum() + 1) / (truth.sum() + 2), 1 / ((truth == 0).sum() + 2)
        )
        logit = np.tile(np.log(score / (1 - score)), 2)[:, None]
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
            logit, np.repeat([1, 0], truth.size), sample_weight=np.r_[softened, 1 - softened]
        )
        assert (1 / found.temperature, found.bias) == pytest.approx(
            (model.coef_[0, 0], model.intercept_[0]), rel=1e-3, abs=1e-4
        )


def test_a_planted_temperature_is_found_and_mends_the_probabilities():
    truth, score = drawn(20_000, slope=0.5, bias=0.4, seed=4)
    found, why = calibration.temperature(truth, score)
    assert (
        not why
        and found.temperature == pytest.approx(2, rel=0.06)
        and found.bias == pytest.approx(0.4, abs=0.06)
    )
    others, fresh = drawn(20_000, slope=0.5, bias=0.4, seed=5)
    for mended in (found, calibration.isotonic(truth, score)[0]):
        assert (
            measures.expected_calibration_error(others, mended(fresh))
            < 0.02
            < 0.1
            < measures.expected_calibration_error(others, fresh)
        )
        assert measures.brier(others, mended(fresh)) < measures.brier(others, fresh)


def test_scores_that_part_the_classes_wholly_have_a_finite_temperature():
    found, why = calibration.temperature(np.repeat([0, 1], 20), np.repeat([0.2, 0.9], 20))
    assert (
        not why
        and 0 < found.temperature < math.inf
        and found(np.array([0.2, 0.9])) == pytest.approx([1 / 22, 21 / 22])
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), max_size=80))
def test_a_calibration_never_turns_an_order_over_and_stays_within_0_and_1(rows):
    truth, score = (
        np.array([row[0] for row in rows], int),
        np.array([row[1] / 8 for row in rows], float),
    )
    for fit in (calibration.temperature, calibration.isotonic):
        found, why = fit(truth, score)
        assert (found is None) == bool(why)
        if found:
            made = found(np.linspace(0, 1, 33))
            assert (np.diff(made) >= 0).all() and 0 <= made.min() <= made.max() <= 1


@pytest.mark.parametrize(
    ("truth", "score", "why"),
    [
        ([], [], "no image with a known label"),
        ([1] * 30, np.linspace(0, 1, 30), "no negative image"),
        ([0] * 30, np.linspace(0, 1, 30), "no positive image"),
        (
            [1] * 5 + [0] * 40,
            np.linspace(1, 0, 45),
            "5 positive and 40 negative images, and at least 10 of each are needed",
        ),
        ([1, 0] * 20, np.full(40, 0.3), "all scores are alike"),
    ],
)
def test_rows_that_carry_no_calibration_give_the_reason_in_its_place(truth, score, why):
    for fit in (calibration.temperature, calibration.isotonic):
        assert fit(np.array(truth), np.array(score)) == (None, why)
    reported = calibration.to_json(math.nan, np.array(truth), np.array(score))
    assert (
        reported["reason"] == why
        and reported["threshold"]
        is reported["temperature"]
        is reported["bias"]
        is reported["isotonic"]
        is None
    )
    assert calibration.from_json(reported) == {}


def test_a_score_without_a_logit_or_that_runs_the_wrong_way_has_no_temperature():
    truth, score = drawn(200)
    assert (
        "no logit" in calibration.temperature(truth, 3 * score)[1]
        and calibration.isotonic(truth, 3 * score)[0]
    )
    assert "not likelier" in calibration.temperature(1 - truth, score)[1]


def test_what_is_stored_gives_the_same_probabilities(tmp_path):
    truth, score = drawn(300)
    storage.write_json(tmp_path / "c.json", calibration.to_json(0.4, truth, score))
    back = calibration.from_json(storage.read_json(tmp_path / "c.json"))
    for name, fit in (("temperature", calibration.temperature), ("isotonic", calibration.isotonic)):
        np.testing.assert_array_equal(back[name](score), fit(truth, score)[0](score))
