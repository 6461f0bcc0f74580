"""The tuberculosis network in its export form: score, map and the features of its domain gate.

uint8 (n, size, size) lung crops in; out come "score" float32 (n, 1) in (0, 1), "map" float32
(n, 1, h, w), the class activation map in units of the logit, and "features" float32 (n, 576), which
tell devices, processing and hospitals apart (benchmarks/accuracy/domain.py):

    mean, and logarithm of the standard deviation, of the channels of stages 1 to 5 (`early`, 544)
    grey levels, sharpness by octave and noise of the crop itself (`image_statistics`, 32)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.training.classification import SURE
from tools.build_models.multitask import TUBERCULOSIS, Network, Recipe, standardised

OUTPUTS = ("score", "map", "features")
EARLY = 5  # stages whose channels' means and deviations are features
LEVELS = 15  # grey levels above which the fraction of pixels is a feature
OCTAVES = 5  # of which gradients are features
FAINT = 1e-4  # so that the logarithm of nothing is finite


class Exported(nn.Module):
    """A trained `multitask.Network`, of its tasks tuberculosis alone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.intensity = network.recipe.intensity
        self.weight = nn.Parameter(network.head.weight[TUBERCULOSIS][None, :, None, None].detach())
        self.bias = nn.Parameter(network.head.bias[TUBERCULOSIS][None].detach())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute scores, maps and features."""
        x = images.unsqueeze(1).float() / 255
        stages = self.backbone.each_stage(standardised(x, self.intensity))
        last = self.backbone.head(stages[-1])
        maps = F.conv2d(last, self.weight)
        logits = maps.mean((2, 3)) + self.bias
        return torch.sigmoid(logits.clamp(-SURE, SURE)), maps, gate_features(x, stages)


def gate_features(x: Tensor, stages: list[Tensor]) -> Tensor:
    """Compute the features of the domain gate, (n, 576), of images (n, 1, s, s) in [0, 1]."""
    return torch.cat([early(stages), image_statistics(x)], 1)


def early(stages: list[Tensor]) -> Tensor:
    """Compute mean and logarithm of the standard deviation of the early stages' channels."""
    found = []
    for stage in stages[:EARLY]:
        mean = stage.mean((2, 3), keepdim=True)
        spread = (stage - mean).square().mean((2, 3)).sqrt()
        found += [mean.flatten(1), torch.log(spread + 1e-3)]
    return torch.cat(found, 1)


def image_statistics(x: Tensor) -> Tensor:
    """Compute grey levels, sharpness and noise, (n, 32), of images (n, 1, s, s) in [0, 1]."""
    above = [
        ((x - level / (LEVELS + 1)) * 25 + 0.5).clamp(0, 1).mean((2, 3))
        for level in range(1, LEVELS + 1)
    ]
    mean = x.mean((2, 3), keepdim=True)
    found = [*above, mean.flatten(1), (x - mean).square().mean((2, 3)).sqrt()]
    found += [(1 - 255 * x).clamp(0, 1).mean((2, 3)), (255 * x - 254).clamp(0, 1).mean((2, 3))]
    layer = x
    for octave in range(OCTAVES):
        down, across = layer[:, :, 1:] - layer[:, :, :-1], layer[..., 1:] - layer[..., :-1]
        found += [torch.log(one.abs().mean((2, 3)) + FAINT) for one in (down, across)]
        if octave < OCTAVES - 1:
            layer = F.avg_pool2d(layer, 2)
    noise = 4 * x[:, :, 1:-1, 1:-1] - x[:, :, :-2, 1:-1] - x[:, :, 2:, 1:-1]
    noise = noise - x[:, :, 1:-1, :-2] - x[:, :, 1:-1, 2:]
    found += [torch.log(noise.abs().mean((2, 3)) + FAINT)]
    found += [torch.log(noise.square().mean((2, 3)).sqrt() + FAINT)]
    found += [torch.log((noise.abs().sqrt()).mean((2, 3)) + FAINT)]
    return torch.cat(found, 1)


def network(state: Mapping[str, Tensor], recipe: Recipe) -> Network:
    """Return a network with trained weights, in evaluation mode.

    The frozen stages of a trained network hold folded normalisation, as `Recipe.frozen` says.
    """
    made = Network(None, recipe)
    made.backbone.freeze(recipe.frozen)
    made.load_state_dict({name: value.float() for name, value in state.items()})
    return made.eval()
