"""The one training loop.

AdamW, warm-up and cosine schedule, averaged weights, early stopping, bfloat16 where the hardware
has it, accumulated gradients, several processes (`hilum.training.ranks`), exact resumption.

Everything random in epoch e is a function of (seed, e) or of (seed, e, row) or of (seed, e, batch):
the order of the rows, the augmentation of each image, the dropout. So an interrupted training
resumes from its last checkpoint and reaches the very weights it would have reached uninterrupted
(bit for bit on the processors of one machine).
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hilum import storage
from hilum.errors import BadRecipe, HilumError, TooFew
from hilum.safety import threads
from hilum.training import batch_parts, random_state, ranks, sampling
from hilum.training.batch_parts import Replicas
from hilum.training.batches import ahead
from hilum.training.random_state import DRAWING, seeded
from hilum.training.sampling import Part, Plan
from hilum.training.schedule import Schedule, rate_factor
from hilum.training.shared_norms import shared_norms
from hilum.training.training_state import (
    Epoch,
    TrainingState,
    read_checkpoint,
    set_memory_format,
)

# Fewest batches between two evaluations of the tune images: with few images, evaluating more often
# would cost more than training.
EVALUATE_EVERY = 20
GRADIENT_NORM = 5.0  # longer gradients are clipped: one odd batch must not upset the weights
LOADERS = 6  # threads at most that make batches for a GPU; for a processor one, as it computes too

Batch = Callable[[np.ndarray, Sequence[np.random.Generator]], tuple[np.ndarray, ...]]
"""rows (b,), a generator for each -> images uint8 or uint16 (b, height, width), targets (b, ...),
and what `Finish` needs"""

Finish = Callable[..., Tensor]
"""images on the device, and what else a batch holds -> float32 (b, height, width) in [0, 1]"""

Predict = Callable[[np.ndarray], Tensor]
"""images uint8 or uint16 (n, height, width) -> the network's output, float32 on the CPU"""


def ignore(done: int, of: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class EarlyStopping:
    """A score of the averaged weights on images outside the training rows, and when to stop.

    `score(predict)` is higher for better weights. It is computed after an epoch, but at most every
    `EVALUATE_EVERY` batches. Training stops when it has not improved for `patience`, a fraction of
    all epochs; 0 never stops. In either case the best weights are kept. A fraction, since the
    learning rate falls over the whole training: a pause that is long in a short training is short
    in a long one.
    """

    score: Callable[[Predict], float]
    patience: float


def ignore_epoch(epoch: Epoch) -> None:
    """Ignore an epoch's figures."""


def as_fractions(images: Tensor) -> Tensor:
    """Convert uint8 or uint16 to float32 fractions of white, same shape."""
    return images.float().div_(torch.iinfo(images.dtype).max)


@dataclass(frozen=True)
class Examples:
    """What a network is trained on; picklable where several processes train.

    `batch` is called from other threads. `finish` turns on the device what it returned, without the
    targets, into the network's input. With `groups`, a number for each row, every group is seen
    equally often (`hilum.training.sampling`).
    """

    batch: Batch
    rows: np.ndarray
    finish: Finish = as_fractions
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Caller:
    """What only rank 0 has: where checkpoints are, and who hears of the training.

    With `checkpoint`, the state is written there after each epoch (and every
    `Schedule.checkpoint_steps` batches), resumed by the same call, and ignored by a call with other
    settings or another `made_from`. It is left for the caller to remove once the trained network is
    kept: until then the same call returns it at once. `progress` receives (batches done, of how
    many), `on_epoch` every epoch, after a resumption the earlier ones too.
    """

    checkpoint: Path | None = None
    made_from: str = ""
    progress: Callable[[int, int], None] = ignore
    watch: EarlyStopping | None = None
    on_epoch: Callable[[Epoch], None] = ignore_epoch


_NOBODY = Caller()


@dataclass(frozen=True)
class _Training:
    """What every rank needs to know of a training."""

    network: nn.Module
    examples: Examples
    loss: Callable[[Tensor, Tensor], Tensor]
    schedule: Schedule
    seed: int
    patience: float
    identity: str

    @property
    def draws(self) -> bool:
        """Whether it draws PyTorch's random numbers, as dropout does."""
        parts = (part for part in self.network.modules() if isinstance(part, DRAWING))
        on_device = self.examples.finish is not as_fractions
        return on_device or any(getattr(part, "p", 1) for part in parts)

    @property
    def at_once(self) -> int:
        """Parts of a batch that one process computes at once on a processor, 1 elsewhere."""
        alone = ranks.count() == 1 and ranks.device().type == "cpu" and not self.schedule.compiled
        return self.schedule.accumulate if alone and self.examples.finish is as_fractions else 1


def fit(
    network: nn.Module,
    examples: Examples,
    loss: Callable[[Tensor, Tensor], Tensor],
    schedule: Schedule,
    *,
    seed: int,
    caller: Caller = _NOBODY,
) -> list[float]:
    """Train `network` in place and return the mean loss of each epoch.

    The network maps float32 (n, 1, height, width) in [0, 1] to any tensor; `loss` takes that in
    float32 and the targets. Afterwards it is on the CPU in evaluation mode. Started by torchrun,
    all ranks train (`hilum.training.ranks`); network and loss must then be picklable too.

    Raises `TooFew` for fewer than two rows, `BadRecipe` for an invalid setting or one that makes
    the loss diverge.
    """
    schedule.check(ranks.count())
    rows, watch = examples.rows, caller.watch
    if len(rows) < max(2, ranks.count()):
        raise TooFew(
            f"cannot train on {len(rows)} image(s): at least {max(2, ranks.count())} are needed, "
            f"and many more to be of use"
        )
    device = ranks.device()
    patience = watch.patience if watch else 0.0
    where = f"{device.type} {schedule.precision_on(device)} {patience}{caller.made_from}"
    if examples.groups is not None:
        where += storage.digest(examples.groups.tolist())
    identity = ""
    if caller.checkpoint:
        identity = _identity(network, examples, schedule, seed, where)
    training = _Training(network, examples, loss, schedule, seed, patience, identity)
    ranks.from_first(training)
    return _run(training, caller)


def take_part() -> None:
    """Take part in the trainings of rank 0 until it has ended, see `hilum.training.ranks`."""
    while training := _next_training():
        _run(training, _NOBODY)


def _next_training() -> _Training | None:
    try:
        return ranks.from_first(None)
    except RuntimeError as error:  # its connections closed; PyTorch has no narrower error
        raise HilumError("rank 0 ended with an error; what it says stands above") from error


def _run(training: _Training, caller: Caller) -> list[float]:
    network, schedule, device = training.network, training.schedule, ranks.device()
    network.to(device)
    if isinstance(training.loss, nn.Module):
        training.loss.to(device)
    set_memory_format(network, torch.channels_last)  # faster convolutions
    state = TrainingState(network, schedule, training.identity)
    if (content := ranks.from_first(read_checkpoint(caller.checkpoint))) is not None:
        state.resume(content)
    for epoch in state.epochs:
        caller.on_epoch(epoch)
    with (
        seeded(training.seed) if training.draws else nullcontext(),
        shared_norms(network),
        batch_parts.replicated(network, training.at_once) as replicas,
    ):
        loop = _Loop(training, caller, state, replicas)
        while not state.finished(training.patience):
            loop.run_epoch()
            caller.on_epoch(state.epochs[-1])
            loop.save()
    network.load_state_dict(state.kept())
    network.to("cpu")
    set_memory_format(network, torch.contiguous_format)
    network.eval()
    if len(state.epochs) < schedule.epochs:
        caller.progress(schedule.epochs * loop.steps, schedule.epochs * loop.steps)
    return [epoch.loss for epoch in state.epochs]


class _Loop:
    """The batches of a training, on one rank."""

    def __init__(
        self,
        training: _Training,
        caller: Caller,
        state: TrainingState,
        replicas: Replicas | None,
    ) -> None:
        self.training, self.caller, self.state = training, caller, state
        self.replicas = replicas
        self.schedule, self.device = training.schedule, state.device
        self.precision = self.schedule.precision_on(self.device)
        self.plan = Plan(
            self.schedule.batch_size, self.schedule.accumulate, ranks.rank(), ranks.count()
        )
        self.steps = self.plan.steps(len(training.examples.rows))
        self.parallel = ranks.parallel(state.network, self.device)
        self.forward: Callable[[Tensor], Tensor] = self.parallel
        if self.schedule.compiled:
            # Shapes are fixed but for a last, short batch, which is worth a second compilation.
            self.forward = torch.compile(self.parallel, dynamic=False)

    def run_epoch(self) -> None:
        """Train for one epoch, or what is left of it, and evaluate if it is due."""
        state, schedule, training = self.state, self.schedule, self.training
        done, epoch, whole = len(state.losses), len(state.epochs), schedule.epochs * self.steps
        rows, groups = training.examples.rows, training.examples.groups
        order = sampling.order(rows, training.seed, epoch, groups)
        state.network.train()
        plan = self.plan.batches(order, training.seed, epoch, done)
        for step, parts in enumerate(self._loaded(plan), done):
            if training.draws:  # dropout, and noise on the device
                random_state.seed(training.seed, epoch, step, ranks.rank())
            number = epoch * self.steps + step
            for group in state.optimiser.param_groups:
                group["lr"] = schedule.learning_rate * rate_factor(number, whole)
            state.losses.append(self._step(parts, (training.seed, epoch, step)))
            state.blend(number)
            self.caller.progress(number + 1, whole)
            every = schedule.checkpoint_steps
            if every and (step + 1) % every == 0 and step + 1 < self.steps:
                self.save()
        self._end_epoch(epoch + 1)

    def _step(self, parts: Sequence[_Loaded], seeds: tuple[int, ...]) -> Tensor:
        """Move the weights by one batch and return its loss."""
        state = self.state
        state.optimiser.zero_grad()
        if self.replicas:

            def compute(network: nn.Module, at: int) -> Tensor:
                """Compute one part, beside the others."""
                with batch_parts.drawing(random_state.one_of(*seeds, at)):
                    return self._part(network, parts[at])

            losses = self.replicas.each(compute, len(parts))
        else:
            *first, last = parts
            with ranks.unsynchronised(self.parallel) if first else nullcontext():
                losses = [self._part(self.forward, part) for part in first]
            losses.append(self._part(self.forward, last))
        nn.utils.clip_grad_norm_(state.network.parameters(), GRADIENT_NORM, foreach=True)
        state.optimiser.step()
        return torch.stack(losses).sum()

    def _part(self, network: Callable[[Tensor], Tensor], part: _Loaded) -> Tensor:
        """Add the gradients of a part of a batch, and return its part of the loss."""
        images, targets, *further = (
            tensor.to(self.device, non_blocking=True) for tensor in part.tensors
        )
        counts = part.of.counts
        output = self._output(network, self.training.examples.finish(images, *further))
        error = self.training.loss(ranks.whole(output, counts), ranks.whole(targets, counts))
        error = error * part.of.weight
        # DistributedDataParallel averages the gradients, of which each rank has a part.
        (error * len(counts)).backward()
        return error.detach()

    def _end_epoch(self, number: int) -> None:
        state, watch = self.state, self.caller.watch
        mean = float(torch.stack(state.losses).mean())
        if not math.isfinite(mean):
            raise BadRecipe(
                f"the loss is no longer a number in epoch {number}: lower learning_rate "
                f"(it is {self.schedule.learning_rate:g})"
            )
        state.complete_average()
        due = number == self.schedule.epochs or number % -(-EVALUATE_EVERY // self.steps) == 0
        tune = ranks.from_first(self._evaluate(watch) if watch and due else None)
        state.end_epoch(self.steps, mean, tune)

    def _loaded(self, plan: Iterator[list[Part]]) -> Iterator[list[_Loaded]]:
        """Yield batches as tensors; the next ones are made in other threads."""
        gpu = self.device.type == "cuda"

        def load(parts: list[Part]) -> list[_Loaded]:
            """Make one batch, in memory that a GPU can fetch by itself."""
            made = []
            for part in parts:
                rngs = [np.random.default_rng(seeds) for seeds in part.seeds]
                arrays = self.training.examples.batch(part.rows, rngs)
                tensors = [torch.from_numpy(array) for array in arrays]
                made.append(_Loaded(part, [t.pin_memory() if gpu else t for t in tensors]))
            return made

        return ahead((partial(load, parts) for parts in plan), _loaders() if gpu else 1)

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        if self.caller.checkpoint:
            storage.write_sealed(self.caller.checkpoint, self.state.as_bytes())

    def _output(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        x = x.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return network(x).float()

    @torch.no_grad()
    def _evaluate(self, watch: EarlyStopping) -> float:
        averaged = copy.deepcopy(self.state.network).eval()
        averaged.load_state_dict(self.state.average)

        def predict(images: np.ndarray) -> Tensor:
            """Compute the averaged network's output."""
            x = as_fractions(torch.from_numpy(images).to(self.device))
            return self._output(averaged, x).cpu()

        return float(watch.score(predict))


@dataclass(frozen=True)
class _Loaded:
    of: Part
    tensors: list[Tensor] = field(repr=False)  # images, targets, further ones


def _loaders() -> int:
    """Return the number of threads that make batches: the processors that no other rank needs."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(LOADERS, threads.cores() // here - 1))


def _identity(
    network: nn.Module, examples: Examples, schedule: Schedule, seed: int, where: str
) -> str:
    """Return a digest of what a checkpoint must have been made from to be resumed.

    Settings, rows, initial weights, and the first image as it is trained on. The number of ranks is
    not part of it: another number goes on from the same state.
    """
    rows = examples.rows
    first = examples.batch(rows[:1], [np.random.default_rng([seed, 0, int(rows[0])])])
    content = hashlib.sha256()
    for array in (
        rows,
        *first,
        *(value.detach().cpu().numpy() for value in network.state_dict().values()),
    ):
        content.update(f"{array.dtype}{array.shape}".encode())
        content.update(np.ascontiguousarray(array).tobytes())
    names = list(network.state_dict())
    return storage.digest([asdict(schedule), seed, where, names, content.hexdigest()])
