"""Tar archives of a mirror: each is fetched whole, unpacked once from first to last, and dropped.

So a compressed stream is decompressed once, however many files are in it. Zip archives are read
member by member instead (`hilum.dataset.remote.zip_members`). What
`hilum.dataset._unpack` refuses to unpack is refused here, too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hilum.dataset import _unpack
from hilum.dataset.remote import fetching
from hilum.dataset.remote.listing import Entry
from hilum.dataset.remote.transport import Stated, Transport
from hilum.errors import BadData, on_one_line, refused
from hilum.progress import quietly
from hilum.safety.addresses import ELSEWHERE, LOCAL, Address, without_ending

WORK = "unpacked"
TAR, ZIP = "tar", "zip"


def folder_of(archive: Entry) -> str:
    """Return the place of the folder that an archive is read as: its name without the ending.

    An archive that is the address itself is read as the root, "".
    """
    return without_ending(archive.place)


def inside(archive: Entry, name: str) -> str:
    """Return the place of a file by its name in an archive."""
    start = folder_of(archive)
    return f"{start}/{name}" if start else name


def unpack(address: Address, transport: Transport, archive: Entry, state: Path) -> Path:
    """Return a new folder in `state` with the archive's files, complete with modes and times.

    Raises `BadData` for an archive that is broken or unsafe, and as `fetching.fetch` does.
    """
    folder, whole = state / WORK, state / "archive"
    try:
        if address.protocol == LOCAL:
            whole = Path(address.rest) / archive.place if archive.place else Path(address.rest)
            _unpacked(whole, folder)
        else:
            whole.unlink(missing_ok=True)
            fetching.fetch(transport, archive.place, archive.stated, whole, state / "parts")
            try:
                _unpacked(whole, folder)
            except BadData as error:
                message = str(error).replace(
                    on_one_line(whole.name), address.of_file(archive.place), 1
                )
                raise BadData(message) from error
            finally:
                whole.unlink(missing_ok=True)
        for _, path in files(folder):
            fetching.settle(path, member(path, archive))
    except OSError as error:
        raise refused(folder, error, ELSEWHERE) from error
    return folder


def _unpacked(archive: Path, folder: Path) -> None:
    _unpack.unpack(archive, folder, quietly)


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield place and path of each file below a folder."""
    for top, _, names in os.walk(folder):
        for name in names:
            path = Path(top, name)
            yield path.relative_to(folder).as_posix(), path


def member(path: Path, archive: Entry) -> Stated:
    """Return what is stated of a file from an archive: its own size, the archive's version."""
    return Stated(path.stat().st_size, archive.stated.mtime_ns, archive.stated.tag)


def entries(folder: Path, archive: Entry) -> list[Entry]:
    """Return the entries of all files that were unpacked into a folder."""
    return [
        Entry(inside(archive, place), member(path, archive), key(TAR, archive))
        for place, path in files(folder)
    ]


def key(kind: str, archive: Entry) -> str:
    """Return how entries name the archive that they are in."""
    return f"{kind}:{archive.place}"


def of_key(key: str) -> str:
    """Return the place of the archive that an entry names."""
    return key.partition(":")[2]


def move(folder: Path, root: Path, archive: Entry, wanted: set[str] | None = None) -> int:
    """Move unpacked files to their places below `root`; return their bytes.

    With `wanted`, those places alone; the rest is removed.
    """
    moved = 0
    try:
        for place, path in files(folder):
            to = inside(archive, place)
            if wanted is None or to in wanted:
                moved += path.stat().st_size
                (root / to).parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, root / to)
    except OSError as error:
        raise refused(root, error, ELSEWHERE) from error
    shutil.rmtree(folder, ignore_errors=True)
    return moved
