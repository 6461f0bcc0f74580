"""COCO annotation files: images, annotations and categories, checked against one another.

Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import polars as pl

from hilum.dataset.tables import _json
from hilum.dataset.tables._json import Number, Object
from hilum.errors import BadData

IMAGES = {"id": pl.String, "file_name": pl.String, "height": pl.Int64, "width": pl.Int64}
ANNOTATIONS = {
    "image_id": pl.String,
    "category_id": pl.String,
    "bbox": pl.List(pl.Float64),
    "segmentation": pl.String,
    "iscrowd": pl.Int64,
}
CATEGORIES = {"id": pl.String, "name": pl.String, "supercategory": pl.String}


@dataclass(frozen=True, eq=False)
class Coco:
    """The three tables of a COCO file, with identifiers as text.

    `images`: id, file_name, height, width (null where not given); `annotations`: image_id,
    category_id, bbox ([x, y, width, height] in pixels, or null), segmentation (JSON, "" for none),
    iscrowd (0 or 1); `categories`: id, name, supercategory ("" where not given).
    """

    name: str
    images: pl.DataFrame
    annotations: pl.DataFrame
    categories: pl.DataFrame


class _Image(TypedDict):
    id: str
    file_name: str
    height: int | None
    width: int | None


class _Category(TypedDict):
    id: str
    name: str
    supercategory: str


class _Annotation(TypedDict):
    image_id: str
    category_id: str
    bbox: list[float] | None
    segmentation: str
    iscrowd: int


def is_coco(value: Any) -> bool:
    """Return whether a parsed JSON value has the lists of a COCO file."""
    if not isinstance(value, dict):
        return False
    return all(isinstance(value.get(key), list) for key in ("images", "annotations"))


def of_value(name: str, value: Any) -> Coco | None:
    """Check a parsed JSON value; None where it is not COCO. Raises `BadData` with all faults."""
    if not is_coco(value):
        return None
    faults: list[str] = []
    parts = {
        key: _objects(key, value.get(key, []), faults)
        for key in ("images", "annotations", "categories")
    }
    images = [_image(where, held, faults) for where, held in parts["images"]]
    categories = [_category(where, held, faults) for where, held in parts["categories"]]
    known = {
        "image": {image["id"] for image in images},
        "category": {category["id"] for category in categories},
    }
    faults += [
        *_twice("images", "id", [image["id"] for image in images]),
        *_twice("images", "file_name", [image["file_name"] for image in images]),
        *_twice("categories", "id", [category["id"] for category in categories]),
    ]
    annotations = [_annotation(where, held, known, faults) for where, held in parts["annotations"]]
    if faults:
        raise BadData.listing(f"{name}: is not valid COCO", faults)
    return Coco(
        name,
        pl.DataFrame(images, IMAGES),
        pl.DataFrame(annotations, ANNOTATIONS),
        pl.DataFrame(categories, CATEGORIES),
    )


def _objects(key: str, values: Any, faults: list[str]) -> list[tuple[str, Object]]:
    if not isinstance(values, list):
        faults.append(f"{key}: expected a list of objects")
        return []
    faults += [
        f"{key}[{i}]: expected an object"
        for i, value in enumerate(values)
        if not isinstance(value, dict)
    ]
    return [(f"{key}[{i}]", value) for i, value in enumerate(values) if isinstance(value, dict)]


def _text(where: str, held: Object, key: str, faults: list[str]) -> str:
    value = held.get(key)
    if isinstance(value, str) and value.strip():  # a `Number` is one too
        return str(value)
    got = "missing" if value is None else _json.spelled(value)[:60]
    faults.append(f"{where}: {key} is {got}; expected a string or a number")
    return ""


def _count(where: str, held: Object, key: str, faults: list[str]) -> int | None:
    value = held.get(key)
    if value is None:
        return None
    number = float(value) if isinstance(value, Number) else math.nan
    if not (number.is_integer() and 0 < number < 1 << 24):
        faults.append(f"{where}: {key} is {_json.spelled(value)[:60]}; expected a number of pixels")
        return None
    return int(number)


def _image(where: str, held: Object, faults: list[str]) -> _Image:
    return {
        "id": _text(where, held, "id", faults),
        "file_name": _text(where, held, "file_name", faults),
        "height": _count(where, held, "height", faults),
        "width": _count(where, held, "width", faults),
    }


def _category(where: str, held: Object, faults: list[str]) -> _Category:
    above = held.get("supercategory")
    return {
        "id": _text(where, held, "id", faults),
        "name": _text(where, held, "name", faults),
        "supercategory": str(above) if isinstance(above, str) else "",
    }


def _annotation(
    where: str, held: Object, known: Mapping[str, set[str]], faults: list[str]
) -> _Annotation:
    image = _text(where, held, "image_id", faults)
    category = _text(where, held, "category_id", faults)
    for kind, value in (("image", image), ("category", category)):
        if value and value not in known[kind]:
            faults.append(f"{where}: {kind}_id is {value[:60]}, which no {kind} of the file has")
    crowd = held.get("iscrowd", Number("0"))
    if isinstance(crowd, bool):
        crowd = Number(int(crowd))
    if crowd not in ("0", "1"):
        faults.append(f"{where}: iscrowd is {_json.spelled(crowd)[:60]}; expected 0 or 1")
        crowd = "0"
    outline = held.get("segmentation")
    return {
        "image_id": image,
        "category_id": category,
        "bbox": _box(where, held.get("bbox"), faults),
        "segmentation": _json.spelled(outline) if outline else "",
        "iscrowd": int(crowd),
    }


def _box(where: str, value: Any, faults: list[str]) -> list[float] | None:
    if value is None or value == []:
        return None
    numbers = (
        [float(part) for part in value if isinstance(part, Number)]
        if isinstance(value, list)
        else []
    )
    if (
        len(numbers) != 4
        or len(value) != 4
        or not all(map(math.isfinite, numbers))
        or min(numbers[2:]) < 0
    ):
        faults.append(
            f"{where}: bbox is {_json.spelled(value)[:80]}; expected [x, y, width, height]"
        )
        return None
    return numbers


def _twice(part: str, key: str, values: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for value in values:
        if value and value in seen:
            yield f"{part}: {key} {value[:60]} is repeated"
        seen.add(value)
