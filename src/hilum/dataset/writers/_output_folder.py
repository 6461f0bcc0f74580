"""Output folders that are complete or missing, and copies of images in them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from hilum import storage
from hilum.dataset.manifest import DISPLAY, Manifest
from hilum.errors import BadData, HilumError
from hilum.imaging.files import dicom, image_file, raster, without_metadata
from hilum.imaging.files.portable_names import portable
from hilum.imaging.files.pose import AS_READ, Display
from hilum.imaging.radiograph import to_uint8, to_uint16
from hilum.safety import addresses, untrusted_files
from hilum.safety.untrusted_files import Folder
from hilum.scale import shards

DICOM, ROTATED = "DICOM as 8-bit PNG", "rotated as their headers say, as PNG"
CORRECTED = "rotated, mirrored or inverted by corrections, as PNG"
ANEW = "TIFF, BMP or GIF as PNG"


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes `folder` at the end (`hilum.storage.filling`).

    Raises `HilumError` where `folder` is not empty.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise HilumError(f"{folder} is not empty; choose another folder, nothing was written")
    with storage.filling(folder) as beside:
        yield beside
        storage.flush_all()


def places(manifest: Manifest, ending: str | None = None) -> dict[str, str]:
    """Return the path of each image's copy, by image id: `DATASET/NAME.png`.

    `ending` replaces the file's own, which is .png where `copy` makes a PNG. Slashes in a name
    become `__`, because tools take any folder called test for a part. Raises `BadData` with all
    images that are missing or unreadable, and with those whose names become the same.
    """
    forms, missing = dict[str, str | None](), list[str]()
    for image_id, found in each(manifest, _Form(manifest.folder), {}):
        forms[image_id], fault = json.loads(found)
        missing += [fault] if fault else []
    if missing:
        raise BadData.listing(
            f"images of the table that cannot be read below {manifest.root}; "
            "copy them there, or export csv_tables",
            missing,
        )
    placed = {}
    for image_id, path in manifest.table.select("image_id", "path").iter_rows():
        dataset, _, name = image_id.partition("/")
        own = ".png" if forms[image_id] else PurePosixPath(path).suffix.lower()
        placed[image_id] = f"{dataset}/{_name(name.replace('/', '__'))}{ending or own}"
    twice = sorted(place for place, count in Counter(placed.values()).items() if count > 1)
    if twice:
        raise BadData.listing(
            "images whose names become the same when their folders are written as '__'; "
            "rename one of each",
            twice,
        )
    return placed


def _name(name: str) -> str:
    """Return a name that every file system accepts; a changed one ends in a digest."""
    kept = portable(name)
    return kept if kept == name else f"{kept}-{storage.digest(name)[:8]}"


class Source(NamedTuple):
    """An image: its name in the table, its place on the disk, its correction, its copy's place."""

    name: str
    place: str
    display: Display
    to: str


def each(
    manifest: Manifest, work: Callable[[Source], bytes], placed: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield id and result of each image; any executor may carry the `work` (`hilum.scale`).

    Raises the first `BadData` of an image, and one for an image on which process after process was
    ended.
    """
    rows = manifest.table.select("image_id", "path", *DISPLAY).iter_rows(named=True)
    items = {
        row["image_id"]: Source(
            row["path"],
            manifest.original(row["path"]),
            Display.of(row),
            placed.get(row["image_id"], ""),
        )
        for row in rows
    }
    with closing(shards.run(work, items, None)) as outcomes:
        for image_id, outcome in zip(items, outcomes, strict=True):
            if outcome.fault:
                raise BadData(outcome.fault)
            yield image_id, outcome.result


@dataclass(frozen=True)
class _Form:
    """Gives JSON: the form in which an image is encoded anew, and why it cannot be read."""

    folder: Folder

    def __call__(self, source: Source) -> bytes:
        path, root = self.folder.located(source.place)
        try:
            with untrusted_files.opened(path, root):
                pass
        except HilumError as fault:
            message = addresses.without_root(str(fault), self.folder.path)
            return json.dumps([None, message.replace(source.place, source.name)]).encode()
        return json.dumps([_form(path, root, source.display), None]).encode()


def copy(manifest: Manifest, to: Path, placed: Mapping[str, str]) -> Counter[str]:
    """Copy the pixels of every image to its place below `to`; count those encoded anew, by form.

    Of PNG and JPEG the parts that make the pixels are copied, without any metadata
    (`hilum.imaging.files.without_metadata`). A DICOM becomes an 8-bit grey PNG, bright is dense:
    image tools read no DICOM, and its header identifies people. An image whose header says to
    rotate or mirror it becomes a grey PNG as displayed: some tools follow the header and some do
    not, and sizes, boxes and masks are of the displayed image. So does one that a correction
    rotates, mirrors or inverts. Other formats become a PNG of the same values.
    """
    work = _Copying(manifest.folder, to)
    written = Counter(form.decode() for _, form in each(manifest, work, placed))
    del written[""]
    return written


@dataclass(frozen=True)
class _Copying:
    """Copies an image below `to`, and gives the form in which it is encoded anew, or nothing."""

    folder: Folder
    to: Path

    def __call__(self, source: Source) -> bytes:
        target, display = self.to / source.to, source.display
        path, root = self.folder.located(source.place)
        form = _form(path, root, display)
        if form in (DICOM, CORRECTED):
            data = raster.png(_displayed(image_file.read(path, root, display)))
        elif form == ROTATED:
            data = raster.png(raster.read(path, root).values)
        elif form:
            data = raster.png(raster.channels(path, root))
        else:
            data = without_metadata.copied(path, root)
        storage.add_bytes(target, data)
        return (form or "").encode()


def write_grey(manifest: Manifest, to: Path, placed: Mapping[str, str]) -> None:
    """Write every image as displayed, an 8-bit grey PNG, to its place below `to`."""
    for _ in each(manifest, _WritingGrey(manifest.folder, to), placed):
        pass


@dataclass(frozen=True)
class _WritingGrey:
    """Writes an image as displayed below `to`."""

    folder: Folder
    to: Path

    def __call__(self, source: Source) -> bytes:
        file = image_file.read(*self.folder.located(source.place), source.display)
        storage.add_bytes(self.to / source.to, raster.png(to_uint8(file.radiograph().pixels)))
        return b""


def _displayed(file: raster.Raster | dicom.Dicom) -> np.ndarray:
    """Return grey values to write: stored ones of a raster, unless it is inverted."""
    if isinstance(file, raster.Raster) and not file.falling:
        return file.values
    wide = isinstance(file, raster.Raster) and file.values.dtype == np.uint16
    return (to_uint16 if wide else to_uint8)(file.radiograph().pixels)


def _form(path: Path, root: Path | None, display: Display) -> str | None:
    """Return why an image is encoded anew; None where its own encoded pixels are copied."""
    if dicom.is_one(path, root):
        return DICOM
    if display != AS_READ:
        return CORRECTED
    if raster.orientation(path, root) != 1:
        return ROTATED
    head = untrusted_files.read_head(path, 132, root=root)
    return None if raster.kind_of(head) in ("PNG", "JPEG", None) else ANEW


def copied(written: Mapping[str, int]) -> str:
    """Return a summary of the image files for a person, such as "copied, 3 DICOM as 8-bit PNG"."""
    return ", ".join(["copied", *(f"{count} {form}" for form, count in sorted(written.items()))])
