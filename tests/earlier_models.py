"""Models as they were exported before classifiers had the output `features`."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from hilum.training import classification, onnx_export
from hilum.training.efficientnet_backbone import HEAD, Backbone

SIZE = 64


def model_without_features(backbone: Backbone, place: Path) -> onnx.ModelProto:
    """Export a classifier to `place` whose features go by the name `expected`, and return it."""
    network = classification.Classifier(backbone, HEAD, 1, 0.0)
    onnx_export.to_onnx(
        classification.ExportableClassifier(network).eval(),
        place,
        size=SIZE,
        outputs=classification.OUTPUTS,
        metadata={},
    )
    model = onnx.load(place)
    for node in model.graph.node:
        node.output[:] = ["expected" if name == "features" else name for name in node.output]
    model.graph.output[-1].name = "expected"
    return model


def outputs(place: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the score and the features of a model file for images, uint8 (n, SIZE, SIZE)."""
    session = onnxruntime.InferenceSession(place, providers=["CPUExecutionProvider"])
    score, features = session.run(["score", "features"], {"images": images})
    return score, features


def some_images() -> np.ndarray:
    """Draw three images, uint8 (3, SIZE, SIZE)."""
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE), np.uint8)
