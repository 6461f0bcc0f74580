"""What the classifiers of findings share: settings, loss, batches, early stopping and readiness for export.

Images are uint8 (N, size, size), bright is dense. Targets are float32 (N, k), a column a concept: 1 the finding is there, 0 it is not,
between them a softened label (see `hilum.pipeline.label_policy`), nan not known. Of a nan nothing is learnt, so sets whose labels differ are learnt from
together. Each concept's present cells weigh as much as its absent ones, however rare it is, up to BALANCE times.

A classifier ends in a global average pool and one linear layer. Its outputs are "score", float32 (n, k) in (0, 1), higher where the
finding is likelier but no probability, for the balance above; and "map", float32 (n, k, h, w) on the grid of the last features: the class
activation map (Zhou et al. 2016, arXiv:1512.04150), in units of the logit. Its mean and the layer's bias add up to the logit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum import storage
from hilum.errors import BadRecipe, TooFew
from hilum.statistics.metrics import discrimination
from hilum.training import augmentation, training_loop
from hilum.training.batches import TrainingImages

BALANCE = 20.0  # how many times a present cell weighs an absent one at most, and the other way about: one image must not drive a batch
FEWEST_TUNE = 10  # tune images with a finding, and as many without, to watch it; fewer say when to stop by chance
TOGETHER = 16  # tune images that are looked at in one go
SURE = 15.0  # the largest logit of a score: beyond it float32 rounds a score to 0 or 1, of which there is no logit


class Settings(Protocol):
    """The settings that every trained classifier has; from `rotation_degrees` on they are the limits of `hilum.training.augmentation.Augmentation`.

    Training runs for `epochs`, or longer on few images, until `least_steps` batches. `watch` is what is looked at in the tune part to keep the
    best weights and to stop early: "auroc", "loss", or "none", which trains to the end; `patience` is that of `_loop.Watch`.
    """

    epochs: int
    least_steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    averaging: float
    dropout: float
    watch: str
    patience: float
    precision: str
    rotation_degrees: float
    scale: float
    aspect: float
    shift: float
    contrast: float
    brightness: float
    gamma: float
    elastic: float
    flip: bool
    uneven: float
    noise: float
    blur: float
    local_contrast: float


def fit(
    network: Callable[[int], Classifier],
    images: np.ndarray,
    targets: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    concepts: Sequence[str],
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = training_loop.ignore,
    tune: np.ndarray | None = None,
    heard: Callable[[training_loop.Epoch], None] = training_loop.ignore_epoch,
) -> ExportableClassifier:
    """Make the network for so many concepts, train it on `rows` and return it ready for export: uint8 in, score and map out.

    `tune` are rows that are only looked at; see `_loop.fit` for the rest. Raises `TooFew` where a concept has not both states among `rows`.
    """
    refuse_one_sided(targets[rows], concepts)
    changes, pictures, balance = (
        augmentation.Augmentation.from_settings(settings),
        TrainingImages(images, targets=targets),
        balanced(targets[rows]),
    )

    def batch(chosen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        made = pictures.batch(chosen, augmentation.draw_many(changes, rng, len(chosen)))
        return made.images, made.targets.astype(np.float32)

    def error(logits: Tensor, truth: Tensor) -> Tensor:
        return loss(logits, truth, balance)

    watch = _watch(settings, images, targets, tune, balance)
    with training_loop.seeded(seed):
        made = network(len(concepts))
    schedule = training_loop.Schedule.of(settings, len(rows))
    learnt = [targets[some].tobytes() for some in (rows, rows[:0] if tune is None else tune)]
    about = storage.digest(
        [*map(storage.digest, learnt), settings.watch]
    )  # a checkpoint of other labels is not gone on from
    training = {
        "seed": seed,
        "checkpoint": checkpoint,
        "progress": progress,
        "watch": watch,
        "heard": heard,
        "about": about,
    }
    training_loop.fit(made, batch, rows, error, schedule, **training)
    return ExportableClassifier(made).eval()


# ------------------------------------------------------------------------------------------------------------------------ learning


def count_states(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many cells of each concept are rather present and rather absent; nan is neither."""
    return (targets > 0.5).sum(0), (targets < 0.5).sum(0)


def refuse_one_sided(targets: np.ndarray, concepts: Sequence[str]) -> None:
    """Raise `TooFew`, naming every concept that has not both states."""
    faults = [
        f"{concept}: {present} image(s) with the finding and {absent} without"
        for concept, present, absent in zip(concepts, *count_states(targets), strict=True)
        if not present or not absent
    ]
    if faults:
        raise TooFew(
            f"cannot train a classifier, both states of each finding are needed; leave out of [classify] also what has not: {'; '.join(faults)}"
        )


def balanced(targets: np.ndarray) -> Tensor:
    """How much a present cell of each concept weighs against an absent one, float32 (k,): as many times as it is rarer."""
    present, absent = (
        np.nansum(targets, 0, dtype=np.float64),
        np.nansum(1 - targets, 0, dtype=np.float64),
    )
    return torch.from_numpy(
        np.clip(absent / np.maximum(present, 1e-6), 1 / BALANCE, BALANCE).astype(np.float32)
    )


def cells(logits: Tensor, truth: Tensor, balance: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted cross-entropy of each cell, 0 where it is not known, and whether it is known; both (n, k)."""
    known = ~truth.isnan()
    entropy = F.binary_cross_entropy_with_logits(
        logits, truth.nan_to_num(), pos_weight=balance.to(logits), reduction="none"
    )
    return entropy * known, known


def loss(logits: Tensor, truth: Tensor, balance: Tensor) -> Tensor:
    """The mean over the known cells; 0 where there is none."""
    entropy, known = cells(logits, truth, balance)
    return entropy.sum() / known.sum().clamp(min=1)


# ------------------------------------------------------------------------------------------------------------------------ watching


def watchable(targets: np.ndarray) -> np.ndarray:
    """The columns of tune targets with enough of both states to be watched."""
    return np.flatnonzero(np.minimum(*count_states(targets)) >= FEWEST_TUNE)


def _watch(
    settings: Settings,
    images: np.ndarray,
    targets: np.ndarray,
    tune: np.ndarray | None,
    balance: Tensor,
) -> training_loop.EarlyStopping | None:
    if settings.watch not in WATCHED:
        raise BadRecipe(f"watch is '{settings.watch}'; expected one of {', '.join(WATCHED)}")
    columns = np.array([], int) if tune is None else watchable(targets[tune])
    if not len(columns) or settings.watch == "none":
        return None

    def score(ask: training_loop.Predict) -> float:
        logits = torch.cat(
            [ask(images[tune[at : at + TOGETHER]]) for at in range(0, len(tune), TOGETHER)]
        )
        return WATCHED[settings.watch](
            logits[:, columns], torch.from_numpy(targets[np.ix_(tune, columns)]), balance[columns]
        )

    return training_loop.EarlyStopping(score, settings.patience)


def negative_cross_entropy(logits: Tensor, truth: Tensor, balance: Tensor) -> float:
    """Minus the mean over the concepts of each one's cross-entropy: near 0 is good."""
    entropy, known = cells(logits, truth, balance)
    return -float((entropy.sum(0) / known.sum(0).clamp(min=1)).mean())


def mean_auroc(logits: Tensor, truth: Tensor, balance: Tensor) -> float:
    """The mean over the concepts of each one's area under the ROC curve."""
    pairs = (
        (column[~told.isnan()].double().numpy(), told[~told.isnan()].numpy())
        for column, told in zip(logits.T, truth.T, strict=True)
    )
    return float(
        np.mean([discrimination.auroc((told > 0.5).astype(int), found) for found, told in pairs])
    )


WATCHED = {"auroc": mean_auroc, "loss": negative_cross_entropy, "none": None}


# ------------------------------------------------------------------------------------------------------------------------ networks


class Classifier(nn.Module):
    """float32 (n, 1, size, size) in [0, 1] -> logits (n, k): `features` gives (n, channels, h, w), whose mean goes through one linear layer."""

    def __init__(self, features: nn.Module, channels: int, concepts: int, dropout: float) -> None:
        super().__init__()
        self.features = features
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(channels, concepts)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.dropout(self.features(x).mean((2, 3))))

    def located(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, k), and where they come from, (n, k, h, w)."""
        where = F.conv2d(self.features(x), self.last.weight[:, :, None, None])
        return where.mean((2, 3)) + self.last.bias, where


class ExportableClassifier(nn.Module):
    """The trained network as it is used: uint8 (n, size, size) in; scores float32 (n, k) and maps float32 (n, k, h, w) out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, where = self.network.located(images.unsqueeze(1).float() / 255)
        return torch.sigmoid(logits.clamp(-SURE, SURE)), where
