"""Lung masks and shapes of an image, and its geometry from the file's pixels to the exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from hilum.dataset import mask_files
from hilum.dataset.manifest import Manifest
from hilum.dataset.mask_files import MaskFile
from hilum.imaging.files.label_image import Consensus
from hilum.imaging.files.pose import Pose
from hilum.safety import addresses
from hilum.safety.untrusted_files import Folder


def stored(manifest: Manifest, image: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row of the table with the names that its files have on the disk."""
    files = ("path", *mask_files.COLUMNS)
    return {
        name: manifest.original(cell) if name in files and cell else cell
        for name, cell in image.items()
    }


def lung_masks(
    folder: Folder,
    image: Mapping[str, Any],
    stored: Mapping[str, Any],
    pose: Pose,
    meaning: Callable[[str], Consensus],
) -> list[MaskFile]:
    """Read the lung mask files of a row of the table, given as `stored` too, as the cache does.

    Raises `BadData` for a mask that does not fit its image or whose values nothing explains.
    """
    if not any(image[column] for column in mask_files.COLUMNS):
        return []
    found = mask_files.read(folder, stored, pose.source, meaning, pose.mask)
    return [replace(one, place=image[one.column]) for one in found]


def without_places(
    text: str, root: Path, image: Mapping[str, Any], stored: Mapping[str, Any]
) -> str:
    """Return a text in which a row's files have their names in the table, without the root."""
    for column in ("path", *mask_files.COLUMNS):
        if image[column]:
            text = text.replace(stored[column], image[column])
    return addresses.without_root(text, root)


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
