"""The metrics against loops in plain Python, scikit-learn, and what must hold of any masks or
scores.
"""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hilum import plugins
from hilum.statistics.metrics import discrimination, overlap

CASES = 100
CURVES = [discrimination.roc_curve, discrimination.precision_recall_curve]
WITHOUT_THRESHOLD = [*discrimination.METRICS.values(), discrimination.youden_threshold, *CURVES]
masks = hnp.arrays(bool, (4, 5))
relaxed = settings(deadline=None)  # the machine may be shared


@st.composite
def ranked(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Truth with both classes, and whole-number scores with many ties, so that a map of them keeps
    ties exactly.
    """
    rows = draw(st.integers(2, 30))
    truth = draw(
        st.lists(st.integers(0, 1), min_size=rows, max_size=rows).filter(
            lambda values: len(set(values)) == 2
        )
    )
    score = draw(st.lists(st.integers(-6, 6), min_size=rows, max_size=rows))
    return np.array(truth), np.array(score, dtype=float)


def tied_cases(seed: int = 0):
    """Random rows with both classes whose scores take few values."""
    generator = np.random.default_rng(seed)
    for _ in range(CASES):
        rows = int(generator.integers(2, 60))
        truth = generator.permutation(np.r_[0, 1, generator.integers(0, 2, rows - 2)])
        score = generator.integers(0, int(generator.integers(1, 12)), rows) / 8
        yield truth, score + truth * generator.choice([-0.25, 0, 0.25])


def test_every_module_of_the_package_offers_metrics_by_name():
    for name in plugins.names("metrics"):
        metrics = plugins.load("metrics", name).METRICS
        assert metrics and all(callable(metric) for metric in metrics.values())


# Overlap


@relaxed
@given(masks, masks)
def test_overlap_is_that_of_sets_of_pixels(truth, found):
    expected = oracles.overlap(truth.tolist(), found.tolist())
    got = {name: metric(truth, found) for name, metric in overlap.METRICS.items()}
    assert got == pytest.approx(expected, nan_ok=True)


def test_overlap_agrees_with_scikit_learn_over_pixels():
    generator = np.random.default_rng(1)
    for _ in range(CASES):
        truth, found = generator.random((2, 6, 7)) < generator.uniform(0.05, 0.95)
        truth[0, 0] = found[0, 0] = True  # scikit-learn has no nan for empty masks
        flat = truth.ravel(), found.ravel()
        assert overlap.dice(truth, found) == pytest.approx(reference.f1_score(*flat))
        assert overlap.iou(truth, found) == pytest.approx(reference.jaccard_score(*flat))
        assert overlap.precision(truth, found) == pytest.approx(reference.precision_score(*flat))
        assert overlap.recall(truth, found) == pytest.approx(reference.recall_score(*flat))


@relaxed
@given(masks, masks)
def test_dice_is_symmetric_and_follows_from_iou(truth, found):
    dice, iou = overlap.dice(truth, found), overlap.iou(truth, found)
    assert dice == pytest.approx(overlap.dice(found, truth), nan_ok=True)
    assert dice == pytest.approx(2 * iou / (1 + iou), nan_ok=True)
    assert overlap.precision(truth, found) == pytest.approx(
        overlap.recall(found, truth), nan_ok=True
    )


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        (
            False,
            False,
            {"dice": math.nan, "iou": math.nan, "precision": math.nan, "recall": math.nan},
        ),
        (False, True, {"dice": 0, "iou": 0, "precision": 0, "recall": math.nan}),
        (True, False, {"dice": 0, "iou": 0, "precision": math.nan, "recall": 0}),
        (True, True, {"dice": 1, "iou": 1, "precision": 1, "recall": 1}),
    ],
)
@pytest.mark.filterwarnings("error")
def test_only_nothing_over_nothing_is_undefined(truth, found, expected):
    pair = np.full((3, 2), truth), np.full((3, 2), found)
    got = {name: metric(*pair) for name, metric in overlap.METRICS.items()}
    assert got == pytest.approx(expected, nan_ok=True)
    assert all(type(value) is float for value in got.values())


@pytest.mark.parametrize("name", overlap.METRICS)
def test_a_stack_of_masks_gives_the_figure_of_each(name):
    metric = overlap.METRICS[name]
    truth, found = np.random.default_rng(2).random((2, 3, 2, 4, 5)) < 0.4
    truth[0, 0] = found[0, 0] = False
    each = [[metric(truth[i, j], found[i, j]) for j in range(2)] for i in range(3)]
    np.testing.assert_array_equal(metric(truth, found), each)


@pytest.mark.parametrize("metric", overlap.METRICS.values())
@pytest.mark.parametrize(
    ("truth", "found", "text"),
    [
        (np.zeros((2, 3), bool), np.zeros((3, 2), bool), "shape"),
        (np.zeros((2, 3), bool), np.zeros((1, 3), bool), "shape"),
        (np.zeros(3, bool), np.zeros(3, bool), "shape"),
        (np.zeros((2, 3), np.uint8), np.zeros((2, 3), bool), "uint8"),
        (np.zeros((2, 3), bool), np.zeros((2, 3), np.float32), "float32"),
    ],
)
def test_masks_that_do_not_fit_are_refused(metric, truth, found, text):
    with pytest.raises(ValueError, match=text):
        metric(truth, found)


# Ranking


def test_ranking_agrees_with_counting_pairs_and_with_scikit_learn_under_heavy_ties():
    for truth, score in tied_cases():
        plain = truth.tolist(), score.tolist()
        area, average = (
            discrimination.auroc(truth, score),
            discrimination.average_precision(truth, score),
        )
        assert area == pytest.approx(oracles.auroc(*plain))
        assert area == pytest.approx(reference.roc_auc_score(truth, score))
        assert average == pytest.approx(oracles.average_precision(*plain))
        assert average == pytest.approx(reference.average_precision_score(truth, score))


def test_curves_agree_with_scikit_learn_under_heavy_ties():
    for truth, score in tied_cases(1):
        expected = reference.roc_curve(truth, score, drop_intermediate=False)
        for got, wanted in zip(discrimination.roc_curve(truth, score), expected, strict=True):
            np.testing.assert_allclose(got, wanted)
        precision, recall, thresholds = reference.precision_recall_curve(truth, score)
        expected = (
            precision[:-1][::-1],
            recall[:-1][::-1],
            thresholds[::-1],
        )  # it rises, and ends in an invented point
        for got, wanted in zip(
            discrimination.precision_recall_curve(truth, score), expected, strict=True
        ):
            np.testing.assert_allclose(got, wanted)


def test_figures_at_a_threshold_agree_with_counting_rows_and_with_scikit_learn():
    generator = np.random.default_rng(3)
    for truth, score in tied_cases(2):
        threshold = generator.choice(
            np.append(score, [score.max() + 1, generator.normal()])
        )  # often exactly a score
        got = {
            name: metric(truth, score, threshold)
            for name, metric in discrimination.METRICS_AT.items()
        }
        assert got == pytest.approx(
            oracles.at_threshold(truth.tolist(), score.tolist(), threshold), nan_ok=True
        )
        called = score >= threshold
        expected = {
            "sensitivity": reference.recall_score(truth, called),
            "specificity": reference.recall_score(truth, called, pos_label=0),
            "ppv": reference.precision_score(truth, called, zero_division=np.nan),
            "npv": reference.precision_score(truth, called, pos_label=0, zero_division=np.nan),
            "f1": reference.f1_score(truth, called),
            "accuracy": reference.accuracy_score(truth, called),
            "balanced_accuracy": reference.balanced_accuracy_score(truth, called),
        }
        assert got == pytest.approx(expected, nan_ok=True)


@relaxed
@given(ranked())
def test_auroc_ignores_monotone_maps_and_turns_over_when_the_score_is_negated(rows):
    truth, score = rows
    area = discrimination.auroc(truth, score)
    for mapped in (score**3, 2 * score + 1, np.exp(score), score.astype(np.float32)):
        assert discrimination.auroc(truth, mapped) == area
    assert discrimination.auroc(truth, -score) == pytest.approx(1 - area)
    assert discrimination.auroc(1 - truth, score) == pytest.approx(1 - area)


@relaxed
@given(ranked(), st.randoms(use_true_random=False))
def test_no_figure_depends_on_the_order_of_rows_or_on_the_kind_of_truth(rows, shuffler):
    truth, score = rows
    order = list(range(truth.size))
    shuffler.shuffle(order)
    for metric in [*discrimination.METRICS.values(), discrimination.youden_threshold]:
        assert metric(truth[order].astype(bool), score[order]) == metric(
            truth.tolist(), score.tolist()
        )


@relaxed
@given(ranked())
def test_the_area_under_the_roc_curve_is_the_auroc(rows):
    false_positive_rate, sensitivity, _ = discrimination.roc_curve(*rows)
    assert np.trapezoid(sensitivity, false_positive_rate) == pytest.approx(
        discrimination.auroc(*rows)
    )


@relaxed
@given(ranked())
def test_no_threshold_beats_youdens_and_none_as_good_is_more_sensitive(rows):
    truth, score = rows

    def gain(threshold: float) -> tuple[float, float]:
        figures = oracles.at_threshold(truth, score, threshold)
        return round(figures["sensitivity"] + figures["specificity"] - 1, 9), figures["sensitivity"]

    everywhere = np.arange(-7, 8, 0.5)
    assert gain(discrimination.youden_threshold(truth, score)) == max(
        gain(threshold) for threshold in everywhere
    )


@pytest.mark.parametrize(
    ("truth", "score", "expected"),
    [
        (
            [0, 0, 1, 1],
            [0.1, 0.2, 0.6, 0.9],
            0.4,
        ),  # midway between the lowest called positive and the next below
        ([0, 1, 0, 1], [1, 2, 3, 4], 1.5),  # 3.5 does as well with half the sensitivity
        (
            [1, 1, 0, 0],
            [1, 2, 3, 4],
            1,
        ),  # nothing is gained: call all positive, at the lowest score
        ([0, 1], [5, 5], 5),
        ([0, 1], [1.0, np.nextafter(1.0, 2)], np.nextafter(1.0, 2)),  # no number between them
    ],
)
def test_youdens_threshold_by_hand(truth, score, expected):
    assert discrimination.youden_threshold(truth, score) == expected


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("truth", "score"), [([], []), ([1, 1], [0.2, 0.4]), ([0, 0], [0.2, 0.4])])
def test_one_class_or_no_rows_is_undefined_without_a_warning(truth, score):
    for metric in [*discrimination.METRICS.values(), discrimination.youden_threshold]:
        assert math.isnan(metric(truth, score))
    false_positive_rate, sensitivity, _ = discrimination.roc_curve(truth, score)
    assert np.isnan(false_positive_rate).all() == (0 not in truth)
    assert np.isnan(sensitivity).all() == (1 not in truth)
    assert np.isnan(discrimination.precision_recall_curve(truth, score)[1]).all() == (
        1 not in truth
    )
    got = {name: metric(truth, score, 0.3) for name, metric in discrimination.METRICS_AT.items()}
    assert got == pytest.approx(oracles.at_threshold(truth, score, 0.3), nan_ok=True)


@pytest.mark.parametrize("metric", WITHOUT_THRESHOLD)
@pytest.mark.parametrize(
    ("truth", "score", "text"),
    [
        ([0, 1, 1], [0.1, math.nan, 0.2], "1 nan or infinite of 3"),
        ([0, 1, 1], [0.1, math.inf, 0.2], "finite"),
        ([0, 1, -1], [0.1, 0.2, 0.3], "-1"),
        ([0, 1, math.nan], [0.1, 0.2, 0.3], "nan"),
        ([0, 1, None], [0.1, 0.2, 0.3], "None"),
        ([0, 1, 0.5], [0.1, 0.2, 0.3], "0.5"),
        ([0, 1], [0.1, 0.2, 0.3], "equally long"),
        ([[0, 1]], [[0.1, 0.2]], "shapes"),
    ],
)
def test_rows_that_are_not_truth_and_score_are_refused(metric, truth, score, text):
    with pytest.raises(ValueError, match=text):
        metric(truth, score)


@pytest.mark.parametrize("metric", discrimination.METRICS_AT.values())
def test_a_threshold_or_score_of_nan_is_refused(metric):
    with pytest.raises(ValueError, match="threshold is nan"):
        metric([0, 1], [0.1, 0.2], math.nan)
    with pytest.raises(ValueError, match="finite"):
        metric([0, 1], [0.1, math.nan], 0.1)


def test_predictive_values_at_a_prevalence_are_bayes_rule_and_at_the_rows_own_they_are_ppv_and_npv():
    for truth, score in tied_cases(4):
        threshold = float(np.median(score))
        got = {
            name: metric(truth, score, threshold)
            for name, metric in discrimination.METRICS_AT.items()
        }
        both = got["sensitivity"], got["specificity"]
        assert discrimination.ppv_at(truth.mean(), *both) == pytest.approx(got["ppv"], nan_ok=True)
        assert discrimination.npv_at(truth.mean(), *both) == pytest.approx(got["npv"], nan_ok=True)
    # of 1000 people 10 have it; 9 of these and 99 of the others are called positive
    assert discrimination.ppv_at(0.01, 0.9, 0.9) == pytest.approx(
        9 / 108
    ) and discrimination.npv_at(0.01, 0.9, 0.9) == pytest.approx(891 / 892)
    assert (
        math.isnan(discrimination.ppv_at(0.5, 0, 1))
        and math.isnan(discrimination.npv_at(0.5, 1, 0))
        and discrimination.ppv_at(0, 0.9, 0.9) == 0
    )
    with pytest.raises(ValueError, match="from 0 to 1"):
        discrimination.ppv_at(10, 0.9, 0.9)


def test_macro_and_micro_averages_agree_with_scikit_learn_and_leave_out_what_is_not_known():
    generator = np.random.default_rng(5)
    pairs = (
        (discrimination.auroc, reference.roc_auc_score),
        (discrimination.average_precision, reference.average_precision_score),
    )
    for case in range(CASES):
        metric, expected = pairs[case % 2]
        rows, findings = int(generator.integers(4, 40)), int(generator.integers(2, 5))
        truth = generator.integers(0, 2, (rows, findings)).astype(float)
        truth[0], truth[1] = 0, 1
        score = generator.integers(0, 9, (rows, findings)) / 8
        assert discrimination.macro(metric, truth, score) == pytest.approx(
            expected(truth, score, average="macro")
        )
        assert discrimination.micro(metric, truth, score) == pytest.approx(
            expected(truth, score, average="micro")
        )
        truth[2:][generator.random((rows - 2, findings)) < 0.3] = np.nan
        known = [~np.isnan(truth[:, column]) for column in range(findings)]
        each = [expected(truth[of, column], score[of, column]) for column, of in enumerate(known)]
        assert discrimination.macro(metric, truth, score) == pytest.approx(np.mean(each))
        flat = ~np.isnan(truth)
        assert discrimination.micro(metric, truth, score) == pytest.approx(
            expected(truth[flat], score[flat])
        )


def test_a_macro_average_over_an_undefined_finding_is_undefined():
    truth = np.array([[0, 1], [1, 1], [0, np.nan]])
    score = np.array([[0.1, 0.2], [0.8, 0.3], [0.2, 0.9]])
    assert (
        math.isnan(discrimination.macro(discrimination.auroc, truth, score))
        and discrimination.macro(discrimination.auroc, truth[:, :1], score[:, :1]) == 1
    )
