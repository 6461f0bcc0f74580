"""PyTorch's random numbers: one state for the whole process, set for one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

DRAWING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.RReLU)
_ONE_STATE = threading.RLock()
_OWN = threading.local()  # `blocks`: of `seeded`, in which a thread is


@contextmanager
def seeded(*seeds: int) -> Iterator[None]:
    """Seed PyTorch's random numbers, for one thread at a time; restore their state afterwards."""
    with _ONE_STATE, torch.random.fork_rng():
        _OWN.blocks = getattr(_OWN, "blocks", 0) + 1
        try:
            seed(*seeds)
            yield
        finally:
            _OWN.blocks -= 1


def held() -> bool:
    """Say whether this thread is in a block of `seeded`, for whose end other threads may wait."""
    return getattr(_OWN, "blocks", 0) > 0


def seed(*seeds: int) -> None:
    """Seed PyTorch's random numbers, inside a block of `seeded`."""
    torch.manual_seed(one_of(*seeds))


def one_of(*seeds: int) -> int:
    """Return one seed of 64 bits made of several."""
    return int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0])
