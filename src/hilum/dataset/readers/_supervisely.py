"""Read annotations in Supervisely's format, which UniData uses as well: one JSON file per image.

    {"size": {"height": 2048, "width": 2500}, "tags": [{"name": "normal", "value": null}],
     "objects": [{"geometryType": "polygon", "labelerLogin": "a", "classTitle": "Fibrosis",
                  "points": {"exterior": [[x, y], …], "interior": []}}]}

Objects are polygons or bitmaps. A file that cannot be parsed is a fault. An outline that crosses
itself or leaves the image is kept with a remark of severity error, since something was marked
there; a lung mask is not made of it.

Source: developer.supervisely.com, annotation format.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hilum.annotations import shapes
from hilum.annotations.image_scale import Scale
from hilum.dataset.manifest import Drawn, Remark
from hilum.dataset.readers._reading_log import ReadingLog
from hilum.errors import BadData
from hilum.imaging.files.raster import MOST_PIXELS
from hilum.imaging.geometry import Size
from hilum.safety import untrusted_files

SHAPE_FAULT = "shape-fault"
_UID = re.compile(r"(?<!\d)\d+(?:\.\d+){3,}")  # DICOM PS3.5, 9.1; four parts or more


def spellings(concepts: Mapping[str, str], *forms: Callable[[str], str]) -> dict[str, str]:
    """Return the concepts by word, with each word as written and in each of the `forms`."""
    return {form(word): concept for word, concept in concepts.items() for form in (str, *forms)}


LUNGS = spellings(
    {
        "Lung": "lungs",
        "Lungs": "lungs",
        "Lung fields": "lungs",
        "lung_fields": "lungs",
        "Both lungs": "lungs",
        "Right lung": "right_lung",
        "Lung right": "right_lung",
        "right_lung": "right_lung",
        "Left lung": "left_lung",
        "Lung left": "left_lung",
        "left_lung": "left_lung",
    },
    str.lower,
    str.title,
)


@dataclass
class AnnotationLog(ReadingLog):
    """A reading log that also counts the class titles of all objects."""

    terms: Counter[str] = field(default_factory=Counter)

    def settle(self, what: str, known: Collection[str]) -> list[Remark]:
        """Return the remarks. Raises `BadData` with all faults, also of outlines and terms."""
        if not self.faults:
            return self.remarks
        outlines = [
            f"{remark.path}: {remark.message}"
            for remark in self.remarks
            if remark.rule == SHAPE_FAULT
        ]
        unknown = [
            f"'{term}' of {count} objects is no term of this data set"
            for term, count in sorted(self.terms.items())
            if term not in known
        ]
        raise BadData.listing(what, self.faults + outlines + unknown)


@dataclass(frozen=True)
class Annotation:
    """The content of one annotation file."""

    place: str  # path of the JSON file relative to the root
    size: Size  # height, width of the image that was annotated
    drawn: tuple[Drawn, ...]
    tags: Mapping[str, object]  # of the image as a whole: value by name
    uids: tuple[str, ...]  # DICOM UIDs in the file's name and beside its objects

    def on(self, image: str, size: Size, log: AnnotationLog) -> Annotation:
        """Return the annotation in the pixels of an image file of `size` (height, width).

        It is scaled, with a remark, where the file is a copy of another size. Another aspect ratio
        is a fault.
        """
        if size == self.size:
            return self
        try:
            scale = Scale.between(self.size, size)
        except BadData as fault:
            log.faults.append(
                f"{self.place}: is not drawn for {image}: {fault}; put the image that it was drawn "
                f"on in its place, or remove {self.place}"
            )
            return self
        expected, found = ("x".join(map(str, sides)) for sides in (self.size, size))
        message = (
            f"is drawn for {expected} pixels (height x width): scaled to the {found} of {image}"
        )
        log.remark(self.place, "info", "drawing-scaled", message)
        scaled = (
            replace(one, shape=scale.shape(shapes.from_json(one.shape)).to_json())
            for one in self.drawn
        )
        return replace(self, drawn=tuple(scaled))


def read(path: Path, log: AnnotationLog) -> Annotation | None:
    """Read an annotation file; None, with a fault in the log, where it cannot be parsed."""
    place = log.place(path)
    content = read_json(path, log)
    if content is None:
        return None
    try:
        size = (_pixels(content["size"]["height"]), _pixels(content["size"]["width"]))
        if math.prod(size) > MOST_PIXELS:
            raise ValueError(
                f"{size[0]}x{size[1]} pixels are more than the {MOST_PIXELS:,} that are read"
            )
        objects, tags = list(content["objects"]), dict(map(_tag, content.get("tags") or ()))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        log.faults.append(
            f'{place}: expected {{"size": {{"height", "width"}}, "objects": [...]}}, '
            f"got {str(content)[:60]} ({type(error).__name__}: {error})"
        )
        return None
    drawn = [
        _drawn(place, f"object {number}", one, size, log)
        for number, one in enumerate(objects, start=1)
    ]
    beside = json.dumps({key: value for key, value in content.items() if key != "objects"})
    uids = dict.fromkeys(_UID.findall(path.stem) + _UID.findall(beside))
    return Annotation(place, size, tuple(one for one in drawn if one), tags, tuple(uids))


def read_json(path: Path, log: AnnotationLog) -> Any:
    """Return the content of a JSON file; None, with a fault in the log, where it is not JSON."""
    try:
        return untrusted_files.parse_json(log.text(path, "json-encoding"), log.place(path))
    except BadData as fault:
        log.faults.append(str(fault))
    return None


def _drawn(place: str, number: str, one: Any, size: Size, log: AnnotationLog) -> Drawn | None:
    where = f"{place} {number}"
    term = one.get("classTitle") if isinstance(one, Mapping) else None
    if not isinstance(term, str) or not term.strip():
        log.faults.append(f"{where}: has no classTitle, got {str(one)[:60]}")
        return None
    try:
        shape = shapes.from_supervisely(one)
        written = shape.to_json()
    except BadData as fault:
        log.faults.append(f"{where} ({term}): {fault}")
        return None
    for fault in shapes.faults(shape, size):
        log.remark(place, "error", SHAPE_FAULT, f"{number} ({term}): {fault}; draw it again")
    log.terms[term.strip()] += 1
    return Drawn(term.strip(), written, where, str(one.get("labelerLogin") or "") or None)


def _tag(tag: Any) -> tuple[str, Any]:
    return (tag, None) if isinstance(tag, str) else (tag["name"], tag.get("value"))


def _pixels(value: object) -> int:
    """Return a side in pixels. Raises `ValueError` for all but whole numbers from 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number of pixels")
    if value != int(value) or value < 1:
        raise ValueError(f"{value!r} is not a number of pixels")
    return int(value)
