"""A model of before gets the very features that a new one gives, and keeps its scores."""

import numpy as np
import onnx
import onnxruntime
import pytest

pytest.importorskip("torch")

from hilum.training import classification, efficientnet_backbone, onnx_export
from tools.build_models import add_domain

SIZE = 64


def test_tapped_features_are_those_of_the_network_and_scores_stay(tmp_path):
    backbone = efficientnet_backbone.Backbone()
    network = classification.Classifier(backbone, efficientnet_backbone.HEAD, 1, 0.0)
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
    onnx.save(add_domain.tapped(model), tmp_path / "tapped.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE), np.uint8)
    before, after = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for path in (place, tmp_path / "tapped.onnx")
    )
    score, features = after.run(["score", "features"], {"images": images})
    expected = before.run(["score", "features"], {"images": images})
    np.testing.assert_array_equal(score, expected[0])
    assert features.shape == expected[1].shape
    np.testing.assert_allclose(features, expected[1], atol=1e-3)
