"""Train one small network on the films of all sources at once, for what transfers elsewhere.

Needs PyTorch, NumPy and `hilum.training.efficientnet_backbone` only, so that the same code runs on
a bare machine with a GPU and on two CPU cores. A network is EfficientNet-Lite0 with ImageNet
weights and one linear layer of several tasks (`TASKS`): tuberculosis, any abnormality, the labels
of NIH ChestX-ray14, pneumonia, sex, age, view. Labels are nan where a source does not state them.

What is known about shortcuts between hospitals and done against them here (`Recipe`):

    negatives   weight of "no tuberculosis" for films of sources without that label (outlier
                exposure, Hendrycks et al. 2019, arXiv:1812.04606)
    style       fraction of films that take over the grey-level histogram, and half of these the low
                frequencies, of a film of another source (Yang & Soatto 2020, arXiv:2004.05498)
    masked      fraction of films that are black outside the lungs
    adversary   weight of a reversed source classifier (Ganin et al. 2016, arXiv:1505.07818)

Images are uint8 (n, size, size) lung crops, bright is dense.
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

from hilum.dataset.readers.nih14 import FINDINGS
from hilum.training import efficientnet_backbone
from tools.build_models.film_augmentation import augmented
from tools.build_models.film_tensors import Films

TASKS = {
    "tuberculosis": 1.0,
    "abnormal": 0.7,
    "pneumonia": 0.3,
    "female": 0.2,
    "age": 0.3,
    "ap_view": 0.2,
    **{f"nih_{name}": 0.07 for name in FINDINGS.values()},
}  # columns of the targets with their weights in the loss
TUBERCULOSIS = 0
INTENSITIES = ("as given", "equalised", "local")  # how a network standardises its input
GREYS = 24  # steps of the equalising curve
# Layout and precision on a GPU; which is faster depends on the card and its libraries.
LAYOUT, PRECISION = torch.channels_last, torch.bfloat16
BALANCE = 10.0  # largest weight of one state against the other


@dataclass(frozen=True)
class Recipe:
    """Settings of one training; see the module for the first four."""

    negatives: float = 0.0
    style: float = 0.0
    masked: float = 0.0
    adversary: float = 0.0
    others: float = 0.4  # fraction of a batch from films without a tuberculosis label
    tasks: tuple[str, ...] = tuple(TASKS)
    frozen: int = 2  # stages of seven that keep the ImageNet weights
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    averaging: float = 0.99
    dropout: float = 0.2
    strength: float = 1.0  # of all other augmentation
    flip: bool = False
    intensity: str = "as given"  # one of INTENSITIES


# ---------------------------------------------------------------------------- network


class Network(nn.Module):
    """EfficientNet-Lite0, pooled features, and one linear layer of all tasks."""

    def __init__(self, weights: Mapping[str, Tensor] | None, recipe: Recipe) -> None:
        super().__init__()
        self.backbone = efficientnet_backbone.Backbone()
        if weights is not None:
            self.backbone.load_state_dict(dict(weights))
            self.backbone.freeze(recipe.frozen)
        self.dropout = nn.Dropout(recipe.dropout)
        self.head = nn.Linear(efficientnet_backbone.HEAD, len(TASKS))
        self.recipe = recipe

    def features(self, x: Tensor) -> Tensor:
        """Compute the pooled features, (n, 1280), of images in [0, 1], (n, 1, s, s)."""
        return self.backbone(standardised(x, self.recipe.intensity)).mean((2, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (n, tasks) and the pooled features."""
        found = self.features(x)
        return self.head(self.dropout(found)), found


def standardised(x: Tensor, intensity: str) -> Tensor:
    """Standardise the intensities of images in [0, 1], (n, 1, s, s), inside the network's graph.

    "equalised" maps grey levels to their ranks by a curve of `GREYS` steps; "local" divides the
    difference from the local mean by the local standard deviation, over about a sixth of the side.
    """
    if intensity == "equalised":
        found = torch.zeros_like(x)
        below = (x < 1 / GREYS).to(x).mean((2, 3), keepdim=True)
        for step in range(1, GREYS):
            next_below = (x < (step + 1) / GREYS).to(x).mean((2, 3), keepdim=True)
            found = found + (next_below - below) * ((x * GREYS - step).clamp(0, 1))
            below = next_below
        return found
    if intensity == "local":
        small = F.avg_pool2d(x, 4)
        mean = F.avg_pool2d(small, 9, 1, 4, count_include_pad=False)
        square = F.avg_pool2d(F.avg_pool2d(x * x, 4), 9, 1, 4, count_include_pad=False)
        spread = (square - mean * mean).clamp(min=0).sqrt() + 0.05
        mean, spread = (
            F.interpolate(one, scale_factor=4.0, mode="bilinear", align_corners=False)
            for one in (mean, spread)
        )
        return ((x - mean) / spread).clamp(-3, 3) / 6 + 0.5
    return x


class _Reverse(torch.autograd.Function):
    """The identity whose gradient is reversed."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        """Return `x`."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        """Return the reversed gradient."""
        return -gradient


# ---------------------------------------------------------------------------- training


@dataclass
class Sampler:
    """Draw rows so that sources count as stated and states of tuberculosis are balanced."""

    groups: list[tuple[Tensor, float]] = field(default_factory=list)

    @classmethod
    def of(cls, on: Films, rows: Tensor, recipe: Recipe) -> Sampler:
        """Group the films of `rows`: those with the label by source and state, others by source."""
        state, source = on.targets[rows, TUBERCULOSIS], on.source[rows]
        labelled, others = [], []
        for one in source.unique():
            for known in (0.0, 1.0):
                found = rows[(source == one) & (state == known)]
                if len(found):
                    labelled.append((found, math.sqrt(len(found))))
            found = rows[(source == one) & state.isnan()]
            if len(found):
                others.append((found, math.sqrt(len(found))))
        fraction = recipe.others if others else 0.0
        made = cls()
        for some, weight in ((labelled, 1 - fraction), (others, fraction)):
            total = sum(size for _, size in some)
            made.groups += [(found, weight * size / total) for found, size in some]
        return made

    def draw(self, count: int) -> Tensor:
        """Draw `count` rows."""
        device = self.groups[0][0].device
        weights = torch.tensor([weight for _, weight in self.groups])
        group = torch.multinomial(weights, count, replacement=True)
        rows = [
            found[torch.randint(len(found), (int((group == number).sum()),), device=device)]
            for number, (found, _) in enumerate(self.groups)
        ]
        return torch.cat(rows)


def partners(on: Films, rows: Tensor, among: Tensor) -> Tensor:
    """Return for each of `rows` a film of `among`, of another source where there is one."""
    found = among[torch.randint(len(among), (4, len(rows)), device=on.device)]
    chosen = found[0]
    for other in found[1:]:
        same = on.source[chosen] == on.source[rows]
        chosen = torch.where(same, other, chosen)
    return chosen


def fit(
    on: Films,
    rows: np.ndarray,
    weights: Mapping[str, Tensor],
    recipe: Recipe,
    *,
    steps: int,
    seed: int,
    until: float = math.inf,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> Network:
    """Train on `rows` for `steps` batches, or until the clock `time.time()` reaches `until`.

    Returns the network with averaged weights, in evaluation mode.
    """
    torch.manual_seed(seed)
    device, chosen = on.device, torch.from_numpy(np.asarray(rows)).to(on.device)
    network = Network(weights, recipe).to(device, memory_format=LAYOUT)
    sources = len(on.source.unique())
    adversary = nn.Sequential(
        nn.Linear(efficientnet_backbone.HEAD, 64), nn.ReLU(), nn.Linear(64, sources)
    ).to(device)
    sampler, targets = Sampler.of(on, chosen, recipe), on.targets.clone()
    importance = _importance(targets, recipe)
    balance = _balance(targets[chosen])
    learned = [p for p in network.parameters() if p.requires_grad] + list(adversary.parameters())
    optimiser = torch.optim.AdamW(
        learned, recipe.learning_rate, weight_decay=recipe.weight_decay, foreach=True
    )
    average, begun = copy.deepcopy(network), False
    use_bfloat16 = device.type == "cuda" and torch.bfloat16 == PRECISION
    for step in range(steps):
        rate = (
            min(1.0, (step + 1) / (0.1 * steps + 1)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        )
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * rate
        batch = sampler.draw(recipe.batch)
        x = augmented(
            on,
            batch,
            partners(on, batch, chosen),
            strength=recipe.strength,
            style=recipe.style,
            masked=recipe.masked,
            flip=recipe.flip,
        )
        network.train()
        with torch.autocast(device.type, PRECISION, enabled=use_bfloat16):
            logits, found = network(x.contiguous(memory_format=LAYOUT))
            guess = adversary(_Reverse.apply(found)) if recipe.adversary else None
        loss = _loss(logits.float(), targets[batch], importance[batch], balance)
        if guess is not None:
            loss = loss + recipe.adversary * F.cross_entropy(guess.float(), on.source[batch])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 5.0)
        optimiser.step()
        _average(average, network, recipe.averaging if begun else 0.0)
        begun = step >= steps // 4
        if step % 20 == 0:
            progress(step, float(loss.detach()))
            if time.time() > until:
                break
    return average.eval()


def _importance(targets: Tensor, recipe: Recipe) -> Tensor:
    """Return the weight of each film's label in each task; fills in assumed negatives in place."""
    importance = torch.tensor(
        [weight if name in recipe.tasks else 0.0 for name, weight in TASKS.items()],
        device=targets.device,
    ).repeat(len(targets), 1)
    assumed = targets[:, TUBERCULOSIS].isnan()
    importance[assumed, TUBERCULOSIS] *= recipe.negatives
    if recipe.negatives:
        targets[assumed, TUBERCULOSIS] = 0.0
    return importance


def _balance(targets: Tensor) -> Tensor:
    present, absent = targets.nansum(0), (1 - targets).nansum(0)
    weight = (absent / present.clamp(min=1e-3)).clamp(1 / BALANCE, BALANCE)
    weight[TUBERCULOSIS] = 1.0  # the sampler balances it
    return weight


def _loss(logits: Tensor, truth: Tensor, importance: Tensor, balance: Tensor) -> Tensor:
    known = ~truth.isnan()
    entropy = F.binary_cross_entropy_with_logits(
        logits, truth.nan_to_num(), pos_weight=balance, reduction="none"
    )
    weight = importance * known
    # Each task is averaged over its own known labels, so that rare labels count as stated.
    task = (entropy * weight).sum(0) / known.sum(0).clamp(min=1)
    return task.sum()


@torch.no_grad()
def _average(average: Network, network: Network, keep: float) -> None:
    mine = [p for p in average.state_dict().values() if p.is_floating_point()]
    new = [p for p in network.state_dict().values() if p.is_floating_point()]
    torch._foreach_lerp_(mine, new, 1 - keep)


# ---------------------------------------------------------------------------- evaluation


@torch.no_grad()
def evaluated(
    network: Network, on: Films, *, masked: bool = False, together: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (n, tasks) and features (n, 1280) of all films, averaged over mirroring."""
    network.eval()
    logits, found = [], []
    for start in range(0, len(on.images), together):
        x = on.images[start : start + together].float().div_(255)[:, None]
        if masked:
            x = x * F.max_pool2d(on.lungs[start : start + together].float()[:, None], 9, 1, 4)
        with torch.autocast(on.device.type, torch.bfloat16, enabled=on.device.type == "cuda"):
            both = [network(one) for one in (x, x.flip(3))]
        logits.append(sum(one[0].float() for one in both) / 2)
        found.append(sum(one[1].float() for one in both) / 2)
    return torch.cat(logits).cpu().numpy(), torch.cat(found).cpu().numpy()


@torch.no_grad()
def adapted(network: Network, on: Films, rows: np.ndarray) -> np.ndarray:
    """Return logits of `rows` with batch statistics of these films in place of the trained ones.

    Test-time normalisation by a site's unlabelled films (Schneider et al. 2020, arXiv:2006.16971).
    """
    network = copy.deepcopy(network).eval()
    norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
    for one in norms:
        one.train()
        one.momentum = 0.5
    found = []
    for update in (True, False):
        for one in norms:
            one.train(update)
        for start in range(0, len(rows), 128):
            x = on.images[rows[start : start + 128]].float().div_(255)[:, None]
            logits = network(x)[0]
            if not update:
                found.append(logits.float().cpu().numpy())
    return np.concatenate(found)
