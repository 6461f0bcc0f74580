"""Build two lung segmenters of other projects from plain torch layers, with random weights, to
time them.

`resnet18_unet`: a ResNet-18 (He et al. 2016) with a U-Net decoder of 256, 128, 64, 32 and 16
channels, as segmentation_models_pytorch has it by default. `pspnet_r50`: a pyramid scene parsing
network (Zhao et al. 2017) on a ResNet-50 whose last two stages are dilated, 14 classes, at 512 x
512, as TorchXRayVision's segmenter of anatomy is. Neither library is needed, or used, here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _layer(
    into: int, out: int, kernel: int = 3, stride: int = 1, dilation: int = 1, active: bool = True
) -> nn.Sequential:
    padding = dilation * (kernel - 1) // 2
    layers = [
        nn.Conv2d(into, out, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(out),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if active else []))


class _Residual(nn.Module):
    def __init__(self, into: int, out: int, layers: nn.Module, stride: int) -> None:
        super().__init__()
        self.layers = layers
        self.skip = (
            nn.Identity()
            if into == out and stride == 1
            else _layer(into, out, 1, stride, active=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.skip(x), inplace=True)


def _basic(into: int, out: int, stride: int) -> _Residual:
    return _Residual(
        into,
        out,
        nn.Sequential(_layer(into, out, stride=stride), _layer(out, out, active=False)),
        stride,
    )


def _bottleneck(into: int, out: int, stride: int, dilation: int) -> _Residual:
    narrow = out // 4
    layers = nn.Sequential(
        _layer(into, narrow, 1),
        _layer(narrow, narrow, 3, stride, dilation),
        _layer(narrow, out, 1, active=False),
    )
    return _Residual(into, out, layers, stride)


class _ResNet18UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = _layer(3, 64, 7, 2)
        widths = (64, 64, 128, 256, 512)
        self.stages = nn.ModuleList(
            nn.Sequential(_basic(into, out, 1 if number == 0 else 2), _basic(out, out, 1))
            for number, (into, out) in enumerate(zip(widths, widths[1:], strict=False))
        )
        into, skips, out = (512, 256, 128, 64, 32), (256, 128, 64, 64, 0), (256, 128, 64, 32, 16)
        self.up = nn.ModuleList(
            nn.Sequential(_layer(coarse + skip, width), _layer(width, width))
            for coarse, skip, width in zip(into, skips, out, strict=True)
        )
        self.head = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = [x]
        x = F.max_pool2d(x, 3, 2, 1)
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = F.interpolate(x, scale_factor=2.0)
            x = up(torch.cat([x, skips.pop()], 1) if skips else x)
        return self.head(x)


class _PSPNet(nn.Module):
    def __init__(self, classes: int = 14) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _layer(3, 64, stride=2), _layer(64, 64), _layer(64, 128), nn.MaxPool2d(3, 2, 1)
        )
        stages, into = [], 128
        for repeats, out, stride, dilation in (
            (3, 256, 1, 1),
            (4, 512, 2, 1),
            (6, 1024, 1, 2),
            (3, 2048, 1, 4),
        ):
            for number in range(repeats):
                stages.append(_bottleneck(into, out, stride if number == 0 else 1, dilation))
                into = out
        self.stages = nn.Sequential(*stages)
        self.pooled = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), _layer(2048, 512, 1)) for side in (6, 3, 2, 1)
        )
        self.head = nn.Sequential(_layer(4096, 512), nn.Conv2d(512, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        x = self.stages(self.stem(x))
        found = [
            F.interpolate(pool(x), x.shape[2:], mode="bilinear", align_corners=True)
            for pool in self.pooled
        ]
        return F.interpolate(
            self.head(torch.cat([x, *found], 1)), size, mode="bilinear", align_corners=True
        )


def resnet18_unet() -> nn.Module:
    """Map float32 (n, 3, 256, 256) -> (n, 1, 256, 256); 14.3 million weights."""
    return _ResNet18UNet().eval()


def pspnet_r50() -> nn.Module:
    """Map float32 (n, 3, 512, 512) -> (n, 14, 512, 512)."""
    return _PSPNet().eval()
