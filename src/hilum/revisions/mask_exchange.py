"""Masks of readers as COCO and as PNG, there and back, exact to the pixel.

COCO: one annotation for each label of a mask, its `segmentation` compressed run lengths in the
pixels of the image's own file; categories right_lung, left_lung and ignored; author, revision and
time beside it. Taken in are polygons too, and categories of these names in any case, with spaces or
underscores; others are counted and left out. An image is found by `image_id`, which Hilum writes,
else by `file_name`, the path below the data's folder or its last part. Where annotations overlap,
ignored goes before left before right.

PNG: FOLDER/IMAGE_ID.png, grey, 8 bits: 0 background, 1 right lung, 2 left lung, 255 ignored.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from hilum import storage
from hilum.annotations import lung_masks, shapes
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData, HilumError, unknown
from hilum.imaging.files import image_file, raster
from hilum.imaging.geometry import Size
from hilum.revisions import mask_store
from hilum.revisions.changes import SetMask
from hilum.revisions.journal import Journal
from hilum.revisions.revision import Revision
from hilum.revisions.state import State
from hilum.safety import path_names, untrusted_files
from hilum.safety.untrusted_files import Folder

# Drawn in the order of their labels: a later one goes before an earlier one.
LABELS = {name: label for name, label in lung_masks.REFERENCE.items() if label is not None}
CATEGORIES = {name: number for number, name in enumerate(LABELS, 1)}
_PNG = ".png"


@dataclass(frozen=True)
class ReadMask:
    """A mask that was taken in: labels uint8 (height, width) in the pixels of the image's file."""

    image_id: str
    labels: np.ndarray
    author: str | None = None


def _standing(state: State, manifest: Manifest) -> list[tuple[str, str, Revision, str]]:
    """Return image_id, path, revision and digest of the masks of images in the data."""
    path = dict(manifest.table.select("image_id", "path").iter_rows())
    return [
        (image_id, path[image_id], one, one.change.digest)
        for image_id, one in sorted(state.masks.items())
        if image_id in path and isinstance(one.change, SetMask)
    ]


# ------------------------------------------------------------------------------------------- COCO


def to_coco(journal: Journal, state: State, manifest: Manifest, to: Path) -> dict[str, object]:
    """Write the masks that stand as one file of COCO."""
    images, annotations = [], []
    for number, (image_id, path, one, digest) in enumerate(_standing(state, manifest), 1):
        labels = journal.mask(digest)
        height, width = labels.shape
        images.append(
            {"id": number, "file_name": path, "height": height, "width": width}
            | {"image_id": image_id}
        )
        about = {"author": one.author, "revision": one.number, "time": one.time}
        for name, label in LABELS.items():
            mask = labels == label
            if not mask.any():
                continue
            runs = shapes.RunLengths.of(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": CATEGORIES[name],
                    "iscrowd": 0,
                    "segmentation": runs.to_coco(),
                    "area": int(mask.sum()),
                    "bbox": runs.to_box().to_coco(),
                    **about,
                }
            )
    content = {
        "info": {"description": "lung masks, written by Hilum"},
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": "anatomy"}
            for name, number in CATEGORIES.items()
        ],
    }
    storage.write_text(to, storage.as_json(content))
    return _summary(len(images), len(state.masks))


def _summary(written: int, standing: int) -> dict[str, object]:
    gone = standing - written
    return {"masks": written, **({"of images not in the data": gone} if gone else {})}


def of_coco(file: Path, manifest: Manifest, remarks: dict[str, object]) -> Iterator[ReadMask]:
    """Yield the masks of an untrusted file of COCO; what is left out goes to `remarks`.

    Raises `BadData` with every fault, and every image that is not in the data.
    """
    content = untrusted_files.read_json(file)
    lists = [_list(file, content, key) for key in ("images", "annotations", "categories")]
    images, annotations, categories = lists
    name_of = {_number(one): str(one.get("name")) for one in categories}
    found: dict[int | None, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    others: Counter[str] = Counter()
    for one in annotations:
        name = name_of.get(_number(one, "category_id"), "no category")
        if (label := _category(name)) is None:
            others[name] += 1
        else:
            found[_number(one, "image_id")].append((label, one))
    if others:
        remarks["left out, no lungs"] = dict(others)
    finder = _Finder(manifest)
    drawn_on = [
        (image, drawn) for image in images if (drawn := found.pop(_number(image), None)) is not None
    ]
    if found:
        raise BadData(f"{file}: annotations of images that it does not list: {list(found)[:5]}")
    ids = finder.all_of([_stated_name(image) for image, _ in drawn_on], file)
    for image_id, (_, drawn) in zip(ids, drawn_on, strict=True):
        size = _size(manifest.folder, finder.path[image_id])
        labels = _drawn(file, image_id, size, drawn)
        authors = {str(one.get("author") or "") for _, one in drawn} - {""}
        author = authors.pop() if len(authors) == 1 else None
        yield ReadMask(image_id, labels, author)


def _list(file: Path, content: object, key: str) -> list[Mapping[str, Any]]:
    value = content.get(key) if isinstance(content, Mapping) else None
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise BadData(f"{file}: expected COCO, with a list of objects '{key}'")
    return value


def _number(one: Mapping[str, Any], key: str = "id") -> int | None:
    """Return the number by which parts of COCO name one another; None for what is none."""
    found = one.get(key)
    return found if isinstance(found, int) else None


def _category(name: str) -> int | None:
    return LABELS.get("_".join(name.casefold().replace("_", " ").split()))


def _stated_name(image: Mapping[str, Any]) -> str:
    return str(image.get("image_id") or image.get("file_name") or image.get("id"))


def _drawn(
    file: Path, image_id: str, size: Size, drawn: list[tuple[int, Mapping[str, Any]]]
) -> np.ndarray:
    """Return the label map of an image's annotations."""
    labels = np.zeros(size, np.uint8)
    try:
        for label, one in sorted(drawn, key=lambda pair: pair[0]):
            for shape in _shapes(one.get("segmentation")):
                labels[shape.to_mask(size)] = label
    except BadData as error:
        raise BadData(f"{file}: {image_id}: {error}") from None
    mask_store.check(labels, f"{file}: the mask of {image_id}")
    return labels


def _shapes(segmentation: object) -> list[shapes.Shape]:
    if isinstance(segmentation, Mapping):
        return [shapes.RunLengths.from_coco(segmentation)]
    if isinstance(segmentation, list) and all(isinstance(one, list) for one in segmentation):
        return [shapes.Polygon.from_coco(one) for one in segmentation]
    raise BadData(f"expected run lengths or polygons, got {str(segmentation)[:80]}")


# -------------------------------------------------------------------------------------------- PNG


def to_folder(journal: Journal, state: State, manifest: Manifest, to: Path) -> dict[str, object]:
    """Write the masks that stand as PNG into a new folder."""
    masks = _standing(state, manifest)
    with storage.filling(to) as beside:
        for image_id, _, _, digest in masks:
            storage.write_bytes(_file_of(beside, image_id), journal.masks.bytes(digest))
    return _summary(len(masks), len(state.masks))


def _file_of(folder: Path, image_id: str) -> Path:
    place = PurePosixPath(image_id)
    if place.is_absolute() or ".." in place.parts:
        raise BadData(f"{image_id}: no file can have this name below a folder")
    path = path_names.path_of(folder, image_id)
    return path.with_name(path.name + _PNG)


def of_folder(folder: Path, manifest: Manifest) -> Iterator[ReadMask]:
    """Yield the masks of an untrusted folder of PNG.

    Raises `BadData` with every image that is not in the data, and every mask of another size.
    """
    files = sorted(
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(_PNG)
    )
    if not files:
        raise BadData(f"{folder}: holds no PNG; expected IMAGE_ID{_PNG} for each mask")
    finder = _Finder(manifest)
    names = [path_names.below(folder, file)[: -len(_PNG)] for file in files]
    for image_id, file in zip(finder.all_of(names, folder), files, strict=True):
        data = untrusted_files.read_bytes(file, root=folder, limit=mask_store.LARGEST)
        labels = mask_store.decoded(data, str(file))
        if labels.shape != (size := _size(manifest.folder, finder.path[image_id])):
            raise BadData(
                f"{file}: mask of {labels.shape[0]}x{labels.shape[1]} pixels for an image of "
                f"{size[0]}x{size[1]}; export it again in the size of the image's file"
            )
        yield ReadMask(image_id, labels)


# ---------------------------------------------------------------------------------------- images


class _Finder:
    """Find images by their id, their path, or the last part of it, with or without its ending."""

    def __init__(self, manifest: Manifest) -> None:
        self.root = manifest.root
        self.path: dict[str, str] = dict(manifest.table.select("image_id", "path").iter_rows())
        by_name: dict[str, set[str]] = defaultdict(set)
        for image_id, path in self.path.items():
            place = PurePosixPath(path)
            for name in {path, path.removesuffix(place.suffix), place.name, place.stem}:
                by_name[name].add(image_id)
        self._by_name = {
            name: next(iter(found)) for name, found in by_name.items() if len(found) == 1
        }

    def all_of(self, names: list[str], source: Path) -> list[str]:
        """Return the ids of images. Raises `BadData` with every name that is none of one image."""
        ids = [name if name in self.path else self._by_name.get(name) for name in names]
        missing = [name for name, image_id in zip(names, ids, strict=True) if image_id is None]
        if missing:
            raise BadData.listing(
                f"{source} is about images that are not in {self.root}; nothing was taken in",
                [unknown("image", one, self.path).partition(" Known:")[0] for one in missing],
            )
        twice = [one for one, count in Counter(ids).items() if count > 1]
        if twice:
            raise BadData.listing(
                f"{source} has several masks of one image; keep one",
                map(str, sorted(twice, key=str)),
            )
        return [one for one in ids if one is not None]


def _size(folder: Folder, place: str) -> Size:
    """Return (height, width) of an image's file, from its header where that states it."""
    try:
        found = folder.located(place)
        return raster.size(*found) or image_file.own_size(image_file.read(*found))
    except HilumError as error:
        raise BadData(
            f"{place}: its size cannot be read, which a mask must have: {error}"
        ) from None
