"""A run that learns several findings from two sets with other labels, in whole images black outside
the lungs.
"""

import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from conftest import hilum

from benchmarks._lib.small_job import RECIPE as SMALL
from hilum import storage
from hilum.annotations import lung_masks
from hilum.config import LungCrop
from hilum.dataset.manifest import Manifest
from hilum.dataset.readers import folder, kaggle_masks
from hilum.errors import Mismatch
from hilum.inference import lung_crop
from hilum.inference.onnx_model import OnnxModel
from hilum.pipeline import crop as region
from hilum.pipeline import evaluate, predict, train
from hilum.run_folder import Run
from hilum.runs import predict_images

RECIPE = SMALL.replace('folder = "data"', 'folder = "data"\nalso = ["other"]').replace(
    "epochs = 1\nleast_steps = 4",
    'model = "linear_probe"\nother_findings = ["all"]\nunmentioned = "zeros"',
)
RECIPE = RECIPE.replace("[crop]", '[crop]\narea = "whole"\nmasked = true')


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Run:
    """A finished run; read only."""
    place = tmp_path_factory.mktemp("several")
    kaggle_masks.example(place / "data", images=40, seed=5)
    folder.example(place / "other", images=24, seed=6)
    (place / "recipe.toml").write_text(RECIPE)
    done = hilum("run", place / "recipe.toml", "--out", place / "run")
    assert done.returncode == 0, done.stderr
    return Run(place / "run")


def split_of(run: Run) -> pl.DataFrame:
    return storage.read_table(run / "split.parquet")


def test_one_model_learns_the_findings_of_both_sets_the_leading_one_first(several):
    assert several.summary("split")["finding"] == "tuberculosis"
    found = OnnxModel(several / train.FINDING)
    assert (
        found.contract.concepts[0] == "tuberculosis"
        and "pneumonia" in found.contract.concepts
        and found.contract.outputs == ("score", "map")
    )
    assert OnnxModel(several / train.ANOMALY).contract.concepts == ("tuberculosis",)
    outputs = found(np.zeros((64, 64), np.uint8))
    assert outputs["score"].shape == (len(found.contract.concepts),) and outputs["map"].shape[
        0
    ] == len(found.contract.concepts)


def test_what_became_of_every_label_of_the_training_part_is_reported(several):
    reported, training = (
        several.summary("train"),
        split_of(several).filter(pl.col("part") == "train"),
    )
    manifest = Manifest.read(several.folder)
    assert list(reported["labels trained on"]) == list(
        OnnxModel(several / train.FINDING).contract.concepts
    )
    for concept, words in reported["labels trained on"].items():
        states = manifest.states(concept).join(
            training.select("image_id"), on="image_id", how="semi"
        )
        counts = {part.split(" ", 1)[1]: int(part.split()[0]) for part in words.split(", ")}
        assert (
            sum(counts.values()) == training.height
            and counts.get("present", 0) == (states["state"] == 1).sum()
        )
    assert (
        "not mentioned left out" in reported["labels trained on"]["pneumonia"]
    )  # by the set that never states it, although what is unmentioned counts as absent
    assert (
        "abnormality" in reported["left out, as the training part has not both states"]
    )  # nothing calls it present


def test_scores_hold_a_row_for_each_image_and_finding_and_one_of_anomaly(several):
    scores = storage.read_table(several / predict.SCORES)
    images, concepts = (
        split_of(several).filter(pl.col("part") != "train").height,
        OnnxModel(several / train.FINDING).contract.concepts,
    )
    of = {stage: rows for (stage,), rows in scores.group_by("task")}
    assert (
        of["finding"].select("image_id", "concept").n_unique()
        == of["finding"].height
        == images * len(concepts)
    )
    assert (
        set(of["finding"]["concept"]) == set(concepts)
        and of["finding"]["score"].is_between(0, 1, closed="none").all()
    )
    assert of["anomaly"].height == images == len(np.load(several / predict.MAPS)) and set(
        of["anomaly"]["concept"]
    ) == {"tuberculosis"}


def test_a_file_gets_the_scores_that_the_run_stored_for_it(several):
    manifest, scores = Manifest.read(several.folder), storage.read_table(several / predict.SCORES)
    image_id, dataset, path = (
        manifest.table.filter(pl.col("image_id").is_in(scores["image_id"].implode()))
        .select("image_id", "dataset", "path")
        .row(0)
    )
    file = next(
        root / path
        for root in (manifest.root, manifest.root / "data", manifest.root.parent / dataset)
        if (root / path).exists()
    )
    found = predict.RunModels.of(several).read(file)
    stored = scores.filter(pl.col("image_id") == image_id)
    assert found.concept == next(iter(found.scores["finding"])) == "tuberculosis"
    for stage, concept, score in stored.select("task", "concept", "score").iter_rows():
        assert found.scores[stage][concept] == pytest.approx(score, abs=1e-6)
    assert sum(map(len, found.scores.values())) == stored.height
    (one,), faults = predict_images.predict_images(several.folder, [file])
    said = {said.concept: said for said in one.scores}
    assert not faults and all(
        said[concept].score == score for concept, score in found.scores["finding"].items()
    )
    assert ("no lungs were segmented" in said["tuberculosis"].warning) == (
        found.cut in lung_crop.FLAGGED
    )


def test_a_planted_test_image_is_refused_whichever_finding_it_was_to_teach(several, tmp_path):
    shutil.copytree(several.folder, tmp_path / "run")
    split, path = split_of(several), tmp_path / "run" / "train" / "training.parquet"
    training = storage.read_table(path)
    part = dict(zip(split["image_id"], split["part"], strict=True))
    assert set(training["model"]) == {train.FINDING, train.ANOMALY} and {
        part[image_id] for image_id in training["image_id"]
    } == {"train"}
    for dataset in ("kaggle_masks", "folder"):
        planted = split.filter(
            (pl.col("part") == "test") & pl.col("image_id").str.starts_with(dataset)
        )["image_id"][0]
        storage.write_table(
            path, pl.concat([training, training.head(1).with_columns(image_id=pl.lit(planted))])
        )
        with pytest.raises(Mismatch, match=planted):
            evaluate.refuse_leaks(Run(tmp_path / "run").unchecked(), split)


def test_the_training_of_the_findings_itself_refuses_a_test_image(several, tmp_path, monkeypatch):
    shutil.copytree(several.folder, tmp_path / "run")
    table = storage.read_table(several.folder / "split.parquet")
    test = table.filter(pl.col("part") == "test")["image_id"]
    targets = train.train_targets

    def leaking(manifest, of_part, *rest):
        return targets(manifest, {**of_part, "train": of_part["train"].append(test)}, *rest)

    monkeypatch.setattr(train, "train_targets", leaking)
    with pytest.raises(Mismatch, match="the classifier or the anomaly model was trained on"):
        train.make(Run(tmp_path / "run"), several.recipe(), lambda done, of: None)


def test_whole_images_are_cut_as_configured_and_blackened_only_where_the_lungs_are_believed():
    radiograph = np.full((64, 64), 200, np.uint8)
    labels = np.zeros((64, 64), np.uint8)
    labels[16:48, 8:24], labels[16:48, 40:56] = 1, 2
    settings = LungCrop(size=64, area="whole")
    plain = lung_crop.cut(radiograph, labels, settings, quality=1.0)
    assert (
        plain.how == lung_crop.REQUESTED
        and plain.crop.target == (64, 64)
        and (plain.image == 200).all()
    )
    assert (
        lung_crop.cut(
            radiograph,
            labels * 0,
            settings,
            typical={"top": 0.2, "left": 0.2, "bottom": 0.8, "right": 0.8},
        ).how
        == lung_crop.REQUESTED
    )
    masked = lung_crop.cut(
        radiograph, labels, LungCrop(size=64, area="whole", masked=True), quality=1.0
    )
    assert (
        masked.how == lung_crop.REQUESTED
        and (masked.image[labels > 0] == 200).all()
        and (masked.image == 0).mean() > 0.4
    )
    flagged = lung_crop.cut(
        radiograph, labels, LungCrop(size=64, area="whole", masked=True), quality=0.1
    )
    assert flagged.how == lung_crop.WHOLE and (flagged.image == 200).all()


@pytest.mark.parametrize("name, side", lung_masks.SIDES.items())
def test_one_lung_is_cut_out_by_itself_and_the_other_blackened(name, side):
    radiograph, labels = np.full((64, 64), 200, np.uint8), np.zeros((64, 64), np.uint8)
    labels[20:50, 8:24], labels[16:48, 36:60] = lung_masks.RIGHT, lung_masks.LEFT
    rows, columns = np.nonzero(labels == side)
    settings = LungCrop(size=64, area=f"{name} lung", margin=0.0, masked=True)
    cut = lung_crop.cut(radiograph, labels, settings)
    crop = cut.crop
    assert cut.how == lung_crop.LUNGS and (crop.top, crop.left, crop.bottom, crop.right) == (
        rows.min(),
        columns.min(),
        rows.max() + 1,
        columns.max() + 1,
    )
    only = labels * (labels == side)
    wide = lung_crop.cut(radiograph, labels, replace(settings, margin=1.0)).image
    assert (
        wide.min() == 0 < wide.max()
        and lung_crop.cut(radiograph, only, settings).image.tobytes() == cut.image.tobytes()
    ), "the other lung changes nothing"
    assert lung_crop.cut(radiograph, labels * (labels != side), settings).how == lung_crop.WHOLE, (
        "without that lung there is nothing to cut along"
    )


def test_the_regions_of_the_run_are_whole_images(several):
    index = storage.read_table(several / region.INDEX)
    assert index["whole"].all() and set(index["cut"]) <= {lung_crop.REQUESTED, lung_crop.WHOLE}
    assert (index["bottom"] - index["top"] == 64).all()  # the cached image's whole side
