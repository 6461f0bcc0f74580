"""Train several lung networks of two mask protocols together, on one GPU or on the processor.

A `Plan` names the sources, which of them are left out, and how strongly images are changed. The
network has one head per convention of masks: "m" as in Montgomery, "s" as in Shenzhen, "f" the full
protocol (Kermany, COVID-19); a film trains the head of its source alone, while all heads share what
lies below. So films of children and of consolidated lungs teach the features that the air protocol
uses, without their outlines.

On a GPU each training is a CUDA graph of one step, replayed on a stream of its own, since these
networks are so small that launching their kernels takes longer than computing them. The learning
rate follows the clock there, so that a lease of any length is used up; with `steps` it follows the
steps. Weights are an exponential average. Nothing is stopped early: the tune part only compares
plans.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks._lib.lung_films import Films
from hilum import storage
from hilum.training.models.compact_unet import Compact
from tools.build_models.lung_augmentation import Changes, augment

HEADS = {"montgomery": "m", "shenzhen": "s", "kermany": "f", "covid": "f"}  # by source
QUOTA = {"montgomery": 8, "shenzhen": 9, "kermany": 9, "covid": 6}  # films of a batch
GRADIENT_NORM = 5.0  # longer gradients are clipped
WARM_UP = 0.06  # of the training, in which the learning rate rises
AVERAGED = 0.04  # of the training: horizon of the averaged weights
LEAST_RATE = 0.003  # of the learning rate, at the end


@dataclass(frozen=True)
class Plan:
    """One training.

    Of `sources`, fold `fold` is left out where it is given; `free` leaves out what may not be used
    commercially. `quota` counts the films of each source in a batch.
    """

    name: str
    sources: tuple[str, ...]
    fold: int | None = None
    free: bool = False
    width: int = 24
    detail: int = 24
    quota: Mapping[str, int] = field(default_factory=lambda: QUOTA)
    changes: Changes = Changes()
    learning_rate: float = 0.004

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads of its network, in the order of its outputs."""
        return tuple(dict.fromkeys(HEADS[source] for source in self.sources))


def rows_of(plan: Plan, films: Films) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on and the rows to tune on."""
    usable = np.isin(films.sources, plan.sources)
    if plan.free:
        usable &= films.free
    if plan.fold is not None:
        usable &= films.folds != plan.fold
    return np.flatnonzero(usable & ~films.tune), np.flatnonzero(usable & films.tune)


def train(
    plans: Sequence[Plan],
    films: Films,
    *,
    device: str,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    start: Path | None = None,
) -> dict[str, tuple[Compact, int]]:
    """Train all plans together; return network and number of steps by name.

    Give `steps`, or `seconds` for all of it. `start` is a folder of weights to continue from.
    """
    begun, place = time.monotonic(), torch.device(device)
    images, masks = (torch.from_numpy(one).to(place) for one in (films.images, films.masks))
    trainings = [
        _Training(plan, films, images, masks, seed + number) for number, plan in enumerate(plans)
    ]
    if start:
        for training in trainings:
            training.continue_from(load(start, training.plan.name)[0])
    for training in trainings:
        training.prepare()
    started, done = time.monotonic(), 0
    while True:
        elapsed = time.monotonic() - started
        progress = done / steps if steps else elapsed / max(1.0, seconds - (started - begun))
        if progress >= 1:
            break
        expected = steps or (done / progress if done > 10 else 1e5)
        for training in trainings:
            training.run_step(progress, done, expected)
        done += 1
        if done % 4 == 0 and place.type == "cuda":
            torch.cuda.synchronize()  # or the clock would run ahead of the work
        if done % 100 == 0:
            losses = ", ".join(f"{one.plan.name} {float(one.loss):.3f}" for one in trainings)
            print(f"{done} steps, {elapsed:.0f} s: {losses}", flush=True)
    return {one.plan.name: (one.average.cpu().eval(), done) for one in trainings}


def save(folder: Path, plan: Plan, network: Compact, steps: int) -> None:
    """Write the weights in 16 bits, with what they were made of, to `folder`/NAME.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        name: value.half().numpy()
        for name, value in network.state_dict().items()
        if value.is_floating_point()
    }
    np.savez(folder / f"{plan.name}.npz", **arrays)
    about = {**asdict(plan), "heads": plan.heads, "steps": steps}
    storage.write_json(folder / f"{plan.name}.json", about)


def load(folder: Path, name: str) -> tuple[Compact, list[str]]:
    """Read a network and the names of its heads."""
    about = storage.read_json(folder / f"{name}.json")
    network = Compact(about["width"], about["detail"], len(about["heads"]))
    with np.load(folder / f"{name}.npz") as stored:
        state = {key: torch.from_numpy(stored[key].astype(np.float32)) for key in stored.files}
    network.load_state_dict(state, strict=False)  # without the counts of batches
    return network.eval(), about["heads"]


def predict(network: Compact, images: np.ndarray) -> np.ndarray:
    """Compute probabilities float32 (n, heads, 2, side, side) of images uint8 (n, side, side)."""
    with torch.no_grad():
        logits = network(torch.from_numpy(images).unsqueeze(1).float() / 255)
    n, _, height, width = logits.shape
    return torch.sigmoid(logits).view(n, -1, 2, height, width).numpy()


class _Training:
    """One network in training, its averaged weights, and the step that is repeated."""

    def __init__(self, plan: Plan, films: Films, images: Tensor, masks: Tensor, seed: int) -> None:
        torch.manual_seed(seed)
        self.plan, self.images, self.masks = plan, images, masks
        self.device = images.device
        rows, _ = rows_of(plan, films)
        ordered = sorted(plan.sources, key=lambda source: plan.heads.index(HEADS[source]))
        self.rows = {
            source: torch.from_numpy(rows[films.sources[rows] == source]).to(self.device)
            for source in ordered
        }
        self.network = self._network().train()
        self.average = self._network().eval().requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.control = torch.zeros(2, device=self.device)  # learning rate, step of the average
        self.optimiser = _Adam(self.network, self.average, self.control)
        self.loss = torch.zeros((), device=self.device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def _network(self) -> Compact:
        network = Compact(self.plan.width, self.plan.detail, len(self.plan.heads))
        return network.to(self.device).to(memory_format=torch.channels_last)

    def continue_from(self, network: Compact) -> None:
        """Take over weights."""
        for mine in (self.network, self.average):
            mine.load_state_dict(network.state_dict())

    def prepare(self) -> None:
        """Capture the step as a graph, on a GPU."""
        if self.device.type != "cuda":
            return
        self.stream = torch.cuda.Stream()
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(3):
                self._step()
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream):
            self._step()

    def run_step(self, progress: float, done: int, expected: float) -> None:
        """Take one step at `progress` from 0 to 1, the step `done` of about `expected`."""
        rate = self.plan.learning_rate * max(LEAST_RATE, _rate_factor(progress))
        blend = max(1 / max(20.0, AVERAGED * expected), min(1.0, 9 / (10 + done)))
        if self.graph is None:
            self._control(rate, blend)
            self._step()
            return
        with torch.cuda.stream(self.stream):
            self._control(rate, blend)
            self.graph.replay()

    def _control(self, rate: float, blend: float) -> None:
        self.control[0].fill_(rate)
        self.control[1].fill_(blend)

    def _step(self) -> None:
        chosen, spans, at = [], {}, 0
        for source, rows in self.rows.items():
            count, head = self.plan.quota[source], HEADS[source]
            chosen.append(rows[(torch.rand(count, device=self.device) * len(rows)).long()])
            spans[head] = (spans.get(head, (at, at))[0], at + count)
            at += count
        index = torch.cat(chosen)
        labels = self.masks[index]
        masks = torch.stack([labels == 1, labels == 2], 1).float()
        images, masks = augment(
            self.images[index].unsqueeze(1).float() / 255, masks, self.plan.changes
        )
        for parameter in self.network.parameters():
            parameter.grad = None
        on_gpu = self.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu, cache_enabled=False):
            logits = self.network(images.contiguous(memory_format=torch.channels_last))
        logits = logits.float().view(at, len(self.plan.heads), 2, *logits.shape[-2:])
        loss = torch.zeros((), device=self.device)
        for number, head in enumerate(self.plan.heads):
            first, last = spans[head]
            part = _loss(logits[first:last, number], masks[first:last])
            loss = loss + (last - first) / at * part
        loss.backward()
        self.optimiser.step()
        self.loss.copy_(loss.detach())


class _Adam:
    """AdamW and the average of the weights, from tensors alone, so that a graph can hold them."""

    def __init__(self, network: nn.Module, average: nn.Module, control: Tensor) -> None:
        self.weights = list(network.parameters())
        self.kernels = [weight for weight in self.weights if weight.ndim > 1]
        self.first = [torch.zeros_like(weight) for weight in self.weights]
        self.second = [torch.zeros_like(weight) for weight in self.weights]
        self.count, self.control = torch.zeros((), device=control.device), control
        averaged, present = average.state_dict(), network.state_dict()
        names = [name for name, value in averaged.items() if value.is_floating_point()]
        self.averaged = [averaged[name] for name in names]
        self.present = [present[name] for name in names]

    @torch.no_grad()
    def step(self, decay: float = 0.01, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        """Move the weights, then the average."""
        rate, blend = self.control[0], self.control[1]
        gradients = [weight.grad for weight in self.weights]
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_mul_(gradients, (GRADIENT_NORM / (norm + 1e-6)).clamp(max=1.0))
        self.count += 1
        torch._foreach_lerp_(self.first, gradients, 1 - betas[0])
        torch._foreach_mul_(self.second, betas[1])
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - betas[1])
        size = rate * torch.sqrt(1 - betas[1] ** self.count) / (1 - betas[0] ** self.count)
        below = torch._foreach_sqrt(self.second)
        torch._foreach_add_(below, 1e-8)
        change = torch._foreach_div(self.first, below)
        torch._foreach_mul_(change, size)
        torch._foreach_mul_(self.kernels, 1 - rate * decay)
        torch._foreach_sub_(self.weights, change)
        apart = torch._foreach_sub(self.present, self.averaged)
        torch._foreach_mul_(apart, blend)
        torch._foreach_add_(self.averaged, apart)


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Compute cross-entropy per pixel plus 1 - soft Dice of each lung over the batch."""
    lung, axes = torch.sigmoid(logits), (0, 2, 3)
    dice = (2 * (lung * truth).sum(axes) + 1) / (lung.sum(axes) + truth.sum(axes) + 1)
    return F.binary_cross_entropy_with_logits(logits, truth) + (1 - dice).mean()


def _rate_factor(progress: float) -> float:
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))
