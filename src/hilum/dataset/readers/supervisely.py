"""Chest Xray Masks and Labels in Supervisely's form: Montgomery and Shenzhen with the lungs as drawn objects.

    meta.json                            the classes that objects may have
    ds/img/CHNCXR_0001_0.png             the last digit: 1 tuberculosis, 0 normal
    ds/ann/CHNCXR_0001_0.png.json        size, tags, and an object a lung (or a part of one): bitmap or polygon, class "lung"
    ClinicalReadings/CHNCXR_0001_0.txt   sex, age and the radiologist's words; mostly not there

There may be several folders like `ds` (`train`, `test`); they are not parts of a split. A picture in two of them counts once, the
one with something drawn on it. Which lung an object is, is told by where it lies, unless its class says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hilum import storage
from hilum.annotations import shapes
from hilum.dataset.manifest import DROPPED, Remark, Row
from hilum.dataset.readers import _nlm, _supervisely
from hilum.imaging.files import opened, raster
from hilum.plugins import Card
from hilum.safety import path_names

CARD = Card(
    title="Chest Xray Masks and Labels (Montgomery County and Shenzhen, Supervisely's form)",
    licence="research use as stated by the National Library of Medicine; the Shenzhen masks are CC BY-NC-SA 4.0",
    source="Dataset Ninja: chest-xray; the pictures and masks of Kaggle: nikhilpandey360/chest-xray-masks-and-labels",
    citation="Jaeger et al. 2014, Quant Imaging Med Surg 4(6):475-477; Candemir et al. 2014, IEEE Trans Med Imaging 33(2):577-590; "
    "Stirenko et al. 2018, IEEE ELNANO",
    counts="896 pictures, 1,627 lung objects on 704 of them; 96 pictures stand in it twice, which makes 800",
    caveats="No patient key: a picture is taken for a patient. An object is a part of a lung that hangs together, so a picture may have more "
    "than two. The two hospitals differ in picture size and in the share of tuberculosis.",
)
NAMES_ARE_PUBLISHED = True
LACKS = frozenset({"patients"})  # no patient key, and no note of two images of one patient
TERMS = {**_nlm.TERMS, **_supervisely.LUNGS}
META = "meta.json"
SAYS = {
    "normal": 0,
    "abnormal": 1,
}  # tags of a picture, and the digit in its name that says the same


def _folders(root: Path) -> list[str]:
    return sorted(
        path.name for path in root.iterdir() if (path / "img").is_dir() and (path / "ann").is_dir()
    )


def detect(root: Path) -> bool:
    return (root / META).is_file() and any(
        _nlm.STEM.fullmatch(path.stem)
        for folder in _folders(root)
        for path in (root / folder / "img").iterdir()
    )


@dataclass
class _Listed:
    """One picture with what is drawn on it."""

    row: Row
    annotation: _supervisely.Annotation | None


def rows(root: Path) -> Iterator[Row | Remark]:
    told = _supervisely.Told()
    classes = _classes(root, told)
    found: dict[str, _Listed] = {}
    for folder in _folders(root):
        for listed in _of_folder(root, folder, told):
            kept = found.get(listed.row.name)
            if kept and bool(listed.annotation and listed.annotation.drawn) <= bool(
                kept.annotation and kept.annotation.drawn
            ):
                kept, listed = listed, kept
            found[listed.row.name] = listed
            if kept:
                told.remark(
                    kept.row.image,
                    "info",
                    DROPPED,
                    f"{listed.row.image} has the same name and is kept",
                )
    for listed in found.values():
        _check(root, listed, classes, told)
    yield from told.settle(f"{root} is not a sound set in Supervisely's form", TERMS)
    yield from (_row(listed) for listed in found.values())


def _classes(root: Path, told: _supervisely.Told) -> set[str] | None:
    """Titles of the classes; None where they are not told."""
    path = root / META
    content = _supervisely.read_json(root, path, told) if path.is_file() else None
    if content is None:
        return None
    try:
        return {one["title"] for one in content["classes"]}
    except (KeyError, TypeError):
        told.faults.append(
            f'{META}: expected {{"classes": [{{"title": ...}}]}}, got {str(content)[:60]}'
        )
        return None


def _of_folder(root: Path, folder: str, told: _supervisely.Told) -> Iterator[_Listed]:
    annotations = {
        path.name: path
        for path in sorted((root / folder / "ann").glob("*.json"))
        if not path.name.startswith(".")
    }
    for item in _nlm.rows(root, (f"{folder}/img",), lambda stem: {}, ()):
        if isinstance(item, Row):
            name = Path(item.image).name
            path = annotations.pop(f"{name}.json", None) or annotations.pop(
                f"{item.name}.json", None
            )
            if path is None:
                told.remark(
                    item.image,
                    "info",
                    "annotation-missing",
                    f"there is no {folder}/ann/{name}.json: nothing is drawn on it",
                )
            yield _Listed(item, _supervisely.read(root, path, told) if path else None)
        elif (root / _nlm.READINGS).is_dir() or not item.rule.startswith("reading"):
            told.remarks.append(item)
    for path in annotations.values():
        told.remark(
            path_names.below(root, path),
            "warning",
            "annotation-orphan",
            "there is no picture for this annotation",
        )


def _check(root: Path, listed: _Listed, classes: set[str] | None, told: _supervisely.Told) -> None:
    """Bring what is drawn to the picture's own pixels, and tell what does not fit between it, the picture and the list of classes."""
    annotation = listed.annotation
    if annotation is None:
        return
    strange = {one.term for one in annotation.drawn} - classes if classes is not None else set()
    told.faults += [
        f"{annotation.place}: the class '{term}' is not in {META}" for term in sorted(strange)
    ]
    size = (
        raster.size(path_names.path_of(root, listed.row.image), opened.root()) or annotation.size
    )  # caching tells of a file that cannot be read
    listed.annotation = annotation.on(listed.row.image, size, told)
    digit = int(listed.row.name[-1])
    for tag in sorted(SAYS.keys() & annotation.tags.keys()):
        if SAYS[tag] != digit:
            told.remark(
                listed.row.image,
                "warning",
                "label-conflict",
                f"{annotation.place} is tagged '{tag}': the name's last digit is taken",
            )


def _row(listed: _Listed) -> Row:
    if listed.annotation is None:
        return listed.row
    height, width = listed.annotation.size
    return replace(
        listed.row, drawn=listed.annotation.drawn, stated_height=height, stated_width=width
    )


# ------------------------------------------------------------------------------------------------------------------ made-up copies


def example(root: Path, *, images: int = 24, seed: int = 0) -> None:
    """About a fifth Montgomery, its lungs as polygons, the rest Shenzhen, its lungs as bitmaps; on every eighth of these nothing is drawn."""
    rng = np.random.default_rng(seed)
    montgomery = max(3, images // 5)
    for study in _nlm.invent("MCUCXR", montgomery, rng, size=(300, 300)):
        _write(
            root,
            study,
            [
                shapes.to_supervisely(part)
                for lung in _lungs(study)
                for part in shapes.polygons_of(lung)
            ],
        )
    for index, study in enumerate(_nlm.invent("CHNCXR", images - montgomery, rng, size=(300, 290))):
        _write(
            root,
            study,
            [shapes.to_supervisely(_bitmap(lung)) for lung in _lungs(study)]
            if index % 8 != 7
            else [],
        )
    classes = [{"title": "lung", "shape": "any", "color": "#50E3C2"}]
    tags = [{"name": name, "value_type": "none"} for name in SAYS]
    storage.write_json(root / META, {"classes": classes, "tags": tags, "projectType": "images"})


def _lungs(study: _nlm.Invented) -> tuple[np.ndarray, np.ndarray]:
    return study.picture.right_lung, study.picture.left_lung


def _bitmap(mask: np.ndarray) -> shapes.Bitmap:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return shapes.Bitmap(
        int(rows[0]), int(columns[0]), mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    )


def _write(root: Path, study: _nlm.Invented, objects: list[Mapping[str, Any]]) -> None:
    height, width = study.picture.pixels.shape
    raster.write_png(root / "ds" / "img" / f"{study.stem}.png", study.picture.pixels)
    content = {
        "description": "",
        "tags": [{"name": "abnormal" if study.stem.endswith("1") else "normal", "value": None}],
        "size": {"height": height, "width": width},
        "objects": [{"classTitle": "lung", "tags": [], **one} for one in objects],
    }
    storage.write_text(root / "ds" / "ann" / f"{study.stem}.png.json", json.dumps(content) + "\n")
