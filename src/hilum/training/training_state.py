"""The state of a training between two batches: all that a checkpoint holds."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from hilum import storage
from hilum.errors import notice
from hilum.training.schedule import Schedule


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch; `tune` is the early-stopping score, None where not evaluated."""

    number: int  # from 1
    batches: int  # since the beginning of training
    loss: float
    tune: float | None


class TrainingState:
    """Weights, their average, the optimiser, and the figures so far.

    `losses` are those of the batches of the epoch that is not finished, on the device.
    """

    def __init__(self, network: nn.Module, schedule: Schedule, identity: str) -> None:
        self.network, self.schedule, self.identity = network, schedule, identity
        self.device = next(network.parameters()).device
        # One kernel for all weights: hundreds of small ones take longer, and trainings side by side
        # wait for each other's calls.
        self.optimiser = torch.optim.AdamW(
            _groups(network, schedule.weight_decay),
            lr=schedule.learning_rate,
            fused=True,
        )
        present = network.state_dict()
        self.average = {name: value.clone() for name, value in present.items()}
        moving = [name for name, value in present.items() if value.is_floating_point()]
        # Listed once: looking up hundreds of names in each step would keep a GPU waiting.
        self._averaged = [self.average[name] for name in moving]
        self._present = [present[name] for name in moving]
        self.best: dict[str, Tensor] = {}  # averaged weights of the best evaluation, if any
        self.epochs: list[Epoch] = []
        self.losses: list[Tensor] = []

    def finished(self, patience: float) -> bool:
        """Return whether all epochs are done or the patience, if any, is exhausted."""
        total = self.schedule.epochs
        if len(self.epochs) >= total:
            return True
        evaluated = self._evaluated()
        if not evaluated or not patience:
            return False
        _, best = max(evaluated, key=lambda pair: pair[0])
        _, last = evaluated[-1]
        return last - best >= max(1, patience * total)

    def _evaluated(self) -> list[tuple[float, int]]:
        """Return score and number of each evaluated epoch."""
        return [(epoch.tune, epoch.number) for epoch in self.epochs if epoch.tune is not None]

    @torch.no_grad()
    def blend(self, step: int) -> None:
        """Move the average towards the present weights.

        Early steps move it further, so that the initial random weights are forgotten.
        """
        decay = min(self.schedule.averaging, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._averaged, self._present, step)

    @torch.no_grad()
    def complete_average(self) -> None:
        """Take over what cannot be averaged: counters."""
        for name, value in self.network.state_dict().items():
            if not value.is_floating_point():
                self.average[name].copy_(value)

    def end_epoch(self, steps: int, mean: float, tune: float | None) -> None:
        """Add the figures of an epoch, and keep the weights where they are the best so far."""
        number = len(self.epochs) + 1
        if tune is not None and tune > max(
            (score for score, _ in self._evaluated()), default=-math.inf
        ):
            self.best = {name: value.clone() for name, value in self.average.items()}
        self.epochs.append(Epoch(number, number * steps, mean, tune))
        self.losses = []

    def kept(self) -> dict[str, Tensor]:
        """Return the weights that are the result of the training."""
        return self.best or self.average

    def as_bytes(self) -> bytes:
        """Return a checkpoint."""
        state = {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "best": self.best,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "losses": self.losses,
        }
        content = io.BytesIO()  # PyTorch's own writer reports a full disk in another way
        torch.save(state, content)
        return content.getvalue()

    def resume(self, content: bytes) -> None:
        """Take over a checkpoint, if it is one of this very training."""
        state = torch.load(io.BytesIO(content), map_location=self.device, weights_only=True)
        if state["identity"] != self.identity:
            return
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.best, self.losses = state["best"], state["losses"]
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]


def read_checkpoint(checkpoint: Path | None) -> bytes | None:
    """Return a checkpoint's content; None without one, or where it is damaged."""
    if checkpoint is None or not checkpoint.is_file():
        return None
    content = storage.read_sealed(checkpoint)
    if content is None:
        notice(f"{checkpoint} is damaged or no checkpoint of Hilum; the training starts anew")
    return content


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return the parameter groups: weight decay for kernels, none for biases and normalisation."""
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]


def set_memory_format(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay out all kernels in a memory format, as `Module.to(memory_format=...)` does."""
    for value in (*network.parameters(), *network.buffers()):
        if value.dim() == 4:
            value.data = value.data.to(value.device, memory_format=memory_format)
