"""Track the reading of a data set: where its files may be, and which text files were opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from hilum.safety.untrusted_files import Folder


@dataclass
class Reading:
    """A data set that is being read: its folder, and the files that were opened."""

    folder: Folder
    files: set[Path] = field(default_factory=set)


_reading: ContextVar[Reading | None] = ContextVar("reading", default=None)


def note(path: Path) -> None:
    """Record that a file is opened, while a data set is being read."""
    if (reading := _reading.get()) is not None:
        reading.files.add(path)


def root() -> Path | None:
    """Return the folder below which files must be.

    None where links are followed, or no data set is being read.
    """
    reading = _reading.get()
    return reading.folder.root if reading else None


def follows_links() -> bool:
    """Return whether the user allows the data set's links."""
    reading = _reading.get()
    return reading is not None and reading.folder.links


@contextmanager
def recorded(folder: Folder) -> Iterator[set[Path]]:
    """Yield the set of text files that are opened in the block, in which `folder` is read."""
    reading = Reading(folder)
    token = _reading.set(reading)
    try:
        yield reading.files
    finally:
        _reading.reset(token)
