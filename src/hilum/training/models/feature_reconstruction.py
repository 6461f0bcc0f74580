"""An anomaly model that reconstructs the features of each cell from the others and the other lung.

Images, cells, features, score and map are those of `hilum.training.anomaly_detection`. A small
convolutional network is trained on normal images to restore the features of hidden cells from those
of the visible ones (a masked autoencoder, He et al. 2022, arXiv:2111.06377, of frozen features, as
in You et al. 2022, arXiv:2206.03687; pixels could be continued without any notion of a lung). Its
input includes the mirror image and the position. An image is evaluated with a quarter of its cells
hidden at a time; the distance of a cell is the Mahalanobis distance of its reconstruction error
among normal images at that position, so that about 1 is usual. A cell is never visible while it is
reconstructed, so disease cannot simply be copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.plugins import Card
from hilum.training import anomaly_detection, training_loop
from hilum.training.schedule import Schedule
from hilum.training.settings import LoopSettings

TASK = "anomaly"
OUTPUTS = anomaly_detection.OUTPUTS
CARD = Card(
    title="Masked reconstruction of EfficientNet-Lite0 features",
    licence=(
        "Apache-2.0 (the code and the ImageNet weights; trained weights are bound by the terms of "
        "the images they were trained on)"
    ),
    source=(
        "He et al.: Masked Autoencoders Are Scalable Vision Learners. CVPR 2022; You et al.: A "
        "Unified Model for Multi-class Anomaly Detection. NeurIPS 2022"
    ),
    citation="arXiv:2111.06377, arXiv:2206.03687",
    caveats=(
        "Finds what cannot be predicted from its surroundings and the other lung as in the normal "
        "training images, not disease: a device, a marker or another hospital may score high too, "
        "and diffuse disease may be predicted from the disease beside it. The score is a mean over "
        "nearly a third of the region: a single small nodule hardly changes it; consult the map."
    ),
)

QUICK: Mapping[str, int | float] = {"epochs": 8, "least_steps": 150}

PHASES = 4  # of each 2 x 2 cells one is hidden at a time
REACH = 8.0  # standard deviations from the mean at which features are clipped
LEVELS = 65535  # of the 16 bits that features are stored in


@dataclass(frozen=True)
class Settings(LoopSettings):
    """`width` is the number of channels, `hidden` the fraction of the cells hidden in training.

    `regularisation` is added to each variance of the errors, as a fraction of their mean.
    """

    width: int = 64
    hidden: float = 0.3
    epochs: int = 30
    least_steps: int = 600
    batch_size: int = 16
    regularisation: float = 0.1
    precision: str = "float32"


def fit(
    images: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    progress: Callable[[int, int], None] = training_loop.ignore,
) -> nn.Module:
    """Train on `rows`, normal ones only, of images, uint8 (N, size, size).

    The features are computed once and held in 16 bits, 31 KB per image at size 224. Returns the
    network ready for export: uint8 (n, size, size) -> (score, map). Raises as
    `anomaly_detection.NormalFeatures` and `training_loop.fit`.
    """
    normals = anomaly_detection.NormalFeatures(images, rows, training_loop.ignore)
    stored, mean, spread = _stored(normals)
    batch = _Hidden(stored, settings.hidden)
    schedule = Schedule.of(settings, len(rows))
    with training_loop.seeded(seed):
        network = Restorer(settings.width, normals.grid)
    examples = training_loop.Examples(batch, np.arange(len(rows)))
    caller = training_loop.Caller(progress=progress)
    training_loop.fit(network, examples, _loss, schedule, seed=seed, caller=caller)
    model = Reconstruction(normals, network, mean, spread).eval()
    model.fit_errors(
        torch.from_numpy(stored).split(anomaly_detection.BATCH), settings.regularisation
    )
    return model


@dataclass(frozen=True)
class _Hidden:
    """Batches of features with random cells hidden; features and mask are input and target."""

    stored: np.ndarray  # uint16 (n, cells, channels)
    hidden: float  # fraction of the cells

    def __call__(
        self, rows: np.ndarray, rngs: Sequence[np.random.Generator]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hide cells of each row."""
        cells = self.stored.shape[1]
        hidden = np.empty((len(rows), cells, 1), bool)
        for one, rng in zip(hidden, rngs, strict=True):
            one[:] = rng.random((cells, 1)) < self.hidden
            one[rng.integers(cells)] = True  # at least one, so that the loss is defined
        features = self.stored[rows]
        masked = np.concatenate([features, hidden * np.uint16(LEVELS)], 2)
        return masked, np.concatenate([features, hidden], 2).astype(np.float32)


def _stored(normals: anomaly_detection.NormalFeatures) -> tuple[np.ndarray, Tensor, Tensor]:
    """Compute all features, quantised to `LEVELS`, with each channel's mean and deviation.

    uint16 (n, cells, channels) and twice float32 (channels,).
    """
    found = np.concatenate([features.half().numpy() for features, _ in normals])
    mean = found.mean((0, 1), dtype=np.float64)
    spread = np.sqrt(np.mean([np.square(one - mean).mean(0) for one in found], 0)) + 1e-6
    stored = np.empty(found.shape, np.uint16)
    for place, one in enumerate(found):
        stored[place] = np.rint(
            np.clip(((one - mean) / spread + REACH) / (2 * REACH), 0, 1) * LEVELS
        )
    return stored, torch.from_numpy(mean).float(), torch.from_numpy(spread).float()


def _standardised(levels: Tensor) -> Tensor:
    """Convert fractions of the levels, [0, 1], back to standard deviations."""
    return levels * (2 * REACH) - REACH


def _loss(restored: Tensor, truth: Tensor) -> Tensor:
    """Compute the mean squared error of hidden cells; `truth` holds levels and, last, the mask."""
    hidden = truth[..., -1:]
    squares = (restored - _standardised(truth[..., :-1] / LEVELS)).square()
    return (squares * hidden).sum() / (hidden.sum() * restored.shape[2])


class Restorer(nn.Module):
    """The network that restores features (n, cells, channels) from those of visible cells.

    Its input is float32 (n, 1, cells, channels + 1): fractions of the levels and, last, 1 where a
    cell is hidden.
    """

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.first = nn.Conv2d(2 * (anomaly_detection.CHANNELS + 1), width, 1)
        self.place = nn.Parameter(torch.zeros(1, width, grid, grid))
        self.around = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=reach, dilation=reach) for reach in (1, 2, 1)
        )
        self.last = nn.Conv2d(width, anomaly_detection.CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Restore the features."""
        return self.restored(_standardised(x[:, 0, :, :-1]), x[:, 0, :, -1:])

    def restored(self, found: Tensor, hidden: Tensor) -> Tensor:
        """Restore standardised features (n, cells, channels) where `hidden` (n, cells, 1) is 1."""
        known = (
            torch.cat([found * (1 - hidden), hidden], 2)
            .transpose(1, 2)
            .unflatten(2, (self.grid, self.grid))
        )
        x = F.relu(self.first(torch.cat([known, known.flip(3)], 1)) + self.place)
        for layer in self.around:
            x = x + F.relu(layer(x))
        return self.last(x).flatten(2).transpose(1, 2)


class Reconstruction(anomaly_detection.Anomaly):
    """The trained model in its export form."""

    hidden: Tensor
    mean: Tensor
    spread: Tensor
    usual: Tensor
    whitening: Tensor

    def __init__(
        self,
        normals: anomaly_detection.NormalFeatures,
        network: Restorer,
        mean: Tensor,
        spread: Tensor,
    ) -> None:
        super().__init__(normals.extractor, normals.size)
        self.network = network
        corner = torch.arange(self.grid) % 2
        phase = (2 * corner.unsqueeze(1) + corner).flatten()
        self.register_buffer("hidden", F.one_hot(phase, PHASES).T.float().unsqueeze(2))
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.register_buffer("usual", torch.zeros(self.grid**2, 1, anomaly_detection.CHANNELS))
        self.register_buffer(
            "whitening",
            torch.zeros(self.grid**2, anomaly_detection.CHANNELS, anomaly_detection.CHANNELS),
        )

    def distance(self, found: Tensor) -> Tensor:
        """Compute the Mahalanobis distance of each cell's reconstruction error."""
        z = ((found - self.mean) / self.spread).clamp(-REACH, REACH)
        deviation = self._errors(z).transpose(0, 1) - self.usual
        return (deviation @ self.whitening).square().sum(2).sqrt().T

    def _errors(self, z: Tensor) -> Tensor:
        """Compute the error of the reconstruction of each cell from the others."""
        restored = sum(
            self.network.restored(z, hidden.expand(z.shape[0], -1, -1)) * hidden
            for hidden in self.hidden.unsqueeze(1)
        )
        return z - restored

    @torch.no_grad()
    def fit_errors(self, stored: tuple[Tensor, ...], regularisation: float) -> None:
        """Fit mean and whitening of the errors at each position to normal images.

        `stored` are levels, uint16 (b, cells, channels) each.
        """
        count = 0
        total = products = torch.zeros((), dtype=torch.float64)
        for levels in stored:
            errors = self._errors(_standardised(levels.float() / LEVELS))
            errors = errors.transpose(0, 1).double()
            count, total = count + errors.shape[1], total + errors.sum(1, keepdim=True)
            products = products + errors.transpose(1, 2) @ errors
        usual = total / count
        covariance = (products - count * usual.transpose(1, 2) @ usual) / (count - 1)
        self.usual.copy_(usual)
        self.whitening.copy_(anomaly_detection.whitening(covariance, regularisation))
