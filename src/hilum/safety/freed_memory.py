"""Keep freed memory in the process, where the C library would return it with each image."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_LARGEST = 31 << 20  # bytes; from 32 MiB on the C library of Linux always returns it


@lru_cache(1)
def keep() -> None:
    """Let arrays of a megabyte be taken from memory that was freed before.

    glibc maps an array of more than 128 KiB for itself and unmaps it when it is freed, and the
    system fills each of its pages with zeros anew, which takes as long as the work on a small
    image. Once a larger array has been freed, glibc keeps what is smaller (mallopt(3),
    M_MMAP_THRESHOLD). Up to twice these bytes stay with the process; none of them is touched here.
    """
    np.empty(_LARGEST, np.uint8)
