"""Cross-validation promises that nothing is trained or chosen on the fold that is reported on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from conftest import hilum, made_by
from hypothesis import given, settings
from hypothesis import strategies as st
from test_run import without_torch

from hilum import storage
from hilum.config import Split
from hilum.dataset.manifest import COLUMNS, Manifest
from hilum.dataset.readers import folder as own_folder
from hilum.dataset.readers import kaggle_masks
from hilum.errors import Mismatch, TooFew
from hilum.pipeline import cross_validation, division, evaluate, predict, train
from hilum.pipeline.division import CROSS_VALIDATED, SINGLE, UNDIVIDED, Division
from hilum.pipeline.evaluation import run_tables
from hilum.pipeline.split import divide
from hilum.run_folder import Run
from hilum.runs import compare, reproduce
from hilum.runs.run_all import OF_A_FOLD

RECIPE = """
[data]
folder = "data"
[pixels]
size = 64
[split]
folds = 2
[segment]
folds = 2
epochs = 1
least_steps = 4
width = 8
[crop]
size = 64
[classify]
model = "linear_probe"
[evaluate]
bootstrap = 100
"""


PERSON = st.fixed_dictionaries(
    {
        "tuberculosis": st.integers(0, 1),
        "effusion": st.sampled_from([0, 0, 0, 1]),
        "nodule": st.integers(0, 1),
    }
)


def several(people, images_each=1):
    """A manifest of patients, each a mapping from concept to state."""
    images, labels = [], []
    for number, states in enumerate(people):
        for image in range(images_each):
            name = f"made/{number:04d}-{image}"
            images.append(
                [
                    name,
                    "made",
                    "east",
                    f"made/p{number:04d}",
                    f"{name}.png",
                    *[None] * (len(COLUMNS) - 5),
                ]
            )
            labels += [
                [name, concept, state, concept, "test", "column", *[None] * 4]
                for concept, state in states.items()
            ]
    return Manifest.of("nowhere", images, labels, [])


def cohort(patients, **rare):
    """Make patients, every second one with tuberculosis, and `rare` of them with each concept."""
    return several(
        [
            {"tuberculosis": n % 2, **{concept: int(n < count) for concept, count in rare.items()}}
            for n in range(patients)
        ]
    )


# ---------------------------------------------------------------------- the division


@pytest.mark.parametrize(
    ("patients", "mode"),
    [
        (200, SINGLE),
        (40, CROSS_VALIDATED),
        (20, CROSS_VALIDATED),
        (19, UNDIVIDED),
        (12, UNDIVIDED),
        (2, UNDIVIDED),
    ],
)
def test_one_split_where_it_holds_enough_else_folds_else_nothing_is_trained(patients, mode):
    table, reported = divide(cohort(patients), Split())
    assert reported.mode == mode and reported.finding == "tuberculosis"
    assert (reported.trained is None) == (mode == UNDIVIDED) and bool(reported.why) == (
        mode != SINGLE
    )
    assert (
        set(table["part"])
        == {SINGLE: {"train", "tune", "test"}, CROSS_VALIDATED: {"train"}, UNDIVIDED: {"test"}}[
            mode
        ]
    )


def test_folds_are_dealt_where_they_are_requested_and_never_where_they_are_ruled_out():
    table, reported = divide(cohort(400), Split(folds=4))
    assert (
        reported.mode == CROSS_VALIDATED
        and reported.why == "requested in the recipe"
        and sorted(table["fold"].unique()) == [0, 1, 2, 3]
    )
    assert divide(cohort(400), Split())[1].mode == SINGLE
    with pytest.raises(TooFew, match=r"\[split\] folds = 0"):
        divide(cohort(40), Split(folds=1))


def test_a_finding_that_is_too_rare_is_named_with_its_numbers_and_left_out():
    _, reported = divide(cohort(40, nodule=4, effusion=5, fracture=0), Split())
    assert set(reported.concepts) == {"tuberculosis", "effusion"}
    assert (
        reported.too_rare["nodule"]
        == "4 patients with it and 36 without, at least 5 of each are needed"
        and "fracture" in reported.too_rare
    )


def test_a_small_set_is_cross_validated_where_one_split_could_hold_the_leading_finding_alone():
    rare = {"nodule": 12, "effusion": 20}
    _, reported = divide(cohort(150, **rare), Split())
    assert (
        reported.mode == CROSS_VALIDATED
        and reported.finding == "tuberculosis"
        and reported.concepts == ("tuberculosis", "effusion", "nodule")
    )
    assert "2 of 3 findings (pleural effusion, nodule)" in reported.why
    assert divide(cohort(150, **rare), Split(), finding="tuberculosis")[1].mode == SINGLE, (
        "the others are not requested"
    )
    assert divide(cohort(150, **rare), Split(folds=1))[1].mode == SINGLE
    assert divide(cohort(600, **rare), Split())[1].mode == SINGLE, "no small set"


def test_no_other_finding_takes_the_place_of_the_one_that_is_requested():
    _, reported = divide(cohort(40, nodule=3), Split(), finding="nodule")
    assert (
        reported.mode == UNDIVIDED
        and reported.finding == "nodule"
        and reported.concepts == ()
        and "nodule" in reported.too_rare
    )
    _, reported = divide(cohort(40, effusion=10), Split(), finding="effusion")
    assert reported.concepts == ("effusion",)
    assert divide(cohort(40, effusion=10), Split(), finding="effusion", also=["tuberculosis"])[
        1
    ].concepts == ("effusion", "tuberculosis")


def test_a_large_set_with_a_finding_that_is_too_rare_still_has_one_split_for_its_lungs():
    table, reported = divide(several([{"nodule": int(n < 3)} for n in range(200)]), Split())
    assert (
        reported.mode == SINGLE
        and reported.trained is None
        and "nodule" in reported.too_rare
        and set(table["part"]) == {"train", "tune", "test"}
    )


@settings(max_examples=20, deadline=None)
@given(
    people=st.lists(PERSON, min_size=25, max_size=60),
    images=st.integers(1, 3),
    folds=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_each_patient_is_tested_once_and_each_training_part_has_both_states_of_every_finding(
    people, images, folds, seed
):
    of = several(people, images)
    table, reported = divide(of, Split(folds=folds, seed=seed))
    if reported.mode != CROSS_VALIDATED:
        assert reported.trained is None
        return
    assert (
        table.group_by("patient_id").agg(pl.col("fold").n_unique())["fold"].max() == 1
        and table["fold"].null_count() == 0
    )
    tested = []
    for number in range(folds):
        parts = cross_validation.fold_table(of, table, reported.concepts, number, seed)
        assert parts.group_by("group").agg(pl.col("part").n_unique())["part"].max() == 1
        assert not cross_validation.untrainable(of, parts, reported.concepts)
        tested += parts.filter(pl.col("part") == "test")["image_id"].to_list()
    assert sorted(tested) == sorted(table["image_id"])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), number=st.integers(0, 4))
def test_what_a_fold_trains_and_tunes_on_does_not_depend_on_its_own_labels(seed, number):
    of = cohort(50, effusion=10, nodule=8)
    table, reported = divide(of, Split(seed=seed))
    before = cross_validation.fold_table(of, table, reported.concepts, number, seed)
    shuffled = relabelled(of, table.filter(pl.col("fold") == number)["image_id"], seed)
    assert cross_validation.fold_table(shuffled, table, reported.concepts, number, seed).equals(
        before
    )


def relabelled(of, images, seed):
    """The manifest with the states of these images shuffled between them."""
    inside = pl.col("image_id").is_in(images.implode())
    changed = of.labels.filter(inside).with_columns(pl.col("state").shuffle(seed).over("concept"))
    return Manifest(
        of.root,
        of.table,
        pl.concat([of.labels.filter(~inside), changed]).sort("image_id", "concept"),
        of.remarks,
        of.shapes,
    )


# ---------------------------------------------------------------------- the run


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """A finished run in two folds, with a lung segmenter of its own; read only."""
    folder = tmp_path_factory.mktemp("crossed")
    kaggle_masks.example(folder / "data", images=56, seed=5)
    (folder / "recipe.toml").write_text(RECIPE)
    done = hilum("run", folder / "recipe.toml", "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    assert "cross-validated" in done.stdout
    return Run(folder / "run")


@pytest.fixture
def copied(crossed, tmp_path):
    shutil.copytree(crossed.folder, tmp_path / "run")
    return Run(tmp_path / "run")


def test_every_image_is_scored_once_by_models_that_have_not_seen_its_patient(crossed):
    """Hold the stored training lists of each fold against the images that it scored."""
    table = storage.read_table(crossed / "split.parquet")
    group = dict(table.select("image_id", "group").iter_rows())
    scores = storage.read_table(crossed / predict.SCORES)
    assert not scores.select("image_id", "task", "concept").is_duplicated().any()
    assert set(scores["image_id"]) == set(group) and set(scores["part"]) == {"test"}
    assert {"lungs", "fold0", "fold1"} == set(
        storage.read_table(crossed / "segment/training.parquet")["model"]
    ), "a segmenter was trained"
    for number, fold in enumerate(division.folds(crossed)):
        scored = {group[image] for image in scores.filter(pl.col("fold") == number)["image_id"]}
        for stage in ("segment", "train"):
            trained = storage.read_table(fold / stage / "training.parquet")
            assert trained.height and not scored & {
                group[image] for image in trained["image_id"]
            }, (number, stage)


def test_the_final_models_are_trained_on_all_images_and_their_threshold_is_of_the_pooled_scores(
    crossed,
):
    table, trained = (
        storage.read_table(crossed / "split.parquet"),
        storage.read_table(crossed / "train/training.parquet"),
    )
    assert set(trained.filter(pl.col("model") == train.FINDING)["image_id"]) == set(
        table["image_id"]
    )
    fitted = storage.read_json(crossed / evaluate.CALIBRATION)["finding"]["tuberculosis"]
    assert fitted["tune_images"] == table.height and fitted["threshold"] is not None


def test_figures_at_a_threshold_are_of_the_calls_of_each_folds_own_threshold(crossed):
    table, of_folds = (
        storage.read_table(crossed / "split.parquet"),
        storage.read_json(crossed / evaluate.OF_FOLDS),
    )
    rows = (
        storage.read_table(crossed / predict.SCORES)
        .filter(pl.col("task") == "finding")
        .join(table.select("image_id", "state"), on="image_id")
    )
    thresholds = {
        int(number): reported["finding"]["tuberculosis"]["threshold"]
        for number, reported in of_folds.items()
    }
    assert None not in thresholds.values()
    present = rows.filter(pl.col("state") == 1)
    expected = np.mean(
        [score >= thresholds[fold] for score, fold in present.select("score", "fold").iter_rows()]
    )
    metrics = storage.read_table(crossed / evaluate.METRICS).filter(
        (pl.col("task") == "finding") & (pl.col("by") == "all")
    )
    assert set(metrics["part"]) == {"test"}
    assert metrics.filter(pl.col("metric") == "sensitivity")["value"].to_list() == [
        pytest.approx(expected)
    ]
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a, s, f in rows.select("score", "state", "fold").iter_rows()
        for b, t, g in rows.select("score", "state", "fold").iter_rows()
        if s > t and f == g
    ]
    assert metrics.filter(pl.col("metric") == "auroc_within_folds")["value"].to_list() == [
        pytest.approx(np.mean(pairs))
    ]


def test_shuffling_a_folds_labels_changes_neither_its_threshold_nor_what_it_was_trained_on(crossed):
    manifest, recipe, decided = (
        Manifest.read(crossed.folder),
        crossed.recipe(),
        Division.of(crossed),
    )
    for number, fold in enumerate(division.folds(crossed)):
        parts = storage.read_table(fold / "split.parquet")
        other = relabelled(manifest, parts.filter(pl.col("part") == "test")["image_id"], 3)
        assert not other.labels.equals(manifest.labels)
        assert (
            run_tables.fitted_on_tune(fold, other)
            == run_tables.fitted_on_tune(fold, manifest)
            == _stored(crossed, number)
        )
        of_part = {
            part: parts.filter(pl.col("part") == part)["image_id"] for part in ("train", "tune")
        }
        before, after = (
            train.train_targets(one, of_part, recipe, decided, decided.trained)[:2]
            for one in (manifest, other)
        )
        assert all(
            np.array_equal(a.values, b.values, equal_nan=True)
            for a, b in zip(before, after, strict=True)
        )


def _stored(run, number):
    return storage.read_json(run / evaluate.OF_FOLDS)[str(number)]


def test_it_is_verified_fold_by_fold(crossed):
    checks = {check.what: check for check in reproduce.reproduce(crossed)}
    assert all(check.holds for check in checks.values()), checks
    assert "each in one of 2 folds" in checks["split"].report and checks[
        "models"
    ].report.startswith("6 models")


def test_a_test_image_in_the_training_of_a_fold_is_refused_and_the_fold_is_named(copied):
    fold = copied.fold(1)
    path, parts = fold / "train/training.parquet", storage.read_table(fold / "split.parquet")
    planted = parts.filter(pl.col("part") == "test")["image_id"][0]
    trained = storage.read_table(path)
    storage.write_table(
        path, pl.concat([trained, trained.head(1).with_columns(image_id=pl.lit(planted))])
    )
    with pytest.raises(Mismatch, match=f"'train' of fold 1 .*{planted}"):
        evaluate.refuse_leaks(copied.unchecked(), storage.read_table(copied / "split.parquet"))
    assert {check.what for check in reproduce.reproduce(copied) if not check.holds} >= {
        "files",
        "leaks",
        "models",
    }


def test_a_pooled_score_that_no_fold_gave_is_found(copied):
    scores = storage.read_table(copied / predict.SCORES)
    storage.write_table(copied / predict.SCORES, scores.with_columns(score=pl.col("score") / 2))
    faults = {check.what: check.report for check in reproduce.reproduce(copied) if not check.holds}
    assert "differs from the scores of the folds' models" in faults["figures"]


def test_two_cross_validated_runs_are_compared_image_by_image(crossed, copied):
    text = (copied / "recipe.toml").read_text()
    (copied / "recipe.toml").write_text(
        text.replace('model = "linear_probe"\n', 'model = "linear_probe"\nstrength = 0.5\n')
    )
    assert hilum("run", copied.folder).returncode == 0
    found = compare.compare(crossed, copied)
    rows = found.table.filter(pl.col("task") == "finding")
    assert (
        found.notes == []
        and set(rows["images"]) == {56}
        and {"auroc", "sensitivity", "specificity"} <= set(rows["metric"])
    )


def test_killed_in_a_fold_it_goes_on_to_the_same_digests(crossed, copied):
    """SIGKILL within the second fold, of which nothing was done before."""
    fold = division.folds(copied)[1]
    for run, steps in ((copied, ("predict", "evaluate", "report")), (fold, OF_A_FOLD)):
        for step in steps:
            for name in run.files(step):
                (run / name).unlink()
            run.forget(step)
    command = [sys.executable, "-m", "hilum", "run", str(copied.folder)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not fold.done("segment") and child.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert fold.done("segment") and not (copied / "report.html").exists()
    last = hilum(*command[3:])
    assert last.returncode == 0, last.stderr
    for step in ("split", "predict", "evaluate"):
        assert copied.made(step) == crossed.made(step), step
    for one, other in zip(division.folds(copied), division.folds(crossed), strict=True):
        assert all(one.made(step) == other.made(step) for step in ("split", "crop", "predict"))


def test_a_finished_one_is_kept_and_the_same_command_does_nothing_anew(crossed, copied):
    before = made_by(crossed)
    done = hilum("run", copied.folder)
    assert made_by(copied) == before and done.returncode == 0
    kept = [line for line in done.stdout.splitlines() if line.startswith("fold ")]
    assert len(kept) == 2 * len(OF_A_FOLD) and all(" kept " in line for line in kept)


def test_the_report_says_so_and_holds_the_scores(crossed):
    page, card = ((crossed / name).read_text() for name in ("report.html", "model_card.md"))
    assert (
        "<h3>Cross-validated" in page
        and "assigned to 2 folds" in page
        and f"<h1>{crossed.folder.parent.name}/data" in page
    )
    assert 'download="test_scores.csv"' in page and "cross-validated by patient" in card
    listed = pl.read_csv(crossed / "test_scores.csv")
    assert listed.height == 56 and {
        "fold",
        "tuberculosis label",
        "finding tuberculosis score",
        "finding tuberculosis called",
    } <= set(listed.columns)


def test_its_final_models_score_a_file_without_torch(crossed):
    image = next((Manifest.read(crossed.folder).root / "CXR_png").glob("*.png"))
    done = without_torch("apply", crossed.folder, image, "--json")
    assert done.returncode == 0, done.stderr
    (reported,) = json.loads(done.stdout)
    finding = next(said for said in reported["scores"] if said["model"] == "finding")
    assert 0 <= finding["score"] <= 1 and finding["call"] in ("present", "absent", None)


def test_what_needs_a_test_part_of_the_final_model_says_why_it_has_none(crossed):
    done = hilum("explain", crossed.folder)
    assert (
        done.returncode == 1
        and "is cross-validated" in done.stderr
        and "Traceback" not in done.stderr
    )


# ---------------------------------------------------------------------- what is too small for both


@pytest.fixture(scope="module")
def dozen(tmp_path_factory):
    """A quick run of twelve images."""
    folder = tmp_path_factory.mktemp("dozen")
    own_folder.example(folder / "data", images=12, seed=1)
    done = hilum("run", folder / "data", "--out", folder / "run", "--quick")
    assert done.returncode == 0, done.stderr
    assert "too small to divide" in done.stdout
    return Run(folder / "run")


def test_a_dozen_images_give_a_short_report_that_says_what_is_missing(dozen):
    page = (dozen / "report.html").read_text()
    assert (
        "Too little for models and figures of your own" in page
        and "6 patients with it, 6 without" in page
        and "20 in all" in page
    )
    assert storage.read_table(dozen / "segment" / "training.parquet").height == 0
    assert all(check.holds for check in reproduce.reproduce(dozen))


def test_a_quick_run_is_stamped_and_stays_so_when_it_is_done_again(dozen):
    assert hilum("report", dozen.folder).returncode == 0
    assert dozen.recipe().job.quick
    assert f"{dozen.folder.parent.name}/data, quick run</h1>" in (dozen / "report.html").read_text()
    assert "**A quick run (`--quick`)" in (dozen / "model_card.md").read_text()


@pytest.mark.parametrize(("images", "finding"), [(16, "pneumonia"), (2, "pneumonia")])
def test_the_split_of_a_tiny_set_names_its_leading_finding(tmp_path, images, finding):
    own_folder.example(tmp_path / "data", images=images, seed=1)
    (tmp_path / "recipe.toml").write_text('[data]\nfolder = "data"\n[split]\nmin_per_class = 1\n')
    done = hilum("split", tmp_path / "recipe.toml", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert (
        json.loads((tmp_path / "run/finished/split.json").read_text())["summary"]["finding"]
        == finding
    )
