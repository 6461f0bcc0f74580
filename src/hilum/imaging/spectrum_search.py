"""Search the nearest spectra of images: candidates for copies that were cropped, rotated or marked.

See `hilum.imaging.perceptual_hash` for the spectra, of the whole image and of its middle parts
(views). They are whitened and rounded, so that all values and sums are integers below 2**24, which
float32 holds exactly: the result does not depend on the number of threads. Pairs are int64 rows
(first, second, view, mirrored): the whole of `first` resembles the view of `second`.

Up to `FEW` images, each is compared with every view of every other. Of more, the views are sorted
into cells of similar ones (spherical k-means), and each image is compared with those of the
`PROBED` cells whose centres it resembles most. The time then grows with the number of images and
not with its square; among 112,120 made-up spectra, a fifth of the comparisons are left.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from hilum.imaging.hash_search import near
from hilum.imaging.perceptual_hash import EVEN, HashKeys
from hilum.safety import threads

BLOCK = 512  # images compared at once
FEW = 16_384  # images up to which all are compared with all
PROBED = 128  # cells that each image is compared with, where there are more
_IN_CELL = 512  # views, on average
_ROUNDS = 6  # of k-means
_OF_CELL = 32  # views for each cell from which the centres are computed
_THREADS = min(8, threads.cores())
_KEPT = 32  # components of the even and of the odd half of a spectrum
_MANY = 2000  # images from which their own variance shows which components are uninformative
_PRIOR = 200  # images' worth of weight for the assumption of equal variance
_SCALE = 300  # of a spectrum of unit length, as integers
_PART, _EACH = 1024, 8  # views compared at once, and the fewest parts of a small set

_ROWS = 4096  # images that one thread compares with a part

Halves = tuple[np.ndarray, np.ndarray]  # float32 (n, views, ...), even and odd


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


def _whitened(spectra: np.ndarray) -> Halves:
    """Whiten the even and the odd half of spectra; each float32 (n, views, ...) of integers.

    Every component then has the same variance: what all chest radiographs have in common says
    nothing. The statistics are sums of integers, the same in any order.
    """
    even, odd = spectra[:, :, :EVEN], spectra[:, :, EVEN:]
    return _of_one_length(_Spread.of(even, True).equal(even), _Spread.of(odd, False).equal(odd))


def _of_one_length(even: np.ndarray, odd: np.ndarray) -> Halves:
    squares = (even**2).sum(2, keepdims=True) + (odd**2).sum(2, keepdims=True)
    length = np.maximum(np.sqrt(squares), 1e-9)
    whole, flipped = (np.rint(half / length * _SCALE).astype(np.float32) for half in (even, odd))
    return whole, flipped


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


# The search.


@dataclass(frozen=True)
class _Part:
    """Views that rows are compared with at once; `image` ascends."""

    even: np.ndarray  # float32 (n, kept)
    odd: np.ndarray
    image: np.ndarray  # int64 (n,)
    view: np.ndarray  # int64 (n,)

    @classmethod
    def of(cls, among: Halves, image: np.ndarray, view: np.ndarray) -> _Part:
        """Select views of images."""
        even, odd = (half[image, view] for half in among)
        return cls(even, odd, image, view)


Task = tuple[np.ndarray, _Part]  # rows, and what they are compared with


@dataclass
class _Best:
    """The most similar views of each row so far, the best first."""

    similarity: np.ndarray  # float32 (n, wanted)
    pair: np.ndarray  # int64 (n, wanted, 3): image, view, mirrored

    @classmethod
    def of(cls, rows: int, wanted: int) -> _Best:
        """Begin without any."""
        return cls(
            np.full((rows, wanted), -np.inf, np.float32), np.zeros((rows, wanted, 3), np.int64)
        )

    def add(self, rows: np.ndarray, similarity: np.ndarray, pair: np.ndarray) -> None:
        """Add views, (n, each) and (n, each, 3), found for `rows`; of equal ones the first stay."""
        better = similarity[:, 0] > self.similarity[rows, -1]
        rows = rows[better]
        every = np.concatenate([self.similarity[rows], similarity[better]], axis=1)
        order = np.argsort(-every, axis=1, kind="stable")[:, : self.similarity.shape[1]]
        self.similarity[rows] = np.take_along_axis(every, order, 1)
        pairs = np.concatenate([self.pair[rows], pair[better]], axis=1)
        self.pair[rows] = np.take_along_axis(pairs, order[:, :, None], 1)

    def pairs(self) -> np.ndarray:
        """Return candidate pairs, int64 (n, 4): the nearest of all rows, then the next, ..."""
        first = np.broadcast_to(np.arange(len(self.pair))[:, None, None], (*self.pair.shape[:2], 1))
        pairs = np.concatenate([first, self.pair], axis=2)
        return np.swapaxes(pairs, 0, 1)[np.isfinite(self.similarity).T]


def _search(what: Halves, among: Halves, wanted: int, *, alone: bool = False) -> np.ndarray:
    """Return the `wanted` nearest of each row of `what`; `alone`: `among` are the same images.

    Where all are compared with all, each part of `among` gives at most one, else at most `wanted`.
    """
    count, best = len(among[0]), _Best.of(len(what[0]), wanted)
    if not count or not len(what[0]):
        return best.pairs()
    each = 1 if count <= FEW else wanted
    with threads.numeric_pool(_THREADS) as pool:
        tasks = _all_with_all(what, among) if count <= FEW else _in_cells(what, among, pool)
        for found in pool.map(
            lambda task: _compared(what, task[0], task[1], each, best, alone=alone), tasks
        ):
            best.add(*found)
    return best.pairs()


def _all_with_all(what: Halves, among: Halves) -> Iterator[Task]:
    """Yield rows of `what`, and views that they are compared with: a stretch of images each."""
    count, views = among[0].shape[:2]
    size = min(_PART, max(16, -(-count // _EACH)))
    for view in range(views):
        for start in range(0, count, size):
            image = np.arange(start, min(start + size, count))
            part = _Part.of(among, image, np.full(len(image), view))
            for rows in np.split(np.arange(len(what[0])), range(_ROWS, len(what[0]), _ROWS)):
                yield rows, part


def _compared(
    what: Halves, rows: np.ndarray, part: _Part, each: int, best: _Best, *, alone: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, the similarity (n, each) and the pair (n, each, 3) of their nearest in a part.

    An image is not compared with itself; what is not there has the similarity -inf. Of `rows` those
    are left out for which `best`, which only ever rises, has nearer ones already.
    """
    kept = list[tuple[np.ndarray, np.ndarray, np.ndarray]]()
    space = np.empty((2, BLOCK * len(part.image)), np.float32)  # fresh memory costs time
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        shape = len(some), len(part.image)
        alike, odd = (half[: shape[0] * shape[1]].reshape(shape) for half in space)
        np.matmul(what[0][some, 0], part.even.T, out=alike)
        np.matmul(what[1][some, 0], part.odd.T, out=odd)
        mirrored = odd < 0
        alike += np.abs(odd, out=odd)
        if alone:
            _exclude(alike, some, part.image)
        column = alike.argmax(1)
        nearest = alike[np.arange(len(some)), column]
        hopeful = np.flatnonzero(nearest > best.similarity[some, -1])
        if not len(hopeful):
            continue
        alike, mirrored, column = alike[hopeful], mirrored[hopeful], column[hopeful]
        similarity = np.empty((len(hopeful), each), np.float32)
        pair = np.empty((len(hopeful), each, 3), np.int64)
        at = np.arange(len(hopeful))
        for place in range(each):
            column = alike.argmax(1) if place else column
            similarity[:, place] = alike[at, column]
            found = part.image[column], part.view[column], mirrored[at, column]
            pair[:, place] = np.stack(found, axis=1)
            alike[at, column] = -np.inf
        kept.append((some[hopeful], similarity, pair))
    if not kept:
        return rows[:0], np.empty((0, each), np.float32), np.empty((0, each, 3), np.int64)
    found_rows, similarities, pairs = zip(*kept, strict=True)
    return np.concatenate(found_rows), np.concatenate(similarities), np.concatenate(pairs)


def _exclude(alike: np.ndarray, rows: np.ndarray, images: np.ndarray) -> None:
    """Set the similarity of each row's own image, in ascending `images`, to -inf."""
    first, end = (np.searchsorted(images, rows, side) for side in ("left", "right"))
    for further in range(int((end - first).max(initial=0))):
        own = np.flatnonzero(first + further < end)
        alike[own, first[own] + further] = -np.inf


# Cells of similar views.


def _in_cells(what: Halves, among: Halves, pool: ThreadPoolExecutor) -> Iterator[Task]:
    """Yield rows of `what` and the cell that they are compared with."""
    count, views = among[0].shape[:2]
    even, odd = (half.reshape(count * views, -1) for half in among)
    cells = _Cells.of(even, odd, -(-count * views // _IN_CELL))
    own = cells.most_similar(even, odd, 1, pool)
    probed = cells.most_similar(what[0][:, 0], what[1][:, 0], PROBED, pool)
    inside, searched = _by_cell(own, len(cells.even)), _by_cell(probed, len(cells.even))
    for places, rows in zip(inside, searched, strict=True):
        if len(places) and len(rows):
            image, view = np.divmod(places, views)
            yield rows, _Part.of(among, image, view)


def _by_cell(chosen: np.ndarray, cells: int) -> list[np.ndarray]:
    """Return the rows of `chosen`, int64 (n, count), that hold each cell, in ascending order."""
    order = np.argsort(chosen.ravel(), kind="stable")
    ends = np.searchsorted(chosen.ravel()[order], np.arange(1, cells))
    return np.split(order // chosen.shape[1], ends)


@dataclass(frozen=True)
class _Cells:
    """Centres of cells, which resemble a view as another view does: float32 of integers."""

    even: np.ndarray  # (cells, kept)
    odd: np.ndarray

    @classmethod
    def of(cls, even: np.ndarray, odd: np.ndarray, count: int) -> _Cells:
        """Compute them by spherical k-means, of views spread evenly over (n, kept)."""
        step = max(1, len(even) // (count * _OF_CELL))
        even, odd = even[::step], odd[::step]
        begin = np.arange(count) * len(even) // count
        cells = cls(even[begin], odd[begin])
        for _ in range(_ROUNDS):
            cells = cells._moved(even, odd)
        return cells

    def _moved(self, even: np.ndarray, odd: np.ndarray) -> _Cells:
        """Return cells with the centres of the views that are nearest to each now."""
        centres = self.even.astype(np.float64) * 1e-6, self.odd.astype(np.float64) * 1e-6
        for rows in _stretches(len(even)):
            alike, flipped = even[rows] @ self.even.T, odd[rows] @ self.odd.T
            cell = (alike + np.abs(flipped)).argmax(1)
            sign = np.where(flipped[np.arange(len(cell)), cell] < 0, -1, 1)[:, None]
            np.add.at(centres[0], cell, even[rows])
            np.add.at(centres[1], cell, odd[rows] * sign)
        whole, half = _of_one_length(*(centre[:, None] for centre in centres))
        return _Cells(whole[:, 0], half[:, 0])

    def most_similar(
        self, even: np.ndarray, odd: np.ndarray, count: int, pool: ThreadPoolExecutor
    ) -> np.ndarray:
        """Return the `count` cells that each of n views resembles most, in no order."""

        def chosen(rows: slice) -> np.ndarray:
            alike = even[rows] @ self.even.T + np.abs(odd[rows] @ self.odd.T)
            if count == 1:
                return alike.argmax(1)[:, None]
            if count >= len(self.even):
                return np.broadcast_to(np.arange(len(self.even)), alike.shape)
            return np.argpartition(-alike, count, axis=1)[:, :count]

        return np.concatenate(list(pool.map(chosen, _stretches(len(even)))))


def _stretches(count: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, count, BLOCK)]
