"""Compute the parts of a batch at once, each by a replica of the network on some of the cores.

Threads that divide each layer among them wait for one another at the end of each: two take nearly
as long as one (benchmarks/results/speed.md, the whole job). Threads that divide the batch meet once
a step. Replicas share the weights; each has its own gradients and statistics of batch
normalisation, which are added up in the order of the parts. So the result is that of parts which
are computed one after the other. Up to twice as many cores as parts, less one, each part has one,
and the result is the same to the bit; of two or more PyTorch's layers add up in another order.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.safety import threads
from hilum.training import shared_norms
from hilum.training.random_state import DRAWING

T = TypeVar("T")
_OWN = threading.local()  # `generator`: of what a thread draws for its part


class Dropout(nn.Dropout):
    """Dropout that draws from the generator of the part, so that parts may draw at once."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop values of a batch, and scale the others, while training."""
        generator = getattr(_OWN, "generator", None)
        if generator is None or not self.training or not 0 < self.p < 1:
            return F.dropout(input, self.p, self.training)
        kept = torch.empty_like(input).bernoulli_(1 - self.p, generator=generator)
        return input * kept / (1 - self.p)


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Let `Dropout` in this thread draw by a seed inside the block."""
    _OWN.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        del _OWN.generator


@contextmanager
def replicated(network: nn.Module, count: int) -> Iterator[Replicas | None]:
    """Yield replicas for so many parts, whose threads last as long as the block.

    New threads in each step would take new memory in each step. None for one part, or where the
    network draws by other means than `Dropout`, where its normalisation has no momentum, and where
    it holds buffers besides, which it may change.
    """
    if count < 2 or not _suits(network):
        yield None
        return
    others = max(1, min(count, torch.get_num_threads()) - 1)
    with threads.pool(others, "parts") as pool:
        yield Replicas(network, count, pool)


class Replicas:
    """A network and further ones with its weights, one for each part of a batch.

    `network` must lie where it stays: its weights may change, not their place in memory.
    """

    def __init__(self, network: nn.Module, count: int, pool: ThreadPoolExecutor) -> None:
        self.networks = [network, *(_replica(network) for _ in range(count - 1))]
        self.pool = pool
        norms = [shared_norms.norms(one) for one in self.networks]
        self._norms = list(zip(*norms, strict=True))

    def each(self, work: Callable[[nn.Module, int], T], count: int) -> list[T]:
        """Call `work` with a replica and the part's number, for so many parts; return the results.

        Gradients that `work` leaves on its replica are then added up on the network.
        """
        cores = torch.get_num_threads()
        works = [partial(work, self.networks[number], number) for number in range(count)]
        at_once = min(count, cores) > 1
        found = self._at_once(works, cores) if at_once else [one() for one in works]
        self._join(count)
        return found

    def _at_once(self, works: Sequence[Callable[[], T]], cores: int) -> list[T]:
        """Do the first work in this thread, and the others meanwhile in those of the pool."""

        def on_its_cores(one: Callable[[], T]) -> T:
            torch.set_num_threads(max(1, cores // len(works)))
            return one()

        coming = [self.pool.submit(on_its_cores, one) for one in works[1:]]
        try:
            first = on_its_cores(works[0])
        finally:
            wait(coming)
            torch.set_num_threads(cores)
        return [first, *(one.result() for one in coming)]

    @torch.no_grad()
    def _join(self, count: int) -> None:
        weights, *further = (list(one.parameters()) for one in self.networks[:count])
        for replicas in further:
            for weight, replica in zip(weights, replicas, strict=True):
                if replica.grad is not None and weight.grad is not None:
                    weight.grad.add_(replica.grad)
                elif replica.grad is not None:
                    weight.grad = replica.grad
                replica.grad = None
        for norm, *replicas in self._norms:
            if not (norm.training and norm.track_running_stats):
                continue
            for replica in replicas[: count - 1]:
                norm.running_mean.lerp_(replica.running_mean, norm.momentum)
                norm.running_var.lerp_(replica.running_var, norm.momentum)
                norm.num_batches_tracked.add_(1)


def _suits(network: nn.Module) -> bool:
    drawing = [part for part in network.modules() if isinstance(part, DRAWING)]
    norms = shared_norms.norms(network)
    joined = {id(buffer) for norm in norms for buffer in norm.buffers(recurse=False)}
    return (
        all(isinstance(part, Dropout) for part in drawing)
        and all(norm.momentum is not None for norm in norms)
        and joined == {id(buffer) for buffer in network.buffers()}
    )


def _replica(network: nn.Module) -> nn.Module:
    """Return a copy to train on the same weights; its running statistics are of its last batch."""
    weights = {
        id(one): nn.Parameter(one.detach(), one.requires_grad) for one in network.parameters()
    }
    replica = copy.deepcopy(network, weights)
    for norm in shared_norms.norms(replica):
        norm.momentum = 1.0
    return replica.train()
