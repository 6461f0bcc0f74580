"""PatchCore, an anomaly model: a memory of what patches of normal images look like, and how far a patch is from the nearest of them.

Images, cells, features, score and map are those of `hilum.training.anomaly_detection`. A patch is what is left of a cell's features when those of the mirror
place have foretold what they can (`_anomaly.Foretold`), whitened alike everywhere, so that a distance of about 1 is a usual one. It is compared with
patches of all places: normal is what was seen anywhere.

Roth et al. 2022 (arXiv:2106.08265), but for shallow features alone, averaged over a cell of 16 x 16 pixels and not once more over the cells around it
(which moves the map's peak and ranks no better), the mirror place (which makes another hospital less of an anomaly), the whitening,
and the worst share of the map for the score in place of its weighted maximum. And the memory is chosen as the patches stream past
(merge and reduce, Har-Peled and Mazumdar 2004): whenever `CHUNK` new patches have come, the farthest-first traversal (Gonzalez 1985) keeps `bank` of
them and the present memory together, by distances after a random projection to `PROJECTED` numbers (Johnson and Lindenstrauss 1984).

Memory, beside PyTorch, the network, a batch and the images, which may stay on disk: at most bank + CHUNK + the cells of a batch of images patches of
80 float32 numbers, of each its projection and distance, and for each cell two float64 matrices of 160 x 160. In bytes

    (bank + 16384 + 16 cells) x 4 x (80 + 32 + 2) + cells x 2 x 8 x 160^2

which is 87 MiB with the default bank of 4,000 at size 224 (196 cells), 416 MiB at size 512 (1,024 cells), whether there are a hundred images
or a hundred thousand; copies in passing are twice that at most. The exported model holds bank x 80 numbers, 1.3 MB, for each cell a matrix of 80 x 80, 5 MB at
size 224, and the network, 0.2 MB.
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
    licence="Apache-2.0 (the code and the ImageNet weights); the memory holds features of the images it was fitted on, which bind it by their terms",
    source="Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler: Towards Total Recall in Industrial Anomaly Detection. CVPR 2022",
    citation="arXiv:2106.08265",
    caveats=(
        "Finds what differs from the normal images it was fitted on, not disease: a device, a marker or another hospital may score high too. It "
        "compares with patches of all places, so what is normal in one place and ill in another may escape it. The score is a mean over nearly a third of the region: a "
        "single small nodule hardly moves it; look at the map."
    ),
)

QUICK: Mapping[str, int | float] = {"bank": 1000}

CHUNK = 16384  # patches between two choices of the memory
PROJECTED = 32  # numbers that a patch is chosen by
LOOKED_AT = (
    1000  # images, evenly spread, that the regression on the mirror place and the whitening are of
)


@dataclass(frozen=True)
class Settings:
    """`bank` patches are remembered. `regularisation` is added to each variance before whitening, as a share of the mean one; `ridge` likewise, of
    the mirror place, in the regression: with less, after few images, what is ill on one side is foretold, wrongly, on the other, and the map
    peaks there."""

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

    `seed` draws the projection. Returns the network ready for export: uint8 (n, size, size) -> (score, map). Raises as `_anomaly.Normals`, and
    `BadRecipe` for a bank of no patch.
    """
    if settings.bank < 1:
        raise BadRecipe(
            f"bank must be at least 1 patch, got {settings.bank}; some thousand are usual"
        )
    spread = rows[:: max(1, -(-len(rows) // LOOKED_AT))] if len(rows) >= 2 else rows
    of = len(spread) + len(rows)
    foretold = anomaly_detection.MirrorResidual.of(
        anomaly_detection.NormalFeatures(images, spread, lambda done, _: progress(done, of)),
        settings.ridge,
    )
    describe = Describe(
        foretold,
        anomaly_detection.whitening(
            foretold.left.mean(0), settings.regularisation * foretold.variance
        ),
    )
    normals = anomaly_detection.NormalFeatures(
        images, rows, lambda done, _: progress(len(spread) + done, of)
    )
    bank = coreset((describe(found)[seen] for found, seen in normals), settings.bank, seed=seed)
    return Patchcore(normals, describe, bank).eval()


class Describe(nn.Module):
    """Features (n, cells, channels) -> patches, the same shape."""

    def __init__(self, foretold: anomaly_detection.MirrorResidual, whitening: Tensor) -> None:
        super().__init__()
        self.foretold = foretold
        self.register_buffer("whitening", whitening)

    def forward(self, found: Tensor) -> Tensor:
        return self.foretold(found) @ self.whitening


# ---------------------------------------------------------------------------------------------------------------------- the memory


def coreset(stream: Iterable[Tensor], size: int, *, seed: int) -> Tensor:
    """At most `size` of the patches (n, channels) that stream past, spread so that every patch has one near it; at least one row, of zeros if
    nothing came. The same for the same stream and seed."""
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
    """The first `size` rows of the farthest-first traversal: each is the one farthest from those before it, beginning with the first row."""
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
        nearest[at] = -1  # never again, whatever rounding leaves
    return patches[chosen.sort().values]


class Patchcore(anomaly_detection.Anomaly):
    """The fitted model as it is used."""

    def __init__(
        self, normals: anomaly_detection.NormalFeatures, describe: Describe, bank: Tensor
    ) -> None:
        super().__init__(normals.extractor, normals.size)
        self.describe = describe
        self.register_buffer("bank", bank)
        self.register_buffer("lengths", bank.square().sum(1))

    def distance(self, found: Tensor) -> Tensor:
        patches = self.describe(found)
        # the nearest by the matrix product, the distance from the difference, which loses no digits where they are alike
        nearest = (2 * patches @ self.bank.T - self.lengths).topk(1, dim=2).indices[:, :, 0]
        return (patches - self.bank[nearest]).square().sum(2).sqrt()
