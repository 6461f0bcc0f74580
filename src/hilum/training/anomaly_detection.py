"""Parts shared by the anomaly models: frozen features, one pass over normal images, score and map.

Images are uint8 (n, size, size), bright is dense. Cells are squares of `CELL` x `CELL` pixels in
row order; there are (size / CELL)^2 of them. Features are those of the first three stages of an
EfficientNet-Lite0 with ImageNet weights, 80 channels, averaged over each cell: float32 (n, cells,
channels).

A model is an `Anomaly`: its `distance`, float32 (n, cells) >= 0, says how far each cell is from
normal. From that follow

    score   float32 (n,): the mean over the `WORST` fraction of the visible cells, those with the
            largest distance
    map     float32 (n, size, size): the distance, interpolated linearly between cells, 0 in cells
            that are not visible

A cell is visible unless it is wholly black. So nothing counts beside a letterboxed image, and with
`[crop] masked` only the lungs and their rim count; a cell that the lungs' outline crosses counts
fully. An image that is wholly black scores 0.

Why shallow features: deeper ones separate hospitals as well as they separate ill from healthy. Why
a fraction of the cells: the maximum responds to side markers and ranks worst; the mean of all cells
ranks best for diffuse disease but hardly responds to focal disease. Measured in
benchmarks/results/accuracy.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import TooFew
from hilum.training import efficientnet_backbone, frozen_features

OUTPUTS = ("score", "map")
DEPTH = 3  # stages of the backbone
CELL = 16  # pixels
CHANNELS = sum(stage[-1] for stage in efficientnet_backbone.STAGES[:DEPTH])
BATCH = 16  # images whose features are handed on at once
WORST = 0.3  # fraction of the visible cells whose mean is the score


class Features(nn.Module):
    """Frozen features of cells: uint8 (n, size, size) -> float32 (n, cells, channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = efficientnet_backbone.Backbone(DEPTH)
        efficientnet_backbone.load_imagenet(self.backbone)
        self.backbone.freeze(DEPTH)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features of each cell."""
        x = images.unsqueeze(1).float() / 255
        # The stages are at 1/2, 1/4 and 1/8 of the size.
        cells = [
            F.avg_pool2d(found, CELL >> depth)
            for depth, found in enumerate(self.backbone.each_stage(x), start=1)
        ]
        return torch.cat(cells, 1).flatten(2).transpose(1, 2)


class NormalFeatures:
    """The features of normal images, computed anew in each pass.

    So memory holds those of one batch only: 60 KiB per image at size 224. Raises `TooFew` for fewer
    than two rows, `BadRecipe` for a size that the network cannot take, `MissingExtra` without the
    package of the ImageNet weights.
    """

    def __init__(
        self,
        images: np.ndarray,
        rows: np.ndarray,
        progress: Callable[[int, int], None],
        *,
        passes: int = 1,
    ) -> None:
        height, width = images.shape[1:]
        efficientnet_backbone.check_size(height, width)
        if len(rows) < 2:
            raise TooFew(
                f"cannot fit an anomaly model to {len(rows)} normal image(s): at least 2 are "
                f"needed, and some hundred to be of use"
            )
        self.images, self.rows = images, rows
        self.size, self.grid = height, height // CELL
        self.extractor, self.progress = Features(), progress
        self.frozen = frozen_features.exported(Features, self.size)
        self.done, self.total = 0, passes * len(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield features float32 (b, cells, channels) and `visible` cells, b at most `BATCH`."""
        for images, found in self.frozen.batches(self.images, self.rows, BATCH):
            yield torch.from_numpy(found), visible(torch.from_numpy(images))
            self.done += len(images)
            self.progress(self.done, self.total)


class Anomaly(nn.Module, ABC):
    """uint8 (n, size, size) -> score float32 (n,), map float32 (n, size, size).

    A model defines `distance`.
    """

    def __init__(self, features: Features, size: int) -> None:
        super().__init__()
        self.features, self.size, self.grid = features, size, size // CELL

    @abstractmethod
    def distance(self, found: Tensor) -> Tensor:
        """Compute the distance from normal (n, cells) of features (n, cells, channels).

        Finite, not negative, and about 1 in normal images.
        """

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute score and map."""
        counting = visible(images)
        distance = self.distance(self.features(images)) * counting
        fine = F.interpolate(
            distance.reshape(-1, 1, self.grid, self.grid),
            size=(self.size, self.size),
            mode="bilinear",
            align_corners=False,
        )
        return worst(distance, counting), fine[:, 0]


def visible(images: Tensor) -> Tensor:
    """Return which cells are not wholly black, bool (n, cells)."""
    return F.max_pool2d(images.unsqueeze(1).float(), CELL).flatten(1) > 0


def worst(distance: Tensor, counting: Tensor) -> Tensor:
    """Compute the mean distance (n,) of the `WORST` fraction of the counting cells, at least one.

    `distance` is 0 in the other cells.
    """
    counted = (WORST * counting.sum(1, keepdim=True)).round().clamp_min(1)
    taken = torch.arange(distance.shape[1]) < counted
    return (distance.sort(dim=1, descending=True).values * taken).sum(1) / counted[:, 0]


# ---------------------------------------------------------------------------- mirrored cells


class MirrorResidual(nn.Module):
    """The residual of each cell's features after regression on those of the mirrored cell.

    (n, cells, channels) -> the same shape. One linear regression per cell. What the images of a
    hospital have in common is present on both sides and is predicted; one-sided disease is not. It
    also holds, of the normal images, the mean `variance` of all features, and the `covariance` of
    the residuals of each cell, float64 (cells, channels, channels).
    """

    mean: Tensor
    coefficients: Tensor

    def __init__(
        self, mean: Tensor, coefficients: Tensor, covariance: Tensor, variance: float, grid: int
    ) -> None:
        super().__init__()
        self.grid, self.covariance, self.variance = grid, covariance, variance
        self.register_buffer("mean", mean.float())
        self.register_buffer("coefficients", coefficients.float())

    @classmethod
    def fit(cls, normals: NormalFeatures, ridge: float) -> MirrorResidual:
        """Fit the regressions to normal images.

        `ridge` is added to the variances of the mirrored cell's features, as a fraction of their
        mean; infinity predicts nothing, so that the residual is the deviation from the mean.
        """
        mean, covariance = _moments(normals)
        theirs, across = covariance[:, CHANNELS:, CHANNELS:], covariance[:, CHANNELS:, :CHANNELS]
        eye = torch.eye(CHANNELS, dtype=torch.float64)
        added = ridge * theirs.diagonal(dim1=1, dim2=2).mean(1) + 1e-12
        coefficients = (
            torch.zeros_like(across)
            if ridge == float("inf")
            else torch.linalg.solve(theirs + added[:, None, None] * eye, across)
        )
        less = torch.cat([eye.expand_as(theirs), -coefficients], 1)
        return cls(
            mean,
            coefficients,
            less.transpose(1, 2) @ covariance @ less,
            float(covariance.diagonal(dim1=1, dim2=2).mean()),
            normals.grid,
        )

    def forward(self, found: Tensor) -> Tensor:
        """Compute the residuals."""
        own, theirs = (_both(found, self.grid) - self.mean).split(CHANNELS, dim=2)
        return (own - theirs @ self.coefficients).transpose(0, 1)


def _moments(normals: NormalFeatures) -> tuple[Tensor, Tensor]:
    """Compute mean and covariance of each cell's features with those of the mirrored cell, float64.

    The mean is (cells, 1, 2 channels), the covariance (cells, 2 channels, 2 channels).
    """
    cells = normals.grid**2
    total = torch.zeros((cells, 1, 2 * CHANNELS), dtype=torch.float64)
    products = torch.zeros((cells, 2 * CHANNELS, 2 * CHANNELS), dtype=torch.float64)
    for found, _ in normals:
        both = _both(found, normals.grid).double()
        total += both.sum(1, keepdim=True)
        products.baddbmm_(both.transpose(1, 2), both)
    mean = total / len(normals)
    return mean, (products - len(normals) * mean.transpose(1, 2) @ mean) / (len(normals) - 1)


def _both(found: Tensor, grid: int) -> Tensor:
    """Join each cell's features with the mirrored cell's: (cells, n, 2 channels)."""
    return torch.cat([found, mirrored(found, grid)], 2).transpose(0, 1)


def mirrored(found: Tensor, grid: int) -> Tensor:
    """Return for each cell the features (n, cells, channels) of its mirror position."""
    return found.unflatten(1, (grid, grid)).flip(2).flatten(1, 2)


def whitening(covariance: Tensor, added: float) -> Tensor:
    """Compute matrices (..., channels, channels), float32, that whiten deviations, as rows.

    The length of a whitened deviation is its Mahalanobis distance over the root of the number of
    channels. `covariance` is float64; `added` goes to each variance, so that fewer images than
    channels suffice.
    """
    values, vectors = torch.linalg.eigh(
        covariance + (added + 1e-12) * torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    )
    return (
        vectors / values.clamp_min(1e-12).mul(covariance.shape[-1]).sqrt().unsqueeze(-2)
    ).float()
