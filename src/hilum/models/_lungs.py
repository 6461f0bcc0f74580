"""The frame the lung segmenters share: the network, its loss, its batches and its readiness for export.

The network is a U-Net (Ronneberger et al. 2015) made affordable on two processor cores: it begins by cutting the image into patches of
4 x 4 pixels, one convolution with stride 4 each (the "patchify" stem), so that nothing is computed at full resolution; it goes down
three levels more, to 1/32, and its last convolution writes the 4 x 4 pixels of each patch at once (sub-pixel convolution, Shi et al.
2016). Sizes: any that 32 divides, from 64 to 1024.

Masks are uint8 (n, size, size): 0 background, 1 the patient's right lung, 2 the left. Outputs are (n, 2, size, size): right, left.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum import augment
from hilum.batches import Pictures
from hilum.errors import BadRecipe
from hilum.lungs import LEFT, RIGHT
from hilum.models import _loop

PATCH = 4
SIZES = range(64, 1025, 32)


class Settings(Protocol):
    """The settings that every lung segmenter has. See `unet.Settings` for what they mean."""

    width: int
    epochs: int
    least_steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    averaging: float
    precision: str
    rotation_degrees: float
    scale: float
    shift: float
    contrast: float
    brightness: float
    gamma: float
    elastic: float
    flip: bool


def fit(
    network: Callable[[int], nn.Module],
    images: np.ndarray,
    masks: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    checkpoint: Path | None,
    progress: Callable[[int, int], None],
) -> nn.Module:
    """Make the network of a width, train it on `rows` and return it ready for export: uint8 in, probabilities out.

    Raises `BadRecipe` for a size that the network cannot take, `TooFew` for fewer than two rows.
    """
    size = images.shape[1]
    if images.shape[1:] != (size, size) or size not in SIZES:
        raise BadRecipe(
            f"images are {images.shape[1]} x {images.shape[2]} pixels; the lung networks take squares of "
            f"{SIZES.start} to {SIZES.stop - 1} pixels whose side 32 divides: choose such a size"
        )
    changes, pictures = augment.Augmentation.of(settings), Pictures(images, masks)

    def batch(chosen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        made = pictures.batch(chosen, augment.draws(changes, rng, len(chosen)))
        return made.images, made.masks

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
        made = network(settings.width)
    _loop.fit(made, batch, rows, loss, schedule, seed=seed, checkpoint=checkpoint, progress=progress)
    return Ready(made).eval()


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy a pixel plus 1 - soft Dice a lung, over the batch (Milletari et al. 2016). labels: uint8 (n, height, width)."""
    truth = torch.stack([labels == RIGHT, labels == LEFT], 1).float()
    lung = torch.sigmoid(logits)
    both = (lung * truth).sum((0, 2, 3))
    dice = (2 * both + 1) / (lung.sum((0, 2, 3)) + truth.sum((0, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, truth) + (1 - dice).mean()


class Ready(nn.Module):
    """The trained network as it is used: uint8 (n, size, size) in, probabilities float32 (n, 2, size, size) out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.network(images.unsqueeze(1).float() / 255))


class Frame(nn.Module):
    """The U-Net. `gate`, where there is one, is made for each level as gate(channels) and called as gate(skip, coarser)."""

    def __init__(self, width: int, gate: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.stem = nn.Sequential(nn.Conv2d(1, width, PATCH, stride=PATCH), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.down = nn.ModuleList(_block(into, out) for into, out in zip([width, *widths], widths, strict=False))
        self.narrow = nn.ModuleList(nn.Conv2d(into, out, 1) for into, out in zip(widths[1:], widths, strict=False))
        self.gates = nn.ModuleList(gate(channels) for channels in widths[:-1]) if gate else None
        self.up = nn.ModuleList(_block(2 * channels, channels) for channels in widths[:-1])
        self.head = nn.Sequential(nn.Conv2d(width, 2 * PATCH * PATCH, 3, padding=1), nn.PixelShuffle(PATCH))

    def forward(self, x: Tensor) -> Tensor:
        """float32 (n, 1, size, size) in [0, 1] -> logits (n, 2, size, size)."""
        x = self.stem(x)
        skips = []
        for level, down in enumerate(self.down):
            x = down(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = F.interpolate(self.narrow[level](x), scale_factor=2.0, mode="nearest")
            skip = self.gates[level](skips[level], x) if self.gates else skips[level]
            x = self.up[level](torch.cat([skip, x], 1))
        return self.head(x)


def _block(into: int, out: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for first in (into, out):
        layers += [nn.Conv2d(first, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
