"""A model's contract, held against every image: what does not fit is refused or reported by name,
and the score still given.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from hilum import storage
from hilum.config import Recipe
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData, Mismatch
from hilum.imaging.files import raster
from hilum.inference import orientation
from hilum.inference.onnx_model import InputContract
from hilum.pipeline import predict
from hilum.run_folder import Run
from hilum.runs import predict_images

CONTRACT = InputContract("finding", 64, "crop", "percentiles", ("score",))


def test_a_contract_says_what_does_not_fit():
    assert CONTRACT.mismatches(content="crop", size=64, normalisation="percentiles") == []
    assert CONTRACT.mismatches(content="whole", size=96, normalisation="percentiles") == [
        "content must be 'crop', got 'whole'",
        "size must be 64, got 96",
    ]


def test_a_model_takes_one_image_or_many_of_its_shape_and_nothing_else():
    network = orientation._network()
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    many, one = network.many(images), network(images[1])
    assert all(
        one[name] == pytest.approx(many[name][1], rel=1e-4, abs=1e-4)
        for name in network.contract.outputs
    )
    for wrong in (images.astype(np.float32), images[:, :32], images[0]):
        with pytest.raises(ValueError, match=r"takes uint8 \(64, 64\)"):
            network.many(wrong)


def test_a_run_whose_recipe_no_longer_fits_its_models_is_refused(small_run):
    recipe = Recipe.read(small_run / "recipe.toml")
    changed = predict.RunModels(
        small_run,
        Recipe(**{**vars(recipe), "pixels": type(recipe.pixels)(size=64, normalisation="full")}),
    )
    with pytest.raises(Mismatch, match="normalisation must be 'percentiles', got 'full'"):
        _ = changed.models


SPOILT = {
    orientation.INVERTED: lambda image: 255 - image,
    orientation.ROTATED: lambda image: np.rot90(image),
    orientation.MIRRORED: lambda image: image[:, ::-1],
    orientation.OUT_OF_DISTRIBUTION: lambda image: np.tile(
        np.linspace(0, 255, image.shape[1]).astype(np.uint8), (image.shape[0], 1)
    ),
}


def images_of(run: Run) -> list:
    return sorted((Manifest.read(run.folder).root / "CXR_png").glob("*.png"))


def test_each_wrong_image_is_refused_by_name_and_the_others_are_still_scored(small_run, tmp_path):
    path = images_of(small_run)[0]
    for fault, spoil in SPOILT.items():
        raster.write_png(
            tmp_path / f"{fault}.png", np.ascontiguousarray(spoil(raster.read(path).values))
        )
    found, faults = predict_images.predict_images(
        small_run.folder, [path, *(tmp_path / f"{fault}.png" for fault in SPOILT)]
    )
    by_name = {one.name: one for one in found}
    assert faults == [] and [by_name[name].quality_flags for name in (path.stem, *SPOILT)] == [
        "",
        *SPOILT,
    ]
    for fault in SPOILT:
        assert "it appears " in by_name[fault].refused and by_name[fault].scores == []
    assert by_name[path.stem].refused == "" and {
        said.model for said in by_name[path.stem].scores
    } == {"finding", "anomaly"}


def test_an_image_of_one_value_is_refused_by_name_and_the_others_are_still_scored(
    small_run, tmp_path
):
    raster.write_png(tmp_path / "grey.png", np.full((90, 80), 77, np.uint8))
    with pytest.raises(BadData, match="grey.png: every pixel has the same value"):
        predict.RunModels.of(small_run).read(tmp_path / "grey.png")
    found, faults = predict_images.predict_images(
        small_run.folder, [tmp_path / "grey.png", images_of(small_run)[1]]
    )
    assert len(found) == 1 and len(faults) == 1 and "grey.png" in faults[0]


def test_scores_of_a_run_list_quality_flags_beside_each_score(small_run):
    scores = storage.read_table(small_run / predict.SCORES)
    assert scores.schema == pl.Schema(predict.COLUMNS) and scores["quality_flags"].null_count() == 0
    assert (
        small_run.summary("predict")["images with quality flags"]
        == scores.filter(pl.col("quality_flags") != "")["image_id"].n_unique()
    )
    assert (scores["quality_flags"] != "").mean() <= 0.05  # made-up chests are right images
