"""PaDiM, an anomaly model: what normal images look like at each place, and how far an image is from that.

Images, cells, features, score and map are those of `hilum.models._anomaly`. For each cell a Gaussian is fitted to the features of the normal
images; an image's distance there is Mahalanobis', divided by the root of the number of channels, so that about 1 is what is usual in a normal image.

Defard et al. 2021 (arXiv:2011.08785), but for four choices, each measured on normal and tuberculous lungs. Shallow features alone, all of their
channels, and the worst share of the map for the score (`_anomaly` says why). And each cell is judged given its mirror place, as a reader compares
the two lungs: the Gaussian is of what is left of its features when those of the mirror place have foretold what they can (a linear regression,
ridge). What a hospital's pictures have in common stands on both sides and is foretold; what is ill on one side is not. So an image of another
hospital is less of an anomaly, and an ill one no less. What is ill alike on both sides is found by the rest, not by the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hilum.models import _anomaly, _loop
from hilum.shelf import Card

TASK = "anomaly"
OUTPUTS = _anomaly.OUTPUTS
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
        "in fitting. The score is a mean over nearly a third of the region: a single small nodule hardly moves it; look at the map. Fitted "
        "to fewer than about a hundred images it ranks markedly worse."
    ),
)

QUICK: Mapping[str, int | float] = {}


@dataclass(frozen=True)
class Settings:
    """`regularisation` is added to each variance, as a share of the mean variance of all channels and places; without
    it fewer images than channels would not do. `ridge` likewise in the regression on the mirror place; `mirror` false: each cell by itself,
    as in the paper."""

    regularisation: float = 0.1
    ridge: float = 0.1
    mirror: bool = True


def fit(
    images: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    progress: Callable[[int, int], None] = _loop.ignore,
) -> nn.Module:
    """Fit to `rows`, normal ones only, of images, uint8 (N, size, size).

    Nothing here is random: `seed` is taken as by every model, and changes nothing. Features are added up as they come: beside the network and a
    batch, memory holds a few matrices of 200 KiB for each of the (size / 16)^2 cells, 40 MiB each time at size 224, however many images there
    are. Returns the network ready for export: uint8 (n, size, size) -> (score, map). Raises as `_anomaly.Normals`.
    """
    normals = _anomaly.Normals(images, rows, progress)
    mean, covariance = _moments(normals)
    own = _anomaly.CHANNELS
    scale = settings.regularisation * float(covariance[:, :own, :own].diagonal(dim1=1, dim2=2).mean())
    foretelling = _regression(covariance, settings.ridge) if settings.mirror else torch.zeros_like(covariance[:, own:, :own])
    # what is left of the own features: they less the regression on the mirror's
    left = torch.cat([torch.eye(own, dtype=torch.float64).expand(len(covariance), -1, -1), -foretelling], 1)
    return Padim(normals, mean, left @ _anomaly.whitening(left.transpose(1, 2) @ covariance @ left, scale)).eval()


def _moments(normals: _anomaly.Normals) -> tuple[Tensor, Tensor]:
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
    return torch.cat([found, _anomaly.mirrored(found, grid)], 2).transpose(0, 1)


def _regression(covariance: Tensor, ridge: float) -> Tensor:
    """For each cell the matrix (channels, channels) that foretells its features, a row, from its mirror place's."""
    own = _anomaly.CHANNELS
    theirs = covariance[:, own:, own:]
    variance = theirs.diagonal(dim1=1, dim2=2)
    added = ridge * variance.mean(1, keepdim=True) + 1e-12
    return torch.linalg.solve(theirs + torch.diag_embed(added.expand_as(variance)), covariance[:, own:, :own])


class Padim(_anomaly.Anomaly):
    """The fitted model as it is used."""

    def __init__(self, normals: _anomaly.Normals, mean: Tensor, whitening: Tensor) -> None:
        super().__init__(normals.extractor, normals.size)
        self.register_buffer("mean", mean.float())
        self.register_buffer("whitening", whitening.float())

    def distance(self, found: Tensor) -> Tensor:
        return ((_both(found, self.grid) - self.mean) @ self.whitening).square().sum(2).sqrt().T
