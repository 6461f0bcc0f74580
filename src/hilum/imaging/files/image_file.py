"""Read an image file of any supported kind: PNG, JPEG, TIFF, BMP, GIF or DICOM.

The first bytes decide which it is, not the ending of its name.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from hilum.errors import working_on
from hilum.imaging.files import dicom, raster
from hilum.imaging.files.pose import AS_READ, Display, Pose
from hilum.imaging.geometry import Size
from hilum.safety import untrusted_files

ENDINGS = (*raster.ENDINGS, *dicom.ENDINGS)
_HEAD_BYTES = 132  # hold the signature of every kind; DICOM's is behind a preamble of 128


def read(
    path: Path, root: Path | None = None, display: Display = AS_READ
) -> raster.Raster | dicom.Dicom:
    """Decode one file; with `root`, one that lies below it.

    `display` corrects how it is displayed: here alone, so that all that is made of the file agrees.
    Digests are of the file as it is. Raises `BadData` naming the file, what is wrong with it and
    what to do.
    """
    with working_on(path):
        data = raster.load(path, root)
        file = (
            dicom.decoded(path, data)
            if dicom.holds(data[:_HEAD_BYTES])
            else raster.decoded(path, data)
        )
    return file if display == AS_READ else _corrected(file, display)


def _corrected(file: raster.Raster | dicom.Dicom, display: Display) -> raster.Raster | dicom.Dicom:
    """Return a file as a correction displays it."""
    file = replace(
        file,
        values=display.turns.forward(file.values),
        pose=file.pose.then(display.turns),
        processing_log=(*file.processing_log, *display.account),
    )
    return file.inverted if display.inverted else file


def pose(path: Path, root: Path | None = None, display: Display = AS_READ) -> Pose:
    """Return the geometry from a file's own pixels to those that `read` displays.

    Of PNG, JPEG, TIFF, BMP and GIF it follows from the header, which is a thousand times quicker
    than decoding. Raises as `read` does.
    """
    if size := raster.size(path, root):
        return Pose(size).then(display.turns)
    return read(path, root, display).pose


def kind(path: Path, root: Path | None = None) -> str | None:
    """Return what a file is by its first bytes, such as "PNG" or "DICOM", else None.

    Raises as `hilum.safety.untrusted_files.opened` does.
    """
    head = untrusted_files.read_head(path, _HEAD_BYTES, root=root)
    return raster.kind_of(head) or ("DICOM" if dicom.holds(head) else None)


def own_size(file: raster.Raster | dicom.Dicom) -> Size:
    """Return (height, width) of the file's own pixels, in which masks and outlines are drawn.

    They are those before the rotation to the standard view and before any correction.
    """
    return file.pose.source


def to_display(file: raster.Raster | dicom.Dicom, own: np.ndarray) -> np.ndarray:
    """Map a mask from the file's own pixels to the radiograph as displayed."""
    return file.pose.mask(own)


def to_native(
    file: raster.Raster | dicom.Dicom, standing: np.ndarray, *, labels: bool = False
) -> np.ndarray:
    """Map an image or mask of the radiograph to the file's own pixels; undoes `to_display`."""
    return file.pose.back(standing, labels=labels)
