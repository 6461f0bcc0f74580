"""Attention U-Net for the lungs (Oktay et al. 2018): the frame of `unet`, with an additive attention gate on each skip connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hilum.models import _loop, _lungs
from hilum.shelf import Card

TASK = "lungs"
OUTPUTS = ("lungs",)
CARD = Card(
    title="Attention U-Net for the lungs",
    licence="Apache-2.0 (the code; trained weights are bound by the terms of the images they were trained on)",
    source="Oktay et al.: Attention U-Net: Learning Where to Look for the Pancreas. MIDL 2018",
    citation="arXiv:1804.03999",
    caveats=(
        "Those of the U-Net: right and left lung in frontal views; lateral views, small children, white lungs and images that are mirrored or "
        "turned by more than the augmentation's rotation are outside what it has learnt. The gates' maps show where features were let "
        "through, not why."
    ),
)
QUICK: Mapping[str, int | float] = {"width": 16, "epochs": 4, "least_steps": 160}  # a third of the time for 0.006 less Dice


@dataclass(frozen=True)
class Settings:
    """As `unet.Settings`: `width` is the number of channels at the finest level; training runs for `epochs`, or longer on few images,
    until `least_steps` batches; from `rotation_degrees` on, the limits of `hilum.augment.Augmentation`."""

    width: int = 24
    epochs: int = 8
    least_steps: int = 240
    batch_size: int = 8
    learning_rate: float = 0.003
    weight_decay: float = 0.01
    averaging: float = 0.98
    precision: str = "auto"
    rotation_degrees: float = 10.0
    scale: float = 0.12
    shift: float = 0.06
    contrast: float = 0.25
    brightness: float = 0.1
    gamma: float = 0.3
    elastic: float = 0.0
    flip: bool = False


class Gate(nn.Module):
    """Additive attention (section 2 of the paper): the skip's features times a map in (0, 1) that the coarser level helps to draw.

    The coarser features come already doubled in size and with the skip's number of channels, so nothing is resampled here.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.of_skip = nn.Conv2d(channels, inner, 1, bias=False)
        self.of_coarser = nn.Conv2d(channels, inner, 1)
        self.to_map = nn.Conv2d(inner, 1, 1)

    def forward(self, skip: Tensor, coarser: Tensor) -> Tensor:
        return skip * torch.sigmoid(self.to_map(torch.relu(self.of_skip(skip) + self.of_coarser(coarser))))


def fit(
    images: np.ndarray,
    masks: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = _loop.ignore,
) -> nn.Module:
    """Train on `rows` of images and masks, both uint8 (N, size, size), labels 0, 1 right, 2 left; see `_lungs` for the rest."""

    def network(width: int) -> nn.Module:
        return _lungs.Frame(width, Gate)

    return _lungs.fit(network, images, masks, rows, settings, seed=seed, checkpoint=checkpoint, progress=progress)
