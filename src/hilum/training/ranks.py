"""Train on several processes at once: the ranks that `torchrun` starts, and what they exchange.

    torchrun --standalone --nproc-per-node 2 --max-restarts 3 -m hilum run nih.toml -o runs/nih

Rank 0 alone runs the program: it reads, writes and reports. The others wait for its trainings and
take part in them (`training_loop.take_part`), so that nothing is written twice and every step that
is not training stays as it is. Each rank computes its rows of every batch; the result is that of
one process with the whole batch, up to rounding:

- the loss is that of the whole batch: outputs and targets are gathered first (`whole`),
  so a mean over known labels or a Dice over the batch is what it would be in one process;
- gradients are summed by PyTorch's DistributedDataParallel;
- batch normalisation uses mean and variance of the whole batch (`hilum.training.shared_norms`).

Only dropout differs, as each rank draws its own. Processors exchange with gloo, GPUs with NCCL.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from hilum.errors import BadRecipe, on_one_line

# The others wait for rank 0 as long as its steps between two trainings take; a rank that dies is
# noticed by torchrun, not by this limit.
LONGEST_STEP = timedelta(days=14)
T = TypeVar("T")


@contextmanager
def joined() -> Iterator[int]:
    """Join the other ranks inside the block, and yield the own rank."""
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(_local())
        backend = "cpu:gloo,cuda:nccl"
    store, own, of = _met()
    # A start after the death of a rank may find the addresses of the dead in the same store.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"start {attempt}", store)  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group(backend, store=store, rank=own, world_size=of, timeout=LONGEST_STEP)
    try:
        yield dist.get_rank()
    finally:
        # Networks that still hold the group would keep its threads alive until the process ends,
        # which aborts it.
        gc.collect()
        dist.destroy_process_group()


def _met() -> tuple[Store, int, int]:
    """Return the store of the ranks, the own rank and their number, as the environment has them.

    Raises `BadRecipe` where it is not that of torchrun, or nothing answers at its address.
    """
    try:
        return next(rendezvous("env://"))
    except (ValueError, OSError, RuntimeError) as error:
        raise BadRecipe(
            f"this process cannot join others to train ({on_one_line(str(error))[:200]}); RANK, "
            "WORLD_SIZE, MASTER_ADDR and MASTER_PORT are expected as torchrun sets them: start it "
            "by torchrun, or without TORCHELASTIC_RUN_ID in the environment"
        ) from error


def rank() -> int:
    """Return the own rank, 0 alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Return the number of ranks, 1 alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def device() -> torch.device:
    """Return the device of this rank: one GPU each where there are any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", _local() if dist.is_initialized() else 0)


def _local() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def from_first(value: T) -> T:
    """Return the value that rank 0 gave; the others' values are ignored."""
    if not dist.is_initialized():
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
    return held[0]


def parallel(network: nn.Module, where: torch.device) -> nn.Module:
    """Return the network as it computes in a group of ranks: itself, where there is no group."""
    if not dist.is_initialized():
        return network
    with warnings.catch_warnings():
        # Newer releases of PyTorch have another name for it, older ones lack that name.
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        return DistributedDataParallel(
            network,
            device_ids=[where.index] if where.type == "cuda" else None,
            broadcast_buffers=False,  # statistics are those of the whole batch already
            gradient_as_bucket_view=True,
        )


def unsynchronised(network: nn.Module) -> AbstractContextManager[None]:
    """Return a block in which gradients add up on each rank and are not exchanged yet."""
    if isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return nullcontext()


def whole(part: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the rows of all ranks, of which this one has `part` and each has so many.

    Gradients flow into the own part only. Summed over the ranks they are those of one process.
    """
    if len(counts) == 1:
        return part
    # NCCL and gloo gather equal shapes only.
    padded = part.new_zeros((max(counts), *part.shape[1:]))
    padded[: len(part)] = part.detach()
    found = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(found, padded)
    return torch.cat(
        [
            part if at == dist.get_rank() else rows[:many]
            for at, (rows, many) in enumerate(zip(found, counts, strict=True))
        ]
    )
