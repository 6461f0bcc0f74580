"""A training on two ranks: `tests/test_distributed.py` runs this file, and trains alike itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks._lib import two_ranks
from hilum.training import classification, training_loop
from hilum.training.schedule import Schedule

SIZE, ROWS, STEPS = 16, np.arange(38), 6
KILLED = STEPS + 4  # the batch, in the second epoch, after which rank 1 is killed
SCHEDULE = Schedule(3, 7, 0.01, 0.01, 0.9, "float32", checkpoint_steps=1)
HALVES = replace(SCHEDULE, batch_size=8, accumulate=2)


class Small(nn.Module):
    def __init__(self, *, vectors_normalised: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        norm = nn.BatchNorm1d(6) if vectors_normalised else nn.Identity()
        self.last = nn.Sequential(norm, nn.Linear(6, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.features(x).mean((2, 3)))


def images(rows, rngs) -> tuple[np.ndarray, np.ndarray]:
    """Made-up images, brighter with the row, a third of their labels unknown."""
    noise = np.stack([rng.integers(0, 60, (SIZE, SIZE)) for rng in rngs])
    targets = (rows[:, None] >= np.array([10, 20, 30])).astype(np.float32)
    targets[(rows[:, None] + np.arange(3)) % 3 == 0] = np.nan
    return (rows[:, None, None] * 4 + noise).astype(np.uint8), targets


def train(
    schedule: Schedule, *, vectors_normalised: bool = False, **more
) -> tuple[list[float], dict[str, np.ndarray]]:
    with training_loop.seeded(1):
        network = Small(vectors_normalised=vectors_normalised)
    loss = classification.WeightedLoss(torch.tensor([1.0, 2.0, 3.0]))
    examples, caller = training_loop.Examples(images, ROWS), training_loop.Caller(**more)
    losses = training_loop.fit(network, examples, loss, schedule, seed=5, caller=caller)
    return losses, {name: value.numpy() for name, value in network.state_dict().items()}


def under_torchrun(folder: Path) -> None:
    begun = []

    def progress(done: int, of: int) -> None:
        begun.append(done)
        if done == KILLED:
            two_ranks.kill_the_other(folder)

    checkpoint = folder / "training.checkpoint"
    killed = train(SCHEDULE, checkpoint=checkpoint, progress=progress)
    undisturbed, halves = train(SCHEDULE), train(HALVES)
    vectors = train(SCHEDULE, vectors_normalised=True)
    found = {"begun": np.array(begun[0])}
    for name, (losses, weights) in (
        ("killed", killed),
        ("undisturbed", undisturbed),
        ("halves", halves),
        ("vectors", vectors),
    ):
        found[f"{name} losses"] = np.array(losses)
        found |= {f"{name} {key}": value for key, value in weights.items()}
    np.savez(folder / "found.npz", **found)


if __name__ == "__main__":
    two_ranks.launch(under_torchrun, Path(sys.argv[1]))
