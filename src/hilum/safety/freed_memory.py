"""Keep freed memory in the process, where the GNU C library would give it back to the system.

By default glibc maps every array of more than 128 KiB for itself and unmaps it when it is freed,
and the system fills each of its pages with zeros anew. That takes as long as the work on a small
image, and a fifth of a training step. Without mallopt(3), on another system, nothing changes here.

Trainings also ask for large pages (madvise(2)), which spare the processor misses of its table of
pages: a third of a training's time on one machine, nothing on another (AMD EPYC, family 26). The
memory of other threads than the main one is out of reach; GLIBC_TUNABLES set to
glibc.malloc.hugetlb=1 before the process starts reaches all of it (`hilum.cli.large_pages`).
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
_ADVISED = 1 << 30  # bytes that a training may use on large pages; unused ones cost no memory
_HUGE_PAGE, _MADV_HUGEPAGE = 1 << 21, 14  # bytes on x86-64 and most others; madvise(2)
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
    _ask_for_large_pages(library)
    try:
        yield
    finally:
        _set(library, _IMAGES)
        library.malloc_trim(0)


def _ask_for_large_pages(library: ctypes.CDLL) -> None:
    """Advise large pages for what the heap grows into next, as far as the system has them.

    A block is taken, advised and freed untouched: as freed memory is kept, later blocks lie in it.
    """
    if not hasattr(library, "madvise"):
        return
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.restype, library.free.argtypes = None, [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    place = library.malloc(_ADVISED)
    if not place:
        return
    start, end = -(-place // _HUGE_PAGE), (place + _ADVISED) // _HUGE_PAGE
    library.madvise(start * _HUGE_PAGE, (end - start) * _HUGE_PAGE, _MADV_HUGEPAGE)
    library.free(place)


def _library() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if os.name == "posix" else None
    return library if hasattr(library, "mallopt") else None


def _set(library: ctypes.CDLL, values: Mapping[int, int]) -> None:
    for name, value in values.items():
        library.mallopt(name, value)
