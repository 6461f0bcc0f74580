"""A picture file of any kind that is read: PNG, JPEG, TIFF or DICOM. The bytes say which it is, not the name's ending."""

from __future__ import annotations

from pathlib import Path

from hilum.files import dicom, raster

ENDINGS = (*raster.ENDINGS, *dicom.ENDINGS)


def read(path: Path) -> raster.Raster | dicom.Dicom:
    """Decode one file. Raises `BadData` naming the file, what is wrong with it and what to do."""
    return dicom.read(path) if dicom.is_one(path) else raster.read(path)
