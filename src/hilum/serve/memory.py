"""Give memory that is no longer used back to the system, so that a desk stays as small as it is.

Allocators keep what was freed for the next time. For a program that decodes a large image now and
then over hours that is memory lost to all others. Nothing here changes a result.
"""

from __future__ import annotations

import ctypes
import gc
import os

# Polars has an allocator of its own, which reads this when Polars is loaded.
_POLARS, _AT_ONCE = "_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0"
_ARENA_MAX, _TRIM_THRESHOLD, _MMAP_THRESHOLD = -8, -1, -3  # mallopt(3), of the GNU C library
_COLLECTED = (5_000, 10, 10)  # the command line collects garbage more rarely
_ARENAS, _LARGE = 2, 1 << 20  # blocks from 1 MiB on go back to the system when they are freed


def give_back_at_once() -> None:
    """Set the allocators up; before anything large is imported, and once in a process."""
    gc.set_threshold(*_COLLECTED)
    os.environ.setdefault(_POLARS, _AT_ONCE)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        settings = {_ARENA_MAX: _ARENAS, _MMAP_THRESHOLD: _LARGE, _TRIM_THRESHOLD: _LARGE}
        for name, value in settings.items():
            mallopt(name, value)


def give_back_now() -> None:
    """Collect what is no longer used, and give it back."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
