"""Random changes of a batch of radiographs and their lung masks, computed on the batch's device.

Every change has a fixed shape and no branch, so that a whole training step can be captured as a
CUDA graph. Images are float32 (n, 1, side, side) in [0, 1], masks float32 (n, 2, side, side), right
and left lung; masks become fractions at moved borders. `strength` scales the limits and how often a
change occurs; 1 imitates other hospitals, about 0.4 is right within one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

GRID = 4  # points per side of the elastic displacement


@dataclass(frozen=True)
class Changes:
    """How strong and how often.

    `white` is the fraction of the images in which a lung, or both, turns as bright as soft tissue
    while its mask stays: evenly, in clouds, or, in `below` of these, from the diaphragm up, as an
    effusion does.
    """

    strength: float = 1.0
    white: float = 0.15
    below: float = 0.4


def augment(images: Tensor, masks: Tensor, changes: Changes) -> tuple[Tensor, Tensor]:
    """Return changed images and their masks."""
    moved, truth = move(images, masks, changes.strength)
    made = whiten(opacities(moved, changes.strength), truth, changes)
    made = covers(degrade(tone(local_contrast(made, changes), changes), changes), changes)
    return made.clamp(0, 1), truth


def move(images: Tensor, masks: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Rotate, scale, stretch, shift and bend; something other than black may enter."""
    n, device = len(images), images.device
    angle = _uniform(n, -14, 14, device) * math.pi / 180 * strength
    scale = torch.exp(_uniform(n, -0.25, 0.25, device) * strength)
    aspect = torch.exp(_uniform(n, -0.13, 0.13, device) * strength)
    shift = _uniform((n, 2), -0.18, 0.18, device) * strength
    cosine, sine = torch.cos(angle), torch.sin(angle)
    across = torch.stack([cosine * scale * aspect, -sine * scale, shift[:, 0]], 1)
    down = torch.stack([sine * scale * aspect, cosine * scale, shift[:, 1]], 1)
    size = list(images.shape)
    grid = F.affine_grid(torch.stack([across, down], 1), size, align_corners=False)
    bend = _uniform((n, 2, GRID, GRID), -0.028, 0.028, device) * strength
    bend = F.interpolate(bend, size=size[-2:], mode="bicubic", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1)
    outside = _column(_uniform(n, 0, 1, device) * _sometimes(n, 0.25 * strength, device))
    repeated = _column(_sometimes(n, 0.2 * strength, device)) > 0
    within = torch.where(repeated, grid.clamp(-1, 1), grid)
    moved = F.grid_sample(images - outside, within, align_corners=False) + outside
    return moved, F.grid_sample(masks, grid, align_corners=False)


def opacities(images: Tensor, strength: float) -> Tensor:
    """Add up to three soft bright patches, as disease does."""
    n, device = len(images), images.device
    rows, columns = _axes(images)
    present = _sometimes(n, 0.5 * strength, device)
    for _ in range(3):
        row, column = (_column(_uniform(n, *ends, device)) for ends in ((0.2, 0.85), (0.1, 0.9)))
        height, width = (
            _column(_uniform(n, *ends, device)) for ends in ((0.03, 0.25), (0.03, 0.18))
        )
        grey = _column(_uniform(n, 0.5, 1, device))
        opacity = _column(_uniform(n, 0.3, 1, device) * present * _sometimes(n, 0.66, device))
        distance = ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2
        images = images + opacity * torch.exp(-0.5 * distance**2) * (grey - images).clamp(min=0)
    return images


def whiten(images: Tensor, masks: Tensor, changes: Changes) -> Tensor:
    """Turn lungs white, see `Changes`."""
    n, device = len(images), images.device
    rows, _ = _axes(images)
    soft = F.avg_pool2d(F.avg_pool2d(masks, 9, 1, 4), 9, 1, 4)
    sides = torch.stack([_sometimes(n, 0.7, device), _sometimes(n, 0.7, device)], 1)
    cloud = torch.rand((n, 1, 7, 7), device=device)
    cloud = F.interpolate(cloud, size=images.shape[-2:], mode="bicubic", align_corners=True)
    clouded = _column(_sometimes(n, 0.5, device)) > 0
    cloud = torch.where(clouded, ((cloud - 0.25) * 2).clamp(0, 1), torch.ones_like(cloud))
    level, fall = (_column(_uniform(n, *ends, device)) for ends in ((0.3, 0.85), (0.01, 0.08)))
    from_below = _column(_sometimes(n, changes.below, device)) > 0
    below = torch.where(from_below, torch.sigmoid((rows - level) / fall), torch.ones_like(rows))
    opacity = _column(_uniform(n, 0.4, 1, device) * _sometimes(n, changes.white, device))
    lung = (soft * sides.view(n, 2, 1, 1)).amax(1, keepdim=True)
    lacking = (_column(_uniform(n, 0.55, 0.9, device)) - images).clamp(min=0)
    return images + lung * cloud * below * opacity * lacking


def local_contrast(images: Tensor, changes: Changes) -> Tensor:
    """Raise the contrast with the surroundings, as processing in the device does."""
    n, device = len(images), images.device
    near = F.avg_pool2d(F.pad(images, (24, 24, 24, 24), mode="replicate"), 49, 1)
    gain, kept = (_column(_uniform(n, *ends, device)) for ends in ((1, 2.5), (0.3, 0.9)))
    sharp = ((images - near) * gain + near * kept + 0.15).clamp(0, 1)
    return torch.where(_column(_sometimes(n, 0.2 * changes.strength, device)) > 0, sharp, images)


def tone(images: Tensor, changes: Changes) -> Tensor:
    """Change contrast, brightness, gamma, and the brightness over the image."""
    n, device, k = len(images), images.device, changes.strength
    contrast = torch.exp(_uniform(n, -0.4 * k, 0.4 * k, device))
    images = (images - 0.5) * _column(contrast) + 0.5
    images = images + _column(_uniform(n, -0.12 * k, 0.12 * k, device))
    uneven = _uniform((n, 1, 3, 3), -0.15, 0.15, device)
    uneven = uneven * _column(_sometimes(n, 0.5 * k, device))
    images = images + F.interpolate(
        uneven, size=images.shape[-2:], mode="bicubic", align_corners=True
    )
    gamma = torch.exp(_uniform(n, -0.53 * k, 0.53 * k, device))
    return images.clamp(1e-4, 1) ** _column(gamma)


def degrade(images: Tensor, changes: Changes) -> Tensor:
    """Blur, and add noise."""
    n, device, k = len(images), images.device, changes.strength
    blurred = _blur(images, _uniform(n, 0.3, 1.8, device))
    images = torch.where(_column(_sometimes(n, 0.35 * k, device)) > 0, blurred, images)
    deviation = _uniform(n, 0, 0.05, device) * _sometimes(n, 0.5 * k, device)
    return images + torch.randn_like(images) * _column(deviation)


def covers(images: Tensor, changes: Changes) -> Tensor:
    """Cover the edges, as collimation does, and a rectangle, as a marker does."""
    n, device, k = len(images), images.device, changes.strength
    rows, columns = _axes(images)
    bands = _uniform((4, n), 0, 0.35, device) ** 2 * _sometimes(n, k / 3, device)
    grey, kind = _uniform(n, 0, 1, device), torch.rand(n, device=device)
    light = torch.where(kind < 0.6, torch.ones_like(grey), grey)
    grey = torch.where(kind < 0.4, torch.zeros_like(grey), light)
    top, bottom, left, right = (_column(band) for band in bands)
    edge = (rows < top) | (rows > 1 - bottom) | (columns < left) | (columns > 1 - right)
    images = torch.where(edge, _column(grey), images)
    top, left = (_column(_uniform(n, 0, 0.95, device)) for _ in range(2))
    height, width = (_column(_uniform(n, 0.03, 0.15, device)) for _ in range(2))
    inside = (rows > top) & (rows < top + height) & (columns > left) & (columns < left + width)
    marked = inside & (_column(_sometimes(n, 0.15 * k, device)) > 0)
    return torch.where(marked, _column(_uniform(n, 0, 1, device)), images)


def _blur(images: Tensor, deviations: Tensor) -> Tensor:
    """Blur each image with a Gaussian of its own standard deviation, pixels."""
    n, _, height, width = images.shape
    at = torch.arange(-5, 6, device=images.device, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (at[None] / deviations[:, None].clamp(min=0.1)) ** 2)
    kernels = kernels / kernels.sum(1, keepdim=True)
    padded = F.pad(images.view(1, n, height, width), (5, 5, 5, 5), mode="replicate")
    across = F.conv2d(padded, kernels.view(n, 1, 1, 11), groups=n)
    return F.conv2d(across, kernels.view(n, 1, 11, 1), groups=n).view(n, 1, height, width)


def _axes(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns from 0 to 1."""
    height, width = images.shape[-2:]
    rows = torch.linspace(0, 1, height, device=images.device).view(1, 1, -1, 1)
    return rows, torch.linspace(0, 1, width, device=images.device).view(1, 1, 1, -1)


def _uniform(size: int | tuple[int, ...], low: float, high: float, device: torch.device) -> Tensor:
    return low + (high - low) * torch.rand(size, device=device)


def _sometimes(n: int, fraction: float, device: torch.device) -> Tensor:
    """Return 1 for about `fraction` of n images, 0 for the others."""
    return (torch.rand(n, device=device) < fraction).float()


def _column(values: Tensor) -> Tensor:
    """Shape one value per image for arithmetic with images."""
    return values.view(-1, 1, 1, 1)
