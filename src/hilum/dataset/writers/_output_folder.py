"""A folder that is whole or not there, and copies of pictures in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from hilum import storage
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData, HilumError
from hilum.imaging.files import dicom, image_file, raster, without_metadata
from hilum.imaging.files.portable_names import portable
from hilum.imaging.radiograph import to_uint8
from hilum.safety import untrusted_files

DICOM, ROTATED = "DICOM as 8-bit PNG", "rotated as their heads say, as PNG"
ANEW = "TIFF, BMP or GIF as PNG"


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to fill beside `folder`, see `store.filling`. Raises `HilumError` where `folder` holds anything."""
    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise HilumError(f"{folder} is not empty; choose another folder, nothing was written")
    with storage.filling(folder) as beside:
        yield beside


def places(manifest: Manifest, ending: str | None = None) -> dict[str, str]:
    """Where the copy of each picture goes, by image id: `data set/name.png`; `ending` replaces the file's own, which is .png where `copy`
    makes a PNG.

    Folders in a name become `__`, because tools take a folder called test, wherever it stands, for a part. Raises `BadData` naming
    all pictures that are not there or may not be read, and those whose names become one.
    """
    files = dict(manifest.table.select("image_id", "path").iter_rows())
    if missing := [fault for path in files.values() if (fault := _unreadable(manifest, path))]:
        raise BadData.listing(
            f"pictures of the table that cannot be read below {manifest.root}; get them, or export 'tables'",
            missing,
        )
    placed = {}
    for image_id, path in files.items():
        dataset, _, name = image_id.partition("/")
        own = ".png" if _form(*manifest.located(path)) else PurePosixPath(path).suffix.lower()
        placed[image_id] = f"{dataset}/{_name(name.replace('/', '__'))}{ending or own}"
    twice = sorted(place for place, count in Counter(placed.values()).items() if count > 1)
    if twice:
        raise BadData.listing(
            "pictures whose names become one when their folders are written as '__'; rename one of each",
            twice,
        )
    return placed


def _name(name: str) -> str:
    """Return a name that every file system takes; one that had to change for it ends in a digest, so that no two become one."""
    kept = portable(name)
    return kept if kept == name else f"{kept}-{storage.digest(name)[:8]}"


def _unreadable(manifest: Manifest, place: str) -> str | None:
    """Say why a picture cannot be copied; None where it can be."""
    try:
        with untrusted_files.opened(*manifest.located(place)):
            return None
    except HilumError as fault:
        told = str(fault).replace(f"{manifest.root}/", "")
        return told.replace(manifest.original(place), place)


def copy(manifest: Manifest, to: Path, placed: Mapping[str, str]) -> Counter[str]:
    """Copy the pixels of every picture of the manifest to its place below `to`; return how many were written anew, by form.

    Of PNG and JPEG the parts that make the pixels are copied, and nothing else that the file says (`hilum.imaging.files.without_metadata`).
    Of a DICOM a grey PNG of 8 bits is made, bright is dense: tools for pictures read no DICOM, and a header names people. Of a picture
    whose head says that it is to be rotated or mirrored a grey PNG is made as it is shown: some tools follow the head and some do not, and
    sizes, boxes and masks are of the picture as shown. Of other kinds a PNG of the same values is made.
    """
    written: Counter[str] = Counter()
    for image_id, path in manifest.table.select("image_id", "path").iter_rows():
        target = to / placed[image_id]
        source, root = manifest.located(path)
        form = _form(source, root)
        if form == DICOM:
            raster.write_png(target, to_uint8(image_file.own_pixels(dicom.read(source, root))))
        elif form == ROTATED:
            raster.write_png(target, raster.read(source, root).values)
        elif form:
            raster.write_png(target, raster.channels(source, root))
        else:
            storage.write_bytes(target, without_metadata.copied(source, root))
        written.update([form] if form else [])
    return written


def _form(path: Path, root: Path | None) -> str | None:
    """Why a picture is written anew; None where its own coded pixels are copied."""
    if dicom.is_one(path, root):
        return DICOM
    if raster.orientation(path, root) != 1:
        return ROTATED
    head = untrusted_files.read_head(path, 132, root=root)
    return None if raster.kind_of(head) in ("PNG", "JPEG", None) else ANEW


def copied(written: Mapping[str, int]) -> str:
    """What to tell a person of the pictures."""
    return ", ".join(["copied", *(f"{count} {form}" for form, count in sorted(written.items()))])
