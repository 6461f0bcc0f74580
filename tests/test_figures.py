"""Figures of scores from hand-made tables: which there are, what they were measured with, and the
reason where there is none.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from hilum.config import Evaluate, Recipe
from hilum.errors import BadRecipe
from hilum.pipeline import evaluate
from hilum.pipeline.evaluation import classification, estimate, measures, selective_measures
from hilum.statistics import calibration
from hilum.statistics.metrics import discrimination

SETTINGS = Evaluate(bootstrap=100)
FINDINGS = ("effusion", "nodule")


def made(
    test: int = 60,
    tune: int = 60,
    *,
    findings: tuple[str, ...] = FINDINGS,
    each: int = 1,
    seed: int = 0,
):
    """Scores, people and states: of every finding a third is present, a tenth not mentioned or
    uncertain, and scores follow the truth.
    """
    generator = np.random.default_rng(seed)
    ids = [
        (f"i{number}", "test" if number < test else "tune", f"p{number // each}")
        for number in range(test + tune)
    ]
    people = pl.DataFrame(
        [
            (
                image,
                patient,
                "east" if number % 3 else "west",
                ("female", "male")[number % 2],
                float(number % 90),
                "PA",
            )
            for number, (image, _, patient) in enumerate(ids)
        ],
        schema={
            "image_id": pl.String,
            "group": pl.String,
            "source": pl.String,
            "sex": pl.String,
            "age_years": pl.Float64,
            "view": pl.String,
        },
        orient="row",
    )
    states, rows = [], []
    for finding in findings:
        for image, part, _ in ids:
            state = int(generator.random() < 1 / 3)
            rows.append(
                (
                    image,
                    part,
                    "finding",
                    finding,
                    float(calibration.sigmoid(generator.normal() * 1.5 + 2 * state - 1)),
                    "",
                    float(len(rows) * 7 % 100),
                    "far" if len(rows) * 7 % 100 > 90 else "",
                )
            )
            states.append(
                (
                    image,
                    finding,
                    state if generator.random() > 0.1 else int(generator.choice([-1, -2])),
                )
            )
    states = pl.DataFrame(
        states, schema={"image_id": pl.String, "concept": pl.String, "state": pl.Int8}, orient="row"
    )
    states = states.with_columns(
        pl.when(pl.col("state") == -2).then(None).otherwise(pl.col("state")).alias("state")
    )
    columns = dict.fromkeys(("image_id", "part", "task", "concept"), pl.String) | {
        "score": pl.Float64,
        "quality_flags": pl.String,
        "percentile": pl.Float64,
        "no_call": pl.String,
    }
    return pl.DataFrame(rows, schema=columns, orient="row"), estimate.banded(people), states


def found(of, settings: Evaluate = SETTINGS):
    scores, people, states = of
    of_image = states.pivot("concept", index="image_id", values="state")
    rows, fitted = classification.figures(scores, people, of_image, settings)
    return evaluate.as_table(rows), fitted


def one(
    table: pl.DataFrame,
    metric: str,
    concept: str = FINDINGS[0],
    part: str = "test",
    by: str = "all",
    subgroup: str = "all",
) -> dict:
    place = {"metric": metric, "concept": concept, "part": part, "by": by, "subgroup": subgroup}
    return table.row(
        by_predicate=pl.all_horizontal(pl.col(key) == value for key, value in place.items()),
        named=True,
    )


def relabelled(of, part: str, state: int | None):
    """The same tables with every label of a part replaced."""
    rows, people, states = of
    of_part = rows.filter(pl.col("part") == part)["image_id"].unique().implode()
    changed = (
        pl.when(pl.col("image_id").is_in(of_part))
        .then(pl.lit(state, pl.Int8))
        .otherwise(pl.col("state"))
    )
    return rows, people, states.with_columns(state=changed)


@pytest.fixture(scope="module")
def tables():
    return made()


@pytest.fixture(scope="module")
def whole(tables):
    return found(tables, Evaluate(bootstrap=100, prevalence=0.05))


def test_each_finding_is_measured_on_the_images_whose_state_of_it_is_known(tables, whole):
    for finding in FINDINGS:
        of = (
            tables[0]
            .filter((pl.col("concept") == finding) & (pl.col("part") == "test"))
            .join(tables[2], on=["image_id", "concept"])
            .filter(pl.col("state") >= 0)
        )
        row = one(whole[0], "auroc", finding)
        assert row["value"] == pytest.approx(roc_auc_score(of["state"], of["score"]))
        assert (row["images"], row["positives"]) == (of.height, of["state"].sum()) and row[
            "images"
        ] < 60
        assert (
            row["ci_low"] < row["value"] < row["ci_high"]
            and row["delong_low"] < row["value"] < row["delong_high"]
            and row["reason"] == row["warning"] == ""
        )


def test_macro_and_micro_are_named_as_such_and_macro_is_the_mean(whole):
    for metric in discrimination.METRICS:
        each = [one(whole[0], metric, finding)["value"] for finding in FINDINGS]
        macro, micro = (one(whole[0], metric, kind) for kind in ("macro", "micro"))
        assert (
            macro["value"] == pytest.approx(np.mean(each))
            and macro["ci_low"] < macro["value"] < macro["ci_high"]
        )
        assert not math.isnan(micro["value"]) and micro["positives"] == sum(
            one(whole[0], metric, finding)["positives"] for finding in FINDINGS
        )


def test_one_finding_has_no_average():
    table, _ = found(made(findings=("nodule",)))
    assert set(table["concept"]) == {"nodule"}


def test_the_threshold_is_carried_from_tune_and_the_re_tuned_one_is_named(tables, whole):
    table, fitted = whole
    rows = classification.known(*tables).filter(pl.col("concept") == FINDINGS[0])
    for part, suffix in (("tune", ""), ("test", "_reoptimised")):
        of_part, test = (rows.filter(pl.col("part") == wanted) for wanted in (part, "test"))
        threshold = discrimination.youden_threshold(
            of_part["state"].to_numpy(), of_part["score"].to_numpy()
        )
        assert one(table, "threshold" + suffix)["value"] == threshold
        for name, metric in discrimination.METRICS_AT.items():
            assert one(table, name + suffix)["value"] == metric(
                test["state"].to_numpy(), test["score"].to_numpy(), threshold
            )
    assert (
        fitted["finding"][FINDINGS[0]]["threshold"]
        == one(table, "threshold")["value"]
        != one(table, "threshold_reoptimised")["value"]
    )


def test_no_label_of_the_test_part_reaches_what_is_fitted_on_tune(tables, whole):
    rotated = tables[2].with_columns(
        state=pl.when(pl.col("image_id").str.slice(1).cast(pl.Int64) < 60)
        .then(1 - pl.col("state").abs())
        .otherwise(pl.col("state"))
    )
    assert found((tables[0], tables[1], rotated))[1] == whole[1]


def test_of_calls_only_images_that_get_one_are_measured(tables, whole):
    table, fitted = whole
    rows = classification.known(*tables).filter(
        (pl.col("concept") == FINDINGS[0]) & (pl.col("part") == "test")
    )
    inside = (rows["no_call"] == "").to_numpy()
    truth = rows["state"].to_numpy()
    threshold = fitted["finding"][FINDINGS[0]]["threshold"]
    called = (rows["score"].to_numpy() >= threshold).astype(int)
    value = {
        "coverage": inside.mean(),
        "sensitivity_of_calls": called[inside & (truth == 1)].mean(),
        "specificity_of_calls": 1 - called[inside & (truth == 0)].mean(),
        "error_of_calls": (called != truth)[inside].mean(),
    }
    assert 0 < value["coverage"] < 1
    for metric, expected in value.items():
        row = one(table, metric)
        assert (
            row["value"] == pytest.approx(expected) and row["ci_low"] <= expected <= row["ci_high"]
        )


def test_the_coverage_at_the_target_is_the_largest_at_which_calls_are_as_good(tables):
    found_, fitted = found(tables, replace(SETTINGS, target_error=0.15))
    rows = classification.transfer(classification.known(*tables), {None: fitted}).filter(
        (pl.col("concept") == FINDINGS[0]) & (pl.col("part") == "test")
    )
    order, wrong = selective_measures.certainty(rows), selective_measures.errors(rows)
    assert (
        order[(rows["no_call"] == "").to_numpy()].min()
        > order[(rows["no_call"] != "").to_numpy()].max()
    )
    reached = [(order >= limit).mean() for limit in order if wrong[order >= limit].mean() <= 0.15]
    assert one(found_, "coverage_at_target")["value"] == pytest.approx(max(reached, default=0))
    assert 0 < one(found_, "mean_risk")["value"] < 0.5


def test_predictive_values_at_a_prevalence_follow_bayes(whole):
    table, _ = whole
    sensitivity, specificity = (
        one(table, metric)["value"] for metric in ("sensitivity", "specificity")
    )
    expected = 0.05 * sensitivity / (0.05 * sensitivity + 0.95 * (1 - specificity))
    row = one(table, "ppv_at_prevalence")
    assert (
        row["value"] == pytest.approx(expected)
        and row["value"] < one(table, "ppv")["value"]
        and row["ci_low"] <= row["value"] <= row["ci_high"]
    )
    assert one(table, "npv_at_prevalence")["value"] > one(table, "npv")["value"]


def test_no_prevalence_given_gives_no_such_figure_and_an_impossible_one_is_refused(tables):
    assert not found(made(findings=("nodule",)))[0]["metric"].str.ends_with("_at_prevalence").any()
    with pytest.raises(BadRecipe, match="prevalence must be from 0"):
        Recipe.from_sections({"evaluate": {"prevalence": 1.5}})


def test_calibration_is_measured_before_and_after(whole, tables):
    table, fitted = whole
    rows = classification.known(*tables).filter(
        (pl.col("concept") == FINDINGS[0]) & (pl.col("part") == "test")
    )
    made_of = calibration.from_json(fitted["finding"][FINDINGS[0]])
    for kind, probability in {
        "uncalibrated": rows["score"].to_numpy(),
        **{name: of(rows["score"].to_numpy()) for name, of in made_of.items()},
    }.items():
        assert one(table, f"brier_{kind}")["value"] == pytest.approx(
            np.mean((probability - rows["state"].to_numpy()) ** 2)
        )
        assert one(table, f"expected_calibration_error_{kind}")["value"] >= 0
    assert {"temperature", "isotonic"} == set(made_of)


def test_subgroups_are_those_of_the_part_and_small_ones_are_warned_of(whole, tables):
    table, _ = whole
    subgroups = table.filter(
        (pl.col("by") != "all") & (pl.col("metric") == "auroc") & (pl.col("concept") == FINDINGS[0])
    )
    assert set(subgroups["by"]) == {"source", "sex", "age"}, (
        "a trait of one value makes no subgroup"
    )
    assert (
        set(subgroups.filter(pl.col("by") == "source")["source"]) == {"east", "west"}
        and subgroups.filter(pl.col("by") == "sex")["source"].null_count() == 2
    )
    for trait in ("source", "sex", "age"):
        assert (
            subgroups.filter(pl.col("by") == trait)["images"].sum() == one(table, "auroc")["images"]
        )
    for row in subgroups.iter_rows(named=True):
        small = (
            row["patients"] < estimate.FEW_PATIENTS
            or min(row["positives"], row["images"] - row["positives"]) < estimate.FEW_OF_A_CLASS
        )
        assert bool(row["warning"]) == small
    assert (
        subgroups["warning"].str.contains("too few: ").any()
        and not subgroups["warning"].str.contains("too few").all()
    )


@pytest.mark.parametrize(
    ("years", "band"),
    [
        (0.0, "0 to 17"),
        (17.9, "0 to 17"),
        (18.0, "18 to 39"),
        (59.99, "40 to 59"),
        (80.0, "80 and over"),
        (104.0, "80 and over"),
        (None, None),
    ],
)
def test_bands_of_age(years, band):
    assert (
        estimate.banded(pl.DataFrame({"age_years": [years]}, schema={"age_years": pl.Float64}))[
            "age"
        ][0]
        == band
    )


def test_every_figure_without_a_value_or_an_interval_says_why(whole):
    for table in (whole[0], found(made(test=8, tune=8))[0]):
        bare = table.filter(
            pl.col("value").is_nan()
            | (pl.col("ci_low").is_nan() & ~pl.col("metric").str.starts_with("threshold"))
        )
        assert (bare["reason"] != "").all() and (
            table.filter(pl.col("ci_low").is_not_nan())["reason"] == ""
        ).all()
    assert bare.height


def test_the_same_tables_give_the_same_figures(tables, whole):
    again = found(tables, Evaluate(bootstrap=100, prevalence=0.05))
    assert again[0].equals(whole[0], null_equal=True) and again[1] == whole[1]


# -------------------------------------------------------------------------------- degenerate inputs


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (1, "no negative image"),
        (0, "no positive image"),
        (None, "no image with a known label"),
        (-1, "no image with a known label"),
    ],
)
def test_a_test_part_of_one_class_or_without_a_known_label_has_no_area_and_says_so(
    tables, state, why
):
    table, _ = found(relabelled(tables, "test", state))
    for metric in ("auroc", "average_precision", "balanced_accuracy", "sensitivity_reoptimised"):
        row = one(table, metric)
        assert math.isnan(row["value"]) and math.isnan(row["ci_low"]) and row["reason"] == why
    assert (
        math.isnan(one(table, "auroc", "macro")["value"])
        if state in (0, 1)
        else "macro" not in table.filter(pl.col("part") == "test")["concept"]
    )


@pytest.mark.parametrize(
    ("state", "why"),
    [(1, "no negative image"), (0, "no positive image"), (None, "no image with a known label")],
)
def test_a_tune_part_of_one_class_chooses_no_threshold_and_no_calibration(tables, state, why):
    table, fitted = found(relabelled(tables, "tune", state))
    reported = fitted["finding"][FINDINGS[0]]
    assert (
        reported["threshold"] is reported["temperature"] is reported["isotonic"] is None
        and reported["reason"] == why
    )
    assert (
        one(table, "sensitivity")["reason"]
        == "tune holds one class only, so no threshold was chosen"
    )
    assert one(table, "brier_temperature")["reason"] == f"not calibrated on tune: {why}"
    assert not math.isnan(one(table, "auroc")["value"]) and not math.isnan(
        one(table, "sensitivity_reoptimised")["value"]
    )


def test_no_known_label_anywhere_gives_rows_that_say_so(tables):
    table, fitted = found(relabelled(relabelled(tables, "tune", None), "test", None))
    assert (
        table["value"].is_nan().all()
        and (table["images"] == 0).all()
        and (table["reason"] != "").all()
    )
    assert {reported["reason"] for reported in fitted["finding"].values()} == {
        "no image with a known label"
    }


def test_one_patient_has_values_and_no_interval():
    rows, people, states = made()
    table, _ = found((rows, people.with_columns(group=pl.lit("p")), states))
    row = one(table, "auroc")
    assert (
        not math.isnan(row["value"])
        and math.isnan(row["ci_low"])
        and math.isnan(row["delong_low"])
        and row["reason"] == "fewer than two patients"
    )


def test_constant_scores_are_chance_without_an_interval_or_a_calibration(tables):
    table, fitted = found((tables[0].with_columns(score=pl.lit(0.25)), *tables[1:]))
    row = one(table, "auroc")
    assert (
        row["value"] == 0.5
        and math.isnan(row["ci_low"])
        and math.isnan(row["delong_low"])
        and "every resample" in row["reason"]
    )
    assert fitted["finding"][FINDINGS[0]]["reason"] == "all scores are alike" and math.isnan(
        one(table, "brier_temperature")["value"]
    )


def test_5_positives_give_a_wide_interval_and_no_calibration(tables):
    rows, people, states = tables
    few = states.with_columns(
        state=(
            pl.col("image_id").is_in([f"i{number}" for number in (*range(5), *range(60, 65))])
        ).cast(pl.Int8)
    )
    table, fitted = found((rows, people, few))
    row = one(table, "auroc")
    assert row["positives"] == 5 and row["ci_high"] - row["ci_low"] > 0.2
    assert (
        fitted["finding"][FINDINGS[0]]["reason"]
        == "5 positive and 55 negative images, and at least 10 of each are needed"
    )


def test_a_finding_of_one_class_is_left_out_of_the_averages_by_name(tables):
    rows, people, states = made(findings=("effusion", "nodule", "mass"))
    only = states.with_columns(
        state=pl.when(pl.col("concept") == "mass")
        .then(pl.lit(0, pl.Int8))
        .otherwise(pl.col("state"))
    )
    row = one(found((rows, people, only))[0], "auroc", "macro")
    assert not math.isnan(row["value"]) and row["warning"] == "left out, of one class: mass"


def test_a_score_beyond_0_and_1_is_no_probability_but_can_be_calibrated_by_its_order(tables):
    table, fitted = found((tables[0].with_columns(score=pl.col("score") * 40), *tables[1:]))
    reported = fitted["finding"][FINDINGS[0]]
    assert (
        reported["temperature"] is None
        and "no logit" in reported["reason"]
        and reported["isotonic"]
    )
    assert one(table, "brier_uncalibrated")["reason"] == measures.NO_PROBABILITY and not math.isnan(
        one(table, "brier_isotonic")["value"]
    )


def test_ten_copies_of_an_image_under_one_patient_are_no_surer_than_one():
    rows, people, states = made(findings=("nodule",))
    often = [
        pl.concat(
            [
                table.with_columns(image_id=pl.concat_str("image_id", pl.lit(f"/{copy}")))
                for copy in range(10)
            ]
        )
        for table in (rows, people, states)
    ]
    many, single = (
        one(found(tables)[0], "auroc", "nodule") for tables in (often, (rows, people, states))
    )
    assert (
        many["images"] == 10 * single["images"]
        and many["patients"] == single["patients"] == single["images"]
    )
    for bound in ("value", "ci_low", "ci_high", "delong_low", "delong_high"):
        assert many[bound] == pytest.approx(single[bound], abs=1e-6)
