"""Flush files to the disk: each by itself, all together, or beside the work that goes on.

A flush waits for the disk, for milliseconds. Without it a power cut could leave an empty file of
the final name; a process that is killed loses nothing that it has written.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from hilum.errors import HilumError, refused

_MOST = 32  # files of one block that wait for their flush, each of them open


class _Beside:
    """Flushes files by a thread, while others are made."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool, self._waiting = pool, deque[tuple[Path, Future[None]]]()
        self._refused: HilumError | None = None

    def add(self, descriptor: int, path: Path) -> None:
        """Flush an open file, and close it."""
        self._waiting.append((path, self._pool.submit(_flushed, descriptor)))
        self._wait(_MOST)

    def finish(self) -> None:
        """Wait for all files. Raises as `hilum.storage.replacing` does, where one was refused."""
        self._wait(0)
        if self._refused:
            raise self._refused

    def _wait(self, left: int) -> None:
        # What was refused is said at the end: it is no fault of the file that is written now.
        while len(self._waiting) > left:
            path, flush = self._waiting.popleft()
            error = flush.exception()
            if isinstance(error, OSError):
                self._refused = self._refused or refused(path, error)
            elif error:
                raise error


_beside: ContextVar[_Beside | None] = ContextVar("beside", default=None)


@contextmanager
def beside() -> Iterator[None]:
    """Flush what this thread writes in the block beside its work, all of it by the block's end.

    A file takes its name before it is flushed: for work that counts as done when the block has
    ended, and is done again where it has not. Raises `CannotWrite` at the end.
    """
    with ThreadPoolExecutor(1, "hilum-flush") as pool:
        files = _Beside(pool)
        token = _beside.set(files)
        try:
            yield
        finally:
            _beside.reset(token)
        files.finish()


def flush(path: Path) -> None:
    """Flush the bytes of a file. Raises `OSError`."""
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def settle(written: Path, path: Path) -> None:
    """Flush a finished file and give it the name `path`, in this order but for `beside`.

    Raises `OSError`.
    """
    files = _beside.get()
    if files is None:
        flush(written)
        written.replace(path)
        return
    descriptor = os.open(written, os.O_RDWR | os.O_CLOEXEC)
    try:
        written.replace(path)
    except OSError:
        os.close(descriptor)
        raise
    files.add(descriptor, path)


def _flushed(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def begin(descriptor: int) -> None:
    """Let Linux write a file's bytes out from now on, without waiting for it.

    It also lets go of what is written out already, which of a new file is nothing.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
