"""Search pairs of perceptual hashes within a distance: exact, among all pairs.

See `hilum.imaging.perceptual_hash` for the hashes. Pairs are compared by matrix products, block by
block, in memory that does not grow with their number. A sieve comes first. Bits as signs are
vectors of which d differing bits make a squared distance of 4 d, and projecting both onto a few
orthogonal axes can only bring them nearer; on the axes along which hashes of the set vary most,
nearly all pairs are too far apart already. What is left is compared bit by bit, so the result does
not depend on the axes, on rounding, nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hilum.imaging.perceptual_hash import MIRROR
from hilum.safety import threads

BLOCK, _COLUMNS = 512, 256  # hashes compared with others at once: both products fit a core's cache
_THREADS = min(8, threads.cores())
_AXES = 40  # of the even and of the odd half each
_TRIMMED = 4 * BLOCK  # times `most` pairs, beyond which farther ones are dropped on the way
_MANY = 4096  # pairs that passed the sieve, compared at once
_SAMPLED = 4000  # hashes from which the axes are computed
_SLACK = 0.1  # far above what rounding changes in sums of float32
_ODD = np.unpackbits(MIRROR.view(np.uint8)) == 1
_MEAN = 0  # the bit of the mean, which is never set, not in an inverted image either


@dataclass(frozen=True)
class Near:
    """Pairs with hashes within a distance, each in the one of four ways in which it is smallest."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray  # bits of 256
    mirrored: np.ndarray  # bool
    inverted: np.ndarray


@dataclass(frozen=True)
class _Projected:
    """Signs of hashes on the axes of the sieve."""

    even: np.ndarray  # float32 (n, _AXES)
    odd: np.ndarray
    half_square: np.ndarray  # float32 (n,): half the squared length of both together


def near(
    hashes: np.ndarray,
    distance: int,
    others: np.ndarray | None = None,
    *,
    most: int | None = None,
) -> Near:
    """Find all pairs within `distance` bits, second after first. The search is exact.

    With `others`, pairs are of one in `hashes` and one in `others`. With `most`, each first has at
    most so many pairs, the nearest: among very many images that are all alike, all pairs would not
    fit into memory. The product of the odd columns changes its sign in a mirrored image, the whole
    product in an inverted one.
    """
    alone, others = others is None, hashes if others is None else others
    if not len(hashes) or not len(others):
        nothing = np.empty(0, np.int64)
        return Near(nothing, nothing, nothing, nothing > 0, nothing > 0)
    axes = _axes(others)
    one = _projected(hashes, axes)
    other = one if alone else _projected(others, axes)

    def searched(start: int) -> np.ndarray:
        """Return the pairs of one block of rows."""
        found = np.empty((0, 3), np.int64)
        for first, second in _sieved(one, other, start, distance, alone=alone):
            bits = _distances(hashes[first], others[second]).min(0)
            near = bits <= distance
            found = np.concatenate([found, np.column_stack([first, second, bits])[near]])
            if most and len(found) > _TRIMMED * most:
                found = _nearest(found, most)
        found = _nearest(found, most) if most else found[_in_order(found)]
        return found[:, :2]

    with threads.numeric_pool(_THREADS) as pool:
        found = list(pool.map(searched, range(0, len(hashes), BLOCK)))
    first, second = np.concatenate([np.empty((0, 2), np.int64), *found]).T
    way = _distances(hashes[first], others[second])
    best = way.argmin(0)
    return Near(first, second, way.min(0), best // 2 == 1, best % 2 == 1)


def _in_order(pairs: np.ndarray) -> np.ndarray:
    """Return the order of pairs of a block of rows: block by block, then by first and second."""
    first, second = pairs[:, 0], pairs[:, 1]
    return np.lexsort((second, first, second // BLOCK))


def _nearest(pairs: np.ndarray, most: int) -> np.ndarray:
    """Return the `most` nearest pairs of each first, of (first, second, distance)."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 2], pairs[:, 0]))]
    begin = np.searchsorted(pairs[:, 0], pairs[:, 0])
    chosen = pairs[np.arange(len(pairs)) - begin < most]
    return chosen[np.lexsort((chosen[:, 1], chosen[:, 0]))]


def any_near(key: np.ndarray, distance: int, others: np.ndarray) -> bool:
    """Return whether a hash, uint64 (4,), is within `distance` bits of any of `others` (n, 4).

    In any of the four ways of `near`, which is faster for many.
    """
    return bool((_distances(key[None], others) <= distance).any())


def _signs(hashes: np.ndarray) -> np.ndarray:
    """Return bits as float32 (n, 256), -1 and 1; 0 for the bit that says nothing."""
    signs = np.unpackbits(hashes.view(np.uint8), axis=1).astype(np.float32) * 2 - 1
    signs[:, _MEAN] = 0
    return signs


def _axes(hashes: np.ndarray) -> list[np.ndarray]:
    """Return the axes along which even and odd columns of hashes vary most, (128, _AXES) each."""
    signs = _signs(hashes[:: max(1, len(hashes) // _SAMPLED)]).astype(np.float64)
    halves = [signs[:, half] - signs[:, half].mean(0) for half in (~_ODD, _ODD)]
    return [
        np.linalg.eigh(half.T @ half)[1][:, ::-1][:, :_AXES].astype(np.float32) for half in halves
    ]


def _projected(hashes: np.ndarray, axes: list[np.ndarray]) -> _Projected:
    even, odd = (np.empty((len(hashes), _AXES), np.float32) for _ in range(2))
    for start in range(0, len(hashes), BLOCK):
        rows = slice(start, start + BLOCK)
        signs = _signs(hashes[rows])
        even[rows], odd[rows] = signs[:, ~_ODD] @ axes[0], signs[:, _ODD] @ axes[1]
    return _Projected(even, odd, ((even**2).sum(1) + (odd**2).sum(1)) / 2)


def _sieved(
    one: _Projected, other: _Projected, start: int, distance: int, *, alone: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs of a block of rows that pass the sieve, int64 (n,) each, many at once."""
    rows = slice(start, start + BLOCK)
    even, odd = one.even[rows], one.odd[rows]
    least = one.half_square[rows, None] - np.float32(2 * distance + _SLACK)
    space = np.empty((2, BLOCK * _COLUMNS), np.float32)  # allocated once: fresh memory costs time
    passed, waiting = list[tuple[np.ndarray, np.ndarray]](), 0
    for column in range(start if alone else 0, len(other.even), _COLUMNS):
        columns = slice(column, column + _COLUMNS)
        shape = len(even), len(other.even[columns])
        alike, flipped = (half[: shape[0] * shape[1]].reshape(shape) for half in space)
        np.matmul(even, other.even[columns].T, out=alike)
        np.matmul(odd, other.odd[columns].T, out=flipped)
        np.abs(alike, out=alike)
        alike += np.abs(flipped, out=flipped)
        alike -= other.half_square[columns]
        first, second = np.divmod(np.flatnonzero(alike >= least), shape[1])
        first += start
        second += column
        if alone and column < start + BLOCK:
            later = first < second
            first, second = first[later], second[later]
        passed.append((first, second))
        waiting += len(first)
        if waiting >= _MANY:  # a few at a time would cost more than their comparison
            yield _joined(passed)
            passed, waiting = [], 0
    if waiting:
        yield _joined(passed)


def _joined(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    first, second = zip(*pairs, strict=True)
    return np.concatenate(first), np.concatenate(second)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the differing bits, int64 (4, n): as they are, inverted, mirrored, and both.

    The first bit, the mean's, is never set: 255 count.
    """
    differ = first ^ second
    plain, mirrored = (
        sum(np.bitwise_count(bits).T, start=np.int64(0)) for bits in (differ, differ ^ MIRROR)
    )
    return np.stack([plain, 255 - plain, mirrored, 255 - mirrored])
