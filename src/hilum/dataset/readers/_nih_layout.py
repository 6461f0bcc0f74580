"""Find the tables and images of ChestX-ray14 in a copy of the release or of a part of it.

Tables are in the data folder; images in `images/`, `images_001/images/`, `images_001/` or beside
the table, or likewise in a subfolder that has such a folder or is the only one. Files that macOS
leaves behind (`__MACOSX/`, `._name`, `.DS_Store`) are counted and are not images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hilum.imaging.files import raster

ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "sample_labels.csv")  # by precedence
BOXES = "BBox_List_2017.csv"
OFFICIAL = {"train_val_list.txt": "train", "test_list.txt": "test"}
SPLITS = (  # by precedence: the first whose first list is there
    OFFICIAL,
    *(
        {f"train{ending}": "train", f"val{ending}": "tune", f"test{ending}": "test"}
        for ending in ("_list.txt", ".txt")
    ),
)
MACOS = ("__MACOSX", ".DS_Store")
IMAGES = "images"


@dataclass
class Files:
    """Files in the folders of images, as paths relative to the data folder."""

    images: dict[str, str] = field(default_factory=dict)  # path by the file's bare name
    again: list[str] = field(default_factory=list)  # images whose name another folder has too
    others: list[str] = field(default_factory=list)  # files that are not images
    macos: list[str] = field(default_factory=list)


def tables(root: Path, names: Iterable[str]) -> list[Path]:
    """Return the existing tables of these names, in their order, gzipped or not."""
    found = (root / file for name in names for file in (name, f"{name}.gz"))
    return [path for path in found if path.is_file()]


def csv_files(root: Path) -> list[Path]:
    """Return the visible CSV files of a folder, gzipped or not, sorted by name."""
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
    """Return all files in the folders that hold images."""
    found = Files()
    for folder in _folders(root):
        for entry in sorted(os.listdir(root / folder)):
            place = f"{folder}/{entry}" if folder else entry
            if entry.startswith("._") or entry in MACOS:
                found.macos.append(place)
            elif entry.lower().endswith(raster.ENDINGS) and (root / place).is_file():
                if found.images.setdefault(entry, place) != place:
                    found.again.append(place)
            elif _named_images(folder) and entry != IMAGES and not entry.startswith("."):
                found.others.append(place)
    return found


def _named_images(folder: str) -> bool:
    name = folder.rpartition("/")[2]
    return name == IMAGES or name.startswith(f"{IMAGES}_")


def _folders(root: Path) -> Iterator[str]:
    """Yield the folders that may hold images, relative to the data folder (its own is "")."""
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
    """Return the only subfolder besides folders of images, where there is just one."""
    found = [path for path in _subfolders(root) if not _named_images(path.name)]
    return found if len(found) == 1 else []


def _subfolders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        names = [entry.name for entry in entries if _is_folder(entry)]
    return [path / name for name in sorted(names) if not name.startswith(".") and name not in MACOS]


def _is_folder(entry: os.DirEntry) -> bool:
    # isdir costs a system call, but unlike is_dir it returns False for a loop of links
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))
