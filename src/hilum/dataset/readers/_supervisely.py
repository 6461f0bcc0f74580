"""Annotations in Supervisely's form, which UniData's are too: one JSON file a picture.

    {"size": {"height": 2048, "width": 2500}, "tags": [{"name": "normal", "value": null}],
     "objects": [{"geometryType": "polygon", "labelerLogin": "a", "classTitle": "Fibrosis", "points": {"exterior": [[x, y], …], "interior": []}}]}

Objects are polygons or bitmaps. A file that cannot be understood is a fault. An outline that crosses itself or leaves the picture is
still a drawing of something: it is kept, and told as an error with its place (a mask made of it is not used).
Source: developer.supervisely.com, annotation format.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hilum.annotations import shapes
from hilum.annotations.image_scale import Scale
from hilum.dataset.manifest import Drawn, Remark
from hilum.errors import BadData
from hilum.imaging.files import text
from hilum.imaging.files.raster import MOST_PIXELS
from hilum.imaging.geometry import Size
from hilum.safety import path_names, untrusted_files

LUNGS = {
    form(word): concept
    for concept, words in {
        "lungs": ("Lung", "Lungs", "Lung fields", "lung_fields", "Both lungs"),
        "right_lung": ("Right lung", "Lung right", "right_lung"),
        "left_lung": ("Left lung", "Lung left", "left_lung"),
    }.items()
    for word in words
    for form in (str, str.lower, str.title)
}
SHAPE_FAULT = "shape-fault"
_UID = re.compile(r"(?<!\d)\d+(?:\.\d+){3,}")


@dataclass
class Told:
    """What was met while reading a folder: remarks to pass on, and faults to raise together."""

    remarks: list[Remark] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    terms: Counter[str] = field(
        default_factory=Counter
    )  # what objects are called, and how many are

    def remark(self, path: str, severity: str, rule: str, message: str) -> None:
        self.remarks.append(Remark(path, severity, rule, message))

    def settle(self, what: str, known: Collection[str]) -> list[Remark]:
        """The remarks, where there is no fault. Raises `BadData` with every fault, with what is wrong with outlines and with terms not `known`."""
        if self.faults:
            outlines = [
                f"{remark.path}: {remark.message}"
                for remark in self.remarks
                if remark.rule == SHAPE_FAULT
            ]
            strange = [
                f"'{term}' of {count} objects is no term of this data set"
                for term, count in sorted(self.terms.items())
                if term not in known
            ]
            raise BadData.listing(what, self.faults + outlines + strange)
        return self.remarks


@dataclass(frozen=True)
class Annotation:
    place: str  # below the root
    size: Size  # height, width of the picture that was drawn on
    drawn: tuple[Drawn, ...]
    tags: Mapping[str, Any]  # of the whole picture: value by name
    uids: tuple[
        str, ...
    ]  # words of the form of a DICOM UID in the file's name and beside its objects

    def on(self, image: str, size: Size, told: Told) -> Annotation:
        """The annotation in the pixels of an image file of `size`, (height, width): scaled where the file is a copy of another size
        and `told`, or a fault where it has other proportions."""
        if size == self.size:
            return self
        try:
            scale = Scale.between(self.size, size)
        except BadData as fault:
            told.faults.append(
                f"{self.place}: is not drawn for {image}: {fault}; put the image that it was drawn on in its place, or remove {self.place}"
            )
            return self
        asked, found = ("x".join(map(str, sides)) for sides in (self.size, size))
        told.remark(
            self.place,
            "info",
            "drawing-scaled",
            f"is drawn for {asked} pixels (height x width): scaled to the {found} of {image}",
        )
        scaled = (
            replace(one, shape=scale.shape(shapes.from_json(one.shape)).to_json())
            for one in self.drawn
        )
        return replace(self, drawn=tuple(scaled))


def read(root: Path, path: Path, told: Told) -> Annotation | None:
    """One annotation file; None where it cannot be understood, which `told` then lists."""
    place = path_names.below(root, path)
    content = read_json(root, path, told)
    if content is None:
        return None
    try:
        size = (_whole(content["size"]["height"]), _whole(content["size"]["width"]))
        if math.prod(size) > MOST_PIXELS:
            raise ValueError(
                f"{size[0]}x{size[1]} pixels are more than the {MOST_PIXELS:,} that are read"
            )
        objects, tags = list(content["objects"]), dict(map(_tag, content.get("tags") or ()))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        told.faults.append(
            f'{place}: expected {{"size": {{"height", "width"}}, "objects": [...]}}, got {str(content)[:60]} ({type(error).__name__}: {error})'
        )
        return None
    drawn = [
        _drawn(place, f"object {number}", one, size, told)
        for number, one in enumerate(objects, start=1)
    ]
    beside = json.dumps({key: value for key, value in content.items() if key != "objects"})
    uids = dict.fromkeys(_UID.findall(path.stem) + _UID.findall(beside))
    return Annotation(place, size, tuple(one for one in drawn if one), tags, tuple(uids))


def read_json(root: Path, path: Path, told: Told) -> Any:
    """The content; None where the file is no JSON, which is then a fault with its line."""
    place = path_names.below(root, path)
    words, encoding = text.read(path)
    if encoding:
        told.remark(
            place,
            "warning",
            "json-encoding",
            f"is not UTF-8; it was read as {encoding}; save it again as UTF-8",
        )
    try:
        return untrusted_files.parse_json(words, place)
    except BadData as fault:
        told.faults.append(str(fault))
    return None


def _drawn(place: str, number: str, one: Any, size: Size, told: Told) -> Drawn | None:
    where = f"{place} {number}"
    term = one.get("classTitle") if isinstance(one, Mapping) else None
    if not isinstance(term, str) or not term.strip():
        told.faults.append(f"{where}: has no classTitle, got {str(one)[:60]}")
        return None
    try:
        shape = shapes.from_supervisely(one)
        written = shape.to_json()
    except BadData as fault:
        told.faults.append(f"{where} ({term}): {fault}")
        return None
    for fault in shapes.faults(shape, size):
        told.remark(place, "error", SHAPE_FAULT, f"{number} ({term}): {fault}; draw it again")
    told.terms[term.strip()] += 1
    return Drawn(term.strip(), written, where, str(one.get("labelerLogin") or "") or None)


def _tag(tag: Any) -> tuple[str, Any]:
    return (tag, None) if isinstance(tag, str) else (tag["name"], tag.get("value"))


def _whole(value: object) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or value != int(value)
        or value < 1
    ):
        raise ValueError(f"{value!r} is not a number of pixels")
    return int(value)
