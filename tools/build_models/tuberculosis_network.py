"""The tuberculosis network in its export form: score, map and the features of its domain gate.

uint8 (n, size, size) lung crops in; out come "score" float32 (n, 1) in (0, 1), "map" float32
(n, 1, h, w), the class activation map in units of the logit, and "features" float32 (n, 1824): the
pooled last features (1280), then mean and standard deviation of the channels of stages 1 to 5
(544), which tell scanners and processing apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.training.classification import SURE
from tools.build_models.multitask import TUBERCULOSIS, Network, Recipe

OUTPUTS = ("score", "map", "features")
EARLY = 5  # stages whose channels' means and deviations are features


class Exported(nn.Module):
    """A trained `multitask.Network`, of its tasks tuberculosis alone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.weight = nn.Parameter(network.head.weight[TUBERCULOSIS][None, :, None, None].detach())
        self.bias = nn.Parameter(network.head.bias[TUBERCULOSIS][None].detach())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute scores, maps and features."""
        stages = self.backbone.each_stage(images.unsqueeze(1).float() / 255)
        last = self.backbone.head(stages[-1])
        maps = F.conv2d(last, self.weight)
        logits = maps.mean((2, 3)) + self.bias
        described = [last.mean((2, 3))]
        for stage in stages[:EARLY]:
            mean = stage.mean((2, 3), keepdim=True)
            spread = (stage - mean).square().mean((2, 3)).sqrt()
            described += [mean.flatten(1), spread]
        return torch.sigmoid(logits.clamp(-SURE, SURE)), maps, torch.cat(described, 1)


def network(state: Mapping[str, Tensor], recipe: Recipe) -> Network:
    """Return a network with trained weights, in evaluation mode.

    The frozen stages of a trained network hold folded normalisation, as `Recipe.frozen` says.
    """
    made = Network(None, recipe)
    made.backbone.freeze(recipe.frozen)
    made.load_state_dict({name: value.float() for name, value in state.items()})
    return made.eval()
