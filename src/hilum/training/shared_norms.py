"""Normalise batches by mean and variance over all ranks, as one process with the whole batch does.

PyTorch's SyncBatchNorm does the same, on GPUs only and with modules that must be replaced. Each
rank sends the moments of its rows once forwards, and two sums once backwards; what is left for it
are the kernels of batch normalisation with known moments.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from hilum.training import ranks

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@contextmanager
def shared_norms(network: nn.Module) -> Iterator[None]:
    """Let batch normalisation see the batches of all ranks inside the block."""
    shared = norms(network) if ranks.count() > 1 else []
    for norm in shared:
        vars(norm)["forward"] = partial(_normalised, norm)
    try:
        yield
    finally:
        for norm in shared:
            del vars(norm)["forward"]


def norms(network: nn.Module) -> list[Norm]:
    """Return the layers of batch normalisation."""
    return [part for part in network.modules() if isinstance(part, Norm)]


def _normalised(norm: Norm, x: Tensor) -> Tensor:
    """Normalise by mean and variance over all ranks; update the running statistics."""
    running_mean, running_variance = norm.running_mean, norm.running_var
    assert running_mean is not None and running_variance is not None
    if not norm.training:
        return F.batch_norm(x, running_mean, running_variance, norm.weight, norm.bias, eps=norm.eps)
    assert norm.num_batches_tracked is not None
    size, mean, variance = _moments(x.detach(), running_mean, running_variance)
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        running_mean.lerp_(mean, momentum)
        running_variance.lerp_(variance * size / (size - 1), momentum)
    return _Normalised.apply(x, norm.weight, norm.bias, mean, variance, size, norm.eps)


def _moments(x: Tensor, *like: Tensor) -> tuple[float, Tensor, Tensor]:
    """Return how many values of a channel all ranks have, and mean and variance (channels,) of
    them, in the type of the running statistics `like`.

    Each rank has a row at least (`sampling.Plan.steps`). Their moments are joined as by Chan, Golub
    and LeVeque, Am. Stat. 37:242 (1983).
    """
    held = (one.clone() for one in like)  # which give the type, and are overwritten
    mean, variance = torch.ops.aten.batch_norm_update_stats(x, *held, 0.0)
    own = torch.cat([mean.new_tensor([x.numel() / x.shape[1]]), mean, variance])
    each = [torch.empty_like(own) for _ in range(ranks.count())]
    dist.all_gather(each, own)
    sizes, means, variances = torch.stack(each).double().split([1, len(mean), len(mean)], 1)
    size = sizes.sum()
    mean = (sizes * means).sum(0) / size
    variance = (sizes * (variances + (means - mean).square())).sum(0) / size
    return float(size), mean.to(own), variance.to(own)


class _Normalised(torch.autograd.Function):
    """Batch normalisation by the moments of all ranks, differentiable once."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        size: float,
        eps: float,
    ) -> Tensor:
        """Return the rows of this rank, normalised, in the type of `x`."""
        ctx.save_for_backward(x, gain, mean, variance)
        ctx.size, ctx.eps = size, eps
        return F.batch_norm(x, mean, variance, gain, bias, training=False, eps=eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the rows, and of gain and bias by these rows alone."""
        x, gain, mean, variance = ctx.saved_tensors
        of_x, of_gain, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, gain, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        # The rows of all ranks have a part in the moments, and so their gradients in each row's.
        sums = torch.cat([of_gain, of_bias])
        dist.all_reduce(sums)
        by_gain, by_bias = sums.view(2, -1) / ctx.size
        scale = torch.rsqrt(variance + ctx.eps)
        tilt = (-gain * scale.square() * by_gain).to(x)
        shift = -gain * scale * by_bias - tilt * mean
        each = (-1, *[1] * (x.ndim - 2))  # of the channels, for each row and place
        of_x.addcmul_(x, tilt.view(each)).add_(shift.view(each))
        return of_x, of_gain, of_bias, None, None, None, None
