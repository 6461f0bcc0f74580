"""What a cache holds already, of an earlier filling or of one that was stopped, as far as it is what was written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.config import Pixels
from hilum.dataset import pixel_cache
from hilum.dataset.pixel_cache import FACTS
from hilum.errors import BadData
from hilum.imaging.image_stack import Checksums, ImageStack


def known(folder: Path, journal: Path, pixels: Pixels) -> dict[str, tuple[int, str | None]]:
    """Row and signature of each image that is in the cache already, null where it is damaged and must be read again.

    An index in which any row is damaged is removed: nothing says then which row of the images' files is whose.
    """
    columns = ("row", "signature", "image_crc32", "mask_crc32")
    before = _sound_index(folder)
    of = (
        {}
        if before is None
        else {image_id: told for image_id, *told in before.select("image_id", *columns).iter_rows()}
    )
    of |= {one["image_id"]: [one[name] for name in columns] for one in _whole_lines(journal)}
    spoilt = _spoilt(folder, pixels, list(of.values()))
    return {
        image_id: (row, None if row in spoilt else signature)
        for image_id, (row, signature, *_) in of.items()
    }


def _sound_index(folder: Path) -> pl.DataFrame | None:
    place = folder / pixel_cache.INDEX
    if not place.exists():
        return None
    try:
        found = storage.read_table(place).select(list(FACTS)).cast(FACTS)
        sound = all(
            pixel_cache.facts_crc32(facts) == facts["facts_crc32"]
            for facts in found.iter_rows(named=True)
        )
    except (BadData, pl.exceptions.PolarsError):
        sound = False
    if not sound:
        place.unlink()
    return found if sound else None


def _spoilt(folder: Path, pixels: Pixels, known: Sequence[Sequence[Any]]) -> set[int]:
    """Rows of the cache that do not hold the image and the mask that were written."""
    rows, spoilt = [row for row, *_ in known], set()
    for file, dtype, sums in (
        (
            pixel_cache.IMAGES[pixels.depth],
            pixel_cache.TYPES[pixels.depth],
            [image for *_, image, _ in known],
        ),
        (pixel_cache.MASKS, np.dtype("u1"), [mask for *_, mask in known]),
    ):
        place = folder / file
        whole = place.stat().st_size // (pixels.size**2 * dtype.itemsize) if place.is_file() else 0
        spoilt |= {row for row in rows if row >= whole}
        if there := [(row, crc) for row, crc in zip(rows, sums, strict=True) if row < whole]:
            spoilt |= set(
                ImageStack(
                    place, pixels.size, dtype, Checksums.of(*zip(*there, strict=True), "")
                ).damaged_rows()
            )
    return spoilt


def _whole_lines(journal: Path) -> Iterator[dict[str, Any]]:
    """The facts in a journal up to the first line that a kill, a power cut or a failing disk spoilt; that one and all behind it are cut off."""
    if not journal.exists():
        return
    whole = 0
    with open(journal, "rb+") as stream:
        for line in stream:
            if (facts := _facts(line)) is None:
                break
            whole += len(line)
            yield facts
        stream.truncate(whole)


def _facts(line: bytes) -> dict[str, Any] | None:
    """The facts in a line of the journal; None of one that is not what was written."""
    try:
        facts = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    if not isinstance(facts, dict) or facts.keys() != FACTS.keys():
        return None
    return facts if pixel_cache.facts_crc32(facts) == facts["facts_crc32"] else None


def index(folder: Path, journal: Path) -> pl.DataFrame:
    """The index as it was, and the journal, which is newer."""
    parts = [pl.DataFrame(schema=FACTS)]
    if (folder / pixel_cache.INDEX).exists():
        parts.append(storage.read_table(folder / pixel_cache.INDEX).select(list(FACTS)))
    if journal.stat().st_size:
        parts.append(pl.read_ndjson(journal.read_bytes(), schema=FACTS))
    return pl.concat(parts).unique("image_id", keep="last", maintain_order=True).sort("row")
