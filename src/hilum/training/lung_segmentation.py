"""What the lung segmenters share: their settings, loss, batches, early stopping and readiness for export.

Masks are uint8 (n, size, size): 0 background, 1 the patient's right lung, 2 the left, 255 unknown, which nothing is learnt from: of a
picture with one lung drawn, the other side. Outputs are (n, 2, size, size): right, left, each by itself, so that a pixel may be
neither. Sizes: any that 32 divides, from 64 to 1024.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.annotations.lung_masks import IGNORE, LEFT, RIGHT
from hilum.errors import BadRecipe
from hilum.training import augmentation, training_loop
from hilum.training.batches import TrainingImages

SIZES = range(64, 1025, 32)
FEWEST_TUNE = 4  # pictures to watch; fewer say when to stop by chance
TOGETHER = 8  # tune pictures that are looked at in one go


class Settings(Protocol):
    """The settings that every lung segmenter has; from `rotation_degrees` on they are the limits of `hilum.training.augmentation.Augmentation`.

    `width` is the number of channels at the finest level. Training runs for `epochs`, or longer on few images, until `least_steps`
    batches. `patience` is that of `_loop.Watch`. `dice_over` says what soft Dice is taken over: "batch", or each "image" by itself.
    """

    width: int
    epochs: int
    least_steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    averaging: float
    patience: float
    precision: str
    dice_over: str
    rotation_degrees: float
    scale: float
    aspect: float
    shift: float
    contrast: float
    brightness: float
    gamma: float
    elastic: float
    flip: bool
    border: float
    bands: float
    uneven: float
    noise: float
    blur: float
    local_contrast: float
    markers: float
    invert: float
    opacities: float


def fit(
    network: Callable[[], nn.Module],
    images: np.ndarray,
    masks: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = training_loop.ignore,
    tune: np.ndarray | None = None,
    heard: Callable[[training_loop.Epoch], None] = training_loop.ignore_epoch,
) -> nn.Module:
    """Make the network, train it on `rows` and return it ready for export: uint8 in, probabilities out.

    `tune` are rows that are only looked at, to keep the best weights and to stop early; see `_loop.fit` for the rest.
    Raises `BadRecipe` for a size that the network cannot take, `TooFew` for fewer than two rows.
    """
    size = images.shape[1]
    if images.shape[1:] != (size, size) or size not in SIZES:
        raise BadRecipe(
            f"images are {images.shape[1]} x {images.shape[2]} pixels; the lung networks take squares of "
            f"{SIZES.start} to {SIZES.stop - 1} pixels whose side 32 divides: choose such a size"
        )
    changes, pictures, error = (
        augmentation.Augmentation.from_settings(settings),
        TrainingImages(images, masks),
        _loss(settings.dice_over),
    )

    def batch(chosen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        made = pictures.batch(chosen, augmentation.draw_many(changes, rng, len(chosen)))
        return made.images, made.masks

    watch = None
    if tune is not None and len(tune) >= FEWEST_TUNE:
        watch = training_loop.EarlyStopping(
            lambda ask: score(ask, images, masks, tune), settings.patience
        )
    with training_loop.seeded(seed):
        made = network()
    schedule = training_loop.Schedule.of(settings, len(rows))
    training_loop.fit(
        made,
        batch,
        rows,
        error,
        schedule,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
        watch=watch,
        heard=heard,
    )
    return ExportableNetwork(made).eval()


def score(
    ask: training_loop.Predict, images: np.ndarray, masks: np.ndarray, rows: np.ndarray
) -> float:
    """Mean Dice of the lungs that are drawn, each picture's right and left for itself, without what is unknown."""
    found = []
    for at in range(0, len(rows), TOGETHER):
        chosen = rows[at : at + TOGETHER]
        lung, labels = ask(images[chosen]) > 0, torch.from_numpy(masks[chosen])
        truth, known = _truth(labels)
        lung, truth = lung & known.bool(), truth.bool()
        drawn = truth.sum((2, 3))
        dice = 2 * (lung & truth).sum((2, 3)) / (lung.sum((2, 3)) + drawn).clamp(min=1)
        found.append(dice[drawn > 0])
    return float(torch.cat(found).mean())


def _loss(over: str) -> Callable[[Tensor, Tensor], Tensor]:
    if over not in ("batch", "image"):
        raise BadRecipe(f"dice_over is '{over}'; expected 'batch' or 'image'")
    return lambda logits, labels: loss(logits, labels, (0, 2, 3) if over == "batch" else (2, 3))


def loss(logits: Tensor, labels: Tensor, over: tuple[int, ...] = (0, 2, 3)) -> Tensor:
    """Cross-entropy a pixel plus 1 - soft Dice a lung, over these axes (Milletari et al. 2016). labels: uint8 (n, height, width)."""
    truth, known = _truth(labels)
    lung = torch.sigmoid(logits) * known
    both = (lung * truth).sum(over)
    dice = (2 * both + 1) / (lung.sum(over) + truth.sum(over) + 1)
    entropy = F.binary_cross_entropy_with_logits(
        logits, truth, known.expand_as(truth), reduction="sum"
    ) / (2 * known.sum()).clamp(min=1)
    return entropy + (1 - dice).mean()


def _truth(labels: Tensor) -> tuple[Tensor, Tensor]:
    """float32 (n, 2, height, width) right and left lung, and (n, 1, height, width) what is known; 0 or 1 each."""
    return torch.stack([labels == RIGHT, labels == LEFT], 1).float(), (labels != IGNORE).unsqueeze(
        1
    ).float()


class ExportableNetwork(nn.Module):
    """The trained network as it is used: uint8 (n, size, size) in, probabilities float32 (n, 2, size, size) out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.network(images.unsqueeze(1).float() / 255))
