"""Apply drawn changes to whole batches on the device that trains, with PyTorch.

The draws are those of `hilum.training.augmentation`, so an image has the same distribution of
changes as on the processor; grey levels differ by rounding, since nothing here is rounded to whole
levels in between, and noise has the same standard deviation from another generator. What is rare
or has no counterpart here (local contrast, elastic displacements, covers, opacities, another
border) is made by `hilum.training.transforms` for the images concerned, before they are sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hilum.imaging.geometry import Size
from hilum.training.augmentation import AugmentationParams
from hilum.training.batches import TrainingImages
from hilum.training.transforms import SpatialTransform

# Columns of `packed`: the map from column and row of the result to those of the source, the grey
# levels' changes, the grid of uneven exposure, and standard deviations.
_MATRIX, _GREY, _UNEVEN = slice(0, 6), slice(6, 10), slice(10, 19)
_NOISE, _BLUR, COLUMNS = 19, 20, 21
_LEAST_BLUR = 0.05  # pixels: as good as none, see `degradations.blur`
_TAILS = 3.0  # standard deviations on each side that a Gaussian kernel holds


@dataclass(frozen=True)
class DeviceAugmentation:
    """Changes of images of one size; `blur` is the largest standard deviation, see the limits."""

    size: Size  # height, width
    blur: float = 0.0

    def prepare(
        self, source: TrainingImages, rows: np.ndarray, drawn: Sequence[AugmentationParams]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the images of `rows` and what remains to be done with them.

        uint8 or uint16 (b, height, width) and float32 (b, COLUMNS), the arguments of a call.
        """
        images = source.batch(rows).images
        changes = np.empty((len(rows), COLUMNS), np.float32)
        for at, one in enumerate(drawn):
            if _beyond(one):
                images[at] = source.batch(rows[at : at + 1], [one]).images[0]
                changes[at] = _UNCHANGED
            else:
                changes[at] = packed(one, self.size)
        return images, changes

    def __call__(self, images: Tensor, changes: Tensor) -> Tensor:
        """Change images on their device and return them as float32 in [0, 1], same shape."""
        x = images.float().div_(torch.iinfo(images.dtype).max)
        x = _moved(x, changes[:, _MATRIX].reshape(-1, 2, 3))
        gamma, contrast, brightness, inverted = changes[:, _GREY].T[:, :, None, None]
        x = torch.lerp(x, 1 - x, inverted).clamp_(0, 1) ** gamma
        x = ((x - 0.5) * contrast + (0.5 + brightness)).clamp_(0, 1)
        grids = changes[:, _UNEVEN].reshape(-1, 1, 3, 3)
        x = x + F.interpolate(grids, self.size, mode="bicubic", align_corners=False)[:, 0]
        x = x.clamp_(0, 1)
        x = (x + torch.randn_like(x) * changes[:, _NOISE, None, None]).clamp_(0, 1)
        return _blurred(x, changes[:, _BLUR], self.blur) if self.blur else x


def packed(params: AugmentationParams, size: Size) -> np.ndarray:
    """Return a draw as `DeviceAugmentation` takes it, float64 (COLUMNS,)."""
    uneven = [number for row in params.uneven for number in row] or [0.0] * 9
    return np.concatenate(
        [
            SpatialTransform(params, size).matrix.ravel(),
            [params.gamma, params.contrast, params.brightness, float(params.inverted)],
            uneven,
            [params.noise, params.blur],
        ]
    )


_UNCHANGED = np.array([1, 0, 0, 0, 1, 0, 1, 1, *[0] * 13], np.float32)


def _beyond(params: AugmentationParams) -> bool:
    """Say whether a draw has a change that is made on the processor."""
    rare = params.tiles or params.elastic or params.covers or params.opacities or params.outside
    return bool(rare)


def _moved(x: Tensor, matrices: Tensor) -> Tensor:
    """Interpolate (b, height, width) linearly at the places that (b, 2, 3) map the pixels to.

    Black enters from beyond the border.
    """
    height, width = x.shape[1:]
    columns = torch.arange(width, device=x.device, dtype=torch.float32)
    rows = torch.arange(height, device=x.device, dtype=torch.float32)
    across, down = matrices.transpose(0, 1)[..., None, None]  # (b, 3, 1, 1) each
    places = [
        (line[:, 0] * columns + line[:, 1] * rows[:, None] + line[:, 2]) * (2 / (side - 1)) - 1
        for line, side in ((across, width), (down, height))
    ]
    grid = torch.stack(places, -1)
    return F.grid_sample(x[:, None], grid, padding_mode="zeros", align_corners=True)[:, 0]


def _blurred(x: Tensor, deviations: Tensor, largest: float) -> Tensor:
    """Blur each of (b, height, width) with its own Gaussian, a fraction of the longer side."""
    side = max(x.shape[1:])
    radius = max(1, math.ceil(_TAILS * largest * side))
    sigma = (deviations * side).clamp_min(_LEAST_BLUR)
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigma[:, None]).square())
    weights = (weights / weights.sum(1, keepdim=True))[:, :, None, None]
    for axis in (1, 2):
        beside = (0, 0, radius, radius) if axis == 1 else (radius, radius, 0, 0)
        wide = F.pad(x[:, None], beside, mode="reflect")[:, 0]
        shifted = [wide.narrow(axis, at, x.shape[axis]) for at in range(2 * radius + 1)]
        x = torch.zeros_like(x)
        for at, part in enumerate(shifted):
            x.addcmul_(weights[:, at], part)
    return x
