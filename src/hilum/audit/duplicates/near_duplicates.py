"""One picture under two names: within a set, or shared by two sets.

Three levels: equal bytes or equal decoded pixels (certain); hashes that differ in few bits; spectra that are near. What the last two find
is only looked at: a pair is told when the cached pictures, laid over each other, agree in fine detail (`hilum.audit.duplicates.registration`).

Tables in have the columns `NEEDED` of a cache's index, one row an image; with each comes its cache, or None, which leaves the equal ones
only. Pairs out have `COLUMNS`: `kind` is one of `KINDS` (within a set also `ALIKE`), `agreement` is 0 to 1 (1 for equal files and pixels), `how` tells in words how the
pictures differ ("" for equal ones). What is found does not depend on the order of rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import polars as pl

from hilum.audit.duplicates import registration
from hilum.dataset.pixel_cache import Cache
from hilum.imaging import hash_search
from hilum.imaging.perceptual_hash import content, decode
from hilum.safety import threads

NEEDED = (
    "image_id",
    "file_digest",
    "pixel_digest",
    "fingerprint",
    "height",
    "width",
    "minimum",
    "maximum",
)
COLUMNS = {
    "image_id": pl.String,
    "other_image_id": pl.String,
    "kind": pl.String,
    "agreement": pl.Float64,
    "how": pl.String,
}
SAME_FILE, SAME_PIXELS, PROCESSED = KINDS = (
    "same file",
    "same pixels",
    "same picture, processed",
)  # the surest first
ALIKE = "perhaps the same picture"
EQUAL = {SAME_FILE: "file_digest", SAME_PIXELS: "pixel_digest"}
DISTANCE = 40  # bits of 256; see bench/duplicates.py
NEIGHBOURS = 3  # of each picture that are looked at
ALIKE_FROM = 0.88  # agreement from which a pair is told at all
SURE, SURE_MOVED = (
    0.9,
    0.95,
)  # from which it is one exposure; two taken moments apart can be fitted onto each other up to 0.947, moved
_AT_ONCE = 256  # pairs in memory
_THREADS = min(8, os.cpu_count() or 1)
_TURNED, _CROPPED = (
    0.012,
    0.02,
)  # share of the side by which a fitted corner may be off in a picture that was only resized


def within(table: pl.DataFrame, cache: Cache | None = None) -> pl.DataFrame:
    """Each further picture beside an earlier one (by image_id) that it is the same as. All that are the same hang together."""
    shown = _shown(table)
    alone = shown.unique("pixel_digest", keep="first", maintain_order=True)
    return pl.concat([*_equal(shown), _processed(alone, cache)])


def shared(
    first: pl.DataFrame, second: pl.DataFrame, caches: tuple[Cache, Cache] | None = None
) -> pl.DataFrame:
    """Pictures of the first set (image_id) that are in the second too (other_image_id): of each kind the best, a surer kind before others."""
    first, second = _shown(first), _shown(second)
    found = [pl.DataFrame(schema=COLUMNS)]
    for kind, digest in EQUAL.items():
        there = (
            second.drop_nulls(digest)
            .unique(digest, keep="first", maintain_order=True)
            .select(digest, other_image_id="image_id")
        )
        found.append(_told(first.join(there, on=digest, maintain_order="left"), kind))
        first = first.join(found[-1], on="image_id", how="anti")
    if caches is not None:
        found.append(_processed_between(first, second, caches))
    return pl.concat(found)


def _shown(table: pl.DataFrame) -> pl.DataFrame:
    """Pictures that show something, by image_id. Pictures of one value are all alike, yet show nobody."""
    return (
        table.select(NEEDED)
        .filter(pl.col("pixel_digest").is_not_null() & (pl.col("minimum") < pl.col("maximum")))
        .sort("image_id")
    )


def _equal(shown: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for kind, digest in EQUAL.items():
        first = shown.drop_nulls(digest).unique(digest, keep="first", maintain_order=True)
        pairs = shown.join(
            first.select(digest, other_image_id="image_id"), on=digest, maintain_order="left"
        )
        yield _told(pairs.filter(pl.col("image_id") != pl.col("other_image_id")), kind)
        shown = first


def _told(pairs: pl.DataFrame, kind: str) -> pl.DataFrame:
    return pairs.select(
        "image_id", "other_image_id", kind=pl.lit(kind), agreement=pl.lit(1.0), how=pl.lit("")
    )


# ------------------------------------------------------------------------------------------------------------ the same, but not equal


@dataclass(frozen=True)
class _Side:
    """Pictures that can be laid over others, by their position in `rows`."""

    rows: pl.DataFrame
    cache: Cache

    @property
    def ids(self) -> list[str]:
        return self.rows["image_id"].to_list()

    def details(
        self, positions: np.ndarray, pool: ThreadPoolExecutor
    ) -> dict[int, registration.Detail]:
        """Of each position once."""
        chosen = np.unique(positions)
        some = self.rows[chosen]
        squares = self.cache.images.read(self.cache.rows(some["image_id"]))
        sizes = some.select("height", "width").rows()
        return dict(
            zip(
                chosen.tolist(),
                pool.map(
                    lambda one: registration.detail(content(*one)), zip(squares, sizes, strict=True)
                ),
                strict=True,
            )
        )


def _processed(alone: pl.DataFrame, cache: Cache | None) -> pl.DataFrame:
    rows = alone.drop_nulls("fingerprint")
    if cache is None or rows.height < 2:
        return pl.DataFrame(schema=COLUMNS)
    keys, side = decode(rows["fingerprint"]), _Side(rows, cache)
    found = hash_search.near(keys.hashes, DISTANCE)
    by_hash = np.stack(
        [found.first, found.second, np.zeros_like(found.first), found.mirrored], axis=1
    )
    by_hash = by_hash[np.lexsort((found.second, found.first, found.distance))]
    candidates = np.concatenate([by_hash, hash_search.nearest(keys, NEIGHBOURS)])
    ids, root = side.ids, np.arange(rows.height)
    told = []
    for pairs, fits in _laid(
        side, side, candidates, lambda pairs: root[pairs[:, 0]] != root[pairs[:, 1]]
    ):
        for (first, second, _, mirrored), fit in zip(pairs.tolist(), fits, strict=True):
            if fit.agreement >= ALIKE_FROM and root[first] != root[second]:
                if kind_of(fit) == PROCESSED:
                    root[root == root[second]] = root[first]
                told.append(
                    (
                        ids[max(first, second)],
                        ids[min(first, second)],
                        kind_of(fit),
                        fit.agreement,
                        how(fit, bool(mirrored)),
                    )
                )
    return _once(pl.DataFrame(told, schema=COLUMNS, orient="row"))


def _once(pairs: pl.DataFrame) -> pl.DataFrame:
    """Each pair as it fits best; it can have been met from both sides and in several views."""
    best = pairs.sort(
        "image_id", "other_image_id", "agreement", "how", descending=[False, False, True, False]
    )
    return best.unique(["image_id", "other_image_id"], keep="first", maintain_order=True)


def _processed_between(
    first: pl.DataFrame, second: pl.DataFrame, caches: tuple[Cache, Cache]
) -> pl.DataFrame:
    first, second = first.drop_nulls("fingerprint"), second.drop_nulls("fingerprint")
    if not first.height or not second.height:
        return pl.DataFrame(schema=COLUMNS)
    sides = _Side(first, caches[0]), _Side(second, caches[1])
    keys = [decode(side.rows["fingerprint"]) for side in sides]
    found = hash_search.near(keys[0].hashes, DISTANCE, keys[1].hashes)
    there, back = hash_search.nearest_between(*keys, NEIGHBOURS)
    ahead = np.concatenate(
        [
            np.stack(
                [found.first, found.second, np.zeros_like(found.first), found.mirrored], axis=1
            ),
            there,
        ]
    )
    best: dict[int, tuple[float, int, str]] = {}
    for one, other, candidates, turned in (
        (sides[0], sides[1], ahead, False),
        (sides[1], sides[0], back, True),
    ):
        for pairs, fits in _laid(one, other, candidates, lambda pairs: np.ones(len(pairs), bool)):
            for (mine, theirs, _, mirrored), fit in zip(pairs.tolist(), fits, strict=True):
                mine, theirs = (theirs, mine) if turned else (mine, theirs)
                if kind_of(fit) == PROCESSED and (
                    mine not in best or (fit.agreement, -theirs) > (best[mine][0], -best[mine][1])
                ):
                    best[mine] = fit.agreement, theirs, how(fit, bool(mirrored))
    ids, theirs = sides[0].ids, sides[1].ids
    told = [
        (ids[mine], theirs[other], PROCESSED, agreement, words)
        for mine, (agreement, other, words) in sorted(best.items())
    ]
    return pl.DataFrame(told, schema=COLUMNS, orient="row")


def _laid(
    one: _Side, other: _Side, candidates: np.ndarray, wanted: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[np.ndarray, list[registration.Fit]]]:
    """Candidates (first, second, view, mirrored) a few at a time, those that are `wanted` by then, and how each pair fits."""
    with threads.pool(_THREADS) as pool:
        for start in range(0, len(candidates), _AT_ONCE):
            pairs = candidates[start : start + _AT_ONCE]
            pairs = pairs[wanted(pairs)]
            if len(pairs):
                firsts, seconds = one.details(pairs[:, 0], pool), other.details(pairs[:, 1], pool)
                tasks = [
                    (firsts[first], seconds[second], view, mirrored)
                    for first, second, view, mirrored in pairs.tolist()
                ]
                yield pairs, list(pool.map(lambda task: _fit(*task), tasks))


def _fit(
    first: registration.Detail, second: registration.Detail, view: int, mirrored: int
) -> registration.Fit:
    return registration.fit(first, registration.mirrored(second) if mirrored else second, view)


def kind_of(fit: registration.Fit) -> str:
    return PROCESSED if fit.agreement >= (SURE_MOVED if _moved(fit) else SURE) else ALIKE


def _moved(fit: registration.Fit) -> bool:
    """Whether the second lies on the first otherwise than as a whole on the whole."""
    corners = np.float32([[[0, 0], [1, 0], [0, 1], [1, 1]]]) * registration.SIDE
    away = cv2.transform(corners, fit.place)[0] - corners[0]
    return (
        max(abs(fit.place[0, 1]), abs(fit.place[1, 0])) > _TURNED
        or np.abs(away).max() > _CROPPED * registration.SIDE
    )


def how(fit: registration.Fit, mirrored: bool) -> str:
    """In words, how the one picture differs from the other."""
    words = [
        "inverted" if fit.inverted else "",
        "mirrored" if mirrored else "",
        "cropped or turned" if _moved(fit) else "",
    ]
    return ", ".join(filter(None, words)) or "resized, compressed again or of other contrast"
