"""Chest Xray Masks and Labels in Supervisely's format: lungs as annotated objects.

    meta.json                            the classes that objects may have
    ds/img/CHNCXR_0001_0.png             the last digit: 1 tuberculosis, 0 normal
    ds/ann/CHNCXR_0001_0.png.json        size, tags, and an object per lung (or part of
                                         one): bitmap or polygon of class "lung"
    ClinicalReadings/CHNCXR_0001_0.txt   sex, age and the radiologist's words; mostly not there

There may be several folders like `ds` (`train`, `test`); they are not parts of a split. An image
in two of them counts once: the one with an object is used. Which lung an object is follows from
its position, unless its class states it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hilum import storage
from hilum.annotations import shapes
from hilum.dataset.manifest import DROPPED, Remark, Row
from hilum.dataset.readers import _nlm, _supervisely
from hilum.dataset.readers._supervisely import AnnotationLog
from hilum.imaging import synthetic
from hilum.imaging.files import opened, raster
from hilum.plugins import Card
from hilum.safety import path_names

CARD = Card(
    title="Chest Xray Masks and Labels (Montgomery County and Shenzhen, Supervisely's form)",
    licence="research use as stated by the National Library of Medicine; "
    "the Shenzhen masks are CC BY-NC-SA 4.0",
    source="Dataset Ninja: chest-xray; the images and masks of "
    "Kaggle: nikhilpandey360/chest-xray-masks-and-labels",
    citation="Jaeger et al. 2014, Quant Imaging Med Surg 4(6):475-477; "
    "Candemir et al. 2014, IEEE Trans Med Imaging 33(2):577-590; "
    "Stirenko et al. 2018, IEEE ELNANO",
    counts="896 images, 1,627 lung objects on 704 of them; "
    "96 images are in it twice, which leaves 800",
    caveats="No patient key: each image counts as a patient of its own. An object is a connected "
    "part of a lung, so an image may have more than two. The two hospitals differ in image size "
    "and in the prevalence of tuberculosis.",
)
NAMES_ARE_PUBLISHED = True
LACKS = frozenset({"patients"})  # no patient key, and no note of two images of one patient
TERMS = {**_nlm.TERMS, **_supervisely.LUNGS}
META = "meta.json"
TAGS = {"normal": 0, "abnormal": 1}  # of an image, and the digit in its name that says the same


@dataclass
class _Listed:
    """An image with its annotation."""

    row: Row
    annotation: _supervisely.Annotation | None

    @property
    def has_objects(self) -> bool:
        """Return whether anything is annotated on the image."""
        return bool(self.annotation and self.annotation.drawn)


def detect(root: Path) -> bool:
    """Return whether a folder has meta.json and images named as those of Montgomery or Shenzhen."""
    return (root / META).is_file() and any(
        _nlm.STEM.fullmatch(path.stem)
        for folder in _folders(root)
        for path in (root / folder / "img").iterdir()
    )


def rows(root: Path) -> Iterator[Row | Remark]:
    """Yield the images and remarks. Raises `BadData` with all faults of the annotations."""
    log = AnnotationLog(root)
    classes = _classes(log)
    found: dict[str, _Listed] = {}
    for folder in _folders(root):
        for listed in _of_folder(folder, log):
            before = found.get(listed.row.name)
            if before and before.has_objects >= listed.has_objects:
                before, listed = listed, before
            found[listed.row.name] = listed
            if before:
                message = f"{listed.row.image} has the same name and is used"
                log.remark(before.row.image, "info", DROPPED, message)
    for listed in found.values():
        _check(listed, classes, log)
    yield from log.settle(f"{root} is not a sound data set in Supervisely's format", TERMS)
    yield from (_row(listed) for listed in found.values())


def _folders(root: Path) -> list[str]:
    return sorted(
        path.name for path in root.iterdir() if (path / "img").is_dir() and (path / "ann").is_dir()
    )


def _classes(log: AnnotationLog) -> set[str] | None:
    """Return the titles of the classes; None where meta.json does not list them."""
    path = log.root / META
    content = _supervisely.read_json(path, log) if path.is_file() else None
    if content is None:
        return None
    try:
        return {one["title"] for one in content["classes"]}
    except (KeyError, TypeError):
        log.faults.append(
            f'{META}: expected {{"classes": [{{"title": ...}}]}}, got {str(content)[:60]}'
        )
        return None


def _of_folder(folder: str, log: AnnotationLog) -> Iterator[_Listed]:
    annotations = {
        path.name: path
        for path in sorted((log.root / folder / "ann").glob("*.json"))
        if not path.name.startswith(".")
    }
    for item in _nlm.rows(log.root, (f"{folder}/img",), lambda stem: {}, ()):
        if isinstance(item, Remark):
            # Readings are rarely part of this release: that they are missing is no news.
            if (log.root / _nlm.READINGS).is_dir() or not item.rule.startswith("reading"):
                log.remarks.append(item)
            continue
        names = (f"{Path(item.image).name}.json", f"{item.name}.json")
        path = annotations.pop(names[0], None) or annotations.pop(names[1], None)
        if path is None:
            message = f"there is no {folder}/ann/{names[0]}: it has no objects"
            log.remark(item.image, "info", "annotation-missing", message)
        yield _Listed(item, _supervisely.read(path, log) if path else None)
    for path in annotations.values():
        message = "there is no image for this annotation"
        log.remark(log.place(path), "warning", "annotation-orphan", message)


def _check(listed: _Listed, classes: set[str] | None, log: AnnotationLog) -> None:
    """Scale the objects to the image's own pixels, and report contradictions.

    These are classes that meta.json does not list, and tags that the image's name contradicts.
    """
    annotation = listed.annotation
    if annotation is None:
        return
    unknown = {one.term for one in annotation.drawn} - classes if classes is not None else set()
    log.faults += [
        f"{annotation.place}: the class '{term}' is not in {META}" for term in sorted(unknown)
    ]
    path = path_names.path_of(log.root, listed.row.image)
    # A file whose size cannot be read is reported when pixels are cached.
    size = raster.size(path, opened.root()) or annotation.size
    listed.annotation = annotation.on(listed.row.image, size, log)
    digit = int(listed.row.name[-1])
    for tag in sorted(TAGS.keys() & annotation.tags.keys()):
        if TAGS[tag] != digit:
            message = f"{annotation.place} is tagged '{tag}': the name's last digit is used"
            log.remark(listed.row.image, "warning", "label-conflict", message)


def _row(listed: _Listed) -> Row:
    if listed.annotation is None:
        return listed.row
    height, width = listed.annotation.size
    return replace(
        listed.row, drawn=listed.annotation.drawn, stated_height=height, stated_width=width
    )


# ----------------------------------------------------------------------------------- made-up copies


def example(root: Path, *, images: int = 24, seed: int = 0, size: int | None = None) -> None:
    """Write a made-up copy: about a fifth Montgomery with polygons, the rest Shenzhen with bitmaps.

    Every eighth image of Shenzhen has no objects.
    """
    rng = np.random.default_rng(seed)
    montgomery, frame = max(3, images // 5), synthetic.frame(300, 300, size)
    for study in _nlm.invent("MCUCXR", montgomery, rng, size=frame):
        parts = [part for lung in _lungs(study) for part in shapes.polygons_of(lung)]
        _write(root, study, list(map(shapes.to_supervisely, parts)))
    frame = synthetic.frame(300, 290, size)
    for index, study in enumerate(_nlm.invent("CHNCXR", images - montgomery, rng, size=frame)):
        lungs = _lungs(study) if index % 8 != 7 else ()
        _write(root, study, [shapes.to_supervisely(_bitmap(lung)) for lung in lungs])
    classes = [{"title": "lung", "shape": "any", "color": "#50E3C2"}]
    tags = [{"name": name, "value_type": "none"} for name in TAGS]
    storage.write_json(root / META, {"classes": classes, "tags": tags, "projectType": "images"})


def _lungs(study: _nlm.Invented) -> tuple[np.ndarray, np.ndarray]:
    return study.phantom.right_lung, study.phantom.left_lung


def _bitmap(mask: np.ndarray) -> shapes.Bitmap:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return shapes.Bitmap(
        int(rows[0]), int(columns[0]), mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    )


def _write(root: Path, study: _nlm.Invented, objects: Sequence[Mapping[str, object]]) -> None:
    height, width = study.phantom.pixels.shape
    storage.add_bytes(
        root / "ds" / "img" / f"{study.stem}.png", raster.png(study.phantom.pixels, quick=True)
    )
    content = {
        "description": "",
        "tags": [{"name": "abnormal" if study.stem.endswith("1") else "normal", "value": None}],
        "size": {"height": height, "width": width},
        "objects": [{"classTitle": "lung", "tags": [], **one} for one in objects],
    }
    line = json.dumps(content) + "\n"
    storage.add_bytes(root / "ds" / "ann" / f"{study.stem}.png.json", line.encode())
