"""Which of many fingerprints are alike: an exact range search of the hashes, and the nearest of the spectra. See `hilum.imaging.perceptual_hash`.

Both compare all with all by products of matrices, block by block, in memory that does not grow with their number. All numbers in them
are whole and below 2**24, so that float32 holds them exactly: what is found does not depend on the number of threads. Pairs are int64
positions (first, second).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hilum.imaging.perceptual_hash import EVEN, MIRROR, HashKeys
from hilum.safety import threads

BLOCK = 1024
_THREADS = min(8, os.cpu_count() or 1)
_SIEVE = 128  # bits that are compared first
_KEPT = 32  # components of the even and of the odd half of a spectrum
_MANY = 2000  # pictures from which their own spread tells which components say little
_PRIOR = 200  # pictures that the assumption of equal spread counts for
_SCALE = 300  # of a spectrum of length one, in whole numbers
_EACH = 8  # parts of a small set, of each of which the nearest is taken

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
    """All pairs within `distance` bits, second after first; with `others`, pairs of one in `hashes` and one in `others`. Exact.

    Of the bits of higher frequency, which differ most, a pair within the distance can differ in no more than `distance` either. With signs
    for bits, a product tells the difference; that of odd columns changes its sign in a mirrored picture, the whole in an inverted one.
    """
    alone, others = others is None, hashes if others is None else others
    one, other = _halves(hashes), _halves(others)

    def searched(block: tuple[slice, slice]) -> np.ndarray:
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


def _halves(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, 64) twice: signs of the sieve's bits, of even and of odd columns."""
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
    """int64 (n, 2): pairs of rows that the sieve's bits let pass."""
    alike, odd = (half @ against.T for half, against in zip(one, other, strict=True))
    np.abs(alike, out=alike)
    alike += np.abs(odd, out=odd)
    passed = np.flatnonzero(
        alike >= _SIEVE - 2 * distance - 2
    )  # 2: an inverted picture keeps the one bit that is never set
    return np.stack(np.divmod(passed, alike.shape[1]), axis=1)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """int64 (4, n): bits that differ as they are, inverted, mirrored, and both. The first bit, the mean's, is never set: 255 count."""
    differ = first ^ second
    plain, mirrored = (
        np.bitwise_count(bits).sum(1, dtype=np.int64) for bits in (differ, differ ^ MIRROR)
    )
    return np.stack([plain, 255 - plain, mirrored, 255 - mirrored])


def nearest(keys: HashKeys, wanted: int) -> np.ndarray:
    """int64 (n, 4), each row a pair to look at: first, second, view, mirrored (0 or 1), with the whole of `first` like the view of `second`.

    Of each first one `wanted` at most.
    """
    even, odd = _whitened(keys.spectra)
    return _search((even, odd), (even, odd), wanted, alone=True)


def nearest_between(keys: HashKeys, others: HashKeys, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest`, of each in `keys` those of `others`, and of each in `others` those of `keys`."""
    whole = _whitened(np.concatenate([keys.spectra, others.spectra]))
    mine, theirs = (
        tuple(half[part] for half in whole) for part in (slice(len(keys)), slice(len(keys), None))
    )
    return _search(mine, theirs, wanted), _search(theirs, mine, wanted)


class IndexedHashes:
    """Fingerprints among which single ones are looked up, prepared once.

    The statistics of the spectra are those of the known ones alone.
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
        """Return pairs to look at of the one fingerprint in `keys`, the likeliest of each way first.

        A pair is the position among the known, the view, whether it is mirrored, and whether the
        whole of the known image is like the view of the new one, instead of the other way about.
        """
        found = near(keys.hashes, distance, self._hashes)
        order = np.lexsort((found.second, found.distance))[:wanted]
        told = [(int(found.second[at]), 0, bool(found.mirrored[at]), False) for at in order]
        new, every, whole = self._prepared(keys.spectra), slice(None), slice(0, 1)
        for known_view, new_view, turned in ((every, whole, False), (whole, every, True)):
            even, odd = (
                np.einsum("nvk,wk->nvw", half[:, known_view], own[0, new_view])
                for half, own in zip(self._halves, new, strict=True)
            )
            alike = (even + np.abs(odd)).reshape(len(even), -1)
            views = alike.argmax(1)
            best = np.argsort(-alike[np.arange(len(alike)), views], kind="stable")[:wanted]
            mirrored = odd.reshape(alike.shape)[best, views[best]] < 0
            told += [
                (int(at), int(views[at]), bool(flag), turned)
                for at, flag in zip(best, mirrored, strict=True)
            ]
        return told


def _whitened(spectra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, views, ...) twice, whole numbers: the even and the odd half, each component made to vary as much as every other one.

    Statistics of all together are sums of whole numbers, the same in any order. What chest radiographs have in common says nothing.
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
    """How the numbers of whole images vary.

    With it every view of any image is scaled, so that a whole and a view can be compared.
    """

    mean: np.ndarray
    scaled: np.ndarray  # float64 (width, kept)

    @classmethod
    def of(cls, numbers: np.ndarray, centred: bool) -> _Spread:
        count, _, width = numbers.shape
        whole = numbers[:, 0].astype(np.float64)
        mean = whole.sum(0) / max(count, 1) if centred else np.zeros(width)
        covariance = whole.T @ whole / max(count, 1) - np.outer(mean, mean)
        equal = np.eye(width) * max(np.trace(covariance) / width, 1e-6)
        values, vectors = np.linalg.eigh((count * covariance + _PRIOR * equal) / (count + _PRIOR))
        scaled = vectors[:, ::-1] / np.sqrt(values[::-1] + 0.02 * values[-1])
        return cls(mean, scaled[:, : min(width, _KEPT) if count >= _MANY else width])

    def equal(self, numbers: np.ndarray) -> np.ndarray:
        """float32 (n, views, kept)."""
        views = np.moveaxis(numbers, 1, 0)  # one product a view: products of single images are slow
        return np.stack(
            [((view - self.mean) @ self.scaled).astype(np.float32) for view in views], 1
        )


def _search(what: Halves, among: Halves, wanted: int, *, alone: bool = False) -> np.ndarray:
    """The `wanted` nearest of each row of `what`, at most one of each block of `among` and view. Alone: `among` are the same pictures."""
    size = min(BLOCK, max(16, -(-len(among[0]) // _EACH)))
    parts = [
        (slice(start, start + size), view)
        for view in range(what[0].shape[1])
        for start in range(0, len(among[0]), size)
    ]

    def searched(start: int) -> np.ndarray:
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
    """float64 (n, 4): of each row the most alike column: how much, which, view, mirrored."""
    alike, turned = (row @ column.T for row, column in zip(rows, columns, strict=True))
    alike += np.abs(turned)
    if own is not None:  # a picture is not compared with itself
        here = np.arange(len(alike)) + own
        inside = (here >= 0) & (here < alike.shape[1])
        alike[np.flatnonzero(inside), here[inside]] = -np.inf
    column = alike.argmax(1)
    at = np.arange(len(alike)), column
    return np.stack([alike[at], column + start, np.full(len(alike), view), turned[at] < 0], axis=1)


def _most_alike(best: np.ndarray, start: int, wanted: int) -> np.ndarray:
    """Of (parts, n, 4) the `wanted` most alike of each row."""
    order = np.argsort(-best[:, :, 0], axis=0, kind="stable")[:wanted]
    chosen = np.take_along_axis(best, order[:, :, None], 0)
    first = np.broadcast_to(np.arange(best.shape[1]) + start, order.shape)
    pairs = np.concatenate([first[:, :, None], chosen[:, :, 1:]], axis=2).reshape(-1, 4)
    return pairs[np.isfinite(chosen[:, :, 0]).ravel()].astype(np.int64)
