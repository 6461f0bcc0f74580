"""What the anomaly models share: frozen features of cells, the way through the normal images, and from distances of cells to score and map.

Images are uint8 (n, size, size), bright is dense. Cells are squares of `CELL` x `CELL` pixels, row by row; (size / CELL)^2 of them. Features are
those of the first three stages of an EfficientNet-Lite0 with ImageNet weights, 80 channels, averaged over each cell: float32 (n, cells, channels).

A model is an `Anomaly`: it tells how far each cell is from normal, `distance`, float32 (n, cells) >= 0. From that come

    score   float32 (n,): the mean over the `WORST` share of the cells that are seen, those with the largest distance
    map     float32 (n, size, size): the distance, linear between the cells, 0 in cells that are not seen

A cell is seen unless it is wholly black. So beside a letterboxed picture nothing counts, and where the recipe says `[crop] masked` only the
lungs and their rim do; a cell that is cut by the lungs' outline counts like any other. An image that is black altogether scores 0.

Why shallow features: deeper ones tell hospitals apart as well as they tell the ill from the well. Why a share of the cells: the largest alone is
drawn to side markers and ranks worst, and the mean of all ranks best on lungs that are ill far and wide but hardly moves for what is ill in one
place. Measured in bench/RESULTS.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import TooFew
from hilum.training import efficientnet_backbone

OUTPUTS = ("score", "map")
DEPTH = 3  # stages of the backbone
CELL = 16  # pixels
CHANNELS = sum(stage[-1] for stage in efficientnet_backbone.STAGES[:DEPTH])
BATCH = 16  # images whose features are found at once
WORST = 0.3  # share of the seen cells that the score is the mean of


class Features(nn.Module):
    """uint8 (n, size, size) -> float32 (n, cells, channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = efficientnet_backbone.Backbone(DEPTH)
        efficientnet_backbone.load_imagenet(self.backbone)
        self.backbone.freeze(DEPTH)

    def forward(self, images: Tensor) -> Tensor:
        x = images.unsqueeze(1).float() / 255
        # the stages are at 1/2, 1/4 and 1/8 of the size
        cells = [
            F.avg_pool2d(found, CELL >> depth)
            for depth, found in enumerate(self.backbone.each_stage(x), start=1)
        ]
        return torch.cat(cells, 1).flatten(2).transpose(1, 2)


class NormalFeatures:
    """The features of normal images, found anew each time they are gone through, so that memory holds those of one batch: 60 KiB an image at 224.

    Raises `TooFew` for fewer than two rows, `BadRecipe` for a size that the network cannot take, `MissingExtra` without the package that carries
    the ImageNet weights.
    """

    def __init__(
        self,
        images: np.ndarray,
        rows: np.ndarray,
        progress: Callable[[int, int], None],
        *,
        passes: int = 1,
    ) -> None:
        efficientnet_backbone.check_size(*images.shape[1:])
        if len(rows) < 2:
            raise TooFew(
                f"cannot fit an anomaly model to {len(rows)} normal image(s): at least 2 are needed, and some hundred to be of use"
            )
        self.images, self.rows, self.size, self.grid = (
            images,
            rows,
            images.shape[1],
            images.shape[1] // CELL,
        )
        self.extractor, self.progress, self.done, self.of = (
            Features(),
            progress,
            0,
            passes * len(rows),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Features float32 (b, cells, channels) and which cells are `seen`, b at most `BATCH`, in the order of the rows."""
        for start in range(0, len(self.rows), BATCH):
            images = torch.from_numpy(
                np.ascontiguousarray(self.images[self.rows[start : start + BATCH]])
            )
            with torch.no_grad():
                found = self.extractor(images)
            yield found, seen(images)
            self.done += len(images)
            self.progress(self.done, self.of)


class Anomaly(nn.Module, ABC):
    """uint8 (n, size, size) -> score float32 (n,), map float32 (n, size, size). A model says what `distance` is."""

    def __init__(self, features: Features, size: int) -> None:
        super().__init__()
        self.features, self.size, self.grid = features, size, size // CELL

    @abstractmethod
    def distance(self, found: Tensor) -> Tensor:
        """Features (n, cells, channels) -> distance from normal (n, cells), finite and not negative; about 1 is usual."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        counting = seen(images)
        distance = self.distance(self.features(images)) * counting
        fine = F.interpolate(
            distance.reshape(-1, 1, self.grid, self.grid),
            size=(self.size, self.size),
            mode="bilinear",
            align_corners=False,
        )
        return worst(distance, counting), fine[:, 0]


def seen(images: Tensor) -> Tensor:
    """bool (n, cells): the cells that are not wholly black."""
    return F.max_pool2d(images.unsqueeze(1).float(), CELL).flatten(1) > 0


def worst(distance: Tensor, counting: Tensor) -> Tensor:
    """The mean distance (n,) of the `WORST` share of the counting cells, at least one of them; distance is 0 in the others."""
    counted = (WORST * counting.sum(1, keepdim=True)).round().clamp_min(1)
    taken = torch.arange(distance.shape[1]) < counted
    return (distance.sort(dim=1, descending=True).values * taken).sum(1) / counted[:, 0]


# ------------------------------------------------------------------------------------------------- each cell, given its mirror place


class MirrorResidual(nn.Module):
    """Takes from the features of each cell what those of its mirror place foretell of them: (n, cells, channels) -> the same, what is left.

    A linear regression for each cell. What a hospital's pictures have in common stands on both sides and is foretold; what is ill on one side is
    not. Of the normal images it knows the mean `variance` of all features, and the covariance of what is `left` of each cell's, float64 (cells,
    channels, channels).
    """

    def __init__(
        self, mean: Tensor, foretelling: Tensor, left: Tensor, variance: float, grid: int
    ) -> None:
        super().__init__()
        self.grid, self.left, self.variance = grid, left, variance
        self.register_buffer("mean", mean.float())
        self.register_buffer("foretelling", foretelling.float())

    @classmethod
    def of(cls, normals: NormalFeatures, ridge: float) -> MirrorResidual:
        """`ridge` is added to the variances of the mirror place's features, as a share of their mean; infinite: nothing is foretold."""
        mean, covariance = _moments(normals)
        theirs, across = covariance[:, CHANNELS:, CHANNELS:], covariance[:, CHANNELS:, :CHANNELS]
        eye = torch.eye(CHANNELS, dtype=torch.float64)
        added = ridge * theirs.diagonal(dim1=1, dim2=2).mean(1) + 1e-12
        foretelling = (
            torch.zeros_like(across)
            if ridge == float("inf")
            else torch.linalg.solve(theirs + added[:, None, None] * eye, across)
        )
        less = torch.cat([eye.expand_as(theirs), -foretelling], 1)
        return cls(
            mean,
            foretelling,
            less.transpose(1, 2) @ covariance @ less,
            float(covariance.diagonal(dim1=1, dim2=2).mean()),
            normals.grid,
        )

    def forward(self, found: Tensor) -> Tensor:
        own, theirs = (_both(found, self.grid) - self.mean).split(CHANNELS, dim=2)
        return (own - theirs @ self.foretelling).transpose(0, 1)


def _moments(normals: NormalFeatures) -> tuple[Tensor, Tensor]:
    """Mean (cells, 1, 2 channels) and covariance (cells, 2 channels, 2 channels) of each cell's features and its mirror place's, float64."""
    total = products = torch.zeros((), dtype=torch.float64)
    for found, _ in normals:
        both = _both(found, normals.grid).double()
        total = total + both.sum(1, keepdim=True)
        products = products + both.transpose(1, 2) @ both
    mean = total / len(normals)
    return mean, (products - len(normals) * mean.transpose(1, 2) @ mean) / (len(normals) - 1)


def _both(found: Tensor, grid: int) -> Tensor:
    """Features (n, cells, channels) -> each cell's own and its mirror place's, (cells, n, 2 channels)."""
    return torch.cat([found, mirrored(found, grid)], 2).transpose(0, 1)


def mirrored(found: Tensor, grid: int) -> Tensor:
    """The features (n, cells, channels) of each cell's place on the other side of the picture."""
    return found.unflatten(1, (grid, grid)).flip(2).flatten(1, 2)


def whitening(covariance: Tensor, added: float) -> Tensor:
    """The matrices (..., channels, channels), float32, that take a deviation, a row, to one whose length is its Mahalanobis distance over the root
    of the number of channels. `covariance` is float64; `added` goes to each variance, so that fewer images than channels will do."""
    values, vectors = torch.linalg.eigh(
        covariance + (added + 1e-12) * torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    )
    return (
        vectors / values.clamp_min(1e-12).mul(covariance.shape[-1]).sqrt().unsqueeze(-2)
    ).float()
