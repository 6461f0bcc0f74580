"""Keep freed memory in the process, where the GNU C library would give it back to the system.

By default glibc maps every array of more than 128 KiB for itself and unmaps it when it is freed,
and the system fills each of its pages with zeros anew. That takes as long as the work on a small
image, and a fifth of a training step. Without mallopt(3), on another system, nothing changes here.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # mallopt(3)
_NEVER = (1 << 31) - 1  # bytes: no block is as large
_ALL = {_MMAP_THRESHOLD: _NEVER, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: 1 << 26}
# What glibc arrives at by itself once a block of 32 MiB was freed: smaller ones are kept, up to
# 64 MiB of them at a time.
_IMAGES = {_MMAP_THRESHOLD: 1 << 25, _TRIM_THRESHOLD: 1 << 26, _TOP_PAD: 1 << 17}


@lru_cache(1)
def keep() -> None:
    """Take arrays of a few megabytes from memory that was freed before, from now on."""
    if library := _library():
        _set(library, _IMAGES)


@contextmanager
def reused() -> Iterator[None]:
    """Reuse all freed memory inside the block, and give it back at its end.

    A training step allocates and frees the same hundreds of blocks each time.
    """
    library = _library()
    if library is None:
        yield
        return
    _set(library, _ALL)
    try:
        yield
    finally:
        _set(library, _IMAGES)
        library.malloc_trim(0)


def _library() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if os.name == "posix" else None
    return library if hasattr(library, "mallopt") else None


def _set(library: ctypes.CDLL, values: Mapping[int, int]) -> None:
    for name, value in values.items():
        library.mallopt(name, value)
