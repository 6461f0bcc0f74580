"""PaDiM, an anomaly model: a Gaussian of normal features at each position.

Images, cells, features, score and map are those of `hilum.training.anomaly_detection`. For each
cell a Gaussian is fitted to the features of the normal images; the distance of an image there is
the Mahalanobis distance over the root of the number of channels, so that about 1 is usual in a
normal image.

Defard et al. 2021 (arXiv:2011.08785), with four differences, each measured on normal and
tuberculous lungs. Only shallow features are used, with all of their channels, and the score is the
mean of the worst fraction of the map (`anomaly_detection` gives the reasons). And each cell is
judged given its mirrored cell, as a radiologist compares the two lungs: the Gaussian describes the
residual of its features after a ridge regression on those of the mirrored cell. What the images of
a hospital have in common is present on both sides and is predicted; one-sided disease is not. So an
image of another hospital is less of an anomaly, and a diseased one no less. Symmetric disease is
found by what the regression leaves, not by the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from hilum.plugins import Card
from hilum.training import anomaly_detection, training_loop

TASK = "anomaly"
OUTPUTS = anomaly_detection.OUTPUTS
CARD = Card(
    title="PaDiM on EfficientNet-Lite0 features",
    licence="Apache-2.0 (the code and the ImageNet weights)",
    source=(
        "Defard, Setkov, Loesch, Audigier: PaDiM: a Patch Distribution Modeling Framework for "
        "Anomaly Detection and Localization. ICPR 2021 workshops"
    ),
    citation="arXiv:2011.08785",
    caveats=(
        "Finds what differs from the normal images it was fitted to, not disease: a device, a "
        "marker, another positioning or another hospital may score high too. It compares position "
        "with position, so lungs must lie in the region as in the fitted images. The score is a "
        "mean over nearly a third of the region: a single small nodule hardly changes it; consult "
        "the map. Fitted to fewer than about a hundred images it ranks markedly worse."
    ),
)

QUICK: Mapping[str, int | float] = {}


@dataclass(frozen=True)
class Settings:
    """`regularisation` is added to each variance, as a fraction of the mean variance.

    Without it fewer images than channels would not suffice. `ridge` is the same for the mirrored
    cell in the regression; `mirror` false judges each cell by itself, as in the paper.
    """

    regularisation: float = 0.1
    ridge: float = 0.1
    mirror: bool = True


def fit(
    images: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    progress: Callable[[int, int], None] = training_loop.ignore,
) -> nn.Module:
    """Fit to `rows`, normal ones only, of images, uint8 (N, size, size).

    Nothing here is random: `seed` is accepted as by every model, and has no effect. Features are
    accumulated: besides the network and a batch, memory holds a few matrices of 200 KiB for each of
    the (size / 16)^2 cells, 40 MiB per matrix at size 224, independent of the number of images.
    Returns the network ready for export: uint8 (n, size, size) -> (score, map). Raises as
    `anomaly_detection.NormalFeatures`.
    """
    normals = anomaly_detection.NormalFeatures(images, rows, progress)
    residual = anomaly_detection.MirrorResidual.fit(
        normals, settings.ridge if settings.mirror else float("inf")
    )
    whitening = anomaly_detection.whitening(
        residual.covariance, settings.regularisation * residual.variance
    )
    return Padim(normals, residual, whitening).eval()


class Padim(anomaly_detection.Anomaly):
    """The fitted model in its export form."""

    whitening: Tensor

    def __init__(
        self,
        normals: anomaly_detection.NormalFeatures,
        residual: anomaly_detection.MirrorResidual,
        whitening: Tensor,
    ) -> None:
        super().__init__(normals.extractor, normals.size)
        self.residual = residual
        self.register_buffer("whitening", whitening)

    def distance(self, found: Tensor) -> Tensor:
        """Compute the Mahalanobis distance of each cell's residual."""
        return (self.residual(found).transpose(0, 1) @ self.whitening).square().sum(2).sqrt().T
