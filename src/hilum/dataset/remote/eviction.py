"""Keep the files of a mirror within a bound of bytes, the longest fetched ones going first.

An evicted file is replaced by one whose bytes are still to be fetched. What has it open goes on
reading the old one, so nothing is taken from under a reader. HILUM_MIRROR_GB is the bound of one
mirror; without it a mirror grows as far as the disk does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hilum.dataset.remote import fetching
from hilum.dataset.remote.listing import Listing
from hilum.errors import BadRecipe

BOUND = "HILUM_MIRROR_GB"
_DOWN_TO = 0.8  # of the bound, so that not every file that comes evicts one
_BLOCK = 512  # bytes of what `st_blocks` counts


def bound() -> int | None:
    """Return the bytes that one mirror may hold; None for any number.

    Raises `BadRecipe` where the environment variable holds no number above 0.
    """
    text = os.environ.get(BOUND, "")
    if not text:
        return None
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < float("inf"):
        raise BadRecipe(f"{BOUND} is {text!r}; expected a number of gigabytes above 0")
    return int(gigabytes * 1e9)


@dataclass(frozen=True)
class _Held:
    """A file whose bytes are in the mirror."""

    fetched_ns: int
    row: int
    bytes: int


def held(root: Path, listing: Listing) -> list[_Held]:
    """Return the files whose bytes are in the mirror, the longest fetched first."""
    found = []
    for row, place in enumerate(listing.places):
        path = root / place
        if not fetching.is_absent(path):
            status = os.stat(path)
            found.append(_Held(status.st_ctime_ns, row, status.st_blocks * _BLOCK))
    return sorted(found, key=lambda one: one.fetched_ns)


def evict(root: Path, listing: Listing, most: int, keep: str | None = None) -> int:
    """Evict files until a mirror holds well below `most` bytes; return what it holds then.

    Those of the archive `keep` stay, because one of them alone cannot be fetched again.
    """
    files = held(root, listing)
    total = sum(one.bytes for one in files)
    if total <= most:
        return total
    for one in files[:-1]:  # the newest is what is about to be read
        entry = listing.entry(one.row)
        if keep is None or entry.archive != keep:
            fetching.reserve(root / entry.place, entry.stated, root.parent)
            total -= one.bytes
            if total <= most * _DOWN_TO:
                break
    return total
