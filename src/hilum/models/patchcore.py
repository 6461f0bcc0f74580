"""PatchCore, an anomaly model: a memory of what patches of normal images look like, and how far a patch is from the nearest of them.

Images, cells, features, score and map are those of `hilum.models._anomaly`. A patch is the mean of a cell's features with those of the cells
around it, beside them how it differs from the patch at the mirror place; both are whitened, so that a distance of about 1 is a usual one. It knows
no place: a patch is normal where the like of it was seen anywhere.

Roth et al. 2022 (arXiv:2106.08265), but for shallow features alone, the mirror place (which makes another hospital less of an anomaly), the
whitening, the worst share of the map for the score in place of its weighted maximum; and the memory is chosen as the patches stream past
(merge and reduce: Har-Peled and Mazumdar 2004, arXiv:1810.12826 for k-centre): whenever `CHUNK` new patches have come, the farthest-first
traversal (Gonzalez 1985) keeps `bank` of them and the present memory together, by distances after a random projection to `PROJECTED` numbers
(Johnson and Lindenstrauss 1984).

Memory: beside the network, a batch and the images, which may stay on disk, (bank + CHUNK + the patches of a batch) patches of 160 float32 numbers, and
of each its projection and distance: 4 x (160 + 32 + 2) bytes. With the default bank of 4,000 that is 17 MiB at size 224 and 27 MiB at
size 512, whether there are a hundred images or a hundred thousand; copies in passing are three times that at most. The exported model holds
bank x 160 numbers, 2.6 MB, and the network, 0.2 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import BadRecipe
from hilum.models import _anomaly, _loop
from hilum.shelf import Card

TASK = "anomaly"
OUTPUTS = _anomaly.OUTPUTS
CARD = Card(
    title="PatchCore on EfficientNet-Lite0 features",
    licence="Apache-2.0 (the code and the ImageNet weights); the memory holds features of the images it was fitted on, which bind it by their terms",
    source="Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler: Towards Total Recall in Industrial Anomaly Detection. CVPR 2022",
    citation="arXiv:2106.08265",
    caveats=(
        "Finds what differs from the normal images it was fitted on, not disease: a device, a marker or another hospital may score high too. It "
        "knows no place, so what is normal in one place and ill in another escapes it. The score is a mean over nearly a third of the region: a "
        "single small nodule hardly moves it; look at the map."
    ),
)

QUICK: Mapping[str, int | float] = {"bank": 1000}

CHUNK = 16384  # patches between two choices of the memory
PROJECTED = 32  # numbers that a patch is chosen by
LOOKED_AT = 256  # images, evenly spread, that the whitening is of


@dataclass(frozen=True)
class Settings:
    """`bank` patches are remembered. `regularisation` is added to each variance before whitening, as a share of the mean one."""

    bank: int = 4000
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

    `seed` draws the projection. Returns the network ready for export: uint8 (n, size, size) -> (score, map). Raises as `_anomaly.Normals`, and
    `BadRecipe` for a bank of no patch.
    """
    if settings.bank < 1:
        raise BadRecipe(f"bank must be at least 1 patch, got {settings.bank}; some thousand are usual")
    spread = rows[:: max(1, -(-len(rows) // LOOKED_AT))] if len(rows) >= 2 else rows
    of = len(spread) + len(rows)
    mean, whitening = _whitened(_patches(_anomaly.Normals(images, spread, lambda done, _: progress(done, of))), settings.regularisation)
    normals = _anomaly.Normals(images, rows, lambda done, _: progress(len(spread) + done, of))
    bank = coreset(((found - mean) @ whitening for found in _patches(normals)), settings.bank, seed=seed)
    return Patchcore(normals, mean, whitening, bank).eval()


def _patches(normals: _anomaly.Normals) -> Iterator[Tensor]:
    """The seen patches of the normal images, float32 (patches, 2 channels), a batch of images at a time."""
    for found, seen in normals:
        if seen.any():
            yield described(found, normals.grid)[seen]


def described(found: Tensor, grid: int) -> Tensor:
    """Features (n, cells, channels) -> patches (n, cells, 2 channels): the mean with the cells around, and its difference from the mirror's."""
    around = F.avg_pool2d(found.transpose(1, 2).unflatten(2, (grid, grid)), 3, 1, 1, count_include_pad=False).flatten(2).transpose(1, 2)
    return torch.cat([around, around - _anomaly.mirrored(around, grid)], 2)


def _whitened(stream: Iterable[Tensor], regularisation: float) -> tuple[Tensor, Tensor]:
    """Mean (2 channels,) and whitening (2 channels, 2 channels) of all patches, float32."""
    count, total, products = 0, torch.zeros(2 * _anomaly.CHANNELS, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for patches in stream:
        count, wide = count + len(patches), patches.double()
        total, products = total + wide.sum(0), products + wide.T @ wide
    mean = total / max(count, 1)
    covariance = products / max(count, 1) - mean.outer(mean)
    return mean.float(), _anomaly.whitening(covariance, regularisation * float(covariance.diagonal().mean())).float()


# ---------------------------------------------------------------------------------------------------------------------- the memory


def coreset(stream: Iterable[Tensor], size: int, *, seed: int) -> Tensor:
    """At most `size` of the patches (n, channels) that stream past, spread so that every patch has one near it; at least one row, of zeros if
    nothing came. The same for the same stream and seed."""
    kept: list[Tensor] = []
    channels, coming, projection = 2 * _anomaly.CHANNELS, 0, None
    for patches in stream:
        if projection is None:
            channels = patches.shape[1]
            projection = torch.randn((channels, PROJECTED), generator=torch.Generator().manual_seed(seed)) / PROJECTED**0.5
        kept.append(patches)
        coming += len(patches)
        if coming >= CHUNK:
            kept, coming = [_spread(torch.cat(kept), projection, size)], 0
    if not kept:
        return torch.zeros((1, channels))
    return _spread(torch.cat(kept), projection, size)


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


class Patchcore(_anomaly.Anomaly):
    """The fitted model as it is used."""

    def __init__(self, normals: _anomaly.Normals, mean: Tensor, whitening: Tensor, bank: Tensor) -> None:
        super().__init__(normals.extractor, normals.size)
        self.register_buffer("mean", mean)
        self.register_buffer("whitening", whitening)
        self.register_buffer("bank", bank)
        self.register_buffer("lengths", bank.square().sum(1))

    def distance(self, found: Tensor) -> Tensor:
        patches = (described(found, self.grid) - self.mean) @ self.whitening
        # the nearest by the matrix product, the distance from the difference, which loses no digits where they are alike
        nearest = (2 * patches @ self.bank.T - self.lengths).topk(1, dim=2).indices.squeeze(2)
        return (patches - self.bank[nearest]).square().sum(2).sqrt()
