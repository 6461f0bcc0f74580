"""Where a copy of ChestX-ray14 has its tables and images: as released, as on Kaggle, or unpacked into a
folder of its own.

Tables lie in the data folder; images in `images/`, `images_001/images/`, `images_001/` or beside the
table, or likewise in a subfolder that has such a folder or is the only one. What macOS leaves behind
(`__MACOSX/`, `._name`, `.DS_Store`) is counted and not taken for images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hilum.imaging.files import raster

MACOS = ("__MACOSX", ".DS_Store")
IMAGES = "images"


@dataclass
class Files:
    """What the folders of images hold, as places below the data folder."""

    images: dict[str, str] = field(default_factory=dict)  # place by the file's bare name
    again: list[str] = field(default_factory=list)  # images of a name that another folder has too
    others: list[str] = field(default_factory=list)  # files that are no images
    macos: list[str] = field(default_factory=list)


def tables(root: Path, names: Iterable[str]) -> list[Path]:
    """The tables of these names that are there, packed (.gz) or not; the first name counts first."""
    found = (root / file for name in names for file in (name, f"{name}.gz"))
    return [path for path in found if path.is_file()]


def csv_files(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        names = [
            entry.name for entry in entries if entry.name.lower().endswith((".csv", ".csv.gz"))
        ]
    return [
        root / name
        for name in sorted(names)
        if not name.startswith(".") and (root / name).is_file()
    ]


def files(root: Path) -> Files:
    """All files in the folders that hold images."""
    told = Files()
    for folder in _folders(root):
        for entry in sorted(os.listdir(root / folder)):
            place = f"{folder}/{entry}" if folder else entry
            if entry.startswith("._") or entry in MACOS:
                told.macos.append(place)
            elif entry.lower().endswith(raster.ENDINGS) and (root / place).is_file():
                if told.images.setdefault(entry, place) != place:
                    told.again.append(place)
            elif _named_images(folder) and entry != IMAGES and not entry.startswith("."):
                told.others.append(place)
    return told


def _named_images(folder: str) -> bool:
    name = folder.rpartition("/")[2]
    return name == IMAGES or name.startswith(f"{IMAGES}_")


def _folders(root: Path) -> Iterator[str]:
    """Folders to look for images in, below the data folder: its own first."""
    only = _only(root)
    others = [path for path in _subfolders(root) if not _named_images(path.name)]
    wrapped = [
        path
        for path in others
        if path in only or any(_named_images(inner.name) for inner in _subfolders(path))
    ]
    for base in ("", *(path.name for path in wrapped)):
        prefix = f"{base}/" if base else ""
        here = root / base
        many = [path.name for path in _subfolders(here) if path.name.startswith(f"{IMAGES}_")]
        inner = [f"{name}/{IMAGES}" for name in many]
        for folder in (IMAGES, *inner, *many):
            if (here / folder).is_dir():
                yield f"{prefix}{folder}"
        yield base


def _only(root: Path) -> list[Path]:
    """The subfolder that all lies in, where there is one besides folders of images."""
    found = [path for path in _subfolders(root) if not _named_images(path.name)]
    return found if len(found) == 1 else []


def _subfolders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        names = [entry.name for entry in entries if _is_folder(entry)]
    return [path / name for name in sorted(names) if not name.startswith(".") and name not in MACOS]


def _is_folder(entry: os.DirEntry) -> bool:
    # isdir asks the disk, but unlike is_dir it takes a loop of links for no folder
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))
