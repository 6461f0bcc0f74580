"""The bundled tuberculosis model's domain is measured as it was chosen, and its band keeps its aims."""

import copy

import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch
from earlier_models import SIZE, model_without_features, outputs, some_images

from hilum.inference import pretrained
from hilum.training import efficientnet_backbone
from tools.build_models import (
    gate_features,
    no_call_band,
    out_of_fold,
    pneumonia_backbone,
)


def test_tapped_features_are_those_of_the_network_and_scores_stay(tmp_path):
    backbone = efficientnet_backbone.Backbone().eval()
    place, images = tmp_path / "model.onnx", some_images()
    model = model_without_features(backbone, place)
    onnx.save(gate_features.tapped(model, SIZE), tmp_path / "tapped.onnx")
    score, features = outputs(tmp_path / "tapped.onnx", images)
    np.testing.assert_array_equal(score, outputs(place, images)[0])
    with torch.no_grad():
        x = torch.from_numpy(images).unsqueeze(1).float() / 255
        expected = gate_features.gate_features(x, backbone.each_stage(x))
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-2)


MARGIN = 0.01


def test_features_of_training_give_way_to_those_of_the_domain(tmp_path):
    backbone = efficientnet_backbone.Backbone().eval()
    model = model_without_features(backbone, tmp_path / "model.onnx")
    once = gate_features.tapped(copy.deepcopy(model), SIZE)
    twice = gate_features.retapped(copy.deepcopy(once), ["score"], SIZE)
    onnx.save(once, tmp_path / "once.onnx")
    onnx.save(twice, tmp_path / "twice.onnx")
    images = some_images()
    for one, other in zip(
        outputs(tmp_path / "once.onnx", images),
        outputs(tmp_path / "twice.onnx", images),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert [output.name for output in twice.graph.output] == ["score", "features"]


def film_folder(tmp_path, films=40):
    """Write a folder as films.py does: two sets, half of the films with tuberculosis."""
    rng = np.random.default_rng(0)
    number = np.arange(films)
    facts = pl.DataFrame(
        {
            "set": np.where(number % 4 == 3, "shenzhen", "montgomery"),
            "image_id": [f"i{row}" for row in number],
            "patient_id": [f"p{row // 2}" for row in number],
            "tuberculosis": number // 2 % 2,
            "part": np.array(["train", "tune", "test"])[number // 2 % 7 % 3],
            "pixel_digest": [f"d{row}" for row in number],
        }
    ).with_columns(part=pl.when(pl.int_range(films) > 1).then("part"))
    facts.write_parquet(tmp_path / "facts.parquet")
    np.save(tmp_path / "crops.npy", rng.integers(0, 256, (films, 32, 32), np.uint8))
    return facts


def test_scores_of_another_start_or_other_labels_are_not_taken_for_these(tmp_path):
    facts = film_folder(tmp_path)
    starts = [tmp_path / name for name in ("a.pt", "b.pt")]
    for start in starts:
        start.write_bytes(start.name.encode())
    names = {out_of_fold.Places(tmp_path, tmp_path, one).scores(0) for one in (None, *starts)}
    facts.with_columns(tuberculosis=1 - pl.col("tuberculosis")).write_parquet(
        tmp_path / "facts.parquet"
    )
    names.add(out_of_fold.Places(tmp_path, tmp_path).scores(0))
    assert len(names) == 4


def test_the_start_is_trained_on_which_pneumonia_is_bacterial():
    paths = ["a/BACTERIA-1.jpeg", "a/VIRUS-2.jpeg", "a/NORMAL-3.jpeg"]
    facts = pl.DataFrame({"path": paths, "pneumonia": [1, 1, 0]})
    made = pneumonia_backbone.targets(facts)
    np.testing.assert_array_equal(made, [[1, 1], [1, 0], [0, np.nan]])


def every_band(truth, score):
    """Return (lacking, films without a call, wrong calls) of every band between two scores."""
    ordered = np.unique(score)
    edges = [ordered[0] / 2, *((ordered[:-1] + ordered[1:]) / 2)]
    return {
        (low, high): found
        for low in edges
        for high in edges
        if low <= high and (found := judged(truth, score, low, high))
    }


def judged(truth, score, low, high):
    """Return what a band lacks, the films that it does not call and those called wrong."""
    present, absent = score >= high, score < low
    ill, well = (present | absent) & (truth == 1), (present | absent) & (truth == 0)
    if not ill.any() or not well.any():
        return None
    lacking = max(0, no_call_band.SENSITIVITY + MARGIN - present[ill].mean())
    lacking += max(0, no_call_band.SPECIFICITY + MARGIN - absent[well].mean())
    return (
        round(lacking, 4),
        int((~present & ~absent).sum()),
        int(absent[ill].sum() + present[well].sum()),
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 4))
def test_no_other_band_lacks_less_or_calls_more(seed, apart):
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1], 15)
    score = np.round(1 / (1 + np.exp(apart / 2 - rng.normal(size=30) - apart * truth)), 2)
    bands = every_band(truth, np.clip(score, 0.01, 0.99))
    chosen = no_call_band.band(truth, np.clip(score, 0.01, 0.99), MARGIN)
    assert bands[chosen] == min(bands.values())


def scored_films(seed=0, films=400):
    rng = np.random.default_rng(seed)
    truth, fold = rng.integers(0, 2, films), np.arange(films) % 4
    log_odds = rng.normal(size=films) + 3 * truth - 1.5
    return log_odds, no_call_band.OutOfFold(
        truth, 1 / (1 + np.exp(-log_odds)), fold, np.arange(films)
    )


def test_thresholds_follow_the_scale_of_the_network_that_they_are_for():
    log_odds, films = scored_films()
    paired = np.arange(len(log_odds)) % 5 == 0
    other = 1 / (1 + np.exp(-(2 * log_odds + 0.7)))
    other[~paired] = 0.5  # scores of films that it was trained on are not to be used
    plain = np.array(films.thresholds_of(films.score, paired))
    moved = np.array(films.thresholds_of(other, paired))
    assert plain[0] <= plain[1]
    np.testing.assert_allclose(
        np.log(moved / (1 - moved)), 2 * np.log(plain / (1 - plain)) + 0.7, atol=1e-6
    )


def reached(films, margin):
    """Return whether calls of films by the band of the other folds reach both aims."""
    called, present = films.called(margin)
    sensitivity = present[called & (films.truth == 1)].mean()
    specificity = (~present)[called & (films.truth == 0)].mean()
    return sensitivity >= no_call_band.SENSITIVITY and specificity >= no_call_band.SPECIFICITY


def test_the_margin_is_the_least_with_which_unseen_folds_reach_the_aims():
    chosen = set()
    for seed in range(12):
        _, films = scored_films(seed)
        *smaller, last = [m for m in no_call_band.MARGINS if m <= films.margin()]
        chosen.add(last)
        assert not any(reached(films, margin) for margin in smaller)
        assert reached(films, last) or last == no_call_band.MARGINS[-1]
    assert len(chosen) > 1


def test_folds_of_different_scales_are_pooled_on_one():
    log_odds, films = scored_films()
    moved = log_odds * (1 + films.fold) + films.fold - 2
    other = no_call_band.OutOfFold(
        films.truth, 1 / (1 + np.exp(-moved)), films.fold, films.patients
    )
    np.testing.assert_allclose(other.probabilities(), films.probabilities(), atol=1e-3)


def test_a_file_that_lacks_a_film_is_refused_and_rows_follow_the_films(tmp_path):
    facts = pl.DataFrame({"image_id": ["b", "a"], "patient_id": ["p", "q"], "tuberculosis": [1, 0]})
    scores = pl.DataFrame({"image_id": ["a", "b"], "fold": [0, 1], "score": [0.1, 0.9]})
    scores.write_parquet(tmp_path / "scores.parquet")
    assert no_call_band.read(tmp_path / "scores.parquet", facts).score.tolist() == [0.9, 0.1]
    scores[:1].write_parquet(tmp_path / "scores.parquet")
    with pytest.raises(ValueError, match="lacks 1 of 2 films"):
        no_call_band.read(tmp_path / "scores.parquet", facts)


def test_the_bundled_model_gives_no_call_on_noise():
    reader = pretrained.PretrainedModel(pretrained.path("tuberculosis.onnx"))
    side = reader.contract.size
    noise = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    placement = reader.model.place(noise, reader.model(noise))
    assert not placement.inside
    assert placement.reason
