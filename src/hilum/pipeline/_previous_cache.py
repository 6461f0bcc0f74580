"""Find what a cache already holds, from an earlier or an interrupted filling, and is undamaged."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from hilum import storage
from hilum.config import Pixels
from hilum.dataset import pixel_cache
from hilum.dataset.pixel_cache import FACTS
from hilum.errors import BadData
from hilum.imaging.image_stack import Checksums, ImageStack
from hilum.scale.journal import opened

JOURNAL = "journal.sqlite"  # in a cache's folder, while it is filled


class _Written(NamedTuple):
    """Where an image was written, of what, and the checksums of what was written."""

    row: int
    signature: str
    image_crc32: int
    mask_crc32: int


def known(folder: Path, journal: Path, pixels: Pixels) -> dict[str, tuple[int, str | None]]:
    """Return row and signature of each cached image; no signature where it must be read again.

    An index with any damaged row is deleted, as nothing then says which image a row belongs to.
    """
    before = _sound_index(folder)
    found: dict[str, _Written] = {}
    if before is not None:
        for image_id, *values in before.select("image_id", *_Written._fields).iter_rows():
            found[image_id] = _Written(*values)
    for facts in map(json.loads, results(journal)):
        found[facts["image_id"]] = _Written(*(facts[name] for name in _Written._fields))
    damaged = _damaged_rows(folder, pixels, list(found.values()))
    return {
        image_id: (one.row, None if one.row in damaged else one.signature)
        for image_id, one in found.items()
    }


def _sound_index(folder: Path) -> pl.DataFrame | None:
    place = folder / pixel_cache.INDEX
    if not place.exists():
        return None
    try:
        found = storage.read_table(place).select(list(FACTS)).cast(pl.Schema(FACTS))
        sound = all(
            pixel_cache.facts_crc32(facts) == facts["facts_crc32"]
            for facts in found.iter_rows(named=True)
        )
    except (BadData, pl.exceptions.PolarsError):
        sound = False
    if not sound:
        place.unlink()
    return found if sound else None


def _damaged_rows(folder: Path, pixels: Pixels, written: Sequence[_Written]) -> set[int]:
    """Return the rows that do not hold the image and the mask that were written."""
    images = [(one.row, one.image_crc32) for one in written]
    masks = [(one.row, one.mask_crc32) for one in written]
    return _damaged(
        folder / pixel_cache.IMAGES[pixels.depth],
        pixels.size,
        pixel_cache.TYPES[pixels.depth],
        images,
    ) | _damaged(folder / pixel_cache.MASKS, pixels.size, np.dtype("u1"), masks)


def _damaged(
    file: Path, size: int, dtype: np.dtype, expected: Sequence[tuple[int, int]]
) -> set[int]:
    """Return those of `expected`, rows and checksums, that a file of squares does not hold."""
    whole = file.stat().st_size // (size**2 * dtype.itemsize) if file.is_file() else 0
    missing = {row for row, _ in expected if row >= whole}
    there = [(row, checksum) for row, checksum in expected if row < whole]
    if not there:
        return missing
    rows, sums = zip(*there, strict=True)
    stack = ImageStack(file, size, dtype, Checksums.of(rows, sums, ""))
    return missing | set(stack.damaged_rows())


def results(journal: Path) -> list[bytes]:
    """Return the facts in a journal, as JSON (keys of FACTS); of no image where there is none."""
    if not journal.exists():
        return []
    with opened(journal) as book:
        return list(book.results())


def index(folder: Path, new: Sequence[bytes]) -> pl.DataFrame:
    """Return the index with new facts, as JSON, which replace those of the index."""
    parts = [pl.DataFrame(schema=FACTS)]
    if (folder / pixel_cache.INDEX).exists():
        parts.append(storage.read_table(folder / pixel_cache.INDEX).select(list(FACTS)))
    if new:
        parts.append(pl.read_ndjson(io.BytesIO(b"\n".join(new)), schema=FACTS))
    return pl.concat(parts).unique("image_id", keep="last", maintain_order=True).sort("row")
