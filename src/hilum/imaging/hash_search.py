"""Search similar fingerprints: an exact range search of hashes, and nearest neighbours of spectra.

See `hilum.imaging.perceptual_hash` for both keys. All pairs are compared by matrix products, block
by block, in memory that does not grow with their number. All values in them are integers below
2**24, which float32 holds exactly: the result does not depend on the number of threads. Pairs are
int64 positions (first, second).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hilum.imaging.perceptual_hash import EVEN, MIRROR, HashKeys
from hilum.safety import threads

BLOCK = 1024  # fingerprints compared at once
_THREADS = min(8, os.cpu_count() or 1)
_SIEVE = 128  # bits that are compared first
_KEPT = 32  # components of the even and of the odd half of a spectrum
_MANY = 2000  # images from which their own variance shows which components are uninformative
_PRIOR = 200  # images' worth of weight for the assumption of equal variance
_SCALE = 300  # of a spectrum of unit length, as integers
_EACH = 8  # parts of a small set, each of which gives its nearest

Slices = Iterator[tuple[slice, slice]]
Halves = tuple[np.ndarray, np.ndarray]  # float32 (n, views, ...), even and odd


@dataclass(frozen=True)
class Near:
    """Pairs with hashes within a distance, each in the one of four ways in which it is smallest."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray  # bits of 256
    mirrored: np.ndarray  # bool
    inverted: np.ndarray


def near(hashes: np.ndarray, distance: int, others: np.ndarray | None = None) -> Near:
    """Find all pairs within `distance` bits, second after first. The search is exact.

    With `others`, pairs are of one in `hashes` and one in `others`. A sieve of the bits of higher
    frequency, which differ most, comes first: a pair within the distance differs there in at most
    `distance` bits too. With bits as signs, a product gives the difference; that of odd columns
    changes its sign in a mirrored image, the whole product in an inverted one.
    """
    alone, others = others is None, hashes if others is None else others
    one, other = _halves(hashes), _halves(others)

    def searched(block: tuple[slice, slice]) -> np.ndarray:
        """Return the pairs of one block."""
        rows, columns = block
        pairs = _sieved(
            [half[rows] for half in one], [half[columns] for half in other], distance
        ) + (rows.start, columns.start)
        pairs = pairs[pairs[:, 0] < pairs[:, 1]] if alone else pairs
        return (
            pairs[_distances(hashes[pairs[:, 0]], others[pairs[:, 1]]).min(0) <= distance]
            if len(pairs)
            else pairs
        )

    with threads.pool(_THREADS) as pool:
        found = list(pool.map(searched, _blocks(len(hashes), len(others), alone)))
    first, second = np.concatenate([np.empty((0, 2), np.int64), *found]).T
    way = _distances(hashes[first], others[second])
    best = way.argmin(0)
    return Near(first, second, way.min(0), best // 2 == 1, best % 2 == 1)


def any_near(key: np.ndarray, distance: int, others: np.ndarray) -> bool:
    """Return whether a hash, uint64 (4,), is within `distance` bits of any of `others` (n, 4).

    In any of the four ways of `near`, which is faster for many.
    """
    return bool((_distances(key[None], others) <= distance).any())


def _halves(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sieve's bits as signs, float32 (n, 64) for even and for odd columns."""
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)
    odd = np.unpackbits(MIRROR.view(np.uint8)) == 1
    frequency = np.add.outer(np.arange(16), np.arange(16)).ravel()
    halves = []
    for half in (~odd, odd):
        places = np.flatnonzero(half)
        chosen = np.sort(places[np.argsort(-frequency[places], kind="stable")[: _SIEVE // 2]])
        halves.append(bits[:, chosen].astype(np.float32) * 2 - 1)
    return halves[0], halves[1]


def _blocks(rows: int, columns: int, alone: bool) -> Slices:
    for start in range(0, rows, BLOCK):
        for other in range(start if alone else 0, columns, BLOCK):
            yield slice(start, min(start + BLOCK, rows)), slice(other, min(other + BLOCK, columns))


def _sieved(one: list[np.ndarray], other: list[np.ndarray], distance: int) -> np.ndarray:
    """Return the pairs of rows that pass the sieve, int64 (n, 2)."""
    alike, odd = (half @ against.T for half, against in zip(one, other, strict=True))
    np.abs(alike, out=alike)
    alike += np.abs(odd, out=odd)
    # 2: an inverted image keeps the one bit that is never set.
    passed = np.flatnonzero(alike >= _SIEVE - 2 * distance - 2)
    return np.stack(np.divmod(passed, alike.shape[1]), axis=1)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the differing bits, int64 (4, n): as they are, inverted, mirrored, and both.

    The first bit, the mean's, is never set: 255 count.
    """
    differ = first ^ second
    plain, mirrored = (
        np.bitwise_count(bits).sum(1, dtype=np.int64) for bits in (differ, differ ^ MIRROR)
    )
    return np.stack([plain, 255 - plain, mirrored, 255 - mirrored])


def nearest(keys: HashKeys, wanted: int) -> np.ndarray:
    """Return candidate pairs, int64 (n, 4): first, second, view, mirrored (0 or 1).

    The whole of `first` resembles the view of `second`. Each first has at most `wanted` pairs.
    """
    even, odd = _whitened(keys.spectra)
    return _search((even, odd), (even, odd), wanted, alone=True)


def nearest_between(keys: HashKeys, others: HashKeys, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the same from each in `keys` to `others`, and from each in `others` to `keys`."""
    even, odd = _whitened(np.concatenate([keys.spectra, others.spectra]))
    count = len(keys)
    mine, theirs = (even[:count], odd[:count]), (even[count:], odd[count:])
    return _search(mine, theirs, wanted), _search(theirs, mine, wanted)


class IndexedHashes:
    """A set of fingerprints, prepared once, in which single ones are searched.

    The statistics of the spectra are those of this set alone.
    """

    def __init__(self, keys: HashKeys) -> None:
        parts = ((keys.spectra[:, :, :EVEN], True), (keys.spectra[:, :, EVEN:], False))
        self._hashes = keys.hashes
        self._spread = [_Spread.of(half, centred) for half, centred in parts]
        self._halves = self._prepared(keys.spectra)

    def _prepared(self, spectra: np.ndarray) -> Halves:
        even, odd = self._spread
        return _of_one_length(even.equal(spectra[:, :, :EVEN]), odd.equal(spectra[:, :, EVEN:]))

    def candidates(
        self, keys: HashKeys, distance: int, wanted: int
    ) -> list[tuple[int, int, bool, bool]]:
        """Return candidate pairs of the one fingerprint in `keys`, the most similar ones first.

        A pair is the position in this set, the view, whether it is mirrored, and whether the whole
        of the known image resembles the view of the new one, instead of the reverse.
        """
        found = near(keys.hashes, distance, self._hashes)
        order = np.lexsort((found.second, found.distance))[:wanted]
        pairs = [(int(found.second[at]), 0, bool(found.mirrored[at]), False) for at in order]
        new, every, whole = self._prepared(keys.spectra), slice(None), slice(0, 1)
        for known_view, new_view, reverse in ((every, whole, False), (whole, every, True)):
            even, odd = (
                np.einsum("nvk,wk->nvw", half[:, known_view], own[0, new_view])
                for half, own in zip(self._halves, new, strict=True)
            )
            alike = (even + np.abs(odd)).reshape(len(even), -1)
            views = alike.argmax(1)
            best = np.argsort(-alike[np.arange(len(alike)), views], kind="stable")[:wanted]
            mirrored = odd.reshape(alike.shape)[best, views[best]] < 0
            pairs += [
                (int(at), int(views[at]), bool(flag), reverse)
                for at, flag in zip(best, mirrored, strict=True)
            ]
        return pairs


def _whitened(spectra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whiten the even and the odd half of spectra; each float32 (n, views, ...) of integers.

    Every component then has the same variance: what all chest radiographs have in common says
    nothing. The statistics are sums of integers, the same in any order.
    """
    even, odd = spectra[:, :, :EVEN], spectra[:, :, EVEN:]
    return _of_one_length(_Spread.of(even, True).equal(even), _Spread.of(odd, False).equal(odd))


def _of_one_length(*halves: np.ndarray) -> Halves:
    length = np.sqrt(sum((half**2).sum(2, keepdims=True) for half in halves))
    even, odd = (
        np.rint(half / np.maximum(length, 1e-9) * _SCALE).astype(np.float32) for half in halves
    )
    return even, odd


@dataclass(frozen=True)
class _Spread:
    """Mean and whitening matrix of whole images' spectra.

    Every view of any image is scaled by them, so that a whole and a view can be compared.
    """

    mean: np.ndarray
    scaled: np.ndarray  # float64 (width, kept)

    @classmethod
    def of(cls, numbers: np.ndarray, centred: bool) -> _Spread:
        """Compute it from integers (n, views, width); the first view is the whole image."""
        count, _, width = numbers.shape
        whole = numbers[:, 0].astype(np.float64)
        mean = whole.sum(0) / max(count, 1) if centred else np.zeros(width)
        covariance = whole.T @ whole / max(count, 1) - np.outer(mean, mean)
        equal = np.eye(width) * max(np.trace(covariance) / width, 1e-6)
        values, vectors = np.linalg.eigh((count * covariance + _PRIOR * equal) / (count + _PRIOR))
        scaled = vectors[:, ::-1] / np.sqrt(values[::-1] + 0.02 * values[-1])
        return cls(mean, scaled[:, : min(width, _KEPT) if count >= _MANY else width])

    def equal(self, numbers: np.ndarray) -> np.ndarray:
        """Return whitened components, float32 (n, views, kept)."""
        views = np.moveaxis(numbers, 1, 0)  # one product a view: products of single images are slow
        return np.stack(
            [((view - self.mean) @ self.scaled).astype(np.float32) for view in views], 1
        )


def _search(what: Halves, among: Halves, wanted: int, *, alone: bool = False) -> np.ndarray:
    """Return the `wanted` nearest of each row of `what`, at most one per block and view of `among`.

    `alone`: `among` are the same images.
    """
    size = min(BLOCK, max(16, -(-len(among[0]) // _EACH)))
    parts = [
        (slice(start, start + size), view)
        for view in range(what[0].shape[1])
        for start in range(0, len(among[0]), size)
    ]

    def searched(start: int) -> np.ndarray:
        """Return the pairs of one block of rows."""
        rows = [half[start : start + BLOCK, 0] for half in what]
        best = [
            _best(
                rows,
                [half[part, view] for half in among],
                start - part.start if alone else None,
                part.start,
                view,
            )
            for part, view in parts
        ]
        return _most_alike(np.stack(best), start, wanted)

    with threads.pool(_THREADS) as pool:
        found = list(pool.map(searched, range(0, len(what[0]), BLOCK))) if parts else []
    return np.concatenate([np.empty((0, 4), np.int64), *found])


def _best(
    rows: list[np.ndarray], columns: list[np.ndarray], own: int | None, start: int, view: int
) -> np.ndarray:
    """Return each row's most similar column, float64 (n, 4): similarity, index, view, mirrored."""
    alike, odd = (row @ column.T for row, column in zip(rows, columns, strict=True))
    alike += np.abs(odd)
    if own is not None:  # an image is not compared with itself
        here = np.arange(len(alike)) + own
        inside = (here >= 0) & (here < alike.shape[1])
        alike[np.flatnonzero(inside), here[inside]] = -np.inf
    column = alike.argmax(1)
    at = np.arange(len(alike)), column
    return np.stack([alike[at], column + start, np.full(len(alike), view), odd[at] < 0], axis=1)


def _most_alike(best: np.ndarray, start: int, wanted: int) -> np.ndarray:
    """Return the `wanted` most similar pairs of each row, of `best` (parts, n, 4)."""
    order = np.argsort(-best[:, :, 0], axis=0, kind="stable")[:wanted]
    chosen = np.take_along_axis(best, order[:, :, None], 0)
    first = np.broadcast_to(np.arange(best.shape[1]) + start, order.shape)
    pairs = np.concatenate([first[:, :, None], chosen[:, :, 1:]], axis=2).reshape(-1, 4)
    return pairs[np.isfinite(chosen[:, :, 0]).ravel()].astype(np.int64)
