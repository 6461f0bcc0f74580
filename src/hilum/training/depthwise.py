"""Convolutions padded as TensorFlow's "SAME", the depthwise ones with quick gradients.

oneDNN 3.9, in PyTorch 2.13, computes the gradient of a depthwise kernel of more than three columns
in ten times the time of three: it takes the channels for mixed, sixteen by sixteen. These gradients
were a third of a training step of EfficientNet, in bfloat16 three quarters; so they are computed
here three columns at a time. The gradient by the image takes up to three times as long as filtering
with the kernel rotated by 180 degrees, which computes the same with stride 1; with stride 2 it
takes nine times as long in bfloat16 as in float32, and is computed in float32.

With stride 2 the padding is that of TensorFlow's "SAME" for an even side, one pixel more on the
lower right. A kernel with a first row and column of zeros, padded equally on all sides, computes
the same and spares a padded copy of the image.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

COLUMNS = 3  # of a kernel, at most, whose gradient oneDNN computes quickly


class SameConvolution(nn.Conv2d):
    """A convolution of odd side without bias: (n, into, h, w) -> (n, out, h / stride, w / stride).

    `stride` is 1 or 2.
    """

    def __init__(
        self, into: int, out: int, *, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        inside = kernel // 2 if stride == 1 else 0
        super().__init__(into, out, kernel, stride, inside, groups=groups, bias=False)
        self.beside = ((kernel - 2) // 2, (kernel - 1) // 2) * 2 if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output."""
        return super().forward(F.pad(x, self.beside) if self.beside else x)


class DepthwiseConvolution(SameConvolution):
    """A convolution that filters each of `channels` separately."""

    def __init__(self, channels: int, *, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel=kernel, stride=stride, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the filtered channels."""
        if self.training and x.device.type == "cpu":
            return _Depthwise.apply(x, self.weight, self.bias, self.stride[0])
        return super().forward(x)


class _Depthwise(torch.autograd.Function):
    """The convolution with padding "SAME", differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        """Compute the filtered channels."""
        zeros = stride - 1  # rows and columns before the kernel
        kernel = F.pad(weight, (zeros, 0, zeros, 0)) if zeros else weight
        inside = (kernel.shape[-1] - 1) // 2
        made = torch.conv2d(x, kernel, bias, stride, inside, groups=len(weight))
        # Under autocast the output, and so its gradient, has another type than the weights.
        ctx.save_for_backward(x.to(made.dtype), kernel.to(made.dtype))
        ctx.stride, ctx.weight_type = stride, weight.dtype
        return made

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of image, kernels and bias."""
        (x, kernel), stride = ctx.saved_tensors, ctx.stride
        slope = gradients[0].contiguous(memory_format=torch.channels_last)
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _image_gradient(slope, x, kernel, stride)
        if ctx.needs_input_grad[1]:
            of_weight = _kernel_gradient(slope, x, kernel, stride).to(ctx.weight_type)
        if ctx.needs_input_grad[2]:
            of_bias = slope.sum((0, 2, 3), dtype=ctx.weight_type)
        return of_x, of_weight, of_bias, None


def _image_gradient(slope: Tensor, x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    inside = [(kernel.shape[-1] - 1) // 2] * 2
    if stride == 1:
        return torch.conv2d(slope, kernel.flip(2, 3), None, 1, inside, groups=len(kernel))
    if x.dtype != torch.bfloat16:
        return _backward(slope, x, kernel, stride, inside, image=True)
    form = torch.empty_like(x, dtype=torch.float32)  # what the image holds has no part in it
    whole = _backward(slope.float(), form, kernel.float(), stride, inside, image=True)
    return whole.to(x.dtype)


def _kernel_gradient(slope: Tensor, x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """Return the gradient of the kernels (channels, 1, side, side), without the row of zeros."""
    side, width, zeros = kernel.shape[-1], x.shape[-1], stride - 1
    inside = (side - 1) // 2
    narrow, found = kernel[..., :COLUMNS], []
    for column in range(zeros, side - 2, COLUMNS - 1):
        # The columns of the image, from `first` to `last`, on which these of the kernel lie.
        first = column - inside
        last = first + stride * (slope.shape[-1] - 1) + COLUMNS - 1
        if first == -1 and (width - 1) // stride + 1 == slope.shape[-1]:
            seen, beside = x, 1
        else:
            seen, beside = F.pad(x, (-first, last - width + 1)), 0
            seen = seen.contiguous(memory_format=torch.channels_last)
        part = _backward(slope, seen, narrow, stride, [inside, beside], image=False)
        found.append(part[..., 1:] if found else part)  # the first column was the last one before
    return torch.cat(found, -1)[..., zeros:, :]


def _backward(
    slope: Tensor, x: Tensor, kernel: Tensor, stride: int, inside: list[int], *, image: bool
) -> Tensor:
    """Return the gradient of the image or else that of the kernels."""
    of_x, of_kernel, _ = torch.ops.aten.convolution_backward(
        slope, x, kernel, None, [stride] * 2, inside, [1, 1], False, [0, 0], len(kernel),
        (image, not image, False),
    )  # fmt: skip
    return of_x if image else of_kernel
