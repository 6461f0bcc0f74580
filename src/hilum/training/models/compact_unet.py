"""A small U-Net for the lungs: trains in about a minute on two cores, runs in about 5 ms on one.

A U-Net (Ronneberger et al. 2015) made affordable: the "patchify" stem turns patches of 4 x 4 pixels
into features by one convolution with stride 4, so that nothing is computed at full resolution;
three levels follow, down to 1/32; and the last convolution writes the 4 x 4 pixels of each patch at
once (sub-pixel convolution, Shi et al. 2016). Layers at full resolution cost half as much again or
double the time, since memory bandwidth is the bottleneck there. With `detail`, the 16 pixels of
each patch are fed in again before the last convolution, for a tenth more time; short trainings (240
batches) gain nothing by it, and the figures of benchmarks/accuracy/lungs.py are with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.plugins import Card
from hilum.training import lung_segmentation
from hilum.training.settings import SegmenterSettings

TASK = "lungs"
OUTPUTS = ("lungs",)
CARD = Card(
    title="Compact U-Net for the lungs",
    licence=lung_segmentation.LICENCE,
    source=(
        "Hilum; after Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical "
        "Image Segmentation. MICCAI 2015"
    ),
    citation="arXiv:1505.04597",
    caveats=lung_segmentation.CAVEATS,
)
# A third of the time for 0.006 less Dice.
QUICK: Mapping[str, int | float] = {"width": 16, "detail": 0, "epochs": 4, "least_steps": 160}
PATCH = 4


@dataclass(frozen=True)
class Settings(SegmenterSettings):
    """`detail` is the number of channels of the layer that sees the patches again, 0 for none."""

    detail: int = 24


class Compact(nn.Module):
    """The network: float32 (n, 1, size, size) in [0, 1] -> logits (n, 2 * heads, size, size).

    Each of the `heads` gives the right and the left lung as one convention of masks has them.
    """

    def __init__(self, width: int, detail: int, heads: int = 1) -> None:
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
            nn.Conv2d(detail or width, 2 * heads * PATCH * PATCH, 3, padding=1),
            nn.PixelShuffle(PATCH),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits."""
        x, skips = self.stem(image), []
        for level, down in enumerate(self.down):
            x = down(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = F.interpolate(self.narrow[level](x), scale_factor=2.0, mode="nearest")
            x = self.up[level](torch.cat([skips[level], x], 1))
        if self.detail is not None:
            pixels = F.pixel_unshuffle(image, PATCH)
            if pixels.dtype != x.dtype:  # under autocast, where both would be joined in float32
                pixels = pixels.to(x.dtype, memory_format=torch.channels_last)
            x = self.detail(torch.cat([x, pixels], 1))
        return self.head(x)


def _block(into: int, out: int) -> nn.Sequential:
    """Return two 3 x 3 convolutions, each with batch normalisation and ReLU."""
    return nn.Sequential(*_layer(into, out), *_layer(out, out))


def _layer(into: int, out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(into, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    ]


def _network(settings: Settings) -> nn.Module:
    return Compact(settings.width, settings.detail)


fit = lung_segmentation.trainer(_network)
