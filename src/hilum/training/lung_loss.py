"""The loss of lung networks: cross-entropy per pixel plus soft Dice per lung, with its gradient.

Derived by PyTorch, step by step, the gradient takes as long as a third of a training step: each
step passes over all pixels of both lungs. In closed form five passes are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hilum.annotations.lung_masks import IGNORE, LEFT, RIGHT
from hilum.errors import BadRecipe

AXES = {"batch": (0, 2, 3), "image": (2, 3)}  # of `dice_over`: over which a lung's Dice is computed


def of(over: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss with soft Dice over each "batch" or each "image"; `BadRecipe` otherwise."""
    if over not in AXES:
        raise BadRecipe(f"dice_over is '{over}'; expected 'batch' or 'image'")
    return partial(loss, over=AXES[over])


def loss(logits: Tensor, labels: Tensor, over: tuple[int, ...] = AXES["batch"]) -> Tensor:
    """Compute cross-entropy per pixel plus 1 - soft Dice per lung over the axes `over`.

    `logits` are float32 (n, 2, height, width), `labels` uint8 (n, height, width). Ignored pixels
    do not count. Soft Dice: Milletari et al. 2016.
    """
    return _LungLoss.apply(logits.contiguous(), labels, over)


def truth(labels: Tensor) -> Tensor:
    """Return the right and the left lung of labels, float32 (n, 2, height, width), 0 or 1."""
    count, height, width = labels.shape
    lungs = torch.empty((count, 2, height, width), device=labels.device)
    for place, side in enumerate((RIGHT, LEFT)):
        torch.eq(labels, side, out=lungs[:, place])
    return lungs


def known(labels: Tensor) -> Tensor:
    """Return which pixels of labels are not ignored, float32 (n, 1, height, width), 0 or 1."""
    return torch.ne(labels, IGNORE, out=torch.empty(labels.shape, device=labels.device))[:, None]


class _LungLoss(torch.autograd.Function):
    """The loss, differentiable once by the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, over: tuple[int, ...]) -> Tensor:
        """Compute the loss."""
        lungs, counted = truth(labels), known(labels)
        likely = torch.sigmoid(logits).mul_(counted)
        both = (likely * lungs).sum(over, keepdim=True)
        sums = likely.sum(over, keepdim=True) + lungs.sum(over, keepdim=True) + 1
        pixels = (2 * counted.sum()).clamp(min=1)
        # Of a pixel the cross-entropy is log(1 + exp(logit)), less the logit where there is lung.
        entropy = F.softplus(logits).mul_(counted).sum() - (logits * lungs).sum()
        ctx.save_for_backward(likely, lungs, both, sums, pixels)
        return entropy / pixels + (1 - (2 * both + 1) / sums).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradient by the logits, 0 where they are ignored."""
        likely, lungs, both, sums, pixels = ctx.saved_tensors
        of_dice = gradients[0] / both.numel()
        outside = of_dice * (2 * both + 1) / sums.square()  # by the likelihood, where no lung is
        inside = outside - 2 * of_dice / sums
        found = torch.addcmul(likely, likely, likely, value=-1)
        found.mul_(torch.addcmul(outside, lungs, inside - outside))
        return found.add_((likely - lungs).mul_(gradients[0] / pixels)), None, None
