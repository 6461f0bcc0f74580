"""PaDiM, an anomaly model: what normal images look like at each place, and how far an image is from that.

Images, cells, features, score and map are those of `hilum.training.anomaly_detection`. For each cell a Gaussian is fitted to the features of the normal
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
from torch import Tensor, nn

from hilum.plugins import Card
from hilum.training import anomaly_detection, training_loop

TASK = "anomaly"
OUTPUTS = anomaly_detection.OUTPUTS
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
    it fewer images than channels would not do. `ridge` likewise, of the mirror place, in the regression; `mirror` false: each cell by
    itself, as in the paper."""

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

    Nothing here is random: `seed` is taken as by every model, and changes nothing. Features are added up as they come: beside the network and a
    batch, memory holds a few matrices of 200 KiB for each of the (size / 16)^2 cells, 40 MiB each time at size 224, however many images there
    are. Returns the network ready for export: uint8 (n, size, size) -> (score, map). Raises as `_anomaly.Normals`.
    """
    normals = anomaly_detection.NormalFeatures(images, rows, progress)
    foretold = anomaly_detection.MirrorResidual.of(
        normals, settings.ridge if settings.mirror else float("inf")
    )
    return Padim(
        normals,
        foretold,
        anomaly_detection.whitening(foretold.left, settings.regularisation * foretold.variance),
    ).eval()


class Padim(anomaly_detection.Anomaly):
    """The fitted model as it is used."""

    def __init__(
        self,
        normals: anomaly_detection.NormalFeatures,
        foretold: anomaly_detection.MirrorResidual,
        whitening: Tensor,
    ) -> None:
        super().__init__(normals.extractor, normals.size)
        self.foretold = foretold
        self.register_buffer("whitening", whitening)

    def distance(self, found: Tensor) -> Tensor:
        return (self.foretold(found).transpose(0, 1) @ self.whitening).square().sum(2).sqrt().T
