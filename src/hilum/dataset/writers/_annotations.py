"""Lung masks and shapes of an image, and its geometry from the file's pixels to the exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from hilum.dataset import mask_files
from hilum.dataset.manifest import Manifest
from hilum.dataset.mask_files import MaskFile, Meanings
from hilum.imaging.files import image_file
from hilum.imaging.files.pose import Display, Pose
from hilum.safety import addresses


def pose_of(manifest: Manifest, image: Mapping[str, Any]) -> Pose:
    """Return the geometry of a row's image, from the file's own pixels to those exported.

    Exports hold images as displayed, and so are their masks and shapes.
    """
    return image_file.pose(*manifest.located(image["path"]), Display.of(image))


def lung_masks(
    manifest: Manifest, image: Mapping[str, Any], pose: Pose, meanings: Meanings
) -> list[MaskFile]:
    """Read the lung mask files of a row of the table as the cache does.

    Raises `BadData` for a mask that does not fit its image or whose values nothing explains.
    """
    if not any(image[column] for column in mask_files.COLUMNS):
        return []
    own = {
        name: manifest.original(cell) if name in mask_files.COLUMNS and cell else cell
        for name, cell in image.items()
    }
    found = mask_files.read(manifest.folder, own, pose.source, meanings.of, pose.mask)
    return [replace(one, place=image[one.column]) for one in found]


def without_places(text: str, manifest: Manifest, image: Mapping[str, Any]) -> str:
    """Return a text in which a row's files have their names in the table, without the root."""
    for column in ("path", *mask_files.COLUMNS):
        if place := image[column]:
            text = text.replace(manifest.original(place), place)
    return addresses.without_root(text, manifest.root)


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
