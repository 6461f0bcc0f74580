"""Faults that a decoder cannot raise: imagecodecs' HTJ2K decoder meets a broken stream in a callback, tells Python's hook for such
errors, which prints a traceback, and gives back a half-filled picture as if it were whole. `raising` makes an exception of it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_DECODER = "imagecodecs._htj2k"
_lock = threading.Lock()
_inside = 0  # threads that decode
_before: Any = None  # the hook that was there before the first of them
_mine = threading.local()


@contextmanager
def raising() -> Iterator[None]:
    """Raises `ValueError` where the decoder failed inside the block; threads may be inside together, other errors go the usual way."""
    global _inside, _before
    _mine.fault = None
    with _lock:
        _inside += 1
        if _inside == 1:
            _before, sys.unraisablehook = sys.unraisablehook, _hear
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                sys.unraisablehook = _before
    if _mine.fault is not None:
        raise ValueError(f"the picture is broken within ({_mine.fault})")


def _hear(told: Any) -> None:
    if _DECODER in str(told.object):  # called in the thread that decodes
        _mine.fault = str(told.exc_value)
    else:
        _before(told)
