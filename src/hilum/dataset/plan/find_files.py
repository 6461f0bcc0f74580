"""Division of the files of a folder into radiographs, masks and files that are neither."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from hilum.dataset import inventory
from hilum.dataset.dicom_index import dicomdir
from hilum.dataset.inventory import File
from hilum.dataset.plan import dicom_truth, lexicon, masks
from hilum.dataset.plan.masks import Seen
from hilum.dataset.plan.reading import Reading
from hilum.errors import BadData, on_one_line
from hilum.imaging.batch.dicom_headers import headers
from hilum.imaging.files import dicom, label_image
from hilum.safety import untrusted_files
from hilum.safety.path_names import as_text


def sort_files(reading: Reading) -> None:
    """Fill the images, masks and headers of a reading, and set aside files that are no data."""
    evidence, settings = reading.evidence, reading.settings
    unused = [file for file in reading.files.files if matches(file.path, settings.unused)]
    evidence.set_aside(
        "file", [file.path for file in unused], "hilum.toml says that it is not used"
    )
    left_out = {file.path for file in unused}
    kept = [file for file in reading.files.files if file.path not in left_out]
    for kind, reason, severity in (
        ("link", _why_no_link(reading, kept), "warning"),
        ("special", "is a pipe, socket or device, which is not opened", "warning"),
    ):
        evidence.set_aside(
            "file", [file.path for file in kept if file.kind == kind], reason, severity
        )
    clutter = [file.path for file in kept if file.kind == "clutter"]
    evidence.set_aside("file", clutter, "is hidden, or is no data by its name")
    rasters = [file for file in kept if file.kind in inventory.RASTERS]
    reading.masks, photos = masks.find(
        rasters, lambda path: classify_pixels(*reading.folder.located(path)), settings, evidence
    )
    radiographs = sorted([*photos, *_radiographs(reading, kept)], key=lambda file: file.path)
    derived = [
        file
        for file in radiographs
        if any(lexicon.among(name, "folders", "derived") for name in file.folder.split("/"))
    ]
    if len(derived) == len(radiographs):
        derived = []
    reason = "lies in a folder of thumbnails, overlays or other images made from images"
    evidence.set_aside("file", [file.path for file in derived], reason, "warning")
    made = {file.path for file in derived}
    reading.images = [file for file in radiographs if file.path not in made]


def _why_no_link(reading: Reading, files: Sequence[File]) -> str:
    """Return why links are not followed: where the first one leads, and the remedy; "" for none."""
    first = next((file.path for file in files if file.kind == "link"), None)
    if first is None:
        return ""
    path, root = reading.folder.located(first)
    target = on_one_line(as_text(os.path.realpath(path)))
    if root is None:
        return (
            "is a link to nothing, or to a folder that is read already "
            f"(the first leads to {target})"
        )
    return (
        "is a link out of the folder, to a folder or to nothing, and is not followed "
        f"(the first leads to {target}): {untrusted_files.REMEDY}"
    )


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Return whether a path fits one of the patterns, or lies in a folder named by one."""
    return any(
        fnmatchcase(path, pattern) or path.startswith(pattern.rstrip("/") + "/")
        for pattern in patterns
    )


def classify_pixels(path: Path, root: Path | None = None) -> Seen:
    """Return what the pixels of one file are.

    A file that cannot be decoded counts as a photo: reading it as a radiograph reports the fault.
    """
    try:
        found = label_image.sniff(path, root)
    except BadData:
        return Seen("photo")
    if found is None:
        return Seen("photo")
    return Seen("constant" if found.kind == "constant" else "label", lungs=found.side is not None)


def _radiographs(reading: Reading, kept: Sequence[File]) -> list[File]:
    """Return the DICOM files that hold one image; set aside reports, documents and the like."""
    images: list[File] = []
    other: dict[str, list[str]] = defaultdict(list)
    directories: list[str] = []
    files = {file.path: file for file in kept if file.kind == "dicom"}
    for path, header in headers({path: reading.folder.located(path) for path in files}):
        if isinstance(header, BadData):
            images.append(files[path])  # a damaged radiograph is reported when it is decoded
        elif (reason := dicom.object_kind(header)) == dicomdir.NAME:
            directories.append(path)
        elif reason:
            other[reason].append(path)
        else:
            images.append(files[path])
            reading.headers[path] = header
    for reason, paths in sorted(other.items()):
        reading.evidence.set_aside("file", paths, f"is a DICOM file, but no radiograph: {reason}")
    reading.evidence.set_aside(
        "file", directories, "is a DICOMDIR, which is compared with the files that it lists"
    )
    dicom_truth.compare(reading, directories)
    reading.nobody = dicom.placeholder(reading.headers.values())
    return images
