"""Unique names for what is made of several files.

A name on a disk may hold line breaks, control characters or bytes that are no text
(`hilum.safety.path_names`). What is written gets a name of `unique_names`, which every file system and program
takes.
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
_LEVELS = (
    10  # of names: without and with the ending, below 0 to 4 more folders; the last has a digest
)


class Found(NamedTuple):
    """A file and its place below the folder that was searched; its bare name where it was named
    itself.
    """

    path: Path
    within: PurePosixPath


def unique_names(files: Iterable[Found]) -> dict[Path, str]:
    """Return a name for each file, by path, with `/` between folders, no two the same in any case
    or Unicode form.

    It is the place below the searched folder without the image's ending ("ward/0"). Files whose
    names would be the same are told apart by their endings ("0_png", "0_jpg"), then by the folders
    above ("a/0", "b/0"), then by a digest of the whole path. Names depend on the set of files
    alone, not on its order.
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
    """The name of a file, the longer and surer the higher the level."""
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
    """Spell a folder called "x.png" otherwise, beside which a file x.png may have to be written."""
    stem, _, ending = folder.rpartition(".")
    return f"{stem}_{ending}" if f".{ending.lower()}" in image_file.ENDINGS else folder


def portable(part: str) -> str:
    text = "".join(one if one.isprintable() and one not in _FORBIDDEN else "_" for one in part)
    text = f"_{text[1:]}" if text.startswith(".") else text.rstrip(". ") or "_"
    data = text.encode()
    return (
        text
        if len(data) <= _LONGEST
        else f"{data[:_LONGEST].decode('utf-8', 'ignore')}-{storage.digest(os.fsencode(part))[:8]}"
    )


def _key(name: str) -> str:
    """Fold what some file systems take for the same name."""
    return unicodedata.normalize("NFC", name.casefold())
