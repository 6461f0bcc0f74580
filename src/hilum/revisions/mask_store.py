"""Masks that readers drew, kept as PNG under the SHA-256 of their bytes.

A mask is uint8 (height, width) in the pixels of the image's own file, a label map of
`hilum.annotations.lung_masks`: 0 background, 1 right lung, 2 left lung, 255 ignored. A file is
written whole, flushed and renamed to its final name, and its name flushed too, before the journal
gets the revision that names it: a kill leaves a mask whole or absent, and never a revision without
its mask.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from hilum import storage
from hilum.annotations.lung_masks import IGNORE, LEFT, RIGHT
from hilum.errors import BadData, Damaged, HilumError, refused
from hilum.imaging.files import raster
from hilum.revisions.changes import is_digest
from hilum.safety import untrusted_files

VALUES = (0, RIGHT, LEFT, IGNORE)
LARGEST = 64 << 20  # bytes of a PNG; a label map of 100 million pixels has a few hundred thousand


def faults(labels: np.ndarray) -> list[str]:
    """List what is wrong with a label map, a sentence each."""
    if labels.ndim != 2 or labels.dtype != np.uint8:
        return [f"expected uint8 (height, width), got {labels.dtype} {labels.shape}"]
    if not 0 < labels.size <= raster.MOST_PIXELS:
        return [f"has {labels.size:,} pixels; expected 1 to {raster.MOST_PIXELS:,}"]
    counts = np.bincount(labels.ravel(), minlength=256)
    found: list[str] = []
    if others := sorted(set(np.flatnonzero(counts).tolist()) - set(VALUES)):
        found.append(
            f"holds the values {others[:5]}; expected 0 background, {RIGHT} right lung, "
            f"{LEFT} left lung, {IGNORE} ignored"
        )
    if not counts[RIGHT] + counts[LEFT]:
        found.append(
            'marks no lung; the correction "leave out mask" is the way to an image without a mask'
        )
    return found


def check(labels: np.ndarray, name: str = "a mask") -> None:
    """Raise `BadData` with everything that is wrong with a label map."""
    if found := faults(labels):
        raise BadData.listing(f"{name} that cannot be kept", found)


def decoded(data: bytes, name: str = "a mask") -> np.ndarray:
    """Decode the bytes of an untrusted PNG to a label map, uint8 (height, width).

    Raises `BadData` for what is no PNG or no label map, and before decoding for one that is too
    large.
    """
    if len(data) > LARGEST:
        raise BadData(f"{name}: has {len(data):,} bytes; expected a PNG of at most {LARGEST:,}")
    file = raster.decoded(Path(name), data)
    if file.kind != "PNG" or file.colour:
        raise BadData(f"{name}: expected a grey PNG of 8 bits, got {file.kind}; save it as such")
    check(file.values, name)
    return file.values


class MaskStore:
    """The folder of masks of one journal; whoever puts one holds the journal's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Return the file of a mask. Raises `BadData` for what is no digest."""
        if not is_digest(digest):
            raise BadData(f"expected a mask's SHA-256 in hexadecimal, got {digest[:80]!r}")
        return self.folder / f"{digest}.png"

    def put(self, data: bytes) -> str:
        """Keep the bytes of a PNG and return their SHA-256, once they are on the disk.

        A file that is there with other bytes is replaced.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        if not self.fault(digest):
            return digest
        storage.write_bytes(path, data)
        try:
            storage.flush_names(self.folder)
        except OSError as error:
            raise refused(path, error) from error
        return digest

    def fault(self, digest: str) -> str:
        """Say what is wrong with the file of a mask; "" where nothing is."""
        try:
            self.bytes(digest)
        except HilumError as error:
            return str(error)
        return ""

    def bytes(self, digest: str) -> bytes:
        """Return the bytes of a mask's PNG. Raises `Damaged` where they are missing or others."""
        path = self.path(digest)
        remedy = "restore it from a copy of the run, or undo its revision and draw the mask again"
        try:
            data = untrusted_files.read_bytes(path, limit=LARGEST)
        except HilumError as error:
            raise Damaged(f"{str(error).partition(';')[0]}; {remedy}") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise Damaged(f"{path}: has other bytes than were written; {remedy}")
        return data

    def read(self, digest: str) -> np.ndarray:
        """Return a mask, uint8 (height, width). Raises as `bytes` and `decoded` do."""
        return decoded(self.bytes(digest), str(self.path(digest)))


def encoded(labels: np.ndarray) -> bytes:
    """Return a label map as the bytes of a grey PNG of 8 bits. Raises `BadData`, see `check`."""
    import imagecodecs

    check(labels)
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(labels), level=4))
