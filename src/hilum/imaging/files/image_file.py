"""Read an image file of any supported kind: PNG, JPEG, TIFF, BMP, GIF or DICOM.

The first bytes decide which it is, not the ending of its name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hilum.errors import working_on
from hilum.imaging.files import dicom, raster
from hilum.imaging.geometry import Size
from hilum.safety import untrusted_files

ENDINGS = (*raster.ENDINGS, *dicom.ENDINGS)
_HEAD_BYTES = 132  # hold the signature of every kind; DICOM's is behind a preamble of 128


def read(path: Path, root: Path | None = None) -> raster.Raster | dicom.Dicom:
    """Decode one file; with `root`, one that lies below it.

    Raises `BadData` naming the file, what is wrong with it and what to do.
    """
    with working_on(path):
        data = raster.load(path, root)
        return (
            dicom.decoded(path, data)
            if dicom.holds(data[:_HEAD_BYTES])
            else raster.decoded(path, data)
        )


def kind(path: Path, root: Path | None = None) -> str | None:
    """Return what a file is by its first bytes, such as "PNG" or "DICOM", else None.

    Raises as `hilum.safety.untrusted_files.opened` does.
    """
    head = untrusted_files.read_head(path, _HEAD_BYTES, root=root)
    return raster.kind_of(head) or ("DICOM" if dicom.holds(head) else None)


def own_size(file: raster.Raster | dicom.Dicom) -> Size:
    """Return (height, width) of the file's own pixels, in which masks and outlines are drawn.

    For DICOM they are those before the rotation to the standard view.
    """
    if isinstance(file, dicom.Dicom):
        return file.pose.source
    height, width = file.values.shape
    return height, width


def own_pixels(file: raster.Raster | dicom.Dicom) -> np.ndarray:
    """Return the brightness of the file's own pixels, float32 `own_size` in [0, 1]."""
    return to_native(file, file.radiograph().pixels)


def to_display(file: raster.Raster | dicom.Dicom, own: np.ndarray) -> np.ndarray:
    """Map a mask from the file's own pixels to the radiograph in the standard view."""
    return (
        file.pose.forward(own.astype(np.uint8), labels=True).astype(own.dtype)
        if isinstance(file, dicom.Dicom)
        else own
    )


def to_native(
    file: raster.Raster | dicom.Dicom, standing: np.ndarray, *, labels: bool = False
) -> np.ndarray:
    """Map an image or mask of the radiograph to the file's own pixels; undoes `to_display`."""
    return file.pose.back(standing, labels=labels) if isinstance(file, dicom.Dicom) else standing
