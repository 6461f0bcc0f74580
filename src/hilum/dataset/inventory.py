"""Inventory of all files of a folder with their kind by content, so that none is overlooked.

The kinds:

    png jpeg tiff bmp gif    raster images
    dicom                    DICOM files of any object, with or without an ending
    csv tsv xlsx parquet jsonl json
                             tables (`hilum.dataset.tables`); xls and ods are known, and refused
    settings                 the folder's own hilum.toml
    clutter                  what operating systems, editors and version control leave behind
    link                     a link out of the folder, to another folder or to nothing; it is not
                             followed. Where the user allows links, only one to nothing or to a
                             folder that was met already has this kind
    special                  no regular file: a pipe, socket or device; it is not opened
    other                    everything else
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from hilum.dataset import tables
from hilum.errors import HilumError
from hilum.imaging.files import dicom, opened, output_folder
from hilum.safety import untrusted_files
from hilum.safety.path_names import as_text

Entry = os.DirEntry[str]
SETTINGS = "hilum.toml"
RASTERS = ("png", "jpeg", "tiff", "bmp", "gif")
TABLES = (*tables.KINDS, "xls", "ods")
HEAD_BYTES = 4096
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
)
_CLUTTER_NAMES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "made-up.txt"}
_CLUTTER_FOLDERS = {"__macosx", "__pycache__", "$recycle.bin", "system volume information"}
_CLUTTER = _CLUTTER_NAMES | _CLUTTER_FOLDERS
_RASTER_ENDINGS = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".tif",
    ".tiff",
    ".bmp",
    ".dib",
    ".gif",
    ".dcm",
    ".dicom",
)


class File(NamedTuple):
    """One file: its path below the folder, as `hilum.safety.path_names` writes it, and its kind."""

    path: str
    kind: str

    @property
    def stem(self) -> str:
        """Return the name without its ending; the last number of a UID is no ending."""
        name = self.path.rpartition("/")[2]
        stem, dot, ending = name.rpartition(".")
        return stem if dot and stem and not ending.isdigit() else name

    @property
    def folder(self) -> str:
        """Return the path of the folder that holds the file; "" at the top."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True)
class Inventory:
    """All files of a folder, sorted by path."""

    root: Path
    files: tuple[File, ...]

    def of(self, *kinds: str) -> list[File]:
        """Return the files of these kinds, sorted by path."""
        return [file for file in self.files if file.kind in kinds]


def survey(root: Path) -> Inventory:
    """List all files below `root`, reading at most `HEAD_BYTES` of each.

    Links to folders are followed where the user allows links.
    """
    return Inventory(root, tuple(sorted(_walk(root, opened.follows_links(), _kind))))


def regular(root: Path) -> list[str]:
    """Return the paths of which `survey` reads the kind (`kind_at`), sorted, without reading it."""
    listed = _walk(root, opened.follows_links(), _kind_of_entry)
    return sorted(file.path for file in listed if not file.kind)


def names(root: Path) -> list[str]:
    """Return the paths that `survey` finds, sorted, without reading a byte of the files."""
    return sorted(file.path for file in _walk(root, opened.follows_links(), lambda *_: ""))


def _walk(root: Path, links: bool, kind: Callable[[Entry, str, str, bool], str]) -> Iterator[File]:
    top = os.path.realpath(root)
    entered: set[tuple[int, int]] = set()  # folders outside, so that a circle of links ends
    pending = [("", False)]
    while pending:
        folder, hidden = pending.pop()
        with os.scandir(os.path.join(root, folder)) as listing:
            entries = list(listing)
            # What a verb of Hilum wrote is never read back as data.
            hidden = hidden or any(entry.name == output_folder.MARK for entry in entries)
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                cluttered = hidden or _is_clutter(entry.name)
                if entry.is_dir(follow_symlinks=False) or (
                    links and _leads_to_new_folder(entry, top, entered)
                ):
                    pending.append((path, cluttered))
                else:
                    yield File(
                        as_text(path), "clutter" if cluttered else kind(entry, path, top, links)
                    )


def _leads_to_new_folder(entry: Entry, top: str, entered: set[tuple[int, int]]) -> bool:
    """Return whether an entry is a link to a folder outside, not above `top` and not yet entered.

    A folder that is, is noted in `entered`.
    """
    target = os.path.realpath(entry.path) if entry.is_symlink() else ""
    if (
        not os.path.isdir(target)
        or untrusted_files.holds(top, target)
        or untrusted_files.holds(target, top)
    ):
        return False
    status = os.stat(target)
    identity = (status.st_dev, status.st_ino)
    is_new = identity not in entered
    entered.add(identity)
    return is_new


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _CLUTTER


def _kind(entry: Entry, path: str, top: str, links: bool) -> str:
    return _kind_of_entry(entry, path, top, links) or kind_at(entry.path, path)


def _kind_of_entry(entry: Entry, path: str, top: str, links: bool) -> str:
    """Return the kind of what is no regular file of the folder; "" for one that is to be read."""
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if (
            not os.path.exists(target)
            or os.path.isdir(target)
            or not (links or untrusted_files.holds(top, target))
        ):
            return "link"
    try:
        return "" if entry.is_file() else "special"
    except OSError:  # reported by name by whoever reads it
        return ""


def kind_at(file: Path | str, path: str) -> str:
    """Return the kind of a regular file, whose path below the surveyed folder is `path`."""
    try:
        head = untrusted_files.read_head(file, HEAD_BYTES)
    except HilumError:
        # Whether it can be read is found again, and reported by name, by whoever reads it.
        head = b""
    return "settings" if path == SETTINGS else kind_of(path, head)


def kind_of(path: str, head: bytes) -> str:
    """Return the kind of a regular file by its first bytes, else by an ending of images.

    By its ending a damaged radiograph stays one, and the fault is reported when it is decoded.
    """
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "bmp"
    if dicom.holds(head):
        return "dicom"
    if kind := tables.table_kind(Path(path), head):
        return kind
    ending = PurePosixPath(path).suffix.casefold()
    if ending in _RASTER_ENDINGS:
        return {
            ".tif": "tiff",
            ".jpg": "jpeg",
            ".jpe": "jpeg",
            ".jfif": "jpeg",
            ".dib": "bmp",
            ".dcm": "dicom",
        }.get(ending, ending[1:])
    return "other"
