"""A folder that is whole or not there, and copies of pictures in it."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from hilum import store, untrusted
from hilum.errors import BadData, CannotWrite, HilumError
from hilum.files import dicom, picture, raster
from hilum.files.names import portable
from hilum.manifest import Manifest
from hilum.radiograph import to_uint8
from hilum.untrusted import Folder

DICOM, ROTATED = "DICOM as 8-bit PNG", "rotated as their heads say, as PNG"


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
    """Where the copy of each picture goes, by image id: `data set/name.png`; `ending` replaces the file's own, which is .png where `copy`
    makes a PNG.

    Folders in a name become `__`, because tools take a folder called test, wherever it stands, for a part. Raises `BadData` naming
    all pictures that are not there or may not be read, and those whose names become one.
    """
    files = dict(manifest.table.select("image_id", "path").iter_rows())
    if missing := [fault for path in files.values() if (fault := _unreadable(manifest.folder, path))]:
        raise BadData.listing(f"pictures of the table that cannot be read below {manifest.root}; get them, or export 'tables'", missing)
    placed = {}
    for image_id, path in files.items():
        dataset, _, name = image_id.partition("/")
        own = ".png" if _form(*manifest.folder.located(path)) else PurePosixPath(path).suffix.lower()
        placed[image_id] = f"{dataset}/{_name(name.replace('/', '__'))}{ending or own}"
    twice = sorted(place for place, count in Counter(placed.values()).items() if count > 1)
    if twice:
        raise BadData.listing("pictures whose names become one when their folders are written as '__'; rename one of each", twice)
    return placed


def _name(name: str) -> str:
    """Return a name that every file system takes; one that had to change for it ends in a digest, so that no two become one."""
    kept = portable(name)
    return kept if kept == name else f"{kept}-{store.digest(name)[:8]}"


def _unreadable(folder: Folder, place: str) -> str | None:
    """Say why a picture cannot be copied; None where it can be."""
    try:
        with untrusted.opened(*folder.located(place)):
            return None
    except HilumError as fault:
        return str(fault).replace(f"{folder.path}/", "")


def copy(manifest: Manifest, to: Path, placed: Mapping[str, str]) -> Counter[str]:
    """Copy every picture of the manifest to its place below `to`; return how many were written anew, by form.

    Of a DICOM a grey PNG of 8 bits is made, bright is dense: tools for pictures read no DICOM, and a header names people. Of a picture
    whose head says that it is to be rotated or mirrored a grey PNG is made as it is shown: some tools follow the head and some do not, and
    sizes, boxes and masks are of the picture as shown.
    """
    written: Counter[str] = Counter()
    for image_id, path in manifest.table.select("image_id", "path").iter_rows():
        target = to / placed[image_id]
        source, root = manifest.folder.located(path)
        form = _form(source, root)
        if form == DICOM:
            raster.write_png(target, to_uint8(picture.own_pixels(dicom.read(source, root))))
        elif form == ROTATED:
            raster.write_png(target, raster.read(source, root).values)
        else:
            store.write_bytes(target, _bytes_of_an_image(source, root))
        written.update([form] if form else [])
    return written


def _bytes_of_an_image(path: Path, root: Path | None) -> bytes:
    """Read an image file; `BadData` for a file that is no image, whatever its name, so that none is passed on."""
    data = raster.load(path, root)
    if raster.kind_of(data) is None:
        raise BadData(f"{path}: is no image (it starts with {data[:8]!r}) and is not copied; leave it out (hilum fix), or put the image in its place")
    return data


def _form(path: Path, root: Path | None) -> str | None:
    """Why a picture is not copied byte for byte; None where it is."""
    return DICOM if dicom.is_one(path, root) else ROTATED if raster.orientation(path, root) != 1 else None


def copied(written: Mapping[str, int]) -> str:
    """What to tell a person of the pictures."""
    return ", ".join(["copied", *(f"{count} {form}" for form, count in sorted(written.items()))])
