"""The training schedule: epochs, batches and the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

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

    @classmethod
    def of(cls, settings: LoopSettings, count: int) -> Schedule:
        """Return the schedule for `count` rows: `epochs`, or more until `least_steps` batches."""
        steps = max(1, steps_per_epoch(count, settings.batch_size))
        return cls(
            epochs=max(settings.epochs, -(-settings.least_steps // steps)),
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            averaging=settings.averaging,
            precision=settings.precision,
        )


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the number of batches in one pass over `count` rows.

    The last may be short, but a single row is left out: batch normalisation cannot use it.
    """
    return count // batch_size + (count % batch_size > 1)


def rate_factor(step: int, steps: int) -> float:
    """Return the learning rate at `step` as a fraction of the largest.

    A linear rise, then a cosine to nearly 0 (Loshchilov & Hutter 2017).
    """
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise + 1) / (steps - rise + 1)))
