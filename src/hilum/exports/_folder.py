"""A folder that is whole or not there, and copies of pictures in it."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from hilum.errors import BadData, CannotWrite, HilumError
from hilum.files import dicom, picture, raster
from hilum.manifest import Manifest
from hilum.radiograph import to_uint8


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to fill beside `folder`; renamed onto it when the block ends well, removed when it does not.

    Raises `HilumError` where `folder` holds anything, `CannotWrite` in place of an `OSError`.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise HilumError(f"{folder} is not empty; choose another folder, nothing was written")
    beside = folder.with_name(f".{folder.name}.part")
    try:
        if beside.exists():  # of an export that was killed
            shutil.rmtree(beside)
        beside.mkdir(parents=True)
        yield beside
        os.replace(beside, folder)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)  # the first error is the one to tell
        if isinstance(error, OSError):
            raise CannotWrite.because(folder, error) from error
        raise


def places(manifest: Manifest, ending: str | None = None) -> dict[str, str]:
    """Where the copy of each picture goes, by image id: `data set/name.png`; `ending` replaces the file's own.

    What cannot be copied as it is (`_as_it_is`) becomes a .png.

    Folders in a name become `__`, because tools take a folder called test, wherever it stands, for a part. Raises `BadData` naming
    all pictures that are not there or may not be read, and those whose names become one.
    """
    files = dict(manifest.table.select("image_id", "path").iter_rows())
    missing = [path for path in files.values() if not os.access(manifest.root / path, os.R_OK)]
    if missing:
        raise BadData.listing(f"pictures of the table that cannot be read below {manifest.root}; get them, or export 'tables'", missing)
    placed = {}
    for image_id, path in files.items():
        dataset, _, name = image_id.partition("/")
        own = PurePosixPath(path).suffix.lower() if _as_it_is(manifest.root / path) else ".png"
        placed[image_id] = f"{dataset}/{name.replace('/', '__')}{ending or own}"
    twice = sorted(place for place, count in Counter(placed.values()).items() if count > 1)
    if twice:
        raise BadData.listing("pictures whose names become one when their folders are written as '__'; rename one of each", twice)
    return placed


def _as_it_is(path: Path) -> bool:
    """Whether every program shows the stored pixels the same way: no DICOM, and not rotated by Exif or TIFF."""
    return not dicom.is_one(path) and raster.orientation(path) == 1


def copy(manifest: Manifest, to: Path, placed: Mapping[str, str]) -> Counter[str]:
    """Copy every picture of the manifest to its place below `to`; returns how many were DICOM, and how many rotated.

    Of a DICOM a grey PNG of 8 bits is made, bright is dense: tools for pictures read no DICOM, and a header names people. Of an image
    that its Exif or TIFF orientation rotates a PNG of the pixels as Hilum sees them is made, because some tools rotate it and some do
    not, and boxes and masks would fit in one of both only.
    """
    converted: Counter[str] = Counter()
    for image_id, path in manifest.table.select("image_id", "path").iter_rows():
        source, target = manifest.root / path, to / placed[image_id]
        if dicom.is_one(source):
            raster.write_png(target, to_uint8(picture.own_pixels(dicom.read(source))))
            converted["dicom"] += 1
        elif not _as_it_is(source):
            raster.write_png(target, raster.read(source).values)
            converted["rotated"] += 1
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return converted


def copied(converted: Mapping[str, int]) -> str:
    """What to tell a person of the pictures."""
    made = {"dicom": "DICOM as 8-bit PNG", "rotated": "rotated by their Exif or TIFF as PNG"}
    return ", ".join(["copied", *(f"{converted[kind]} {words}" for kind, words in made.items() if converted[kind])])
