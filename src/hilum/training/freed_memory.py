"""Keep freed memory for the next batch while a network is trained.

By default the GNU C library gives every large block back to the system when it is freed. A training
step allocates and frees the same hundreds of blocks each time, so the system would clear and map
their pages again in every step: a fifth of the time.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # mallopt(3)
_NEVER = (1 << 31) - 1  # bytes: no block is as large
_KEPT = {_MMAP_THRESHOLD: _NEVER, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: 1 << 26}
# What the library arrives at by itself after large blocks were freed; its initial thresholds,
# which it no longer changes once they were set, would be slower than this.
_USUAL = {_MMAP_THRESHOLD: 1 << 25, _TRIM_THRESHOLD: 1 << 26, _TOP_PAD: 1 << 17}


@contextmanager
def reused() -> Iterator[None]:
    """Reuse freed memory inside the block, give it back at its end; no effect without mallopt."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    _set(library, _KEPT)
    try:
        yield
    finally:
        _set(library, _USUAL)
        library.malloc_trim(0)


def _set(library: ctypes.CDLL, values: Mapping[int, int]) -> None:
    for name, value in values.items():
        library.mallopt(name, value)
