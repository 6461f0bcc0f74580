"""The one training loop: AdamW, warm-up and cosine, averaged weights, early stopping, bfloat16 where the processor has it, exact
resumption.

Everything random in epoch e is a function of (seed, e) or of (seed, e, row): the order of the rows, what happens to each image, the
dropout. So a training that was interrupted goes on from its last whole epoch to the very weights it would have reached undisturbed
(bit by bit on one machine's CPU).
"""

from __future__ import annotations

import copy
import hashlib
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hilum import storage
from hilum.errors import BadRecipe, TooFew, notice
from hilum.storage import digest
from hilum.training.batches import ahead

WARM_UP = 0.1  # the share of all steps in which the learning rate rises
EVALUATE_EVERY = 20  # batches between two looks at the tune pictures, at least: with few images, looking would cost more than training
GRADIENT_NORM = (
    5.0  # longer gradients are shortened to this: one odd batch does not throw the weights
)

Batch = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""rows (b,), rng -> images uint8 or uint16 (b, height, width), targets (b, ...)"""

Predict = Callable[[np.ndarray], Tensor]
"""images uint8 or uint16 (n, height, width) -> the network's answer"""


@dataclass(frozen=True)
class Schedule:
    """How to train. `averaging` is the decay of the exponential average of the weights that is kept in the end; 0: the last weights.

    `precision` is "float32", "bfloat16", or "auto": bfloat16 where the processor or the GPU computes it in hardware.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    averaging: float
    precision: str = "auto"

    @classmethod
    def of(cls, settings: Any, count: int) -> Schedule:
        """From a model's settings, for `count` rows: its `epochs`, or as many more as `least_steps` batches take."""
        steps = max(1, steps_per_epoch(count, settings.batch_size))
        own = {part.name: getattr(settings, part.name) for part in fields(cls)}
        return cls(**{**own, "epochs": max(settings.epochs, -(-settings.least_steps // steps))})


def ignore(done: int, of: int) -> None:
    """The progress callback that does nothing."""


@contextmanager
def seeded(*seeds: int) -> Iterator[None]:
    """torch's random numbers start from `seeds` inside; outside, they go on as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]))
        yield


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Batches in one pass over `count` rows: the last may be short, but not a single row, which batch normalisation cannot use."""
    return count // batch_size + (count % batch_size > 1)


@dataclass(frozen=True)
class Epoch:
    """What is told at the end of an epoch. `tune` is the watch's score, None where it did not look."""

    number: int  # from 1
    batches: int  # done since the beginning
    loss: float
    tune: float | None


@dataclass(frozen=True)
class EarlyStopping:
    """Early stopping: how good the averaged weights are on pictures that are not trained on, and when to give up.

    `score(ask)` is higher for better; ask(images (n, height, width) uint8 or uint16) gives the network's answer, float32 on the CPU. It
    looks after each epoch, but not before `LOOK` batches have passed since it last did. Training ends when in `patience`, a share of all
    its epochs, no look was better than one before; 0 waits for ever. Either way the best weights are what is kept. A share, since the
    learning rate falls over the whole of a training: a pause that is long in a short one is short in a long one.
    """

    score: Callable[[Predict], float]
    patience: float


def ignore_epoch(epoch: Epoch) -> None:
    """Hears an epoch's figures and does nothing."""


def fit(
    network: nn.Module,
    batch: Batch,
    rows: np.ndarray,
    loss: Callable[[Tensor, Tensor], Tensor],
    schedule: Schedule,
    *,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = ignore,
    watch: EarlyStopping | None = None,
    heard: Callable[[Epoch], None] = ignore_epoch,
    about: str = "",
) -> list[float]:
    """Train `network` in place and return the mean loss of each epoch; the network comes back on the CPU in evaluation mode.

    network: float32 (n, 1, height, width) in [0, 1] -> any tensor; `loss` takes that in float32 and the targets. `batch` is asked for one
    row at a time, from another thread. With `checkpoint`, the state is written there after each epoch, taken up again by the same call,
    ignored by a call with other settings, and removed at the end. `progress` hears (batches done, of how many), `heard` of every epoch,
    after a resumption of the earlier ones too. `about` is what else a checkpoint must have been made from.
    Raises `TooFew` for fewer than two rows, `BadRecipe` for a setting that cannot be or that drives the loss to infinity.
    """
    _check(rows, schedule)
    steps, device = steps_per_epoch(len(rows), schedule.batch_size), _device()
    precision = _precision(schedule.precision, device)
    where = f"{device.type} {precision} {watch.patience if watch else None}{about}"
    identity = _identity(network, batch, rows, schedule, seed, where) if checkpoint else ""
    network.to(device, memory_format=torch.channels_last)
    state = _State(network, schedule, watch, precision, identity)
    if checkpoint:
        state.resume(checkpoint)
    for epoch in state.epochs:
        heard(epoch)
    while not state.finished():
        number = len(state.epochs)
        order = np.random.default_rng([seed, number]).permutation(rows)
        with seeded(seed, number):
            batches = _ahead(batch, order, steps, schedule.batch_size, seed, number)
            state.learn(batches, loss, steps, progress)
        heard(state.epochs[-1])
        if checkpoint:
            state.save(checkpoint)
    network.load_state_dict(state.kept())
    network.to("cpu", memory_format=torch.contiguous_format).eval()
    if len(state.epochs) < schedule.epochs:
        progress(schedule.epochs * steps, schedule.epochs * steps)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return [epoch.loss for epoch in state.epochs]


class _State:
    """A training between two epochs: all that a checkpoint holds, and how it goes on from there."""

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        watch: EarlyStopping | None,
        precision: str,
        identity: str,
    ) -> None:
        self.network, self.schedule, self.watch, self.precision, self.identity = (
            network,
            schedule,
            watch,
            precision,
            identity,
        )
        self.device = next(network.parameters()).device
        self.optimiser = torch.optim.AdamW(
            _groups(network, schedule.weight_decay), lr=schedule.learning_rate
        )
        self.average = {name: value.clone() for name, value in network.state_dict().items()}
        self.best: dict[
            str, Tensor
        ] = {}  # the averaged weights of the best look; empty before the first
        self.epochs: list[Epoch] = []

    def finished(self) -> bool:
        of, looks = self.schedule.epochs, [epoch for epoch in self.epochs if epoch.tune is not None]
        if len(self.epochs) >= of:
            return True
        if not looks or not self.watch or not self.watch.patience:
            return False
        best = max(looks, key=lambda epoch: epoch.tune)
        return looks[-1].number - best.number >= max(1, self.watch.patience * of)

    def learn(
        self,
        batches: Iterator[tuple[Tensor, Tensor]],
        loss: Callable[[Tensor, Tensor], Tensor],
        steps: int,
        progress: Callable[[int, int], None],
    ) -> None:
        """One epoch, of `steps` batches."""
        schedule, begun, found = self.schedule, len(self.epochs) * steps, []
        whole = schedule.epochs * steps
        self.network.train()
        for done, (images, targets) in enumerate(batches, begun):
            for group in self.optimiser.param_groups:
                group["lr"] = schedule.learning_rate * _share_of_rate(done, whole)
            error = loss(self._answer(self.network, images), targets.to(self.device))
            self.optimiser.zero_grad()
            error.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
            self.optimiser.step()
            _blend(self.average, self.network, schedule.averaging, done)
            found.append(error.detach())
            progress(done + 1, whole)
        number, mean = len(self.epochs) + 1, float(torch.stack(found).mean())
        if not math.isfinite(mean):
            raise BadRecipe(
                f"the loss is no longer a number in epoch {number}: lower learning_rate (it is {schedule.learning_rate:g})"
            )
        tune = (
            self._look()
            if self.watch
            and (number == schedule.epochs or number % -(-EVALUATE_EVERY // steps) == 0)
            else None
        )
        if tune is not None and tune > max(
            (epoch.tune for epoch in self.epochs if epoch.tune is not None), default=-math.inf
        ):
            self.best = {name: value.clone() for name, value in self.average.items()}
        self.epochs.append(Epoch(number, number * steps, mean, tune))

    def kept(self) -> dict[str, Tensor]:
        """The weights that the training is for."""
        return self.best or self.average

    def save(self, path: Path) -> None:
        state = {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        state |= {
            "average": self.average,
            "best": self.best,
            "epochs": [asdict(epoch) for epoch in self.epochs],
        }
        content = io.BytesIO()  # PyTorch's own writer tells of a full disk in words of its own
        torch.save(state, content)
        storage.write_sealed(path, content.getvalue())

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of this very training; stay at the beginning where there is none, or where it is damaged."""
        if not path.is_file():
            return
        content = storage.read_sealed(path)
        if content is None:
            notice(f"{path} is damaged or no checkpoint of Hilum; its training begins again")
            return
        state = torch.load(io.BytesIO(content), map_location=self.device, weights_only=True)
        if state["identity"] != self.identity:
            return
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.best = state["best"]
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]

    def _answer(self, network: nn.Module, images: Tensor) -> Tensor:
        x = (
            images.to(self.device)
            .unsqueeze(1)
            .float()
            .div_(torch.iinfo(images.dtype).max)
            .contiguous(memory_format=torch.channels_last)
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return network(x).float()

    @torch.no_grad()
    def _look(self) -> float:
        averaged = copy.deepcopy(self.network).eval()
        averaged.load_state_dict(self.average)
        return float(
            self.watch.score(lambda images: self._answer(averaged, torch.from_numpy(images)).cpu())
        )


def _check(rows: np.ndarray, schedule: Schedule) -> None:
    if schedule.batch_size < 2:
        raise BadRecipe(
            f"batch_size must be at least 2, as batch normalisation compares images; got {schedule.batch_size}"
        )
    if len(rows) < 2:
        raise TooFew(
            f"cannot train on {len(rows)} image(s): at least 2 are needed, and many more to learn anything"
        )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _precision(wanted: str, device: torch.device) -> str:
    """ "float32" or "bfloat16"; without hardware for it, bfloat16 is slower than float32. Raises `BadRecipe` for anything else."""
    if wanted in ("float32", "bfloat16"):
        return wanted
    if wanted != "auto":
        raise BadRecipe(f"precision is '{wanted}'; expected 'auto', 'float32' or 'bfloat16'")
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return (
        "bfloat16"
        if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        else "float32"
    )


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for the matrices and kernels; none for biases and normalisation."""
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]


def _share_of_rate(step: int, steps: int) -> float:
    """The learning rate at `step` as a share of the largest: a straight rise, then a cosine to nearly 0 (Loshchilov & Hutter 2017)."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise + 1) / (steps - rise + 1)))


def _ahead(
    batch: Batch, order: np.ndarray, steps: int, batch_size: int, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch; while one is trained on, the next is being made in a second thread."""

    def make(step: int) -> tuple[Tensor, Tensor]:
        chosen = order[step * batch_size : (step + 1) * batch_size]
        made = [
            batch(chosen[at : at + 1], np.random.default_rng([seed, epoch, int(chosen[at])]))
            for at in range(len(chosen))
        ]
        images, targets = (np.concatenate(part) for part in zip(*made, strict=True))
        return torch.from_numpy(images), torch.from_numpy(targets)

    return ahead(partial(make, step) for step in range(steps))


@torch.no_grad()
def _blend(average: dict[str, Tensor], network: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the present weights; early on by more, so that the first random weights are forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    present = network.state_dict()
    moving = [name for name, value in present.items() if value.is_floating_point()]
    torch._foreach_lerp_(
        [average[name] for name in moving], [present[name] for name in moving], 1 - decay
    )
    for name in present.keys() - set(moving):
        average[name].copy_(present[name])


def _identity(
    network: nn.Module, batch: Batch, rows: np.ndarray, schedule: Schedule, seed: int, where: str
) -> str:
    """What a checkpoint must have been made from to be taken up: settings, rows, first weights, and the first image as it is trained on."""
    image, target = batch(rows[:1], np.random.default_rng([seed, 0, int(rows[0])]))
    content = hashlib.sha256()
    for array in (
        rows,
        image,
        target,
        *(value.detach().cpu().numpy() for value in network.state_dict().values()),
    ):
        content.update(f"{array.dtype}{array.shape}".encode())
        content.update(np.ascontiguousarray(array).tobytes())
    return digest([asdict(schedule), seed, where, list(network.state_dict()), content.hexdigest()])
