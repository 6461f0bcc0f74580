"""A small U-Net for the lungs that two processor cores train in about a minute and one core runs in about 5 ms.

A U-Net (Ronneberger et al. 2015) made affordable: it begins by cutting the image into patches of 4 x 4 pixels, one convolution with
stride 4 each (the "patchify" stem), so that nothing is computed at full resolution; it goes down three levels more, to 1/32, and its
last convolution writes the 4 x 4 pixels of each patch at once (sub-pixel convolution, Shi et al. 2016). Layers at full resolution cost half
as much again or double the time, as memory is what is short there. With `detail` the patches' own 16 pixels are looked at again before the last
convolution, for a tenth more time; short trainings (240 batches) gain nothing by it, and the figures of bench/lungs.py are with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.plugins import Card
from hilum.training import lung_segmentation

TASK = "lungs"
OUTPUTS = ("lungs",)
CARD = Card(
    title="Compact U-Net for the lungs",
    licence="Apache-2.0 (the code; trained weights are bound by the terms of the images they were trained on)",
    source="Hilum; after Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015",
    citation="arXiv:1505.04597",
    caveats=(
        "Finds the patient's right and left lung in frontal views. Lateral views, small children, white lungs and images that are mirrored "
        "or turned by more than the augmentation's rotation are outside what it has learnt."
    ),
)
QUICK: Mapping[str, int | float] = {
    "width": 16,
    "detail": 0,
    "epochs": 4,
    "least_steps": 160,
}  # a third of the time for 0.006 less Dice
PATCH = 4


@dataclass(frozen=True)
class Settings:
    """As `_lungs.Settings`; `detail` is the number of channels of the layer that looks at the patches again, 0 for none."""

    width: int = 24
    detail: int = 24
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
        lambda: Compact(settings.width, settings.detail),
        images,
        masks,
        rows,
        settings,
        seed=seed,
        **training,
    )


class Compact(nn.Module):
    """float32 (n, 1, size, size) in [0, 1] -> logits (n, 2, size, size)."""

    def __init__(self, width: int, detail: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, PATCH, stride=PATCH), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.down = nn.ModuleList(
            _block(into, out) for into, out in zip([width, *widths], widths, strict=False)
        )
        self.narrow = nn.ModuleList(
            nn.Conv2d(into, out, 1) for into, out in zip(widths[1:], widths, strict=False)
        )
        self.up = nn.ModuleList(_block(2 * channels, channels) for channels in widths[:-1])
        self.detail = nn.Sequential(*_layer(width + PATCH * PATCH, detail)) if detail else None
        self.head = nn.Sequential(
            nn.Conv2d(detail or width, 2 * PATCH * PATCH, 3, padding=1), nn.PixelShuffle(PATCH)
        )

    def forward(self, image: Tensor) -> Tensor:
        x, skips = self.stem(image), []
        for level, down in enumerate(self.down):
            x = down(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = F.interpolate(self.narrow[level](x), scale_factor=2.0, mode="nearest")
            x = self.up[level](torch.cat([skips[level], x], 1))
        return self.head(
            x
            if self.detail is None
            else self.detail(torch.cat([x, F.pixel_unshuffle(image, PATCH)], 1))
        )


def _block(into: int, out: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with batch normalisation and ReLU."""
    return nn.Sequential(*_layer(into, out), *_layer(out, out))


def _layer(into: int, out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(into, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    ]
