"""Lung masks and shapes of an image, in the pixels of its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from hilum.dataset import mask_files
from hilum.dataset.manifest import Manifest
from hilum.dataset.mask_files import MaskFile, Meanings
from hilum.imaging.files import dicom, image_file, raster
from hilum.imaging.geometry import Size


def size_of(path: Path, root: Path | None) -> Size:
    """Return (height, width) of an image file.

    A PNG is measured by its header, which is a thousand times quicker than decoding it.
    """
    return raster.size(path, root) or image_file.own_size(image_file.read(path, root))


def lung_masks(
    manifest: Manifest, image: Mapping[str, Any], size: Size, meanings: Meanings
) -> list[MaskFile]:
    """Read the lung mask files of a row of the table as the cache does.

    Raises `BadData` for a mask that does not fit its image or whose values nothing explains.
    """
    if not any(image[column] for column in mask_files.COLUMNS):
        return []
    path, root = manifest.located(image["path"])
    to_display = None
    if dicom.is_one(path, root):
        to_display = partial(image_file.to_display, dicom.read(path, root))
    own = {
        name: manifest.original(cell) if name in mask_files.COLUMNS and cell else cell
        for name, cell in image.items()
    }
    found = mask_files.read(manifest.folder, own, size, meanings.of, to_display)
    return [replace(one, place=image[one.column]) for one in found]


def without_places(text: str, manifest: Manifest, image: Mapping[str, Any]) -> str:
    """Return a text in which a row's files have their names in the table, without the root."""
    for column in ("path", *mask_files.COLUMNS):
        if place := image[column]:
            text = text.replace(manifest.original(place), place)
    return text.replace(f"{manifest.root}/", "")


@dataclass(frozen=True)
class DrawnShape:
    """A row of the manifest's table of shapes, without the image."""

    concept: str
    term: str
    shape: str
    source: str
    author: str | None


def by_image(manifest: Manifest) -> dict[str, list[DrawnShape]]:
    """Return the shapes of a manifest by image id."""
    found: dict[str, list[DrawnShape]] = {}
    columns = (one.name for one in fields(DrawnShape))
    for image_id, *cells in manifest.shapes.select("image_id", *columns).iter_rows():
        found.setdefault(image_id, []).append(DrawnShape(*cells))
    return found
