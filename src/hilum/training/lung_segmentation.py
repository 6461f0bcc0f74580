"""Train lung segmenters: batches, early stopping and export form.

Masks are uint8 (n, size, size): 0 background, 1 the patient's right lung, 2 the left, 255 ignored:
where an image has a reference mask of one lung only, the other side. Outputs are (n, 2, size,
size), right and left lung independently, so that a pixel may be neither. Any size from 64 to 1024
that is a multiple of 32 is supported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from hilum.errors import BadRecipe
from hilum.training import augmentation, lung_loss, training_loop
from hilum.training.batches import TrainingImages
from hilum.training.schedule import Schedule
from hilum.training.settings import SegmenterSettings

LICENCE = (
    "Apache-2.0 (the code; trained weights are bound by the terms of the images they were trained "
    "on)"
)
CAVEATS = (
    "Segments the patient's right and left lung in frontal views. Lateral views, small children, "
    "consolidated lungs, and images that are mirrored or rotated by more than the augmentation are "
    "outside its training domain."
)
FULL_RESOLUTION = (
    "Runs at full resolution: on processors it takes about ten times as long as 'compact_unet'; on "
    "a GPU the difference is small."
)
S = TypeVar("S", bound=SegmenterSettings)
SIZES = range(64, 1025, 32)
FEWEST_TUNE = 4  # tune images; with fewer, stopping is left to chance
TOGETHER = 8  # tune images evaluated at once


def fit(
    network: Callable[[], nn.Module],
    images: np.ndarray,
    masks: np.ndarray,
    rows: np.ndarray,
    settings: SegmenterSettings,
    *,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = training_loop.ignore,
    tune: np.ndarray | None = None,
    on_epoch: Callable[[training_loop.Epoch], None] = training_loop.ignore_epoch,
) -> nn.Module:
    """Train `network()` on `rows` and return it ready for export: uint8 in, probabilities out.

    `tune` are rows that only decide which weights are kept and when to stop; see
    `training_loop.Caller` for the rest. Raises `BadRecipe` for a size that the network cannot take,
    `TooFew` for fewer than two rows.
    """
    size = images.shape[1]
    if images.shape[1:] != (size, size) or size not in SIZES:
        raise BadRecipe(
            f"images are {images.shape[1]} x {images.shape[2]} pixels; the lung networks take "
            f"squares of {SIZES.start} to {SIZES.stop - 1} pixels whose side is a multiple of 32: "
            f"choose such a size"
        )
    batch = _Labelled(
        TrainingImages(images, masks), augmentation.Augmentation.from_settings(settings)
    )
    watch = None
    if tune is not None and len(tune) >= FEWEST_TUNE:
        watch = training_loop.EarlyStopping(
            lambda predict: score(predict, images, masks, tune), settings.patience
        )
    with training_loop.seeded(seed):
        made = network()
    training_loop.fit(
        made,
        training_loop.Examples(batch, rows),
        lung_loss.of(settings.dice_over),
        Schedule.of(settings, len(rows)),
        seed=seed,
        caller=training_loop.Caller(checkpoint, "", progress, watch, on_epoch),
    )
    return ExportableNetwork(made).eval()


@dataclass(frozen=True)
class _Labelled:
    """Augmented batches of images and their masks."""

    source: TrainingImages
    changes: augmentation.Augmentation

    def __call__(
        self, rows: np.ndarray, rngs: Sequence[np.random.Generator]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return images and masks, changed alike."""
        made = self.source.batch(rows, augmentation.draw_each(self.changes, rngs))
        assert made.masks is not None  # the source has masks
        return made.images, made.masks


def trainer(network: Callable[[S], nn.Module]) -> Callable[..., nn.Module]:
    """Return the function `fit` of a segmenter whose settings `network` turns into a network.

    The function trains on `rows` of images and masks, both uint8 (N, size, size), see `fit`.
    Labels are 0 background, 1 right lung, 2 left lung, 255 ignored.
    """

    def fit_network(
        images: np.ndarray,
        masks: np.ndarray,
        rows: np.ndarray,
        settings: S,
        *,
        seed: int,
        **training: Any,
    ) -> nn.Module:
        return fit(lambda: network(settings), images, masks, rows, settings, seed=seed, **training)

    return fit_network


def score(
    predict: training_loop.Predict, images: np.ndarray, masks: np.ndarray, rows: np.ndarray
) -> float:
    """Compute the mean Dice of all reference masks, right and left lung of each image separately.

    Ignored pixels do not count.
    """
    found = []
    for at in range(0, len(rows), TOGETHER):
        chosen = rows[at : at + TOGETHER]
        lung, labels = predict(images[chosen]) > 0, torch.from_numpy(masks[chosen])
        lung, truth = lung & lung_loss.known(labels).bool(), lung_loss.truth(labels).bool()
        area = truth.sum((2, 3))
        dice = 2 * (lung & truth).sum((2, 3)) / (lung.sum((2, 3)) + area).clamp(min=1)
        found.append(dice[area > 0])
    return float(torch.cat(found).mean())


class ExportableNetwork(nn.Module):
    """The trained network in its export form.

    uint8 (n, size, size) -> probabilities float32 (n, 2, size, size).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Compute the probabilities."""
        return torch.sigmoid(self.network(images.unsqueeze(1).float() / 255))
