"""The one training loop.

AdamW, warm-up and cosine schedule, averaged weights, early stopping, bfloat16 where the hardware
has it, exact resumption.

Everything random in epoch e is a function of (seed, e) or of (seed, e, row): the order of the rows,
the augmentation of each image, the dropout. So an interrupted training resumes from its last whole
epoch and reaches the very weights it would have reached uninterrupted (bit for bit on the CPU of
one machine).
"""

from __future__ import annotations

import copy
import hashlib
import io
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from hilum import storage
from hilum.errors import BadRecipe, TooFew, notice
from hilum.storage import digest
from hilum.training.batches import ahead
from hilum.training.schedule import Schedule, rate_factor, steps_per_epoch

# Fewest batches between two evaluations of the tune images: with few images, evaluating more often
# would cost more than training.
EVALUATE_EVERY = 20
GRADIENT_NORM = 5.0  # longer gradients are clipped: one odd batch must not upset the weights

Batch = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""rows (b,), rng -> images uint8 or uint16 (b, height, width), targets (b, ...)"""

Predict = Callable[[np.ndarray], Tensor]
"""images uint8 or uint16 (n, height, width) -> the network's output, float32 on the CPU"""


_ONE_STATE = threading.RLock()


def ignore(done: int, of: int) -> None:
    """Ignore progress."""


@contextmanager
def seeded(*seeds: int) -> Iterator[None]:
    """Seed PyTorch's random numbers inside the block; restore their state afterwards.

    The process has one state, so other threads wait at their own block.
    """
    with _ONE_STATE, torch.random.fork_rng():
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]))
        yield


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch; `tune` is the early-stopping score, None where not evaluated."""

    number: int  # from 1
    batches: int  # since the beginning of training
    loss: float
    tune: float | None


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
    on_epoch: Callable[[Epoch], None] = ignore_epoch,
    made_from: str = "",
) -> list[float]:
    """Train `network` in place and return the mean loss of each epoch.

    The network maps float32 (n, 1, height, width) in [0, 1] to any tensor; `loss` takes that in
    float32 and the targets. Afterwards it is on the CPU in evaluation mode. `batch` is called for
    one row at a time, from another thread.

    With `checkpoint`, the state is written there after each epoch, resumed by the same call,
    ignored by a call with other settings or another `made_from`, and removed at the end. `progress`
    receives (batches done, of how many), `on_epoch` every epoch, after a resumption the earlier
    ones too.

    Raises `TooFew` for fewer than two rows, `BadRecipe` for an invalid setting or one that makes
    the loss diverge.
    """
    _check(rows, schedule)
    steps, device = steps_per_epoch(len(rows), schedule.batch_size), _device()
    precision = _precision(schedule.precision, device)
    where = f"{device.type} {precision} {watch.patience if watch else None}{made_from}"
    identity = _identity(network, batch, rows, schedule, seed, where) if checkpoint else ""
    network.to(device)
    _set_memory_format(network, torch.channels_last)  # faster convolutions
    state = _State(network, schedule, watch, precision, identity)
    if checkpoint:
        state.resume(checkpoint)
    for epoch in state.epochs:
        on_epoch(epoch)
    while not state.finished():
        number = len(state.epochs)
        order = np.random.default_rng([seed, number]).permutation(rows)
        with seeded(seed, number) if _draws(network) else nullcontext():
            batches = _ahead(batch, order, steps, schedule.batch_size, seed, number)
            state.run_epoch(batches, loss, steps, progress)
        on_epoch(state.epochs[-1])
        if checkpoint:
            state.save(checkpoint)
    network.load_state_dict(state.kept())
    network.to("cpu")
    _set_memory_format(network, torch.contiguous_format)
    network.eval()
    if len(state.epochs) < schedule.epochs:
        progress(schedule.epochs * steps, schedule.epochs * steps)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return [epoch.loss for epoch in state.epochs]


class _State:
    """The state of a training between two epochs: all that a checkpoint holds."""

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        watch: EarlyStopping | None,
        precision: str,
        identity: str,
    ) -> None:
        self.network, self.schedule, self.watch = network, schedule, watch
        self.precision, self.identity = precision, identity
        self.device = next(network.parameters()).device
        self.optimiser = torch.optim.AdamW(
            _groups(network, schedule.weight_decay), lr=schedule.learning_rate, fused=True
        )
        self.average = {name: value.clone() for name, value in network.state_dict().items()}
        self.best: dict[str, Tensor] = {}  # averaged weights of the best evaluation, if any
        self.epochs: list[Epoch] = []

    def finished(self) -> bool:
        """Return whether all epochs are done or the patience is exhausted."""
        total = self.schedule.epochs
        if len(self.epochs) >= total:
            return True
        evaluated = self._evaluated()
        if not evaluated or not self.watch or not self.watch.patience:
            return False
        _, best = max(evaluated, key=lambda pair: pair[0])
        _, last = evaluated[-1]
        return last - best >= max(1, self.watch.patience * total)

    def _evaluated(self) -> list[tuple[float, int]]:
        """Return score and number of each evaluated epoch."""
        return [(epoch.tune, epoch.number) for epoch in self.epochs if epoch.tune is not None]

    def run_epoch(
        self,
        batches: Iterator[tuple[Tensor, Tensor]],
        loss: Callable[[Tensor, Tensor], Tensor],
        steps: int,
        progress: Callable[[int, int], None],
    ) -> None:
        """Train for one epoch of `steps` batches, and evaluate if it is due."""
        schedule, begun, found = self.schedule, len(self.epochs) * steps, []
        whole = schedule.epochs * steps
        self.network.train()
        for done, (images, targets) in enumerate(batches, begun):
            for group in self.optimiser.param_groups:
                group["lr"] = schedule.learning_rate * rate_factor(done, whole)
            error = loss(self._output(self.network, images), targets.to(self.device))
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
                f"the loss is no longer a number in epoch {number}: lower learning_rate "
                f"(it is {schedule.learning_rate:g})"
            )
        tune = None
        due = number == schedule.epochs or number % -(-EVALUATE_EVERY // steps) == 0
        if self.watch and due:
            tune = self._evaluate(self.watch)
            if tune > max((score for score, _ in self._evaluated()), default=-math.inf):
                self.best = {name: value.clone() for name, value in self.average.items()}
        self.epochs.append(Epoch(number, number * steps, mean, tune))

    def kept(self) -> dict[str, Tensor]:
        """Return the weights that are the result of the training."""
        return self.best or self.average

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
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
        content = io.BytesIO()  # PyTorch's own writer reports a full disk in another way
        torch.save(state, content)
        storage.write_sealed(path, content.getvalue())

    def resume(self, path: Path) -> None:
        """Resume from a checkpoint of this very training; start anew without one or if damaged."""
        if not path.is_file():
            return
        content = storage.read_sealed(path)
        if content is None:
            notice(f"{path} is damaged or no checkpoint of Hilum; the training starts anew")
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

    def _output(self, network: nn.Module, images: Tensor) -> Tensor:
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
    def _evaluate(self, watch: EarlyStopping) -> float:
        averaged = copy.deepcopy(self.network).eval()
        averaged.load_state_dict(self.average)
        return float(
            watch.score(lambda images: self._output(averaged, torch.from_numpy(images)).cpu())
        )


def _check(rows: np.ndarray, schedule: Schedule) -> None:
    if schedule.batch_size < 2:
        raise BadRecipe(
            f"batch_size must be at least 2, as batch normalisation compares images; "
            f"got {schedule.batch_size}"
        )
    if len(rows) < 2:
        raise TooFew(
            f"cannot train on {len(rows)} image(s): at least 2 are needed, and many more to be "
            f"of use"
        )


def _draws(network: nn.Module) -> bool:
    """Return whether a network in training draws PyTorch's random numbers, as dropout does."""
    drawing = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
    drawing += (nn.FeatureAlphaDropout, nn.RReLU)
    return any(isinstance(part, drawing) and getattr(part, "p", 1) for part in network.modules())


def _set_memory_format(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay out all kernels in a memory format, as `Module.to(memory_format=...)` does."""
    for value in (*network.parameters(), *network.buffers()):
        if value.dim() == 4:
            value.data = value.data.to(value.device, memory_format=memory_format)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _precision(wanted: str, device: torch.device) -> str:
    """Return "float32" or "bfloat16" for a setting; raise `BadRecipe` for an unknown one.

    Without hardware for it, bfloat16 is slower than float32, so "auto" avoids it there.
    """
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


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return the parameter groups: weight decay for kernels, none for biases and normalisation."""
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]


def _ahead(
    batch: Batch, order: np.ndarray, steps: int, batch_size: int, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch; the next one is made in a second thread."""

    def make(step: int) -> tuple[Tensor, Tensor]:
        """Make one batch, each row with a generator of its own."""
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
    """Move the average towards the present weights.

    Early steps move it further, so that the initial random weights are forgotten.
    """
    decay = min(decay, (1 + step) / (10 + step))
    present = network.state_dict()
    moving = [name for name, value in present.items() if value.is_floating_point()]
    get_ema_multi_avg_fn(decay)(
        [average[name] for name in moving], [present[name] for name in moving], step
    )
    for name in present.keys() - set(moving):
        average[name].copy_(present[name])


def _identity(
    network: nn.Module, batch: Batch, rows: np.ndarray, schedule: Schedule, seed: int, where: str
) -> str:
    """Return a digest of what a checkpoint must have been made from to be resumed.

    Settings, rows, initial weights, and the first image as it is trained on.
    """
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
