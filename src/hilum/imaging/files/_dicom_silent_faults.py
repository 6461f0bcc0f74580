"""Raise the faults that imagecodecs' HTJ2K decoder cannot raise itself.

The decoder detects a broken stream in a callback. Python's hook for errors that cannot be raised
prints a traceback, and the decoder returns a half-filled image as if it were complete. `raising`
makes an exception of it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_DECODER = "imagecodecs._htj2k"
_lock = threading.Lock()
_inside = 0  # threads that decode
_before = sys.unraisablehook  # the hook that was there before the first of them
_mine = threading.local()


@contextmanager
def raising() -> Iterator[None]:
    """Raise `ValueError` where the decoder failed inside the block.

    Several threads may be inside at once; errors of other code go to the previous hook.
    """
    global _inside, _before
    _mine.fault = None
    with _lock:
        _inside += 1
        if _inside == 1:
            _before, sys.unraisablehook = sys.unraisablehook, _record
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                sys.unraisablehook = _before
    if _mine.fault is not None:
        raise ValueError(f"the image is damaged inside ({_mine.fault})")


def _record(unraisable: sys.UnraisableHookArgs) -> None:
    if _DECODER in str(unraisable.object):  # called in the thread that decodes
        _mine.fault = str(unraisable.exc_value)
    else:
        _before(unraisable)
