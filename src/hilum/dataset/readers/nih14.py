"""ChestX-ray14 of the NIH Clinical Center: its table, boxes, lists and pictures, as released, as on Kaggle, or a part of them.

    Data_Entry_2017_v2020.csv      or Data_Entry_2017.csv, or sample_labels.csv of a sample: one line a picture
    images/00000001_000.png        or images_001/images/ … images_012/images/, or beside the table
    BBox_List_2017.csv             984 boxes drawn by hand, x, y, width, height in pixels of 1024x1024; scaled to copies of another size
    train_val_list.txt             the official split, with test_list.txt
    train_list.txt, val_list.txt   the 70/20/10 lists in common use, with test_list.txt; or train.txt and so on

Tables may be packed (.csv.gz). Columns are found by name, of which there are two spellings: `OriginalImage[Width,Height]`, which a CSV
reads as two columns, and `OriginalImageWidth`, `OriginalImageHeight`; likewise the spacing, and `Patient Gender` or `Patient Sex`.
Ages are years (58), or a number with its unit (058Y, 011M, 003D). Of two tables the 2020 one counts; of two splits the official one.
In the 70/20/10 lists 14 numbers follow each name: the findings of 2017 once more, which are not read.

Labels. A table names the findings that a language tool found in the report; "No Finding" says that it found none of the 14. Every
finding a line names is present. All others of the 14 are absent by rule "not listed", which is what the field takes them for but is
not a reading: nobody stated that they are not there.

Without a single picture the table is read alone, as if they lay in images/. With some, lines without a picture are left out.
Source: Wang et al., CVPR 2017:2097-2106, and the release's README and FAQ.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from hilum import storage
from hilum.annotations import shapes
from hilum.annotations.image_scale import Scale
from hilum.annotations.vocabulary import State
from hilum.dataset.manifest import DROPPED, Drawn, Label, Remark, Row
from hilum.dataset.readers import _nih_layout, _nih_table
from hilum.dataset.readers._nih_table import Column
from hilum.errors import BadData
from hilum.imaging import synthetic
from hilum.imaging.files import opened, raster
from hilum.plugins import Card

CARD = Card(
    title="ChestX-ray14 (NIH Clinical Center)",
    licence="unrestricted use as stated by the NIH Clinical Center: link to its download site, acknowledge it and cite the paper",
    source="NIH Clinical Center, nihcc.app.box.com/v/ChestXray-NIHCC; also Kaggle: nih-chest-xrays/data",
    citation="Wang et al. 2017, ChestX-ray8: hospital-scale chest X-ray database and benchmarks, CVPR 2017:2097-2106",
    counts="112,120 frontal pictures of 30,805 patients (32,717 are stated; the table names 30,805), 14 findings, 984 boxes on 880 pictures",
    caveats="Labels were mined from reports by a language tool; nobody read the pictures for them. A finding that is not listed is taken "
    "to be absent by rule 'not listed': it was not mentioned, or the tool missed it. 'No Finding' means none of the 14, not normal. The "
    "files of 2017 and 2020 differ in labels and ages. Stated size and spacing are of the original picture, not of the file, which was "
    "scaled to 1024x1024 with 8 bits. The number of the follow-up is not the number in the file's name. Many pictures were taken after "
    "treatment: pneumothorax often shows with its drain.",
)
FINDINGS = {
    word: word.lower()
    for word in (
        "Atelectasis",
        "Cardiomegaly",
        "Consolidation",
        "Edema",
        "Effusion",
        "Emphysema",
        "Fibrosis",
        "Hernia",
        "Infiltration",
        "Mass",
        "Nodule",
        "Pleural_Thickening",
        "Pneumonia",
        "Pneumothorax",
    )
}
NAMES_ARE_PUBLISHED = True
LACKS = frozenset({"masks"})  # no masks of the lungs
TERMS = {**FINDINGS, "Infiltrate": "infiltration"}  # as the list of boxes spells it
NO_FINDING = "No Finding"
NOT_LISTED = "not listed"
ENTRIES = (
    "Data_Entry_2017_v2020.csv",
    "Data_Entry_2017.csv",
    "sample_labels.csv",
)  # the first one that is there counts
BOXES = "BBox_List_2017.csv"
OFFICIAL = {"train_val_list.txt": "train", "test_list.txt": "test"}
SPLITS = (  # the first one whose first list is there counts
    OFFICIAL,
    *(
        {f"train{ending}": "train", f"val{ending}": "tune", f"test{ending}": "test"}
        for ending in ("_list.txt", ".txt")
    ),
)
RELEASED = (1024, 1024)  # height, width of the released pictures, which boxes are given for
_IN_RELEASED = "boxes are in the pixels of the released 1024x1024 pictures"
OLDEST_YEARS = 120
MOST_DIGITS = 9  # of a count or a number of pixels
SHOWN = 3  # names in a remark that counts many
_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 1 / 52.18, "D": 1 / 365.25}
_SEXES = {"F": "female", "M": "male", "O": "other", "": None}
_VIEWS = {"PA": "PA", "AP": "AP", "": None}


def _image(cell: str) -> str:
    if cell in ("", ".", "..") or "/" in cell or "\\" in cell:
        raise ValueError(
            "leads out of the folder; expected a file's bare name such as 00000001_000.png"
        )
    return cell


def _patient(cell: str) -> str:
    return str(_count(cell))


def _count(cell: str) -> int:
    if not cell.isdecimal() or len(cell) > MOST_DIGITS:
        raise ValueError(f"is not a whole number of at most {MOST_DIGITS} digits")
    return int(cell)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ValueError("is not a number") from None


def _millimetres(cell: str) -> float:
    if not 0 < _number(cell) < math.inf:
        raise ValueError("is not a distance in mm above 0")
    return float(cell)


def _or_empty(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return cache(lambda cell: parse(cell) if cell else None)


def _age(cell: str) -> float:
    found = re.fullmatch(r"(\d{1,4})([YMWD]?)", cell.upper())
    if not found:
        raise ValueError(
            "is not an age; expected years (58) or a number and its unit (058Y, 011M, 003D)"
        )
    return round(int(found[1]) * _YEARS[found[2]], 3)


def _one_of(words: Mapping[str, str | None], cell: str) -> str | None:
    if cell not in words:
        raise ValueError(f"is not one of {', '.join(filter(None, words))}")
    return words[cell]


def _labels(source: str, cell: str) -> tuple[tuple[Label, ...], bool]:
    """A label of each of the 14 findings, and whether the cell says both "No Finding" and a finding."""
    words = cell.split("|")
    strange = [f"'{word}'" for word in words if word not in FINDINGS and word != NO_FINDING]
    if strange:
        raise ValueError(
            f"names {', '.join(strange)}, which is none of the 14 findings nor '{NO_FINDING}'"
        )
    if len(set(words)) < len(words):
        raise ValueError("names a finding twice")
    labels = (
        Label(word, State.PRESENT, source)
        if word in words
        else Label(word, State.ABSENT, source, NOT_LISTED)
        for word in FINDINGS
    )
    return tuple(labels), NO_FINDING in words and len(words) > 1


_NAME: Column = (("Image Index",), _image)
_LABELS: Column = (("Finding Labels",), str)  # how they are read depends on the table
_FACTS: tuple[Column, ...] = (
    (("Patient ID",), _patient),
    (("Patient Age",), _or_empty(_age)),
    (("Patient Gender", "Patient Sex"), partial(_one_of, _SEXES)),
    (("View Position",), partial(_one_of, _VIEWS)),
    (("Follow-up #",), _count),
    (("Height]", "OriginalImageHeight"), _or_empty(_count)),
    (("OriginalImage[Width", "OriginalImageWidth"), _or_empty(_count)),
    (("y]", "OriginalImagePixelSpacing_y"), _or_empty(_millimetres)),
    (("OriginalImagePixelSpacing[x", "OriginalImagePixelSpacing_x"), _or_empty(_millimetres)),
)
_BOX: tuple[Column, ...] = (
    (("Finding Label",), partial(_one_of, {word: word for word in TERMS})),
    *(((name,), _number) for name in ("Bbox [x", "y", "w", "h]")),
)


def detect(root: Path) -> bool:
    return bool(_tables(root))


def _tables(root: Path) -> list[Path]:
    """The tables of pictures, the one that counts first: by its known name, or the one whose header has all columns."""
    known = [
        path
        for path in _nih_layout.tables(root, ENTRIES)
        if path.name.startswith("Data_Entry_2017") or _nih_table.has(path, [_NAME])
    ]
    alike = (
        [
            path
            for path in _nih_layout.csv_files(root)
            if _nih_table.has(path, [_NAME, _LABELS, *_FACTS])
        ]
        if not known
        else []
    )
    return known or (alike if len(alike) == 1 else [])


def rows(root: Path) -> Iterator[Row | Remark]:
    told, tables = _nih_table.Told(root), _tables(root)
    if not tables:
        return
    for path in tables[1:]:
        told.remark(
            told.place(path),
            "info",
            DROPPED,
            f"is not read: {told.place(tables[0])} takes its place",
        )
    pictures = _pictures(root, told)
    boxes = _boxes(root, told, pictures)
    parts = _parts(root, told)
    read = _entries(told, tables[0], pictures, boxes, parts)
    if told.faults:
        raise BadData.listing(f"{root} is not a sound copy of ChestX-ray14", told.faults)
    here = pictures.keys() & read.keys()
    _strangers(told, told.place(tables[0]), pictures, boxes, parts, read)
    yield from told.remarks
    yield from (row for name, row in read.items() if name in here or not here)


def _entries(
    told: _nih_table.Told,
    path: Path,
    pictures: dict[str, str],
    boxes: dict[str, list[Drawn]],
    parts: dict[str, str],
) -> dict[str, Row]:
    """Rows by the picture's name, also those without a picture."""
    labels_of = cache(
        partial(_labels, f"{path.name}, column Finding Labels")
    )  # one tuple for all pictures with the same findings
    read: dict[str, Row] = {}
    first: dict[str, int] = {}
    for number, (name, (labels, contradicts), *facts) in told.table(
        path, (_NAME, (_LABELS[0], labels_of), *_FACTS)
    ):
        patient, age, sex, view, follow_up, height, width, row_spacing, column_spacing = facts
        place = pictures.get(name, f"images/{name}")
        if first.setdefault(name, number) != number:
            told.faults.append(
                f"{path.name} line {number}: {name} stands in line {first[name]} already"
            )
        if contradicts:
            told.remark(
                place,
                "warning",
                "label-conflict",
                f"{path.name} line {number} names a finding and '{NO_FINDING}': the finding is taken",
            )
        if age is not None and age > OLDEST_YEARS:
            told.remark(
                place,
                "warning",
                "age-impossible",
                f"{path.name} line {number} states an age of {age:g} years: it is left empty",
            )
            age = None
        read[name] = Row(
            place,
            name.rpartition(".")[0],
            patient,
            labels=labels,
            given_part=parts.get(name),
            sex=sex,
            age_years=age,
            view=view,
            follow_up=follow_up,
            stated_height=height,
            stated_width=width,
            row_spacing_mm=row_spacing,
            column_spacing_mm=column_spacing,
            drawn=tuple(boxes.get(name, ())),
        )
    return read


def _pictures(root: Path, told: _nih_table.Told) -> dict[str, str]:
    """Place below `root` by name, of the pictures in all folders that the release or a copy of it has them in."""
    found = _nih_layout.files(root)
    if found.again:
        told.remark(
            found.again[0],
            "warning",
            DROPPED,
            f"{_some(found.again)} pictures: another folder holds one of the same name, which is kept",
        )
    if found.others:
        told.remark(
            found.others[0], "info", DROPPED, f"{_some(found.others)} files are no pictures"
        )
    if found.macos:
        told.remark(
            found.macos[0],
            "info",
            DROPPED,
            f"{_some(found.macos)} files are what macOS leaves behind",
        )
    return found.images


def _boxes(root: Path, told: _nih_table.Told, pictures: dict[str, str]) -> dict[str, list[Drawn]]:
    """What is drawn, by the picture's name, in the pixels of its file."""
    path = next(iter(_nih_layout.tables(root, (BOXES,))), None)
    drawn: dict[str, list[Drawn]] = {}
    scaled: dict[str, None] = {}
    for number, (name, term, x, y, width, height) in (
        told.table(path, (_NAME, *_BOX)) if path else ()
    ):
        box, where = shapes.Box(y, x, height, width), f"{path.name} line {number}"
        if wrong := shapes.faults(box, RELEASED):
            told.faults += [f"{where}: the box {fault}; {_IN_RELEASED}" for fault in wrong]
            continue
        size = raster.size(root / pictures[name], opened.root()) if name in pictures else None
        try:
            scale = Scale.between(
                RELEASED, size or RELEASED
            )  # caching tells of a file that cannot be read
        except BadData as fault:
            told.faults.append(
                f"{where}: {pictures[name]}: {fault}; {_IN_RELEASED}, so leave copies square, or remove {path.name} to go without boxes"
            )
            continue
        scaled |= {name: None} if scale.file != RELEASED else {}
        drawn.setdefault(name, []).append(Drawn(term, scale.shape(box).to_json(), where))
    if scaled:
        told.remark(
            told.place(path),
            "info",
            "box-scaled",
            f"{_IN_RELEASED}; those on {_some(list(scaled))} smaller or larger copies were scaled to them",
        )
    return drawn


def _parts(root: Path, told: _nih_table.Told) -> dict[str, str]:
    """Part of the split by the picture's name."""
    lists = (path for split in SPLITS for path in reversed(_nih_layout.tables(root, split)))
    there = {path.name.removesuffix(".gz"): path for path in lists}
    used = next((split for split in SPLITS if next(iter(split)) in there), {})
    counts = (
        f"{', '.join(name for name in used if name in there)} counts"
        if used
        else "there is no list of the training part"
    )
    for name in sorted(there.keys() - used.keys()):
        told.remark(told.place(there[name]), "info", DROPPED, f"is not read: {counts}")
    parts: dict[str, str] = {}
    first: dict[str, str] = {}
    for name in (name for name in used if name in there):
        for number, line in enumerate(told.words(there[name]).splitlines(), start=1):
            picture = line.split(maxsplit=1)[0] if line.strip() else None
            where = f"{name} line {number}"
            if picture and first.setdefault(picture, where) != where:
                told.faults.append(f"{where}: {picture} stands in {first[picture]} already")
            elif picture:
                parts[picture] = used[name]
    return parts


def _strangers(
    told: _nih_table.Told,
    table: str,
    pictures: dict[str, str],
    boxes: dict[str, list[Drawn]],
    parts: dict[str, str],
    read: dict[str, Row],
) -> None:
    """Remarks on what stands in one file and not in another, each with its count."""
    gone = [name for name in read if name not in pictures]
    if len(gone) == len(read):
        told.remark(
            table,
            "warning",
            "pictures-missing",
            f"none of its {len(read)} pictures is here: the table is read alone; put them in images/",
        )
    elif gone:
        told.remark(
            table,
            "warning",
            DROPPED,
            f"{_some(gone)} of its {len(read)} pictures are not here: their lines are left out",
        )
    told_of = (
        (
            [place for name, place in pictures.items() if name not in read],
            "warning",
            DROPPED,
            f"{table} does not list them",
        ),
        (
            [name for name in boxes if name not in read],
            "warning",
            "box-orphan",
            f"{BOXES} draws on them, but {table} does not list them",
        ),
        (
            [name for name in parts if name not in read],
            "info",
            "part-orphan",
            f"the lists of the split name them, but {table} does not",
        ),
        (
            [name for name in read if name not in parts] if parts else [],
            "warning",
            "part-missing",
            "no list of the split names them",
        ),
    )
    for names, severity, rule, message in told_of:
        if names:
            told.remark(names[0], severity, rule, f"{_some(names)} pictures: {message}")


def _some(names: list[str]) -> str:
    """How many, and the first of them."""
    return f"{len(names)} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"


_DRAWN = (  # disease of the phantom, finding labels, what the list of boxes calls it
    (None, "No Finding", ""),
    ("effusion", "Effusion", "Effusion"),
    ("pneumonia", "Infiltration|Pneumonia", "Infiltrate"),
    (None, "No Finding", ""),
    ("tuberculosis", "Consolidation|Nodule", "Nodule"),
)
_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],"
    "OriginalImagePixelSpacing[x,y]"
)
_ORIGINALS = (
    (2048, 2500, 0.168),
    (2991, 2992, 0.143),
    (2544, 3056, 0.139),
)  # height, width, spacing in mm


def example(root: Path, *, images: int = 16, seed: int = 0) -> None:
    """Patients with one to three pictures, some of them boxed, one RGBA as some of the release are; every fifth patient is for the test.

    Pictures are copies of 256x256; boxes are in pixels of 1024x1024, as those of the release.
    """
    from imagecodecs import png_encode

    rng = np.random.default_rng(seed)
    lists: dict[str, list[str]] = {name: [] for name in OFFICIAL}
    table = [_HEADER]
    boxes = ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    patient = patients = follow_up = last = 0
    for index in range(images):
        follow_up += 1
        if index == 0 or follow_up > last:
            patient, patients, follow_up = patient + int(rng.integers(1, 4)), patients + 1, 0
            last = int(rng.integers(3)) if index else 2
            body, age, sex = (
                synthetic.anatomy(rng),
                int(rng.integers(16, 88)),
                "FM"[int(rng.integers(2))],
            )
        name = f"{patient:08d}_{follow_up:03d}.png"
        disease, labels, term = _DRAWN[index % len(_DRAWN)]
        healthy = synthetic.draw(body, copy.deepcopy(rng), height=256, width=256).pixels
        pixels = synthetic.draw(body, rng, height=256, width=256, disease=disease).pixels
        height, width, spacing = _ORIGINALS[int(rng.integers(len(_ORIGINALS)))]
        table.append(
            f"{name},{labels},{follow_up},{patient},{age},{sex},{'AP' if rng.uniform() < 0.4 else 'PA'},{width},{height},{spacing},{spacing}"
        )
        changed = np.argwhere(np.abs(pixels.astype(int) - healthy) > 8)
        if index % 2 and len(changed):
            (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0) + 1
            boxes.append(
                f"{name},{term},{4 * left},{4 * top},{4 * (right - left)},{4 * (bottom - top)}"
            )
        lists["test_list.txt" if patients % 5 == 0 else "train_val_list.txt"].append(name)
        rgba = np.dstack([pixels] * 3 + [np.full_like(pixels, 255)])
        storage.write_bytes(root / "images" / name, png_encode(rgba if index == 3 else pixels))
    for file, lines in {ENTRIES[0]: table, BOXES: boxes, **lists}.items():
        storage.write_text(root / file, "\n".join(lines) + "\n")
