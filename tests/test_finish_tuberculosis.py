"""The bundled tuberculosis model's domain is measured as it was chosen, and its band keeps its aims."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from hilum.inference import pretrained
from hilum.training import classification, efficientnet_backbone, onnx_export
from tools.build_models import finish_tuberculosis, gate_features

SIZE = 64


def test_tapped_features_are_those_of_the_network_and_scores_stay(tmp_path):
    backbone = efficientnet_backbone.Backbone().eval()
    network = classification.Classifier(backbone, efficientnet_backbone.HEAD, 1, 0.0).eval()
    place = tmp_path / "model.onnx"
    onnx_export.to_onnx(
        classification.ExportableClassifier(network).eval(),
        place,
        size=SIZE,
        outputs=classification.OUTPUTS,
        metadata={},
    )
    model = onnx.load(place)
    for node in model.graph.node:  # as a model of before: its own output goes by another name
        node.output[:] = ["expected" if name == "features" else name for name in node.output]
    model.graph.output[-1].name = "expected"
    onnx.save(gate_features.tapped(model, SIZE), tmp_path / "tapped.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE), np.uint8)
    before, after = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for path in (place, tmp_path / "tapped.onnx")
    )
    score, features = after.run(["score", "features"], {"images": images})
    np.testing.assert_array_equal(score, before.run(["score"], {"images": images})[0])
    with torch.no_grad():
        x = torch.from_numpy(images).unsqueeze(1).float() / 255
        expected = gate_features.gate_features(x, backbone.each_stage(x))
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_calls_of_the_tune_part_reach_the_aims_where_any_band_does(seed):
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1], 15)
    score = 1 / (1 + np.exp(-(rng.normal(size=30) + 3 * truth)))
    absent_below, present_from = finish_tuberculosis.band(truth, score)
    assert absent_below <= present_from
    present, called = score >= present_from, (score < absent_below) | (score >= present_from)
    extremes = score >= np.sort(score)[-1], score <= np.sort(score)[0]
    if truth[extremes[0]].all() and not truth[extremes[1]].any():  # calling two images reaches them
        assert present[called & (truth == 1)].mean() >= finish_tuberculosis.SENSITIVITY
        assert (~present)[called & (truth == 0)].mean() >= finish_tuberculosis.SPECIFICITY


def test_the_bundled_model_gives_no_call_on_noise():
    reader = pretrained.PretrainedModel(pretrained.path("tuberculosis.onnx"))
    side = reader.contract.size
    noise = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    placement = reader.model.place(noise, reader.model(noise))
    assert not placement.inside
    assert placement.reason
