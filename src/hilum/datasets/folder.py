"""A person's own folder of radiographs: class folders, or a CSV, or pictures alone.

    NORMAL/a.png  PNEUMONIA/b.png                     the folder's name is the label
    train/NORMAL/a.png  test/PNEUMONIA/b.png          and above it the part of a split, kept as the given one
    labels.csv                                        one row a picture

A CSV needs a column of pictures (`image`, `path`, `file` or `filename`), below the folder. It may have `label` (a finding's name or
normal), `patient`, `part`, `sex`, `age`, `view` and `mask`. Masks of both lungs may also lie in `masks/`, named as their picture or
with `_mask` behind it. Names of findings are looked up in the vocabulary; others stay the user's own (`local:…`).

Classes exclude one another here: a picture in one class is taken to be without the findings of the others.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hilum import phantom, store
from hilum.errors import BadData
from hilum.files import raster, text
from hilum.manifest import DROPPED, Label, Remark, Row
from hilum.shelf import Card
from hilum.vocabulary import State

CARD = Card(
    title="A folder of your own",
    licence="yours to state",
    caveats="Without a patient column every picture is taken for a patient of its own; if a person has several, a split cannot know it.",
)
TERMS = None
NORMAL = {"normal", "no finding", "healthy", "negative", "none"}
PARTS = {"train": "train", "training": "train", "val": "tune", "valid": "tune", "validation": "tune", "tune": "tune", "test": "test"}
MASKS = ("masks", "mask")
COLUMNS = {
    "image": ("image", "path", "file", "filename", "image_path", "image index"),
    "label": ("label", "finding", "class", "diagnosis"),
    "patient": ("patient", "patient_id", "patientid", "patient id"),
    "part": ("part", "split"),
    "sex": ("sex", "gender"),
    "age": ("age", "age_years"),
    "view": ("view", "view position"),
    "mask": ("mask", "lung_mask"),
}
_SEXES = {"f": "female", "female": "female", "m": "male", "male": "male", "o": "other", "other": "other"}
_VIEWS = {"pa": "PA", "ap": "AP", "lateral": "LATERAL", "ll": "LATERAL"}


@dataclass(frozen=True)
class _Listed:
    """One picture before its label is known to exclude others."""

    row: Row
    label: str | None
    where: str


def detect(root: Path) -> bool:
    return next(_files(root, raster.ENDINGS), None) is not None or next(root.glob("*.csv"), None) is not None


def rows(root: Path) -> Iterator[Row | Remark]:
    tables = sorted(root.glob("*.csv"))
    if len(tables) > 1:
        raise BadData(f"{root}: several CSV files ({', '.join(path.name for path in tables)}); leave the one that lists the pictures")
    listed, remarks = _from_csv(root, tables[0]) if tables else _from_folders(root)
    yield from remarks
    classes = sorted({item.label for item in listed if item.label and item.label.lower() not in NORMAL})
    for item in listed:
        state = {label: State.PRESENT if label == item.label else State.ABSENT for label in classes} if item.label else {}
        yield replace(item.row, labels=tuple(Label(label, state[label], item.where) for label in state))


def _from_folders(root: Path) -> tuple[list[_Listed], list[Remark]]:
    places = [path.relative_to(root) for path in _files(root, raster.ENDINGS)]
    places = [place for place in places if place.parts[0] not in MASKS]
    # Folders that all pictures share (an archive's own, say) tell nothing apart.
    shared = len(os.path.commonprefix([place.parts[:-1] for place in places]))
    parts = [_part_and_class(place.parts[shared:-1]) for place in places]
    told = len({label for _, label in parts}) > 1
    listed = []
    for place, (part, label) in zip(places, parts, strict=True):
        name = place.with_suffix("").as_posix()
        row = Row(place.as_posix(), name, name, lung_mask=_mask_for(root, place.stem), given_part=part)
        listed.append(_Listed(row, label if told else None, f"folder {label}"))
    remark = Remark(".", "warning", "no-patients", "nothing names the patients: every picture is taken for a patient of its own")
    others = [Remark(path.relative_to(root).as_posix(), "info", DROPPED, "not a picture file") for path in _files(root, None)]
    return listed, [remark, *others]


def _part_and_class(folders: tuple[str, ...]) -> tuple[str | None, str | None]:
    part = PARTS.get(folders[0].lower()) if folders else None
    classes = folders[1:] if part else folders
    return part, classes[0] if classes else None


def _from_csv(root: Path, table: Path) -> tuple[list[_Listed], list[Remark]]:
    words, encoding = text.read(table)
    lines = csv.DictReader(io.StringIO(words))
    columns = {(name or "").strip().lower(): name for name in lines.fieldnames or []}
    of = {field: next((columns[name] for name in names if name in columns), None) for field, names in COLUMNS.items()}
    if of["image"] is None:
        got = ", ".join(lines.fieldnames or []) or "no header"
        raise BadData(f"{table}: no column names the pictures: got {got}; expected one of {', '.join(COLUMNS['image'])}; rename the column")
    remarks = [Remark(table.name, "warning", "csv-encoding", f"is not UTF-8; it was read as {encoding}; save it again as UTF-8")] if encoding else []
    if of["patient"] is None:
        remarks.append(Remark(table.name, "warning", "no-patients", "has no patient column: every picture is taken for a patient of its own"))
    listed, faults = [], []
    for number, line in enumerate(lines, start=2):
        cells = {field: (line[column] or "").strip() if column else "" for field, column in of.items()}
        wrong = _wrong(root, cells)
        faults += [f"{table.name} line {number}: {fault}" for fault in wrong]
        if not wrong:
            listed.append(_listed(root, cells, f"{table.name} line {number}, column {of['label']}"))
    if faults:
        raise BadData.listing(f"{table} does not fit the folder", faults)
    named = {item.row.image for item in listed}
    for path in _files(root, raster.ENDINGS):
        place = path.relative_to(root)
        if place.as_posix() not in named and place.parts[0] not in MASKS:
            remarks.append(Remark(place.as_posix(), "warning", DROPPED, f"{table.name} does not list it"))
    return listed, remarks


def _wrong(root: Path, cells: dict[str, str]) -> list[str]:
    """What is wrong with one line."""
    faults = []
    for field in ("image", "mask"):
        place = cells[field]
        if place and (place.startswith("/") or ".." in Path(place).parts):
            faults.append(f"{field} '{place}' leads out of the folder; write the path below it")
        elif (place or field == "image") and not (root / place).is_file():
            faults.append(f"{field} '{place}' is not there")
    for field, known in (("part", PARTS), ("sex", _SEXES), ("view", _VIEWS)):
        if cells[field] and cells[field].lower() not in known:
            faults.append(f"{field} '{cells[field]}' is not one of {', '.join(known)}")
    if cells["age"] and not cells["age"].replace(".", "", 1).isdigit():
        faults.append(f"age '{cells['age']}' is not a number of years")
    return faults


def _listed(root: Path, cells: dict[str, str], where: str) -> _Listed:
    place = Path(cells["image"])
    name = place.with_suffix("").as_posix()
    row = Row(
        place.as_posix(), name, cells["patient"] or name, lung_mask=cells["mask"] or _mask_for(root, place.stem),
        given_part=PARTS.get(cells["part"].lower()), sex=_SEXES.get(cells["sex"].lower()), view=_VIEWS.get(cells["view"].lower()),
        age_years=float(cells["age"]) if cells["age"] else None,
    )  # fmt: skip
    return _Listed(row, cells["label"] or None, where)


def _mask_for(root: Path, stem: str) -> str | None:
    places = (f"{folder}/{stem}{tail}.png" for folder in MASKS for tail in ("", "_mask"))
    return next((place for place in places if (root / place).is_file()), None)


def _files(root: Path, endings: tuple[str, ...] | None) -> Iterator[Path]:
    """Files below `root` with one of `endings`, or (None) with none of a picture's; sorted; hidden ones and links to folders left out."""
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            suffix = Path(name).suffix.lower()
            wanted = suffix in endings if endings else suffix not in (*raster.ENDINGS, ".csv")
            if wanted and not name.startswith("."):
                yield Path(folder) / name


def example(root: Path, *, images: int = 12, seed: int = 0) -> None:
    """Two class folders and a CSV that names patients, one of them with two pictures; every fourth picture has a mask."""
    rng = np.random.default_rng(seed)
    lines = ["image,label,patient,sex,age"]
    for index in range(images):
        if index != 1:  # the second picture is of the first patient
            body, sex, age = phantom.anatomy(rng), "FM"[int(rng.integers(2))], int(rng.integers(1, 90))
        ill = bool(index % 2)
        picture = phantom.draw(body, rng, height=320, width=300, disease="pneumonia" if ill else None)
        place = f"{'PNEUMONIA' if ill else 'NORMAL'}/image{index:03d}.png"
        raster.write_png(root / place, picture.pixels)
        if index % 4 == 0:
            raster.write_png(root / "masks" / f"image{index:03d}.png", picture.right_lung | picture.left_lung)
        lines.append(f"{place},{place.split('/')[0].lower()},p{max(index, 1):03d},{sex},{age}")
    store.write_text(root / "labels.csv", "\n".join(lines) + "\n")
