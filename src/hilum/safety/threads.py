"""Threads that end with the work they were started for, and leave the cores to each other."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController


def cores() -> int:
    """Return the number of cores that this process may use, which can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit(count: int) -> None:
    """Let OpenCV use `count` threads in this process, beside which others work, from now on."""
    import cv2

    cv2.setNumThreads(count)


@contextmanager
def pool(count: int, name: str = "") -> Iterator[ThreadPoolExecutor]:
    """Start at most `count` threads; at the end of the block what they have not begun is dropped.

    A `ThreadPoolExecutor` alone does all that was submitted first, so that an error or Ctrl-C
    waits for it. What a thread has begun is waited for: it may be writing to an open file.
    """
    executor = ThreadPoolExecutor(count, name)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def numeric_pool(count: int, name: str = "") -> Iterator[ThreadPoolExecutor]:
    """Start threads, as `pool` does, whose matrix products are computed where they are called.

    A BLAS that spreads each product over all cores makes threads that multiply at the same time
    wait for each other: the products of two threads then take several times as long as one
    after the other. The setting is the process's, and goes back with the last of such blocks.
    """
    with _one_blas_thread, pool(count, name) as executor:
        yield executor


class _OneBlasThread:
    """Keep BLAS at one thread from the first block that is entered to the last one left."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._limit = ThreadpoolController().limit(limits=1, user_api="blas")
                self._limit.__enter__()

    def __exit__(self, *fault: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limit.__exit__(None, None, None)


_one_blas_thread = _OneBlasThread()
