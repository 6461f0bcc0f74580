"""Attention U-Net for the lungs (Oktay et al. 2018), from MONAI: a U-Net with an additive attention gate on each skip connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from hilum.plugins import Card
from hilum.training import lung_segmentation

TASK = "lungs"
OUTPUTS = ("lungs",)
CARD = Card(
    title="Attention U-Net for the lungs",
    licence="Apache-2.0 (the code; trained weights are bound by the terms of the images they were trained on)",
    source="Oktay et al.: Attention U-Net: Learning Where to Look for the Pancreas. MIDL 2018; from MONAI",
    citation="arXiv:1804.03999",
    caveats=(
        "Finds the patient's right and left lung in frontal views. Lateral views, small children, white lungs and images that are mirrored "
        "or turned by more than the augmentation's rotation are outside what it has learnt. "
        "Runs at full resolution: on processors it takes about ten times as long as 'compact_unet'; on a GPU that matters little."
    ),
)
QUICK: Mapping[str, int | float] = {
    "width": 8,
    "epochs": 4,
    "least_steps": 160,
    "learning_rate": 0.02,
}


@dataclass(frozen=True)
class Settings:
    """As `_lungs.Settings`; the five levels have 1, 2, 4, 8 and 16 times `width` channels, with 16 as in the authors' code."""

    width: int = 16
    epochs: int = 8
    least_steps: int = 240
    batch_size: int = 8
    learning_rate: float = 0.003
    weight_decay: float = 0.01
    averaging: float = 0.98
    patience: float = 0.4
    precision: str = "auto"
    dice_over: str = "batch"
    rotation_degrees: float = 10.0
    scale: float = 0.12
    aspect: float = 0.0
    shift: float = 0.06
    contrast: float = 0.25
    brightness: float = 0.1
    gamma: float = 0.3
    elastic: float = 0.0
    flip: bool = False
    border: float = 0.0
    bands: float = 0.0
    uneven: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    local_contrast: float = 0.0
    markers: float = 0.0
    invert: float = 0.0
    opacities: float = 0.5


def fit(
    images: np.ndarray,
    masks: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    **training: Any,
) -> nn.Module:
    """Train on `rows` of images and masks, both uint8 (N, size, size), labels 0, 1 right, 2 left, 255 unknown; see `_lungs.fit`."""
    return lung_segmentation.fit(
        lambda: _network(settings.width), images, masks, rows, settings, seed=seed, **training
    )


def _network(width: int) -> nn.Module:
    from monai.networks.nets import AttentionUnet  # seconds to import, so not before it is wanted

    channels = tuple(width * 2**level for level in range(5))
    return AttentionUnet(
        spatial_dims=2, in_channels=1, out_channels=2, channels=channels, strides=(2, 2, 2, 2)
    )
