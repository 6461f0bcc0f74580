"""Train a small network on several tasks at once: age group, any abnormality, the labels of NIH.

Needs PyTorch, NumPy and `hilum.training.efficientnet_backbone` only, so that the same code runs on
a bare machine with a GPU and on two CPU cores. A network is the first `depth` stages of
EfficientNet-Lite0 with ImageNet weights, one convolution of 1x1, and a linear layer of all `TASKS`
on the mean and the largest value of each feature over the image. With four stages it has 0.35
million weights.

Images are uint8 (n, size, size) lung crops, bright is dense; targets float32 (n, len(TASKS)), 1
present, 0 absent, between them soft, nan unknown. `augmented` and `partners` of
`tools.build_models.multitask` change what differs between hospitals: windows, blur, noise, and the
grey levels and low frequencies of films of another source.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.training import efficientnet_backbone
from tools.build_models.multitask import Films, Recipe, augmented, partners

NIH = (
    "Atelectasis Cardiomegaly Consolidation Edema Effusion Emphysema Fibrosis Hernia Infiltration "
    "Mass Nodule Pleural_Thickening Pneumonia Pneumothorax"
).split()
PEOPLE = ("child", "age", "female", "ap_view")
DISEASE = ("abnormal", "tuberculosis", "pneumonia")
TASKS = (*DISEASE, *PEOPLE, *NIH)
HEAD = 256  # channels of the last convolution; there are twice as many features
BALANCE = 8.0  # largest weight of one state against the other


@dataclass(frozen=True)
class Settings:
    """Settings of one training."""

    depth: int = 4  # stages of the backbone, of seven
    weights: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(TASKS, 1.0))
    style: float = 0.4  # fraction of films in another source's style
    strength: float = 1.0  # of augmentation
    batch: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    dropout: float = 0.3
    averaging: float = 0.98


class Network(nn.Module):
    """float32 (n, 1, size, size) in [0, 1] -> logits (n, tasks) and features (n, 2 HEAD)."""

    def __init__(self, depth: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = efficientnet_backbone.Backbone(depth)
        channels = efficientnet_backbone.STAGES[depth - 1][-1]
        if depth == len(efficientnet_backbone.STAGES):
            channels = efficientnet_backbone.HEAD
        self.last = nn.Sequential(
            nn.Conv2d(channels, HEAD, 1, bias=False), nn.BatchNorm2d(HEAD), nn.ReLU6()
        )
        self.dropout, self.heads = nn.Dropout(dropout), nn.Linear(2 * HEAD, len(TASKS))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits and features."""
        cells = self.last(self.backbone(x))
        # A mean of 3x3 cells first: the largest value of one cell is mostly noise.
        largest = F.avg_pool2d(cells, 3, 1, 1).amax((2, 3))
        found = torch.cat([cells.mean((2, 3)), largest], 1)
        return self.heads(self.dropout(found)), found


def start(depth: int, imagenet: Mapping[str, Tensor] | None, dropout: float) -> Network:
    """Return a network with the ImageNet weights of its stages, of a whole backbone's state."""
    network = Network(depth, dropout)
    if imagenet is not None:
        wanted = network.backbone.state_dict()
        network.backbone.load_state_dict({name: imagenet[name] for name in wanted})
    return network


def sampling_weights(targets: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return how often each film is drawn: sources by the root of their size, children more often.

    A fifth of the draws of each source with children and adults are children.
    """
    weight, child = np.zeros(len(source)), targets[:, TASKS.index("child")]
    for one in np.unique(source):
        here = np.flatnonzero(source == one)
        mine = np.ones(len(here))
        young = child[here] > 0
        if 0 < young.sum() < len(here):
            mine[young] *= min(6.0, 0.2 * len(here) / young.sum())
        weight[here] = mine / mine.sum() * math.sqrt(len(here))
    return weight / weight.sum()


def fit(
    on: Films,
    rows: np.ndarray,
    draws: np.ndarray,
    imagenet: Mapping[str, Tensor] | None,
    settings: Settings,
    *,
    steps: int,
    seed: int,
    until: float = math.inf,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> Network:
    """Train on `rows`, drawn by the weights `draws` (n,), for `steps` batches.

    `on.targets` are of this module's TASKS. Stops at the clock `until` too. Returns the network
    with averaged weights, in evaluation mode.
    """
    torch.manual_seed(seed)
    device, chosen = on.device, torch.from_numpy(np.asarray(rows)).to(on.device)
    network = start(settings.depth, imagenet, settings.dropout)
    network = network.to(device, memory_format=torch.channels_last)
    task_weight = torch.tensor([settings.weights.get(name, 0.0) for name in TASKS], device=device)
    balance = _balance(on.targets[chosen])
    change = Recipe(style=settings.style, strength=settings.strength)
    weights = torch.from_numpy(draws[rows]).to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(),
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        foreach=True,
    )
    average = copy.deepcopy(network)
    for step in range(steps):
        warm = min(1.0, (step + 1) / (0.1 * steps + 1))
        for group in optimiser.param_groups:
            group["lr"] = (
                settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
            )
        batch = chosen[torch.multinomial(weights, settings.batch, replacement=True)]
        x = augmented(on, batch, partners(on, batch, chosen), change)
        network.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits, _ = network(x.contiguous(memory_format=torch.channels_last))
        loss = _loss(logits.float(), on.targets[batch], task_weight, balance)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        _average(average, network, settings.averaging if step >= steps // 4 else 0.0)
        if step % 20 == 0:
            progress(step, float(loss.detach()))
            if time.time() > until:
                break
    return average.eval()


def _balance(targets: Tensor) -> Tensor:
    present, absent = targets.nansum(0), (1 - targets).nansum(0)
    weight = (absent / present.clamp(min=1e-3)).clamp(1 / BALANCE, BALANCE)
    weight[TASKS.index("age")] = 1.0  # a number, not a state
    return weight


def _loss(logits: Tensor, truth: Tensor, task_weight: Tensor, balance: Tensor) -> Tensor:
    known = ~truth.isnan()
    entropy = F.binary_cross_entropy_with_logits(
        logits, truth.nan_to_num(), pos_weight=balance, reduction="none"
    )
    each = (entropy * known).sum(0) / known.sum(0).clamp(min=1)
    return (each * task_weight).sum() / task_weight.sum()


@torch.no_grad()
def _average(average: Network, network: Network, keep: float) -> None:
    mine = [p for p in average.state_dict().values() if p.is_floating_point()]
    new = [p for p in network.state_dict().values() if p.is_floating_point()]
    torch._foreach_lerp_(mine, new, 1 - keep)


@torch.no_grad()
def evaluated(network: Network, on: Films, together: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (n, tasks) and features (n, 2 HEAD) of all films, float32."""
    logits, found = [], []
    for first in range(0, len(on.images), together):
        x = on.images[first : first + together].float().div_(255)[:, None]
        with torch.autocast(on.device.type, torch.bfloat16, enabled=on.device.type == "cuda"):
            one, features = network(x)
        logits.append(one.float())
        found.append(features.float())
    return torch.cat(logits).cpu().numpy(), torch.cat(found).cpu().numpy()
