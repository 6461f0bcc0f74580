"""An anomaly model by reconstruction: what a cell of a normal image should look like, told by the cells around it and by the other lung.

Images, cells, features, score and map are those of `hilum.training.anomaly_detection`. A small convolutional network learns on normal images to restore the
features of hidden cells from those of the others (a masked autoencoder, He et al. 2022, arXiv:2111.06377, of frozen features, as in You et al.
2022, arXiv:2206.03687, in place of pixels: pixels of lungs can be painted on without an idea of lungs). It sees the mirror image beside the image,
and the place. To ask about an image, a quarter of its cells is hidden at a time; the distance of a cell is Mahalanobis', of what its reconstruction
is off by, in that place in normal images, so that about 1 is usual. No cell is seen while it is reconstructed, so there is no way to
copy what is ill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.plugins import Card
from hilum.training import anomaly_detection, training_loop

TASK = "anomaly"
OUTPUTS = anomaly_detection.OUTPUTS
CARD = Card(
    title="Masked reconstruction of EfficientNet-Lite0 features",
    licence=(
        "Apache-2.0 (the code and the ImageNet weights; trained weights are bound by the terms of the images they were "
        "trained on)"
    ),
    source=(
        "He et al.: Masked Autoencoders Are Scalable Vision Learners. CVPR 2022; You et al.: A Unified Model for Multi-class "
        "Anomaly Detection. NeurIPS 2022"
    ),
    citation="arXiv:2111.06377, arXiv:2206.03687",
    caveats=(
        "Finds what its surroundings and the other lung do not lead one to expect after the normal images it learnt from, not disease: a device, a "
        "marker or another hospital may score high too, and what is ill far and wide may be foretold from what is ill beside it. The score is a "
        "mean over nearly a third of the region: a single small nodule hardly moves it; look at the map."
    ),
)

QUICK: Mapping[str, int | float] = {"epochs": 8, "least_steps": 150}

PHASES = 4  # of each 2 x 2 cells one is hidden at a time
REACH = 8.0  # standard deviations from the mean that a feature is told in
LEVELS = 65535


@dataclass(frozen=True)
class Settings:
    """`hidden` is the share of the cells that are hidden in training. Training runs for `epochs`, or longer on few images, until `least_steps`
    batches. `regularisation` is added to each variance of the errors, as a share of the mean one."""

    width: int = 64
    hidden: float = 0.3
    epochs: int = 30
    least_steps: int = 600
    batch_size: int = 16
    learning_rate: float = 0.003
    weight_decay: float = 0.01
    averaging: float = 0.98
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

    The features are found once and held in 16 bits, 31 KB an image at size 224. Returns the network ready for export: uint8 (n, size, size) ->
    (score, map). Raises as `_anomaly.Normals` and `_loop.fit`.
    """
    normals = anomaly_detection.NormalFeatures(images, rows, training_loop.ignore)
    stored, mean, spread = _stored(normals)
    cells = normals.grid**2

    def batch(chosen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        hidden = rng.random((len(chosen), cells, 1)) < settings.hidden
        hidden[:, rng.integers(cells)] = True  # at least one, so that there is something to learn
        return np.concatenate([stored[chosen], hidden * np.uint16(LEVELS)], 2), np.concatenate(
            [stored[chosen], hidden], 2
        ).astype(np.float32)

    schedule = training_loop.Schedule.of(settings, len(rows))
    with training_loop.seeded(seed):
        network = Restorer(settings.width, normals.grid)
    training_loop.fit(
        network, batch, np.arange(len(rows)), _loss, schedule, seed=seed, progress=progress
    )
    model = Reconstruction(normals, network, mean, spread).eval()
    model.learn_errors(
        torch.from_numpy(stored).split(anomaly_detection.BATCH), settings.regularisation
    )
    return model


def _stored(normals: anomaly_detection.NormalFeatures) -> tuple[np.ndarray, Tensor, Tensor]:
    """All features in `LEVELS` steps, uint16 (n, cells, channels), and the mean and standard deviation of each channel, (channels,)."""
    found = np.concatenate([features.half().numpy() for features, _ in normals])
    mean = found.mean((0, 1), dtype=np.float64)
    spread = np.sqrt(np.mean([np.square(one - mean).mean(0) for one in found], 0)) + 1e-6
    stored = np.empty(found.shape, np.uint16)
    for place, one in enumerate(found):
        stored[place] = np.rint(
            np.clip(((one - mean) / spread + REACH) / (2 * REACH), 0, 1) * LEVELS
        )
    return stored, torch.from_numpy(mean).float(), torch.from_numpy(spread).float()


def _told(levels: Tensor) -> Tensor:
    """From shares of the levels, [0, 1], back to standard deviations."""
    return levels * (2 * REACH) - REACH


def _loss(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of the hidden cells; `truth` is levels with, last, what is hidden."""
    hidden = truth[..., -1:]
    return ((restored - _told(truth[..., :-1] / LEVELS)).square() * hidden).sum() / (
        hidden.sum() * restored.shape[2]
    )


class Restorer(nn.Module):
    """float32 (n, 1, cells, channels + 1), shares of the levels and, last, 1 where a cell is hidden -> features (n, cells, channels), restored."""

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
        return self.restored(_told(x[:, 0, :, :-1]), x[:, 0, :, -1:])

    def restored(self, found: Tensor, hidden: Tensor) -> Tensor:
        """From features (n, cells, channels) in standard deviations and `hidden` (n, cells, 1)."""
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
    """The trained model as it is used."""

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
        z = ((found - self.mean) / self.spread).clamp(-REACH, REACH)
        return (
            ((self._errors(z).transpose(0, 1) - self.usual) @ self.whitening)
            .square()
            .sum(2)
            .sqrt()
            .T
        )

    def _errors(self, z: Tensor) -> Tensor:
        """What the reconstruction of each cell from the others is off by, (n, cells, channels)."""
        restored = sum(
            self.network.restored(z, hidden.expand(z.shape[0], -1, -1)) * hidden
            for hidden in self.hidden.unsqueeze(1)
        )
        return z - restored

    @torch.no_grad()
    def learn_errors(self, stored: tuple[Tensor, ...], regularisation: float) -> None:
        """Mean and whitening of the errors of each place in normal images, given as levels (b, cells, channels)."""
        count, total, products = (
            0,
            torch.zeros((), dtype=torch.float64),
            torch.zeros((), dtype=torch.float64),
        )
        for levels in stored:
            errors = self._errors(_told(levels.float() / LEVELS)).transpose(0, 1).double()
            count, total = count + errors.shape[1], total + errors.sum(1, keepdim=True)
            products = products + errors.transpose(1, 2) @ errors
        usual = total / count
        covariance = (products - count * usual.transpose(1, 2) @ usual) / (count - 1)
        self.usual.copy_(usual)
        self.whitening.copy_(anomaly_detection.whitening(covariance, regularisation))
