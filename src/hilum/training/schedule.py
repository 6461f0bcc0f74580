"""The training schedule: epochs, batches and the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from hilum.errors import BadRecipe
from hilum.training.sampling import Plan
from hilum.training.settings import LoopSettings

WARM_UP = 0.1  # fraction of all steps in which the learning rate rises


@dataclass(frozen=True)
class Schedule:
    """The training schedule, see `hilum.training.settings.LoopSettings`."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    averaging: float
    precision: str = "auto"
    accumulate: int = 1
    compiled: bool = False
    checkpoint_steps: int = 0

    @classmethod
    def of(cls, settings: LoopSettings, count: int) -> Schedule:
        """Return the schedule for `count` rows: `epochs`, or more until `least_steps` batches."""
        steps = max(1, Plan(settings.batch_size).steps(count))
        return cls(
            epochs=max(settings.epochs, -(-settings.least_steps // steps)),
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            averaging=settings.averaging,
            precision=settings.precision,
            accumulate=settings.accumulate,
            compiled=settings.compiled,
            checkpoint_steps=settings.checkpoint_steps,
        )

    def check(self, ranks: int = 1) -> None:
        """Raise `BadRecipe` for what so many ranks cannot train with."""
        least = max(2, ranks)
        if self.batch_size < least * self.accumulate or self.accumulate < 1:
            raise BadRecipe(
                f"batch_size must be at least 2, as batch normalisation compares images, at least "
                f"the number of ranks, and so in each of `accumulate` parts; got {self.batch_size} "
                f"with {ranks} rank(s) and accumulate = {self.accumulate}"
            )
        if self.checkpoint_steps < 0:
            raise BadRecipe(
                f"checkpoint_steps must be 0, for after each epoch only, or a number of batches; "
                f"got {self.checkpoint_steps}"
            )

    def precision_on(self, device: torch.device) -> str:
        """Return "float32" or "bfloat16"; raise `BadRecipe` for an unknown setting.

        Without hardware for it, bfloat16 is slower than float32, so "auto" avoids it there.
        """
        if self.precision in ("float32", "bfloat16"):
            return self.precision
        if self.precision != "auto":
            raise BadRecipe(
                f"precision is '{self.precision}'; expected 'auto', 'float32' or 'bfloat16'"
            )
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return "bfloat16" if fast else "float32"


def rate_factor(step: int, steps: int) -> float:
    """Return the learning rate at `step` as a fraction of the largest.

    A linear rise, then a cosine to nearly 0 (Loshchilov & Hutter 2017).
    """
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise + 1) / (steps - rise + 1)))
