"""Threads that end with the work they were started for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


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
