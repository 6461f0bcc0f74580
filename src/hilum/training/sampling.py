"""Decide which rows are trained on when, and by which rank: pure functions of seed and epoch.

So a training can go on in the middle of an epoch, and every rank finds its rows by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """The rows that one rank computes at once: a batch, or what accumulation leaves of one."""

    rows: np.ndarray  # of this rank
    seeds: tuple[tuple[int, ...], ...]  # of the changes of each row
    counts: tuple[int, ...]  # rows of each rank
    weight: float  # fraction of the batch that the part is, over all ranks


@dataclass(frozen=True)
class Plan:
    """How the batches of an epoch are divided."""

    batch_size: int
    accumulate: int = 1
    rank: int = 0
    ranks: int = 1

    def steps(self, count: int) -> int:
        """Return the number of batches in one pass over `count` rows.

        The last may be short; it is left out where a rank would have no row, or a single row would
        be all, which batch normalisation cannot use.
        """
        return count // self.batch_size + (count % self.batch_size >= max(2, self.ranks))

    def batches(
        self, order: np.ndarray, seed: int, epoch: int, begun: int = 0
    ) -> Iterator[list[Part]]:
        """Yield the parts of each batch of an epoch, from batch `begun` on."""
        again = occurrences(order)
        for step in range(begun, self.steps(len(order))):
            batch = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
            batch = batch[batch < len(order)]
            parts = max(1, min(self.accumulate, len(batch) // max(2, self.ranks)))
            yield [
                self._part(order, again, places, len(places) / len(batch), (seed, epoch))
                for places in np.array_split(batch, parts)
            ]

    def _part(
        self,
        order: np.ndarray,
        again: np.ndarray,
        places: np.ndarray,
        weight: float,
        seeds: tuple[int, int],
    ) -> Part:
        of_rank = np.array_split(places, self.ranks)
        own = of_rank[self.rank]
        rows = order[own]
        return Part(
            rows,
            tuple(
                (*seeds, row, repeat) if repeat else (*seeds, row)
                for row, repeat in zip(rows.tolist(), again[own].tolist(), strict=True)
            ),
            tuple(map(len, of_rank)),
            weight,
        )


def order(rows: np.ndarray, seed: int, epoch: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Return the rows of an epoch in their random order.

    With `groups`, one number for each of `rows`, every group has as many places as any other, up to
    one: rows of small groups come several times, of large ones some stay out of this epoch. None of
    a group comes twice before all came once.
    """
    rng = np.random.default_rng([seed, epoch])
    if groups is None:
        return rng.permutation(rows)
    labels = np.unique(groups)
    shares = [len(part) for part in np.array_split(rows, len(labels))]
    drawn = [
        _cycled(rows[groups == label], wanted, rng)
        for label, wanted in zip(rng.permutation(labels), shares, strict=True)
    ]
    return rng.permutation(np.concatenate(drawn))


def _cycled(rows: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Return so many rows from as few permutations of all as suffice."""
    rounds = -(-wanted // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:wanted]


def occurrences(values: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return for each value how often it came before, int64."""
    values = np.asarray(values)
    places = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[places], return_index=True, return_counts=True)
    found = np.empty(len(values), np.int64)
    found[places] = np.arange(len(values)) - np.repeat(first, counts)
    return found
