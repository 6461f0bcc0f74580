"""Choose unique names for the output of several files.

A name on a disk may hold line breaks, control characters or bytes that are no text
(`hilum.safety.path_names`). Output gets a name of `unique_names`, which every file system and
program accepts.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from hilum import storage
from hilum.imaging.files import image_file

_LONGEST = 150  # bytes of a part of a name: file systems allow 255, of which endings need some
_FORBIDDEN = '\\:*?"<>|'  # on file systems of Windows
# Forms of a name: without and with the ending, below 0 to 4 more folders; the last has a digest.
_LEVELS = 10


class Found(NamedTuple):
    """A file and its path below the searched folder; its bare name where it was named itself."""

    path: Path
    within: PurePosixPath


def unique_names(files: Iterable[Found]) -> dict[Path, str]:
    """Return a name for each file, by path, with `/` between folders.

    No two are the same, ignoring case and Unicode form. A name is the path below the searched
    folder without the image's ending ("ward/0"). Files whose names would be the same are
    distinguished by their endings ("0_png", "0_jpg"), then by the folders above ("a/0", "b/0"),
    then by a digest of the whole path. Names depend on the set of files, not on their order.
    """
    found = list(files)
    names = {file.path: _name(file, 0) for file in found}
    for level in range(1, _LEVELS):
        often = Counter(map(_key, names.values()))
        clashing = [file for file in found if often[_key(names[file.path])] > 1]
        if not clashing:
            break
        names |= {file.path: _name(file, level) for file in clashing}
    return names


def _name(file: Found, level: int) -> str:
    """Return the name of a file, longer and less ambiguous at a higher level."""
    folders = Path(os.path.abspath(file.path)).parts[1 : -len(file.within.parts)]
    count = min(level // 2, len(folders))
    within = (
        _without_ending(file.within)
        if level % 2 == 0
        else file.within.with_name(file.within.name.replace(".", "_"))
    )
    place = PurePosixPath(*folders[len(folders) - count :], within)
    name = "/".join(map(portable, (*map(_no_ending_of_images, place.parts[:-1]), place.name)))
    return (
        f"{name}-{storage.digest(os.fsencode(os.path.abspath(file.path)))[:8]}"
        if level == _LEVELS - 1
        else name
    )


def _without_ending(within: PurePosixPath) -> PurePosixPath:
    """Drop the ending of an image; a dot in an identifier stays."""
    return within.with_suffix("") if within.suffix.lower() in image_file.ENDINGS else within


def _no_ending_of_images(folder: str) -> str:
    """Rename a folder called "x.png", beside which a file x.png may have to be written."""
    stem, _, ending = folder.rpartition(".")
    return f"{stem}_{ending}" if f".{ending.lower()}" in image_file.ENDINGS else folder


def portable(part: str) -> str:
    """Return a part of a path as every file system accepts it."""
    text = "".join(one if one.isprintable() and one not in _FORBIDDEN else "_" for one in part)
    text = f"_{text[1:]}" if text.startswith(".") else text.rstrip(". ") or "_"
    data = text.encode()
    return (
        text
        if len(data) <= _LONGEST
        else f"{data[:_LONGEST].decode('utf-8', 'ignore')}-{storage.digest(os.fsencode(part))[:8]}"
    )


def _key(name: str) -> str:
    """Return the form under which some file systems treat names as the same."""
    return unicodedata.normalize("NFC", name.casefold())
