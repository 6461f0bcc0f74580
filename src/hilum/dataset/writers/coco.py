"""COCO: images, and one file of annotations per part.

    images/kaggle_masks/CHNCXR_0001_0.png
    annotations/instances_train.json     also instances_val.json and instances_test.json;
                                         instances.json where there is no split

Categories are concepts, and lungs, right_lung, left_lung and ignored; their numbers are the same in
all parts. `segmentation` of a box is the outline of its pixels, of a valid polygon without holes
its list of points, x before y; all else (lung masks, bitmaps, run lengths, polygons with holes or
that cross themselves) is compressed run lengths of its pixels. `area` is the number of pixels that
COCO's own tools make of the segmentation. `iscrowd` is 0: each annotation is one object. Images
whose headers (Exif, TIFF) say to rotate or mirror them are written as displayed.

COCO has no labels of whole images: they are in each image's `labels` (1 present, 0 absent, -1
uncertain; a finding that is not mentioned is missing), beside `image_id` and `patient_id`. What
could not be written is in `info.left_out` with its reason.

Source: Lin et al. 2014, ECCV 740-755; cocodataset.org, data format.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np
import polars as pl

from hilum import plugins, storage
from hilum.annotations import lung_masks, mask_codecs, shapes
from hilum.annotations.vocabulary import concepts
from hilum.dataset import mask_files
from hilum.dataset.manifest import DISPLAY, Manifest
from hilum.dataset.mask_files import Meanings
from hilum.dataset.writers import _annotations, _coco_area, _output_folder, _tables
from hilum.errors import BadData
from hilum.imaging.files import image_file
from hilum.imaging.files.label_image import Consensus
from hilum.imaging.files.pose import Display, Pose
from hilum.imaging.geometry import Size
from hilum.plugins import Card
from hilum.safety.untrusted_files import Folder
from hilum.scale import shards

CARD = Card(
    title="COCO: boxes, polygons and masks",
    source="cocodataset.org, data format",
    citation="Lin et al. 2014, Microsoft COCO: common objects in context, ECCV:740-755",
    caveats="Images are copied; of a DICOM an 8-bit PNG is made, of one that its Exif rotates a "
    "PNG. Labels of whole images, which COCO does not know, stand in each image's 'labels'.",
)
FILES = {
    None: "instances",
    "train": "instances_train",
    "tune": "instances_val",
    "test": "instances_test",
}


class _Image(TypedDict):
    id: int
    file_name: str
    height: int
    width: int
    license: int
    image_id: str
    patient_id: str
    labels: dict[str, int]


class Segmented(TypedDict):
    """What COCO states of a shape: polygons or run lengths, their pixels, [x, y, width, height]."""

    segmentation: list[list[float]] | mask_codecs.CocoRuns
    area: int
    bbox: list[float]


class _Origin(TypedDict):
    source: str
    term: str
    author: str | None


class _Annotation(Segmented, _Origin):
    id: int
    image_id: int
    iscrowd: int
    category: NotRequired[str]  # until the categories of all parts are known
    category_id: NotRequired[int]  # from then on


class _Info(TypedDict):
    description: str
    left_out: list[str]


class _Content(TypedDict):
    """The content of a part's file."""

    info: _Info
    licenses: list[dict[str, object]]
    images: list[_Image]
    annotations: list[_Annotation]
    categories: NotRequired[list[dict[str, object]]]


def write(manifest: Manifest, folder: Path, *, split: pl.DataFrame | None) -> dict[str, object]:
    """Write images and annotations; see `hilum.dataset.writers`."""
    by_part = _tables.parts(manifest, split)
    placed = _output_folder.places(_tables.exported(manifest, split))
    numbers, meanings = count(1), Meanings(manifest)
    totals: Counter[str] = Counter()
    written: Counter[str] = Counter()
    with _output_folder.whole(folder) as beside:
        contents = {
            part: _instances(images, placed, meanings, numbers) for part, images in by_part.items()
        }
        annotations = chain.from_iterable(one["annotations"] for one in contents.values())
        used = {one["category"] for one in annotations if "category" in one}
        categories = _categories(manifest, used)
        for part, content in contents.items():
            _number(content, categories)
            totals.update(
                images=len(content["images"]),
                annotations=len(content["annotations"]),
                left_out=len(content["info"]["left_out"]),
            )
            file = beside / "annotations" / f"{FILES[part]}.json"
            storage.write_text(file, storage.as_json(content))
            written += _output_folder.copy(by_part[part], beside / "images", placed)
    about: dict[str, object] = {
        "annotations": totals["annotations"],
        "categories": len(categories),
        "image files": _output_folder.copied(written),
    }
    if totals["left_out"]:
        about["left out, see info.left_out"] = totals["left_out"]
    return _tables.summary("coco", manifest, totals["images"], **about)


def _categories(manifest: Manifest, used: Collection[str]) -> dict[str, int]:
    """Return the number of each name: concepts in the vocabulary's order, then lungs."""
    labelled, drawn = (
        _tables.concepts_in(manifest),
        manifest.shapes["concept"].unique().sort().to_list(),
    )
    lungs = [name for name in lung_masks.REFERENCE if name in used or name in drawn]
    names = dict.fromkeys([*labelled, *(name for name in drawn if name not in lungs), *lungs])
    return {name: number for number, name in enumerate(names, start=1)}


def _number(content: _Content, categories: Mapping[str, int]) -> None:
    """Replace the names of categories in the content of a file by their numbers."""
    content["categories"] = [
        {"id": number, "name": name, "supercategory": _above(name)}
        for name, number in categories.items()
    ]
    for one in content["annotations"]:
        one["category_id"] = categories[one.pop("category", "")]


def _instances(
    images: Manifest, placed: Mapping[str, str], meanings: Meanings, numbers: Iterator[int]
) -> _Content:
    """Return the content of a part's file, with names of categories in place of numbers."""
    licences = {
        name: number for number, name in enumerate(images.table["dataset"].unique().sort(), start=1)
    }
    labels = _labels(images)
    # One numbering for all parts.
    number_of = {image_id: number for number, image_id in enumerate(placed, start=1)}
    listed: list[_Image] = []
    annotations: list[_Annotation] = []
    left_out: list[str] = []
    for row, found in zip(images.table.iter_rows(named=True), _each(images, meanings), strict=True):
        key, number = row["image_id"], number_of[row["image_id"]]
        listed.append(
            {
                "id": number,
                "file_name": placed[key],
                "height": found["size"][0],
                "width": found["size"][1],
                "license": licences[row["dataset"]],
                "image_id": key,
                "patient_id": row["patient_id"],
                "labels": labels.get(key, {}),
            }
        )
        left_out += found["left_out"]
        for one in found["annotations"]:
            annotations.append({**one, "id": next(numbers), "image_id": number, "iscrowd": 0})
    return {
        "info": {"description": "written by Hilum", "left_out": left_out},
        "licenses": [
            {"id": number, "name": _licence(name), "url": ""} for name, number in licences.items()
        ],
        "images": listed,
        "annotations": annotations,
    }


def _labels(images: Manifest) -> dict[str, dict[str, int]]:
    """Return the state of each concept that an image mentions, by image id."""
    labels: dict[str, dict[str, int]] = {}
    rows = images.labels.select("image_id", "concept", "state").iter_rows()
    for image_id, concept, state in rows:
        labels.setdefault(image_id, {})[concept] = state
    return labels


class _Item(NamedTuple):
    """An image: its row of the table, the names of its files on the disk, its shapes, and the
    meanings of its masks' values.
    """

    row: Mapping[str, Any]
    stored: Mapping[str, Any]
    drawn: list[_annotations.DrawnShape]
    meanings: dict[str, Consensus]


class _OnImage(TypedDict):
    """The exported size of an image, (height, width), and what is on it."""

    size: list[int]
    annotations: list[_Annotation]  # without their numbers
    left_out: list[str]


def _each(images: Manifest, meanings: Meanings) -> Iterator[_OnImage]:
    """Yield what is on each image; any executor may carry the work (`hilum.scale`)."""
    drawn, items = _annotations.by_image(images), dict[str, _Item]()
    columns = ("image_id", "path", *mask_files.COLUMNS, mask_files.VALUES, *DISPLAY)
    for row in images.table.select(columns).iter_rows(named=True):
        stored = _annotations.stored(images, row)
        masks = [stored[column] for column in mask_files.COLUMNS if stored[column]]
        of = {place: meanings.of(place) for place in masks}
        items[row["image_id"]] = _Item(row, stored, drawn.get(row["image_id"], []), of)
    with closing(shards.run(_Annotating(images.folder), items, None)) as outcomes:
        for outcome in outcomes:
            if outcome.fault:
                raise BadData(outcome.fault)
            yield json.loads(outcome.result)


@dataclass(frozen=True)
class _Annotating:
    """Gives what is on an image of `folder`, an `_OnImage`, as JSON."""

    folder: Folder

    def __call__(self, item: _Item) -> bytes:
        pose = image_file.pose(*self.folder.located(item.stored["path"]), Display.of(item.row))
        found: _OnImage = {"size": [*pose.target], "annotations": [], "left_out": []}
        for name, about, shape in self._shapes(item, pose, found["left_out"]):
            one = segmented(shape, pose.target)
            if isinstance(one, str):
                found["left_out"].append(f"{item.row['image_id']}: {name} {one}")
            else:
                found["annotations"].append(
                    {"id": 0, "image_id": 0, "iscrowd": 0, "category": name, **one, **about}
                )
        return json.dumps(found).encode()

    def _shapes(
        self, item: _Item, pose: Pose, left_out: list[str]
    ) -> Iterator[tuple[str, _Origin, shapes.Shape]]:
        """Yield name, origin and shape of each object; unreadable ones go to `left_out`."""
        image_id = item.row["image_id"]
        for one in item.drawn:
            about: _Origin = {"source": one.source, "term": one.term, "author": one.author}
            try:
                yield one.concept, about, pose.shape(shapes.from_json(one.shape))
            except BadData as fault:
                left_out.append(f"{image_id}: {one.concept}: {fault}")
        try:
            for file in _annotations.lung_masks(
                self.folder, item.row, item.stored, pose, item.meanings.__getitem__
            ):
                for name, mask in file.named().items():
                    about = {"source": file.place, "term": name, "author": None}
                    yield name, about, shapes.RunLengths.of(pose.mask(mask))
                if file.others:
                    left_out.append(
                        f"{image_id}: {file.place}: values {file.others}, which are not lungs"
                    )
        except BadData as fault:
            said = _annotations.without_places(str(fault), self.folder.path, item.row, item.stored)
            left_out.append(f"{image_id}: {said}")


def segmented(shape: shapes.Shape, size: Size) -> Segmented | str:
    """Return `segmentation`, `area` and `bbox` of a shape, or what is wrong with it."""
    try:
        mask = shape.to_mask(size)
    except BadData as fault:
        return f"cannot be drawn: {fault}"
    if not mask.any():
        return "covers no pixel of the image"
    runs = shapes.RunLengths.of(mask)
    # The outline of a box follows whole pixels: COCO's tools round an edge through the middle of
    # a pixel differently.
    outline = runs.to_box().to_polygon() if isinstance(shape, shapes.Box) else _outline(shape, size)
    area = _coco_area.pixels(outline.exterior, size) if outline else 0
    if outline and area:
        return {"segmentation": [outline.to_coco()], "area": area, "bbox": shape.to_box().to_coco()}
    return {
        "segmentation": runs.to_coco(),
        "area": int(np.count_nonzero(mask)),
        "bbox": runs.to_box().to_coco(),
    }


def _outline(shape: shapes.Shape, size: Size) -> shapes.Polygon | None:
    """Return the shape as a polygon that COCO's tools can fill; None: write it as pixels."""
    if not isinstance(shape, shapes.Polygon) or shape.holes or shapes.faults(shape, size):
        return None
    return shape


def _above(name: str) -> str:
    """Return the supercategory: the wider concept, "finding" or "anatomy"."""
    if known := concepts().get(name):
        return known.parent or "finding"
    return "anatomy" if name in lung_masks.REFERENCE else "finding"


def _licence(dataset: str) -> str:
    return (
        plugins.load("readers", dataset).CARD.licence
        if dataset in plugins.names("readers")
        else "not known"
    )
