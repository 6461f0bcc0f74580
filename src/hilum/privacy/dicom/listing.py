"""List the files that are to be de-identified: regular files of a folder, in a fixed order.

Links to files are followed where they stay below the folder, links to folders never; pipes, sockets
and devices are not opened. Whether a file is DICOM is decided by its bytes when it is read.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from hilum.errors import BadData, CannotRead, NotFound
from hilum.imaging.files.links import stays_below


@dataclass
class Listing:
    """The files of a folder, and what in it is none, with the reason."""

    root: Path
    files: list[Path] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


def listed(source: Path) -> Listing:
    """Return the files of a folder and of those below, or the one file that is named.

    Raises `NotFound` or `CannotRead`, `BadData` where there is no file.
    """
    if source.is_file():
        return Listing(source.parent, [source])
    if not source.is_dir():
        raise NotFound(f"{source}: there is no such file or folder; name one with DICOM files")
    found = Listing(source)
    pending = [source]
    while pending:
        pending += _entered(pending.pop(), found)
    found.files.sort(key=os.fsencode)
    if not found.files:
        raise BadData(f"{source}: holds no file; name a folder with DICOM files")
    return found


def _entered(folder: Path, found: Listing) -> list[Path]:
    """Add the files of a folder; return the folders in it."""
    inner = []
    try:
        entries = sorted(folder.iterdir(), key=os.fsencode)
        for path in entries:
            mode = path.lstat().st_mode
            linked = stat.S_ISLNK(mode)
            if stat.S_ISDIR(mode):
                inner.append(path)
            elif linked and (path.is_dir() or not stays_below(str(found.root.resolve()), path)):
                found.passed_over.append(f"{path}: is a link to a folder or out of {found.root}")
            elif linked or stat.S_ISREG(mode):
                found.files.append(path)
            else:
                found.passed_over.append(f"{path}: is a pipe, socket or device, never opened")
    except OSError as error:
        raise CannotRead.because(folder, error) from error
    return inner
