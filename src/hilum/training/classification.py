"""Train classifiers of findings: loss, batches, early stopping and export form.

Images are uint8 (N, size, size), bright is dense. Targets are float32 (N, k), one column per
concept: 1 present, 0 absent, between them a softened label (see `hilum.pipeline.label_policy`), nan
unknown. An unknown label contributes nothing to the loss, so sets with different labels can be
trained on together. In each concept, present labels weigh as much as absent ones in total, up to a
factor of BALANCE.

A classifier ends in a global average pool and one linear layer. Its outputs are "score", float32
(n, k) in (0, 1), which ranks images but is no probability because of the class weights; "map",
float32 (n, k, h, w) on the grid of the last features: the class activation map (Zhou et al. 2016,
arXiv:1512.04150), in units of the logit, whose mean plus the layer's bias is the logit; and
"features", float32 (n, values), in which the domain of the training images is measured
(`hilum.inference.domain`): mean and logarithm of the standard deviation of each channel of the
early stages. These tell hospitals and devices apart better than the last features do, which were
trained to ignore them (benchmarks/accuracy/domain.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum import storage
from hilum.errors import BadRecipe, TooFew
from hilum.statistics.metrics import discrimination
from hilum.training import augmentation, batch_parts, training_loop
from hilum.training.batches import TrainingImages
from hilum.training.device_augmentation import DeviceAugmentation
from hilum.training.schedule import Schedule
from hilum.training.settings import BALANCED, SAMPLINGS, ClassifierSettings
from hilum.training.staged_features import StagedFeatures, early_statistics

BALANCE = 20.0  # largest weight of one state against the other: one image must not drive a batch
FEWEST_TUNE = 10  # tune images with a finding, and without; with fewer, stopping is left to chance
TOGETHER = 16  # tune images evaluated at once
OUTPUTS = ("score", "map", "features")  # of every classifier
SURE = 15.0  # largest logit of a score: beyond it float32 rounds to 0 or 1, which have no logit


def fit(
    network: Callable[[int], Classifier],
    images: np.ndarray,
    targets: np.ndarray,
    rows: np.ndarray,
    settings: ClassifierSettings,
    *,
    concepts: Sequence[str],
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = training_loop.ignore,
    tune: np.ndarray | None = None,
    on_epoch: Callable[[training_loop.Epoch], None] = training_loop.ignore_epoch,
    sources: np.ndarray | None = None,
) -> ExportableClassifier:
    """Train `network(number of concepts)` on `rows` and return it ready for export.

    `tune` are rows that only decide when to stop; `sources`, of each of `rows`, are seen equally
    often where `settings.sampling` is "balanced"; see `training_loop.Caller` for the rest. Raises
    `TooFew` where a concept does not have both states among `rows`.
    """
    refuse_one_sided(targets[rows], concepts)
    changes = augmentation.Augmentation.from_settings(settings)
    if settings.sampling not in SAMPLINGS:
        raise BadRecipe(f"sampling is '{settings.sampling}'; expected {' or '.join(SAMPLINGS)}")
    device = _device_augmentation(settings, changes, images)
    batch = _Labelled(TrainingImages(images), targets.astype(np.float32), changes, device)
    balance = balanced(targets[rows])
    groups = None
    if sources is not None and settings.sampling == BALANCED:
        groups = np.unique(sources, return_inverse=True)[1]
    watch = _watch(settings, images, targets, tune, balance)
    with training_loop.seeded(seed):
        made = network(len(concepts))
    parts = (rows, rows[:0] if tune is None else tune)
    # A checkpoint that was made with other labels must not be resumed.
    digests = [storage.digest(targets[part].tobytes()) for part in parts]
    made_from = storage.digest([*digests, settings.watch])
    training_loop.fit(
        made,
        training_loop.Examples(batch, rows, device or training_loop.as_fractions, groups),
        WeightedLoss(balance),
        Schedule.of(settings, len(rows)),
        seed=seed,
        caller=training_loop.Caller(checkpoint, made_from, progress, watch, on_epoch),
    )
    return ExportableClassifier(made).eval()


@dataclass(frozen=True)
class _Labelled:
    """Augmented batches of images and their targets."""

    source: TrainingImages
    targets: np.ndarray
    changes: augmentation.Augmentation
    device: DeviceAugmentation | None

    def __call__(
        self, rows: np.ndarray, rngs: Sequence[np.random.Generator]
    ) -> tuple[np.ndarray, ...]:
        """Return images, targets and, where images are changed on the device, their changes."""
        drawn = augmentation.draw_each(self.changes, rngs)
        if self.device:
            images, changes = self.device.prepare(self.source, rows, drawn)
            return images, self.targets[rows], changes
        return self.source.batch(rows, drawn).images, self.targets[rows]


def _device_augmentation(
    settings: ClassifierSettings, changes: augmentation.Augmentation, images: np.ndarray
) -> DeviceAugmentation | None:
    if settings.augment_on not in ("cpu", "device"):
        raise BadRecipe(f"augment_on is '{settings.augment_on}'; expected 'cpu' or 'device'")
    if settings.augment_on == "cpu":
        return None
    _, height, width = images.shape
    return DeviceAugmentation((height, width), changes.blur)


# ---------------------------------------------------------------------------- loss


def count_states(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count present and absent labels of each concept, (k,) each; nan is neither."""
    return (targets > 0.5).sum(0), (targets < 0.5).sum(0)


def refuse_one_sided(targets: np.ndarray, concepts: Sequence[str]) -> None:
    """Raise `TooFew`, naming every concept that does not have both states."""
    faults = [
        f"{concept}: {present} image(s) with the finding and {absent} without"
        for concept, present, absent in zip(concepts, *count_states(targets), strict=True)
        if not present or not absent
    ]
    if faults:
        raise TooFew(
            f"cannot train a classifier, both states of each finding are needed; leave out of "
            f"[classify] what lacks one: {'; '.join(faults)}"
        )


def balanced(targets: np.ndarray) -> Tensor:
    """Compute the weight of a present label of each concept against an absent one, float32 (k,)."""
    present = np.nansum(targets, 0, dtype=np.float64)
    absent = np.nansum(1 - targets, 0, dtype=np.float64)
    return torch.from_numpy(
        np.clip(absent / np.maximum(present, 1e-6), 1 / BALANCE, BALANCE).astype(np.float32)
    )


def cells(logits: Tensor, truth: Tensor, balance: Tensor) -> tuple[Tensor, Tensor]:
    """Return each label's weighted cross-entropy, 0 where unknown, and whether it is known.

    Both are (n, k).
    """
    known = ~truth.isnan()
    entropy = F.binary_cross_entropy_with_logits(
        logits, truth.nan_to_num(), pos_weight=balance.to(logits), reduction="none"
    )
    return entropy * known, known


def loss(logits: Tensor, truth: Tensor, balance: Tensor) -> Tensor:
    """Compute the mean weighted cross-entropy of the known labels; 0 where there is none."""
    entropy, known = cells(logits, truth, balance)
    return entropy.sum() / known.sum().clamp(min=1)


class WeightedLoss(nn.Module):
    """`loss` with weights that are on the device already: sending them would halt it each step."""

    balance: Tensor

    def __init__(self, balance: Tensor) -> None:
        super().__init__()
        self.register_buffer("balance", balance.clone())

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Compute the loss."""
        return loss(logits, truth, self.balance)


# ---------------------------------------------------------------------------- early stopping


def watchable(targets: np.ndarray) -> np.ndarray:
    """Return the columns of tune targets with enough labels of both states."""
    return np.flatnonzero(np.minimum(*count_states(targets)) >= FEWEST_TUNE)


def _watch(
    settings: ClassifierSettings,
    images: np.ndarray,
    targets: np.ndarray,
    tune: np.ndarray | None,
    balance: Tensor,
) -> training_loop.EarlyStopping | None:
    if settings.watch not in WATCHED:
        raise BadRecipe(f"watch is '{settings.watch}'; expected one of {', '.join(WATCHED)}")
    measure = WATCHED[settings.watch]
    if tune is None or measure is None:
        return None
    rows, columns = tune, watchable(targets[tune])
    if not len(columns):
        return None

    def score(predict: training_loop.Predict) -> float:
        """Measure the network on the tune images."""
        logits = torch.cat(
            [predict(images[rows[at : at + TOGETHER]]) for at in range(0, len(rows), TOGETHER)]
        )
        truth = torch.from_numpy(targets[np.ix_(rows, columns)])
        return measure(logits[:, columns], truth, balance[columns])

    return training_loop.EarlyStopping(score, settings.patience)


def negative_cross_entropy(logits: Tensor, truth: Tensor, balance: Tensor) -> float:
    """Compute minus the mean over the concepts of their cross-entropy; higher is better."""
    entropy, known = cells(logits, truth, balance)
    return -float((entropy.sum(0) / known.sum(0).clamp(min=1)).mean())


def mean_auroc(logits: Tensor, truth: Tensor, balance: Tensor) -> float:
    """Compute the mean over the concepts of the area under the ROC curve."""
    areas = []
    for column, labels in zip(logits.T, truth.T, strict=True):
        known = ~labels.isnan()
        states = (labels[known].numpy() > 0.5).astype(int)
        areas.append(discrimination.auroc(states, column[known].double().numpy()))
    return float(np.mean(areas))


WATCHED: dict[str, Callable[[Tensor, Tensor, Tensor], float] | None] = {
    "auroc": mean_auroc,
    "loss": negative_cross_entropy,
    "none": None,
}


# ---------------------------------------------------------------------------- networks


class MappingClassifier(nn.Module, ABC):
    """A classifier whose logits are the mean of a map plus a bias."""

    @abstractmethod
    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute logits (n, k), class activation maps (n, k, h, w) and features (n, values).

        `x` is float32 (n, 1, size, size) in [0, 1].
        """


class Classifier(MappingClassifier):
    """Features, global average pool and one linear layer.

    float32 (n, 1, size, size) in [0, 1] -> logits (n, k). `features` returns (n, channels, h, w).
    """

    def __init__(
        self, features: StagedFeatures, channels: int, concepts: int, dropout: float
    ) -> None:
        super().__init__()
        self.features = features
        self.dropout = batch_parts.Dropout(dropout)
        self.last = nn.Linear(channels, concepts)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        return self.last(self.dropout(self.features(x).mean((2, 3))))

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute logits (n, k), class activation maps (n, k, h, w) and features (n, values)."""
        stages = self.features.each_stage(x)
        last = self.features.last_features(stages[-1])
        maps = F.conv2d(last, self.last.weight[:, :, None, None])
        return maps.mean((2, 3)) + self.last.bias, maps, early_statistics(stages)


class ExportableClassifier(nn.Module):
    """The trained network in its export form.

    uint8 (n, size, size) -> scores float32 (n, k), maps float32 (n, k, h, w), features float32
    (n, values).
    """

    def __init__(self, network: MappingClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute scores, maps and features."""
        logits, maps, features = self.network.outputs(images.unsqueeze(1).float() / 255)
        return torch.sigmoid(logits.clamp(-SURE, SURE)), maps, features
