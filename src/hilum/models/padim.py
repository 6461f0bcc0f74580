"""PaDiM, an anomaly model: what normal images look like at each place, and how far an image is from that.

Images are uint8 (n, size, size), bright is dense. The features of the first three stages of an EfficientNet-Lite0 with
ImageNet weights, 80 channels, are averaged over cells of 16 x 16 pixels. For each cell a Gaussian is fitted to those of
the normal images; an image's distance there is Mahalanobis', divided by the root of the number of channels, so that
about 1 is what is usual in a normal image. "map" is that distance, float32 (n, size, size) >= 0, linear between the
cells; "score" its mean over the tenth of the cells with the largest distance, float32 (n,).

Defard et al. 2021 (arXiv:2011.08785), but for three choices, each measured on normal and tuberculous lungs: shallow
features alone, all of their channels, and the largest tenth of the map for the score. The paper's maximum of the map
ranks worse, and is drawn to side markers; the mean of all of it ranks as well on lungs that are ill far and wide, and
misses what is ill in one place. Deeper features tell the hospitals apart as well as they tell the ill from the well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import TooFew
from hilum.models import _backbone, _loop
from hilum.shelf import Card

TASK = "anomaly"
OUTPUTS = ("score", "map")
CARD = Card(
    title="PaDiM on EfficientNet-Lite0 features",
    licence="Apache-2.0 (the code and the ImageNet weights)",
    source=(
        "Defard, Setkov, Loesch, Audigier: PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and "
        "Localization. ICPR 2021 workshops"
    ),
    citation="arXiv:2011.08785",
    caveats=(
        "Finds what differs from the normal images it was fitted on, not disease: a device, a marker, another posture or "
        "another hospital may score high too. It compares place with place, so lungs must lie in the region as they did "
        "in fitting. The score is a mean over a tenth of the region: a single small nodule hardly moves it; look at the map. Fitted "
        "to fewer than about a hundred images it ranks markedly worse."
    ),
)

QUICK: Mapping[str, int | float] = {}

DEPTH = 3  # stages of the backbone
CELL = 16  # pixels
BATCH = 16
WORST = 0.1  # share of the cells that the score is the mean of


@dataclass(frozen=True)
class Settings:
    """`regularisation` is added to each variance, as a share of the mean variance of all channels and places; without
    it fewer images than channels would not do."""

    regularisation: float = 0.1


def fit(
    images: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    progress: Callable[[int, int], None] = _loop.ignore,
) -> nn.Module:
    """Fit to `rows`, normal ones only, of images, uint8 (N, size, size).

    Nothing here is random: `seed` is taken as by every model, and changes nothing. Features are added up as they come:
    beside the network and a batch, memory holds a few matrices of 50 KiB for each of the (size / 16)^2 cells, 10 MiB
    each time at size 224, however many images there are. Returns the network ready for export: uint8 (n, size, size)
    -> (score, map). Raises `TooFew` for fewer than two rows, `BadRecipe` for a size that the network cannot take,
    `MissingExtra` without the package that carries the ImageNet weights.
    """
    _backbone.check_size(*images.shape[1:])
    if len(rows) < 2:
        raise TooFew(
            f"cannot fit an anomaly model to {len(rows)} normal image(s): at least 2 are needed, and some hundred to be "
            "of use"
        )
    features = Features()
    total = products = torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        for start in range(0, len(rows), BATCH):
            found = features(torch.from_numpy(images[rows[start : start + BATCH]])).double()
            total = total + found.sum(1)
            products = products + found.transpose(1, 2) @ found
            progress(min(start + BATCH, len(rows)), len(rows))
    mean = total / len(rows)
    covariance = (products - len(rows) * mean.unsqueeze(2) * mean.unsqueeze(1)) / (len(rows) - 1)
    return Padim(features, mean, _whitening(covariance, settings.regularisation), images.shape[1]).eval()


def _whitening(covariance: Tensor, regularisation: float) -> Tensor:
    """For each cell the matrix (channels, channels) that takes a deviation, a row, to one whose length is its
    Mahalanobis distance."""
    variance = covariance.diagonal(dim1=1, dim2=2)
    kept = covariance + torch.diag_embed(torch.full_like(variance, regularisation * float(variance.mean()) + 1e-12))
    values, vectors = torch.linalg.eigh(kept)
    return vectors / values.clamp_min(1e-12).sqrt().unsqueeze(1)


class Features(nn.Module):
    """uint8 (n, size, size) -> float32 (cells, n, channels), the cells row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _backbone.Backbone(DEPTH)
        _backbone.load_imagenet(self.backbone)
        self.backbone.freeze(DEPTH)

    def forward(self, images: Tensor) -> Tensor:
        x = images.unsqueeze(1).float() / 255
        # the stages are at 1/2, 1/4 and 1/8 of the size
        cells = [F.avg_pool2d(found, CELL >> depth) for depth, found in enumerate(self.backbone.each_stage(x), start=1)]
        return torch.cat(cells, 1).flatten(2).permute(2, 0, 1)


class Padim(nn.Module):
    """The fitted model as it is used: uint8 (n, size, size) -> score float32 (n,), map float32 (n, size, size)."""

    def __init__(self, features: Features, mean: Tensor, whitening: Tensor, size: int) -> None:
        super().__init__()
        self.features = features
        self.size = size
        self.worst = max(1, round(WORST * (size // CELL) ** 2))  # cells
        self.register_buffer("mean", mean.float().unsqueeze(1))
        self.register_buffer("whitening", (whitening / whitening.shape[1] ** 0.5).float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        distance = ((self.features(images) - self.mean) @ self.whitening).square().sum(2).sqrt()
        grid = distance.transpose(0, 1).reshape(-1, 1, self.size // CELL, self.size // CELL)
        fine = F.interpolate(grid, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return distance.topk(self.worst, dim=0).values.mean(0), fine.squeeze(1)
