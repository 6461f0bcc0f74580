"""Report how far a long task has come."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # so many done, of so many


def quietly(done: int, total: int) -> None:
    """Progress that nobody watches."""


def portion(progress: Progress, index: int, count: int) -> Progress:
    """Progress of the `index`-th of `count` jobs of about one length, told as progress of them all."""
    return lambda done, total: progress(index * total + done, count * total)
