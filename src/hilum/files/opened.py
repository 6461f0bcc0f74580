"""Record which text files are opened while a data set is read, so that every file can be accounted for: used, or named as unused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_recorded: ContextVar[set[Path] | None] = ContextVar("recorded", default=None)


def note(path: Path) -> None:
    """Note that a file is opened, where somebody records it."""
    if (paths := _recorded.get()) is not None:
        paths.add(path)


@contextmanager
def recorded() -> Iterator[set[Path]]:
    """Give the set that the files opened inside the block are noted in."""
    paths: set[Path] = set()
    token = _recorded.set(paths)
    try:
        yield paths
    finally:
        _recorded.reset(token)
