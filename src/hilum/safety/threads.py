"""Threads that end with the work they were started for, and how many the libraries may use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

_limit: list[int] = []  # of the threads of a library in this process; empty: as it chooses


def limit(count: int) -> None:
    """Let the libraries of this process use `count` threads each, from now on.

    OpenCV at once, ONNX Runtime in sessions made later. For a process beside which others work.
    """
    import cv2

    _limit[:] = [count]
    cv2.setNumThreads(count)


def limited() -> int:
    """Return the limit; 0 where the libraries choose for themselves."""
    return _limit[0] if _limit else 0


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
