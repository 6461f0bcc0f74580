"""What is drawn on an image, in the file's own pixels: lung masks from their files, and shapes from the table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hilum import mask_files
from hilum.files import dicom, picture, raster
from hilum.manifest import Manifest
from hilum.mask_files import MaskFile, Meanings
from hilum.radiograph import Size
from hilum.untrusted import Folder

LUNGS = tuple(mask_files.NAMES.values())


def size_of(path: Path, root: Path | None) -> Size:
    """(height, width) of a picture file; of a PNG by its header, which is a thousand times quicker than decoding it."""
    return raster.size(path, root) or picture.own_size(picture.read(path, root))


def lung_masks(folder: Folder, image: Mapping[str, Any], size: Size, meanings: Meanings) -> list[MaskFile]:
    """Read the lung mask files of a row of the table as the cache does.

    Raises `BadData` for a mask that does not fit its image or whose values nothing explains.
    """
    if not any(image[column] for column in mask_files.COLUMNS):
        return []
    path, root = folder.located(image["path"])
    file = dicom.read(path, root) if dicom.is_one(path, root) else None

    def pose(own: np.ndarray) -> np.ndarray:
        return picture.stand(file, own)

    return mask_files.read(folder, image, size, meanings.of, pose if file else None)


def by_image(manifest: Manifest) -> dict[str, list[dict[str, Any]]]:
    """Rows of the table of shapes by image id."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in manifest.shapes.iter_rows(named=True):
        found.setdefault(row["image_id"], []).append(row)
    return found
