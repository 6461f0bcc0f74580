"""Collect the warnings of imagecodecs' decoders.

A decoder that meets damage may only log a warning, and return values as if the file were sound.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGER = "imagecodecs"
_lock = threading.Lock()
_inside = 0  # threads that listen
_level = logging.NOTSET  # of the logger before the first of them
_heard = threading.local()


class _Listener(logging.Filter):
    """Collects what the listening thread logs, and lets other threads' records pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is passed on to the logger's handlers."""
        messages = getattr(_heard, "messages", None)
        if messages is None:
            return True
        messages.append(" ".join(record.getMessage().split()))
        return False


_listener = _Listener()


@contextmanager
def collected() -> Iterator[list[str]]:
    """Yield the list of warnings from decoders that this thread calls in the block.

    Raises `ValueError` where all logging is switched off, because damage would go unnoticed.
    """
    logger = logging.getLogger(_LOGGER)
    _start(logger)
    _heard.messages = messages = []
    try:
        if not logger.isEnabledFor(logging.WARNING):
            raise ValueError("warnings of its decoder are switched off by logging.disable()")
        yield messages
    finally:
        _heard.messages = None
        _stop(logger)


def _start(logger: logging.Logger) -> None:
    global _inside, _level
    with _lock:
        _inside += 1
        if _inside == 1:
            _level = logger.level
            logger.setLevel(logging.WARNING)
            logger.addFilter(_listener)


def _stop(logger: logging.Logger) -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            logger.removeFilter(_listener)
            logger.setLevel(_level)
