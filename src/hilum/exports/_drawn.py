"""What is drawn on an image, in the file's own pixels: lung masks from their files, and shapes from the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hilum.errors import BadData
from hilum.files import picture, raster
from hilum.manifest import Manifest
from hilum.radiograph import Size

LUNGS = {"lung_mask": "lungs", "right_lung_mask": "right_lung", "left_lung_mask": "left_lung"}


def size_of(path: Path) -> Size:
    """(height, width) of a picture file; of a PNG by its header, which is a thousand times quicker than decoding it."""
    return raster.size(path) or picture.own_size(picture.read(path))


def lung_masks(root: Path, image: Mapping[str, Any], size: Size) -> Iterator[tuple[str, str, np.ndarray]]:
    """Name (lungs, right_lung or left_lung), place below `root` and bool mask of each lung mask file of a row of the table.

    Inside is above half of the file's largest value, as in the cache. Raises `BadData` for a mask that is not of its picture's size.
    """
    for column, name in LUNGS.items():
        if image[column]:
            values = raster.read(root / image[column]).values
            if values.shape != size:
                got, expected = ("x".join(map(str, sides)) for sides in (values.shape, size))
                raise BadData(f"{image[column]}: mask of {got} pixels for a picture of {expected}; export the mask again in its picture's size")
            yield name, image[column], values > int(values.max()) // 2


def by_image(manifest: Manifest) -> dict[str, list[dict[str, Any]]]:
    """Rows of the table of shapes by image id."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in manifest.shapes.iter_rows(named=True):
        found.setdefault(row["image_id"], []).append(row)
    return found
