"""PatchCore, an anomaly model: the distance of each patch to the nearest patch of normal images.

Images, cells, features, score and map are those of `hilum.training.anomaly_detection`. A patch is
the residual of a cell's features after regression on the mirrored cell's
(`anomaly_detection.MirrorResidual`), whitened equally everywhere, so that a distance of about 1 is
usual. It is compared with patches of all positions: normal is what was seen anywhere.

Roth et al. 2022 (arXiv:2106.08265), with these differences: only shallow features, averaged over a
cell of 16 x 16 pixels and not once more over neighbouring cells (which moves the map's peak and
ranks no better); the regression on the mirrored cell (which makes another hospital less of an
anomaly); the whitening; and the mean of the worst fraction of the map as score in place of its
weighted maximum. And the memory bank is selected from a stream of patches (merge and reduce,
Har-Peled and Mazumdar 2004): whenever `CHUNK` new patches have arrived, the farthest-first
traversal (Gonzalez 1985) keeps `bank` of them and the present bank together, by distances after a
random projection to `PROJECTED` numbers (Johnson and Lindenstrauss 1984).

Memory, besides PyTorch, the network, a batch and the images, which may stay on disk: at most bank +
CHUNK + the cells of a batch of images patches of 80 float32 numbers, each with its projection and
distance, and for each cell two float64 matrices of 160 x 160. In bytes

    (bank + 16384 + 16 cells) x 4 x (80 + 32 + 2) + cells x 2 x 8 x 160^2

which is 87 MiB with the default bank of 4,000 at size 224 (196 cells), 416 MiB at size 512 (1,024
cells), for a hundred images or a hundred thousand; temporary copies are twice that at most. The
exported model holds bank x 80 numbers, 1.3 MB, for each cell a matrix of 80 x 80, 5 MB at size 224,
and the network, 0.2 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hilum.errors import BadRecipe
from hilum.plugins import Card
from hilum.training import anomaly_detection, training_loop

TASK = "anomaly"
OUTPUTS = anomaly_detection.OUTPUTS
CARD = Card(
    title="PatchCore on EfficientNet-Lite0 features",
    licence=(
        "Apache-2.0 (the code and the ImageNet weights); the memory bank holds features of the "
        "images it was fitted to, whose terms bind it"
    ),
    source=(
        "Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler: Towards Total Recall in Industrial "
        "Anomaly Detection. CVPR 2022"
    ),
    citation="arXiv:2106.08265",
    caveats=(
        "Finds what differs from the normal images it was fitted to, not disease: a device, a "
        "marker or another hospital may score high too. It compares with patches of all positions, "
        "so it may miss what is normal in one place and abnormal in another. The score is a mean "
        "over nearly a third of the region: a single small nodule hardly changes it; consult the "
        "map."
    ),
)

QUICK: Mapping[str, int | float] = {"bank": 1000}

CHUNK = 16384  # patches between two selections of the memory bank
PROJECTED = 32  # dimensions of the random projection
REGRESSED = 1000  # images, evenly spread, that regression and whitening are fitted to


@dataclass(frozen=True)
class Settings:
    """`bank` is the number of patches in the memory.

    `regularisation` is added to each variance before whitening, as a fraction of their mean;
    `ridge` is the same for the mirrored cell in the regression. With a smaller ridge and few
    images, one-sided disease is wrongly predicted on the other side, and the map peaks there.
    """

    bank: int = 4000
    regularisation: float = 0.1
    ridge: float = 1.0


def fit(
    images: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    progress: Callable[[int, int], None] = training_loop.ignore,
) -> nn.Module:
    """Fit to `rows`, normal ones only, of images, uint8 (N, size, size).

    `seed` determines the projection. Returns the network ready for export: uint8 (n, size, size) ->
    (score, map). Raises as `anomaly_detection.NormalFeatures`, and `BadRecipe` for an empty bank.
    """
    if settings.bank < 1:
        raise BadRecipe(
            f"bank must be at least 1 patch, got {settings.bank}; some thousand are usual"
        )
    spread = rows[:: max(1, -(-len(rows) // REGRESSED))] if len(rows) >= 2 else rows
    of = len(spread) + len(rows)
    residual = anomaly_detection.MirrorResidual.fit(
        anomaly_detection.NormalFeatures(images, spread, lambda done, _: progress(done, of)),
        settings.ridge,
    )
    whitening = anomaly_detection.whitening(
        residual.covariance.mean(0), settings.regularisation * residual.variance
    )
    describe = Describe(residual, whitening)
    normals = anomaly_detection.NormalFeatures(
        images, rows, lambda done, _: progress(len(spread) + done, of)
    )
    patches = (describe(found)[visible] for found, visible in normals)
    bank = coreset(patches, settings.bank, seed=seed)
    return Patchcore(normals, describe, bank).eval()


class Describe(nn.Module):
    """Patches of the same shape from features (n, cells, channels)."""

    whitening: Tensor

    def __init__(self, residual: anomaly_detection.MirrorResidual, whitening: Tensor) -> None:
        super().__init__()
        self.residual = residual
        self.register_buffer("whitening", whitening)

    def forward(self, found: Tensor) -> Tensor:
        """Compute the patches."""
        return self.residual(found) @ self.whitening


# ---------------------------------------------------------------------------- the memory bank


def coreset(stream: Iterable[Tensor], size: int, *, seed: int) -> Tensor:
    """Select at most `size` patches (n, channels) of a stream, so that every patch has one nearby.

    At least one row is returned, of zeros for an empty stream. Reproducible for a stream and seed.
    """
    kept, coming = [torch.zeros((0, anomaly_detection.CHANNELS))], 0
    projection = (
        torch.randn(
            (anomaly_detection.CHANNELS, PROJECTED), generator=torch.Generator().manual_seed(seed)
        )
        / PROJECTED**0.5
    )
    for patches in stream:
        kept.append(patches)
        coming += len(patches)
        if coming >= CHUNK:
            kept, coming = [_spread(torch.cat(kept), projection, size)], 0
    found = _spread(torch.cat(kept), projection, size)
    return found if len(found) else torch.zeros((1, anomaly_detection.CHANNELS))


def _spread(patches: Tensor, projection: Tensor, size: int) -> Tensor:
    """Select `size` rows by farthest-first traversal, beginning with the first row.

    Each further row is the one farthest from those before it.
    """
    if len(patches) <= size:
        return patches
    points = patches @ projection
    squares = points.square().sum(1)
    nearest = torch.full_like(squares, torch.inf)
    chosen = torch.zeros(size, dtype=torch.long)
    for place in range(size):
        at = int(nearest.argmax()) if place else 0
        chosen[place] = at
        torch.minimum(nearest, squares + squares[at] - 2 * (points @ points[at]), out=nearest)
        nearest[at] = -1  # not selected again, whatever rounding leaves
    return patches[chosen.sort().values]


class Patchcore(anomaly_detection.Anomaly):
    """The fitted model in its export form."""

    bank: Tensor
    lengths: Tensor

    def __init__(
        self, normals: anomaly_detection.NormalFeatures, describe: Describe, bank: Tensor
    ) -> None:
        super().__init__(normals.extractor, normals.size)
        self.describe = describe
        self.register_buffer("bank", bank)
        self.register_buffer("lengths", bank.square().sum(1))

    def distance(self, found: Tensor) -> Tensor:
        """Compute each cell's distance to the nearest patch of the bank."""
        patches = self.describe(found)
        # The matrix product finds the nearest patch; its distance is computed from the difference,
        # which loses no digits where the two are similar.
        nearest = (2 * patches @ self.bank.T - self.lengths).topk(1, dim=2).indices[:, :, 0]
        return (patches - self.bank[nearest]).square().sum(2).sqrt()
