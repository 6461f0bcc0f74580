"""A training on two ranks: `tests/test_distributed.py` runs this file, and trains alike by itself.

The ranks are started, watched and started again by what torchrun starts them by, and find the
same environment; they are forked, so that PyTorch is imported once and not five times.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from hilum.cli import torchrun
from hilum.training import classification, training_loop
from hilum.training.schedule import Schedule

SIZE, ROWS, STEPS = 16, np.arange(38), 6
SCHEDULE = Schedule(3, 7, 0.01, 0.01, 0.9, "float32", checkpoint_steps=1)
HALVES = replace(SCHEDULE, batch_size=8, accumulate=2)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.last = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.features(x).mean((2, 3)))


@dataclass(frozen=True)
class Images:
    """Made-up images, brighter with the row, a third of their labels unknown. Of rank 1 the process
    is killed while it makes the images of the `killed` batch, unless it was started again.
    """

    killed: int = 0
    made = 0  # batches; of the class, as a process has one training

    def __call__(self, rows, rngs) -> tuple[np.ndarray, np.ndarray]:
        Images.made += 1
        rank, again = os.environ.get("RANK"), os.environ.get("TORCHELASTIC_RESTART_COUNT")
        if (rank, again, Images.made) == ("1", "0", self.killed):
            os.kill(os.getpid(), signal.SIGKILL)
        noise = np.stack([rng.integers(0, 60, (SIZE, SIZE)) for rng in rngs])
        targets = (rows[:, None] >= np.array([10, 20, 30])).astype(np.float32)
        targets[(rows[:, None] + np.arange(3)) % 3 == 0] = np.nan
        return (rows[:, None, None] * 4 + noise).astype(np.uint8), targets


def train(schedule: Schedule, images: Images, **more) -> tuple[list[float], dict[str, np.ndarray]]:
    with training_loop.seeded(1):
        network = Small()
    loss = classification.WeightedLoss(torch.tensor([1.0, 2.0, 3.0]))
    examples, caller = training_loop.Examples(images, ROWS), training_loop.Caller(**more)
    losses = training_loop.fit(network, examples, loss, schedule, seed=5, caller=caller)
    return losses, {name: value.numpy() for name, value in network.state_dict().items()}


def under_torchrun(folder: Path) -> None:
    begun = []
    checkpoint = folder / "training.checkpoint"
    killed = train(
        SCHEDULE,
        Images(killed=STEPS + 5),
        checkpoint=checkpoint,
        progress=lambda done, of: begun.append(done),
    )
    undisturbed, halves = train(SCHEDULE, Images()), train(HALVES, Images())
    found = {"begun": np.array(begun[0]), "left": np.array(checkpoint.exists())}
    for name, (losses, weights) in (
        ("killed", killed),
        ("undisturbed", undisturbed),
        ("halves", halves),
    ):
        found[f"{name} losses"] = np.array(losses)
        found |= {f"{name} {key}": value for key, value in weights.items()}
    np.savez(folder / "found.npz", **found)


def rank(folder: str) -> None:
    torchrun.run(lambda: under_torchrun(Path(folder)))


if __name__ == "__main__":
    import torch._dynamo  # as optimizers do at their first use: once, not in every rank

    CONFIG = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=1,
        monitor_interval=0.1,
        start_method="fork",
    )
    elastic_launch(CONFIG, rank)(sys.argv[1])
