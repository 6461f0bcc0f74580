"""Find copies of one image: within a data set, or shared by two data sets.

Three levels: equal bytes or equal decoded pixels (certain); perceptual hashes that differ in few
bits; Fourier spectra that are close. The last two only propose candidates: a pair is reported when
the cached images, registered onto each other, agree in fine detail
(`hilum.audit.duplicates.registration`).

Input tables have the columns `NEEDED` of a cache's index, one row for each image. Each comes with
its cache, or with None, which restricts the search to equal files and pixels. Output tables have
`COLUMNS`: `kind` is one of `KINDS` (within a data set also `ALIKE`), `agreement` is 0 to 1 (1 for
equal files and pixels), `how` states how the images differ ("" for equal ones). The result does not
depend on the order of rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import polars as pl

from hilum.audit.duplicates import registration
from hilum.audit.duplicates.registered_pairs import Side, registered
from hilum.dataset.groups import duplicated
from hilum.dataset.pixel_cache import Cache
from hilum.imaging import hash_search, spectrum_search
from hilum.imaging.perceptual_hash import decode

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
# From the most certain kind to the least.
SAME_FILE, SAME_PIXELS, PROCESSED = KINDS = ("same file", "same pixels", "same image, processed")
ALIKE = "perhaps the same image"
EQUAL = {SAME_FILE: "file_digest", SAME_PIXELS: "pixel_digest"}
# Bits of 256 in which the hashes of candidates may differ; see benchmarks/speed/duplicates.py.
DISTANCE = 40
# Hashes within it that are candidates of one image: of more, which are all alike, the others are
# met from the next.
MOST = 8
NEIGHBOURS = 3  # nearest spectra of each image that are candidates
ALIKE_FROM = 0.88  # agreement from which a pair is reported at all
# Agreement from which a pair is one exposure. Two exposures taken moments apart can be fitted onto
# each other up to 0.947 by moving one of them, so a pair that was moved needs more.
SURE, SURE_MOVED = 0.9, 0.95
# Of an image that was only resized, rounding leaves a fitted map this far from the identity at
# most: off-diagonal elements, and corners as a fraction of the side.
_ROTATED, _CROPPED = 0.012, 0.02


def within(table: pl.DataFrame, cache: Cache | None = None) -> pl.DataFrame:
    """Return each further copy with an earlier image (by image_id) that it is a copy of.

    All copies of one image are connected by such pairs.
    """
    usable = _usable(table)
    return pl.concat([*_equal(usable), _processed(usable, cache)])


def shared(
    first: pl.DataFrame, second: pl.DataFrame, caches: tuple[Cache, Cache] | None = None
) -> pl.DataFrame:
    """Return images of the first set (image_id) that are in the second too (other_image_id).

    Each image appears once: by its most certain kind, and of that by its best agreement.
    """
    first, second = _usable(first), _usable(second)
    found = [pl.DataFrame(schema=COLUMNS)]
    for kind, digest in EQUAL.items():
        there = (
            second.drop_nulls(digest)
            .unique(digest, keep="first", maintain_order=True)
            .select(digest, other_image_id="image_id")
        )
        found.append(_equal_pairs(first.join(there, on=digest, maintain_order="left"), kind))
        first = first.join(found[-1], on="image_id", how="anti")
    if caches is not None:
        found.append(_processed_between(first, second, caches))
    return pl.concat(found)


def _usable(table: pl.DataFrame) -> pl.DataFrame:
    """Return the readable images by image_id, without constant ones: equal, but nobody's."""
    usable = table.select(NEEDED).filter(
        pl.col("pixel_digest").is_not_null() & (pl.col("minimum") < pl.col("maximum"))
    )
    return usable if usable["image_id"].is_sorted() else usable.sort("image_id")


def _equal(usable: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for kind, digest in EQUAL.items():
        usable = usable.drop_nulls(digest)
        alike = duplicated(usable, digest)
        first = alike.unique(digest, keep="first", maintain_order=True)
        pairs = alike.join(
            first.select(digest, other_image_id="image_id"), on=digest, maintain_order="left"
        )
        yield _equal_pairs(pairs.filter(pl.col("image_id") != pl.col("other_image_id")), kind)
        if alike.height:
            usable = usable.filter(pl.col(digest).is_first_distinct())


def _equal_pairs(pairs: pl.DataFrame, kind: str) -> pl.DataFrame:
    return pairs.select(
        "image_id", "other_image_id", kind=pl.lit(kind), agreement=pl.lit(1.0), how=pl.lit("")
    )


# Processed copies: the same image, but not equal pixels.


def _processed(usable: pl.DataFrame, cache: Cache | None) -> pl.DataFrame:
    if cache is None:
        return pl.DataFrame(schema=COLUMNS)
    rows = usable.filter(pl.col("pixel_digest").is_first_distinct()).drop_nulls("fingerprint")
    if rows.height < 2:
        return pl.DataFrame(schema=COLUMNS)
    keys, side = decode(rows["fingerprint"]), Side(rows, cache)
    found = hash_search.near(keys.hashes, DISTANCE, most=MOST)
    by_hash = _of_hashes(found)[np.lexsort((found.second, found.first, found.distance))]
    candidates = np.concatenate([by_hash, spectrum_search.nearest(keys, NEIGHBOURS)])
    ids, root = side.ids, np.arange(rows.height)
    found_pairs = []
    for pairs, fits in registered(
        side, side, candidates, lambda pairs: root[pairs[:, 0]] != root[pairs[:, 1]]
    ):
        for (first, second, _, mirrored), fit in zip(pairs.tolist(), fits, strict=True):
            if fit.agreement >= ALIKE_FROM and root[first] != root[second]:
                if kind_of(fit) == PROCESSED:
                    root[root == root[second]] = root[first]
                found_pairs.append(
                    (
                        ids[max(first, second)],
                        ids[min(first, second)],
                        kind_of(fit),
                        fit.agreement,
                        how(fit, bool(mirrored)),
                    )
                )
    return _once(pl.DataFrame(found_pairs, schema=COLUMNS, orient="row"))


def _of_hashes(found: hash_search.Near) -> np.ndarray:
    """Return pairs of hashes, which are of whole images, as candidates of `registered`."""
    whole = np.zeros_like(found.first)
    return np.stack([found.first, found.second, whole, found.mirrored], axis=1)


def _once(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return each pair at its best fit: it may be met from both sides and in several views."""
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
    sides = Side(first, caches[0]), Side(second, caches[1])
    keys = [decode(side.rows["fingerprint"]) for side in sides]
    found = hash_search.near(keys[0].hashes, DISTANCE, keys[1].hashes, most=MOST)
    there, back = spectrum_search.nearest_between(keys[0], keys[1], NEIGHBOURS)
    ahead = np.concatenate([_of_hashes(found), there])
    best: dict[int, tuple[float, int, str]] = {}
    for one, other, candidates, swapped in (
        (sides[0], sides[1], ahead, False),
        (sides[1], sides[0], back, True),
    ):
        for pairs, fits in registered(one, other, candidates):
            for (mine, theirs, _, mirrored), fit in zip(pairs.tolist(), fits, strict=True):
                mine, theirs = (theirs, mine) if swapped else (mine, theirs)
                if kind_of(fit) == PROCESSED and (
                    mine not in best or (fit.agreement, -theirs) > (best[mine][0], -best[mine][1])
                ):
                    best[mine] = fit.agreement, theirs, how(fit, bool(mirrored))
    ids, theirs = sides[0].ids, sides[1].ids
    rows = [
        (ids[mine], theirs[other], PROCESSED, agreement, words)
        for mine, (agreement, other, words) in sorted(best.items())
    ]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def kind_of(fit: registration.Fit) -> str:
    """Return PROCESSED where the fit proves one exposure, else ALIKE."""
    return PROCESSED if fit.agreement >= (SURE_MOVED if _moved(fit) else SURE) else ALIKE


def _moved(fit: registration.Fit) -> bool:
    """Return whether the fit maps anything but the whole image onto the whole."""
    unit = np.array([[[0, 0], [1, 0], [0, 1], [1, 1]]], np.float32)
    corners = unit * np.float32(registration.SIDE)
    away = cv2.transform(corners, fit.place)[0] - corners[0]
    rotated = max(abs(fit.place[0, 1]), abs(fit.place[1, 0])) > _ROTATED
    return bool(rotated or np.abs(away).max() > _CROPPED * registration.SIDE)


def how(fit: registration.Fit, mirrored: bool) -> str:
    """Describe how the one image differs from the other."""
    words = [
        "inverted" if fit.inverted else "",
        "mirrored" if mirrored else "",
        "cropped or rotated" if _moved(fit) else "",
    ]
    return ", ".join(filter(None, words)) or "resized, compressed again or of other contrast"
