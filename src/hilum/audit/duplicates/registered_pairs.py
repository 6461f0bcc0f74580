"""Register the candidate pairs of whole sets, batch by batch on all cores.

First all pairs are compared by their phases, which are computed once for each image; only pairs
with a clear shift are compared further (`hilum.audit.duplicates.registration`): one candidate in
eleven of real sets. Where reduced details show that a fit may succeed, the images are read again
and fitted. Reduced details are 4 KB each, computed when an image is first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from hilum.audit.duplicates import registration
from hilum.audit.duplicates.registration import Fit, Shifts
from hilum.dataset.pixel_cache import Cache
from hilum.imaging.perceptual_hash import VIEWS, content
from hilum.safety import threads

_AT_ONCE = 256  # images, and pairs, in memory
_THREADS = min(8, threads.cores())


@dataclass(frozen=True)
class Side:
    """Images that can be registered onto others, by their position in `rows`."""

    rows: pl.DataFrame  # a part of the cache's index
    cache: Cache

    @property
    def ids(self) -> list[str]:
        """Return image_id of each row."""
        return self.rows["image_id"].to_list()

    @cached_property
    def phases(self) -> np.ndarray:
        """Return the phases of all images, uint8 (n, views, frequencies)."""
        found = np.empty((self.rows.height, len(VIEWS), registration.FREQUENCIES), np.uint8)
        with threads.pool(_THREADS) as pool:
            for start in range(0, len(found), _AT_ONCE):
                some = np.arange(start, min(start + _AT_ONCE, len(found)))
                found[some] = list(pool.map(registration.phases, self._contents(some)))
        return found

    @cached_property
    def _reduced(self) -> tuple[np.ndarray, np.ndarray]:
        """Return room for all reduced details (memory is taken as it is filled), and which are."""
        side = registration.SIDE // 2
        return np.zeros((self.rows.height, side, side), np.int8), np.zeros(self.rows.height, bool)

    def reduced(self, positions: np.ndarray, pool: ThreadPoolExecutor) -> np.ndarray:
        """Return reduced details, int8 (n, 64, 64), each computed once."""
        details, computed = self._reduced
        missing = np.unique(positions[~computed[positions]])
        if len(missing):
            whole = pool.map(registration.fine, self._contents(missing))
            details[missing] = [registration.reduced(one) for one in whole]
            computed[missing] = True
        return details[positions]

    def fine(self, positions: np.ndarray, pool: ThreadPoolExecutor) -> dict[int, np.ndarray]:
        """Return the fine detail of the images at these positions, each computed once."""
        chosen = np.unique(positions)
        return dict(
            zip(
                chosen.tolist(),
                pool.map(registration.fine, self._contents(chosen)),
                strict=True,
            )
        )

    def _contents(self, positions: np.ndarray) -> Iterator[np.ndarray]:
        some = self.rows[positions]
        squares = self.cache.images[self.cache.rows(some["image_id"])]
        return map(content, squares, some.select("height", "width").iter_rows())


def registered(
    one: Side,
    other: Side,
    candidates: np.ndarray,
    wanted: Callable[[np.ndarray], np.ndarray] = lambda pairs: np.ones(len(pairs), bool),
) -> Iterator[tuple[np.ndarray, list[Fit]]]:
    """Register candidates, int64 (first, second, view, mirrored), and yield them batch by batch.

    Pairs without a clear shift are left out. `wanted` selects from a batch the pairs that are
    still of interest when its turn comes.
    """
    found = _shifts(one.phases, other.phases, candidates)
    clear = np.abs(found.height) >= registration.CLEAR
    candidates, found = candidates[clear], Shifts(*(part[clear] for part in found))
    with threads.numeric_pool(_THREADS) as pool:
        for start in range(0, len(candidates), _AT_ONCE):
            batch = slice(start, start + _AT_ONCE)
            chosen = wanted(candidates[batch])
            chosen[chosen] = _promising(
                one, other, candidates[batch][chosen], [part[batch][chosen] for part in found], pool
            )
            pairs = candidates[batch][chosen]
            if len(pairs):
                firsts, seconds = one.fine(pairs[:, 0], pool), other.fine(pairs[:, 1], pool)
                tasks = [
                    (firsts[first], _reflected(seconds[second], mirrored), view, *moved)
                    for (first, second, view, mirrored), *moved in zip(
                        pairs.tolist(),
                        *(part[batch][chosen].tolist() for part in found),
                        strict=True,
                    )
                ]
                yield pairs, list(pool.map(lambda task: registration.fit(*task), tasks))


def _promising(
    one: Side,
    other: Side,
    pairs: np.ndarray,
    moved: Sequence[np.ndarray],
    pool: ThreadPoolExecutor,
) -> np.ndarray:
    """Return which pairs, with the parts of their `Shifts`, are worth a fit, bool (n,)."""
    firsts, seconds = one.reduced(pairs[:, 0], pool), other.reduced(pairs[:, 1], pool)
    tasks = zip(
        firsts,
        map(_reflected, seconds, pairs[:, 3]),
        pairs[:, 2].tolist(),
        *(part.tolist() for part in moved),
        strict=True,
    )
    return np.fromiter(pool.map(lambda task: registration.promising(*task), tasks), bool)


def _reflected(detail: np.ndarray, mirrored: int) -> np.ndarray:
    return np.ascontiguousarray(detail[:, ::-1]) if mirrored else detail


def _shifts(ones: np.ndarray, others: np.ndarray, candidates: np.ndarray) -> Shifts:
    """Return the shifts of candidates, from the phases of both sides."""

    def found(start: int) -> Shifts:
        first, second, view, mirrored = candidates[start : start + _AT_ONCE].T
        angles = others[second, view]
        flipped = mirrored == 1
        angles[flipped] = registration.mirrored_phases(angles[flipped])
        return registration.shifts(ones[first, 0], angles)

    with threads.pool(_THREADS) as pool:
        parts = list(pool.map(found, range(0, max(len(candidates), 1), _AT_ONCE)))
    return Shifts(*(np.concatenate(part) for part in zip(*parts, strict=True)))
