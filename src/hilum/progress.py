"""Progress of long tasks, reported by calling a function."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # called with the number done and the total


def quietly(done: int, total: int) -> None:
    """Ignore progress."""


def portion(progress: Progress, index: int, count: int) -> Progress:
    """Return the progress of one of `count` jobs of about equal length, as that of them all.

    `index` is the job's number, from 0.
    """
    return lambda done, total: progress(index * total + done, count * total)
