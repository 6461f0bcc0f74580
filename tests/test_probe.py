"""Probes: a planted shortcut is found where it is and nowhere else, chance stays chance, and the
verb and the report state it.
"""

from __future__ import annotations

import json
import shutil

import made_up
import numpy as np
import polars as pl
import pytest
from conftest import resealed
from typer.testing import CliRunner

from hilum import storage
from hilum.annotations import lung_masks
from hilum.cli.verbs import app
from hilum.config import Evaluate, LungCrop
from hilum.imaging import synthetic
from hilum.imaging.geometry import Letterbox
from hilum.imaging.radiograph import Radiograph, preprocess
from hilum.pipeline import _shortcut_probes, segment, shortcuts
from hilum.progress import quietly
from hilum.run_folder import Run
from hilum.statistics import folds

PEOPLE, SIDE = 90, 128
FEW = Evaluate(bootstrap=200)
CUT = LungCrop(size=64)


@pytest.fixture(scope="module")
def people():
    """Images uint8 (n, SIDE, SIDE) and their lungs, of files of 160 x 140 pixels; nothing
    distinguishes one half from the other.
    """
    images, masks = [], []
    for seed in range(PEOPLE):
        rng = np.random.default_rng(500 + seed)
        made = synthetic.draw(synthetic.anatomy(rng), rng, height=160, width=140, marker=False)
        labels = np.where(
            made.right_lung, lung_masks.RIGHT, np.where(made.left_lung, lung_masks.LEFT, 0)
        ).astype(np.uint8)
        images.append(
            preprocess(
                Radiograph((made.pixels / 255).astype(np.float32), None, ()), SIDE, "percentiles"
            )
        )
        masks.append(lung_masks.downsample_labels(labels, Letterbox(labels.shape, SIDE).forward))
    return np.stack(images), np.stack(masks)


def evaluated(images, masks, half, settings=FEW) -> dict[str, dict]:
    """The figure of each view for distinguishing the halves."""
    found = shortcuts.described(
        lambda k: (images[k], masks[k], (160, 140)), len(images), CUT, quietly
    )
    question = shortcuts.Question("source", half.astype(np.int64), ("east", "west"))
    patients = np.array([f"p{k:03d}" for k in range(len(images))])
    return {
        row["view"]: row
        for row in shortcuts.answers(found, [question], patients, settings, quietly).iter_rows(
            named=True
        )
    }


def chance(figure) -> bool:
    return figure["ci_low"] <= 0.5 <= figure["ci_high"]


def test_a_marker_in_one_sources_corner_is_predicted_from_the_border_and_gone_with_it_masked_and_in_the_region(
    people,
):
    images, masks = people
    half = np.arange(PEOPLE) % 2
    marked = images.copy()
    top, left = Letterbox((160, 140), SIDE).corner
    marked[half == 1, top + 5 : top + 13, left + 5 : left + 9] = (
        255  # a letter of lead, in the corner
    )
    reported = evaluated(marked, masks, half)
    for view in ("whole", "border", "outside"):
        assert (
            reported[view]["ci_low"] > 0.8
            and reported[view]["value"] > reported[view]["shuffled_most"]
        ), view
    for view in ("unmarked", "outline", shortcuts.BOX, shortcuts.LUNGS):
        assert chance(reported[view]), (view, reported[view])


def test_without_a_shortcut_the_interval_holds_chance_and_shuffled_labels_reach_no_less(people):
    images, masks = people
    held = [
        chance(figure)
        for seed in range(2)
        for figure in evaluated(
            images, masks, np.random.default_rng(seed).permutation(PEOPLE) % 2
        ).values()
    ]
    assert np.mean(held) >= 0.75  # 95 % intervals of parts of the same images: they miss together


def test_what_shuffled_labels_reach_is_about_a_half(people):
    images, masks = people
    reported = evaluated(images, masks, np.arange(PEOPLE) % 2)
    assert all(
        abs(figure["shuffled"] - 0.5) < 0.06 < figure["shuffled_most"] - 0.45
        for figure in reported.values()
    )


def test_a_sign_in_the_lungs_is_not_predicted_from_outside_of_them(people):
    images, masks = people
    half = np.arange(PEOPLE) % 2
    sick = np.where(
        (masks > 0) & (half == 1)[:, None, None], np.minimum(images + 60.0, 255), images
    ).astype(np.uint8)
    reported = evaluated(sick, masks, half)
    assert (
        reported[shortcuts.BOX]["ci_low"] > 0.9
        and reported[shortcuts.LUNGS]["ci_low"] > 0.9
        and reported["whole"]["ci_low"] > 0.9
    )
    assert all(chance(reported[view]) for view in ("border", "outside", "outline"))


def test_parts_show_what_they_say(people):
    image, labels = people[0][0], people[1][0]
    inside = Letterbox((160, 140), SIDE).inside()
    shown = {
        name: _shortcut_probes.part(name, image, labels, inside) for name in _shortcut_probes.PARTS
    }
    assert np.array_equal(shown["whole"], image) and all(
        one.shape == image.shape and one.dtype == np.uint8 for one in shown.values()
    )
    assert not shown["outside"][labels > 0].any() and (shown["outside"] == image).mean() > 0.5
    assert set(np.unique(shown["outline"])) == {0, 255} and np.array_equal(
        shown["outline"] > 0, labels > 0
    )
    ring = shown["border"][inside]
    assert (
        not ring[20:-20, 20:-20].any()
        and np.array_equal(ring[:5], image[inside][:5])
        and np.array_equal(ring[:, -5:], image[inside][:, -5:])
    )
    assert np.array_equal(shown["unmarked"][labels > 0], image[labels > 0])
    with pytest.raises(ValueError, match="expected one of whole"):
        _shortcut_probes.part("corner", image, labels, inside)


# Answers


def slow_ridge(known, targets, evaluated, penalty):
    """With the penalty given, by the normal equations."""
    mean, spread = known.mean(0), known.std(0)
    rows, new = (known - mean) / spread, (evaluated - mean) / spread
    weights = np.linalg.solve(
        rows.T @ rows + penalty * np.eye(rows.shape[1]), rows.T @ (targets - targets.mean())
    )
    return new @ weights / (rows @ weights).std()


@pytest.mark.parametrize("shape", [(40, 7), (12, 30)])
def test_a_ridge_regression_is_that_of_the_normal_equations_at_the_penalty_that_leaving_one_out_chooses(
    shape,
):
    rng = np.random.default_rng(3)
    known, evaluated = rng.normal(size=shape), rng.normal(size=(9, shape[1]))
    target = known[:, 0] + rng.normal(size=shape[0])
    size = np.mean((((known - known.mean(0)) / known.std(0)) ** 2).sum(1))
    got = _shortcut_probes.ridge(known, target[:, None], evaluated)[:, 0]
    errors = {}
    for penalty in _shortcut_probes._PENALTIES * size:
        rows = (known - known.mean(0)) / known.std(0)
        hat = (
            rows @ np.linalg.solve(rows.T @ rows + penalty * np.eye(shape[1]), rows.T)
            + 1 / shape[0]
        )
        errors[penalty] = np.mean(((target - hat @ target) / (1 - np.diag(hat))) ** 2)
    assert got == pytest.approx(
        slow_ridge(known, target, evaluated, min(errors, key=errors.get)), rel=1e-6
    )


def test_a_constant_feature_has_no_information():
    known = np.ones((10, 3))
    assert not _shortcut_probes.ridge(known, np.arange(10.0)[:, None], np.zeros((2, 3))).any()


def test_folds_and_shuffles_keep_patients_whole_and_folds_keep_classes_even():
    groups = np.repeat([f"p{k}" for k in range(40)], 3)
    classes = np.repeat(np.arange(40) % 4 == 0, 3).astype(int)
    fold = folds.by_class(classes, groups, 0)
    for name in np.unique(groups):
        assert (
            len(set(fold[groups == name])) == 1
            and len(set(_shortcut_probes.shuffled(classes, groups, 1)[groups == name])) == 1
        )
    assert {int(classes[fold == one].sum()) for one in range(_shortcut_probes.FOLDS)} == {6}
    assert _shortcut_probes.shuffled(classes, groups, 1).sum() == classes.sum()


def test_the_same_patients_in_another_order_get_the_same_answers():
    rng = np.random.default_rng(5)
    features, classes, groups = (
        rng.normal(size=(60, 9)),
        np.arange(60) % 3,
        np.array([f"p{k // 2:02d}" for k in range(60)]),
    )
    classes = np.repeat(np.arange(30) % 3, 2)
    order = rng.permutation(60)
    one, other = (
        _shortcut_probes.cross_validate(features, classes, groups),
        _shortcut_probes.cross_validate(features[order], classes[order], groups[order]),
    )
    assert one.scores[order] == pytest.approx(other.scores, abs=1e-8)
    assert one.scores.shape == (60, 3) and one.shuffled.shape == (_shortcut_probes.SHUFFLES, 60, 3)


def test_macro_auroc_is_the_mean_of_each_class_against_the_rest():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(2)
    classes, scores = rng.integers(0, 3, 50), rng.random((50, 3))
    fractions = scores / scores.sum(1, keepdims=True)
    assert shortcuts.macro_auroc(classes, fractions) == pytest.approx(
        roc_auc_score(classes, fractions, multi_class="ovr", average="macro")
    )
    two = np.column_stack([1 - scores[:, 0], scores[:, 0]])
    assert shortcuts.macro_auroc(classes > 0, two) == pytest.approx(
        roc_auc_score(classes > 0, scores[:, 0])
    )
    assert np.isnan(shortcuts.macro_auroc(np.zeros(50, int), scores))


# Questions


def rows(count=60):
    table = (
        made_up.cohort(count)
        .table.select("image_id", "source", group="patient_id")
        .with_row_index("k")
    )
    return table.with_columns(
        sex=pl.when(pl.col("k") % 3 == 0)
        .then(pl.lit("female"))
        .when(pl.col("k") % 3 == 1)
        .then(pl.lit("male")),
        age_years=(pl.col("k") * 1.5).cast(pl.Float64),
        state=pl.when(pl.col("k") % 5 == 4).then(None).otherwise(pl.col("k") % 2).cast(pl.Int8),
    )


def test_each_fact_is_a_question_and_the_finding_within_each_source_too():
    table = rows()
    found = {(one.target, one.within): one for one in shortcuts.questions(table, "tuberculosis")}
    assert list(found) == [
        ("source", "all"),
        ("sex", "all"),
        ("age", "all"),
        *(("tuberculosis", within) for within in ("all", "east", "west")),
    ]
    sex = found["sex", "all"]
    assert sex.names == ["female", "male"] and [int(sex.classes[k]) for k in range(3)] == [0, 1, -1]
    east = found["tuberculosis", "east"].classes
    assert (east[(table["source"] == "west").to_numpy()] == -1).all() and (east >= 0).sum() == (
        (table["source"] == "east") & table["state"].is_not_null()
    ).sum()
    assert set(found["age", "all"].names) == {"below 18", "18 to 39", "40 to 59", "60 and above"}
    assert [one.target for one in shortcuts.questions(table, None)] == ["source", "sex", "age"]


@pytest.mark.parametrize(
    "change",
    [
        {"source": pl.lit("one")},
        {"sex": pl.lit(None, pl.String)},
        {"state": pl.lit(1, pl.Int8)},
        {"state": pl.lit(None, pl.Int8)},
        {"group": pl.lit("one patient")},
        {"sex": pl.when(pl.col("k") < 5).then(pl.lit("male")).otherwise(pl.lit("female"))},
    ],
    ids=["one source", "no sex", "one class", "all unknown", "one patient", "5 of a class"],
)
def test_what_cannot_be_evaluated_has_no_number_but_the_reason(change):
    table = rows().with_columns(**change)
    features = {"whole": np.random.default_rng(0).normal(size=(table.height, 8)).astype(np.float32)}
    probes = shortcuts.answers(
        features,
        list(shortcuts.questions(table, "tuberculosis")),
        table["group"].to_numpy(),
        FEW,
        quietly,
    )
    name = {"state": "tuberculosis"}.get(next(iter(change)), next(iter(change)))
    some = probes.filter((pl.col("target") == name) | (name == "group"))
    assert (
        some.height
        and some["value"].is_nan().all()
        and some["reason"].str.contains("fewer than two groups of 10 patients").all()
    )
    assert probes.filter(pl.col("reason") == "")["value"].is_not_nan().all()
    assert shortcuts.warnings(probes) == []


def test_a_finding_predicted_from_a_lungless_part_is_a_warning_and_one_predicted_from_the_lungs_is_none():
    def row(target, view, value, low, most):
        return {
            "target": target,
            "within": "all",
            "view": view,
            "value": value,
            "ci_low": low,
            "ci_high": 0.95,
            "shuffled_most": most,
            "reason": "",
        }

    reported = [
        row("tuberculosis", "outside", 0.8, 0.7, 0.6),
        row("tuberculosis", "box", 0.9, 0.8, 0.6),
        row("source", "border", 1.0, 1.0, 0.6),
    ]
    reported += [
        row("pneumonia", "border", 0.8, 0.55, 0.6),
        row("pneumonia", "outside", 0.72, 0.61, 0.75),
    ]
    assert shortcuts.warnings(pl.DataFrame(reported, schema=shortcuts.PROBES)) == [
        "Tuberculosis can be predicted at AUROC 0.80 (0.70 to 0.95) from outside of the lungs"
        " alone: what a model reaches may not come from the lungs"
    ]


# The verb


def test_the_verb_probes_a_run_once_and_reports_it(small_run, tmp_path):
    folder = shutil.copytree(small_run.folder, tmp_path / "run")
    assert (
        CliRunner().invoke(app, ["shortcuts", str(folder)], catch_exceptions=False).exit_code == 0
    )
    stamp = (folder / shortcuts.FILE).stat().st_mtime_ns
    reported = json.loads(
        CliRunner().invoke(app, ["shortcuts", str(folder), "--json"], catch_exceptions=False).stdout
    )
    assert (folder / shortcuts.FILE).stat().st_mtime_ns == stamp
    assert {row["target"] for row in reported} >= {"source", "sex", "age"}
    assert all((row["value"] is None) == bool(row["reason"]) for row in reported)
    training = pl.read_parquet(folder / "split.parquet").filter(pl.col("part") == "train").height
    assert all(row["images"] <= training for row in reported)


def test_where_few_lungs_are_believed_only_parts_that_need_none_are_evaluated(small_run, tmp_path):
    run = Run(shutil.copytree(small_run.folder, tmp_path / "run"))
    found = pl.read_parquet(run / segment.INDEX)
    for quality, names in ((0.1, shortcuts.NEED_NO_LUNGS), (0.9, shortcuts.VIEWS)):
        storage.write_table(run / segment.INDEX, found.with_columns(quality=pl.lit(quality)))
        resealed(run)
        made, _ = shortcuts.make(run, run.recipe(), quietly)
        assert shortcuts.make(run, run.recipe(), quietly)[0] == made
        assert pl.read_parquet(run / shortcuts.FILE)["view"].unique(
            maintain_order=True
        ).to_list() == list(names)
