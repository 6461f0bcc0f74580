"""Intervals from times drawn are those of listed rows, whichever way a resample is computed."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.config import Evaluate
from hilum.pipeline.evaluation import classification, estimate
from hilum.statistics import bootstrap, weighted
from hilum.statistics._ranked_rows import RankedRows
from hilum.statistics.metrics import calibration, discrimination


def rows_of(seed: int, count: int, ties: bool) -> pl.DataFrame:
    """Return labelled scores of `count` images of patients with up to four each, in test."""
    rng = np.random.default_rng(seed)
    state = (rng.random(count) < 0.2).astype(np.int8)
    score = 1 / (1 + np.exp(-(rng.normal(size=count) + state - 1)))
    score = score.round(2) if ties else score
    called = (score >= 0.4).astype(float)
    return pl.DataFrame(
        {
            "image_id": [f"i{number}" for number in range(count)],
            "group": [f"p{number}" for number in rng.integers(0, count // 3, count)],
            "part": "test",
            "state": state,
            "score": score,
            "fold": pl.Series([None] * count, dtype=pl.Int64),
            "called": called,
            "temperature": np.clip(score * 0.9, 0.01, 0.99),
            "isotonic": np.floor(score * 8) / 8,
            "margin": np.abs(score - 0.4),
            "percentile": rng.random(count) * 100,
            "no_call": np.where(rng.random(count) < 0.1, "outside", ""),
        }
    )


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.integers(300, 600), st.booleans())
def test_weights_and_listed_rows_give_the_same_figures(seed, count, ties):
    rows = rows_of(seed, count, ties)
    fitted = [{"threshold": 0.4, "reason": ""}]
    cell = estimate.Subgroup("test", estimate.ALL, estimate.ALL, rows)
    few = Evaluate(bootstrap=25, prevalence=0.1)

    def figures() -> list[dict]:
        return list(classification.of_cell(cell, fitted, few))

    same(of_listed_rows(figures), figures(), 30)


@pytest.mark.parametrize("positives", [0, 1, 2, 4])
@pytest.mark.parametrize("folds", [1, 3])
def test_a_rare_finding_has_the_same_figures_undefined_in_the_same_resamples(positives, folds):
    # Resamples that hold one class only, or in which the score separates the two.
    rows = rows_of(positives, 150, ties=False).with_columns(
        state=(pl.int_range(pl.len()) < positives).cast(pl.Int8),
        fold=pl.int_range(pl.len()) % folds,
    )
    cell = estimate.Subgroup("test", estimate.ALL, estimate.ALL, rows)

    def figures() -> list[dict]:
        fitted = [{"threshold": 0.4, "reason": ""}] * folds
        return list(classification.of_cell(cell, fitted, Evaluate(bootstrap=60)))

    same(of_listed_rows(figures), figures(), 30)


def of_listed_rows(figures: Callable[[], list[dict]]) -> list[dict]:
    """Return figures for which no statistic is computed from how often patients are drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "Weighted", ())
        return figures()


def same(listed: list[dict], weighted: list[dict], least: int) -> None:
    """Fail where one of at least so many figures differs between two ways to resample."""
    assert len(listed) >= least
    for one, other in zip(listed, weighted, strict=True):
        near = 1e-8 if "slope" in one["metric"] or "intercept" in one["metric"] else 1e-12
        assert one["n_undefined"] == other["n_undefined"], one["metric"]
        for bound in ("value", "ci_low", "ci_high"):
            assert one[bound] == pytest.approx(other[bound], rel=near, abs=near, nan_ok=True), one[
                "metric"
            ]
        if one["metric"] in ("auroc", "sensitivity", "ppv_at_prevalence", "error_of_calls"):
            for bound in ("ci_low", "ci_high"):
                assert np.array_equal(one[bound], other[bound], equal_nan=True)


def test_averages_over_findings_are_the_same_with_weights():
    several = [
        rows_of(seed, 400, seed % 2 == 0).with_columns(concept=pl.lit(name))
        for seed, name in enumerate(("effusion", "nodule", "mass"))
    ]
    groups = several[0].select("image_id", "group")
    rows = pl.concat(
        [
            one.drop("group").join(groups, on="image_id").filter(pl.int_range(pl.len()) % 5 != at)
            for at, one in enumerate(several)
        ]
    )

    def figures() -> list[dict]:
        return list(classification.averages(rows, Evaluate(bootstrap=25)))

    same(of_listed_rows(figures), figures(), 4)


@pytest.mark.parametrize("name", ["auroc", "brier"])
def test_an_average_over_findings_is_that_of_listed_rows_for_ranks_and_for_sums(name):
    rng = np.random.default_rng(4)
    truth, score = (rng.random((90, 3)) < 0.4).astype(float), rng.random((90, 3))
    truth[:5, 1] = np.nan
    patient, times = np.repeat(np.arange(45), 2), rng.integers(1, 4, 45).astype(np.int32)
    metric = {"auroc": discrimination.auroc, "brier": calibration.brier}[name]
    rows = np.repeat(np.arange(90), times[patient])
    form = weighted.macro(weighted.OF_METRIC[name], truth, score, patient, 45)
    expected = discrimination.macro(metric, truth[rows], score[rows])
    assert form.of(times[None]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.3, 3.0])
def test_calibrations_of_many_resamples_are_those_solved_row_by_row(scale):
    rng = np.random.default_rng(5)
    patients, count = 3000, 12_000
    patient = rng.integers(0, patients, count)
    logit = rng.normal(size=count) * 2 - 1
    truth = (rng.random(count) < calibration_of(scale * logit)).astype(np.int8)
    probability = calibration_of(logit)
    block = rng.poisson(1.0, (20, patients)).astype(np.int32)
    for name in ("calibration_slope", "calibration_intercept"):
        metric = {
            "calibration_slope": calibration.calibration_slope,
            "calibration_intercept": calibration.calibration_intercept,
        }[name]
        found = weighted.OF_METRIC[name](truth, probability, patient, patients).of(block)
        for times, value in zip(block, found, strict=True):
            rows = np.repeat(np.arange(count), times[patient])
            assert value == pytest.approx(metric(truth[rows], probability[rows]), abs=1e-9)


def calibration_of(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


def test_ranked_rows_count_what_is_drawn_before_each_row():
    rng = np.random.default_rng(6)
    for count in (1, 15, 16, 17, 300):
        patient, times = rng.integers(0, 9, count), rng.integers(0, 4, (3, 9)).astype(np.int32)
        ranked = RankedRows.of(patient)
        drawn, places = ranked.drawn(times), ranked.places(np.arange(count + 1))
        before = drawn.before(places)
        for at, one in enumerate(times):
            until = np.cumsum(np.append(0, one[patient]))
            assert before[at].tolist() == until.tolist()
            assert drawn.total[at] == until[-1]
        each = tuple(np.broadcast_to(one, before.shape) for one in places)
        assert np.array_equal(drawn.before(each), before)
        shares = np.linspace(0.01, 1, 7)
        sought = np.ceil(np.maximum(drawn.total, 1)[:, None] * shares)
        for at, first in enumerate(drawn.first_reaching(sought)):
            if drawn.total[at]:
                assert first.tolist() == np.searchsorted(before[at, 1:], sought[at]).tolist()
