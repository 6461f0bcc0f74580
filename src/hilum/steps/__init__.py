"""The steps of a run, in their order: ingest, cache, audit, split, segment, region, train, predict, evaluate, report.

A step is a module with

    made_from(run, recipe)          digests of all that its result depends on; None: look again each time
    make(run, recipe, progress)     do it; returns the files made with their digests, and a summary for a person

and the functions these call, which can be used alone. A step may know earlier steps, never later ones. The cache comes before the
audit, so that each file is decoded once: the audit reads the facts that caching noted.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # so many done, of so many


def quietly(done: int, total: int) -> None:
    """Progress that nobody watches."""


def portion(progress: Progress, index: int, count: int) -> Progress:
    """Progress of the `index`-th of `count` jobs of about one length, told as progress of them all."""
    return lambda done, total: progress(index * total + done, count * total)
