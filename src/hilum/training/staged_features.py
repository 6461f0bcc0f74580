"""Networks whose stages can be seen, and what their early stages say of how an image was made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

EARLY = 5  # stages at most whose statistics are computed
FAINT = 1e-3  # so that the logarithm of no spread is finite


class StagedFeatures(nn.Module, ABC):
    """A network whose stages can be seen: float32 (n, 1, size, size) -> (n, channels, h, w)."""

    @abstractmethod
    def each_stage(self, x: Tensor) -> list[Tensor]:
        """Compute the features after each stage, the last stage's last."""

    @abstractmethod
    def last_features(self, stage: Tensor) -> Tensor:
        """Compute the network's output of its last stage."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the last features."""
        return self.last_features(self.each_stage(x)[-1])


def early_statistics(stages: Sequence[Tensor]) -> Tensor:
    """Compute mean and logarithm of the standard deviation of the early stages' channels.

    (n, values); the last stage is never among them.
    """
    found = []
    for stage in stages[:-1][:EARLY]:
        mean = stage.mean((2, 3), keepdim=True)
        spread = (stage - mean).square().mean((2, 3)).sqrt()
        found += [mean.flatten(1), torch.log(spread + FAINT)]
    return torch.cat(found, 1)
