"""A model of before gets the very features that a new one gives, and keeps its scores."""

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

from earlier_models import model_without_features, outputs, some_images

from hilum.training import efficientnet_backbone
from tools.build_models import add_domain


def test_tapped_features_are_those_of_the_network_and_scores_stay(tmp_path):
    place, images = tmp_path / "model.onnx", some_images()
    model = model_without_features(efficientnet_backbone.Backbone(), place)
    onnx.save(add_domain.tapped(model), tmp_path / "tapped.onnx")
    score, features = outputs(tmp_path / "tapped.onnx", images)
    expected = outputs(place, images)
    np.testing.assert_array_equal(score, expected[0])
    assert features.shape == expected[1].shape
    np.testing.assert_allclose(features, expected[1], atol=1e-3)
