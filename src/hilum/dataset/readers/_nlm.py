"""Names, readings and made-up copies of the tuberculosis sets of the National Library of Medicine.

An image is named `MCUCXR_0113_1.png` (Montgomery) or `CHNCXR_0327_1.png` (Shenzhen): data set,
number, and 1 for manifestations of tuberculosis or 0 for normal. Its reading is
`ClinicalReadings/STEM.txt` of the same stem: sex and age, then the radiologist's words.

Source: Jaeger et al., Quant Imaging Med Surg 2014;4(6):475-477.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from hilum import storage
from hilum.annotations import report_parser
from hilum.annotations.vocabulary import SEX_NAMES, State
from hilum.dataset.manifest import DROPPED, Label, Remark, Row
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.imaging.files import text as text_file
from hilum.safety import path_names

SOURCES = {"MCU": "montgomery", "CHN": "shenzhen"}
TERMS = {concept: concept for concept in ("tuberculosis", *sorted(report_parser.concepts()))}
STEM = re.compile(r"(?P<patient>(?:MCU|CHN)CXR_\d+)_(?P<label>[01])")
SAME_PATIENT = re.compile(r"same (?:pt|patient) as ([^)\n]*)", re.IGNORECASE)
YEARS_IN = {"y": 1.0, "m": 1 / 12, "w": 1 / 52.18, "d": 1 / 365.25}
_AGE = re.compile(r"(?<!\d)(\d{1,4})\s*([ymwd])", re.IGNORECASE)
_SEX = re.compile(r"\b(female|male)\b|sex:\s*([FMO])\b", re.IGNORECASE)
READINGS = "ClinicalReadings"
TUBERCULOSIS = "bilateral PTB", "PTB in the right upper field", "left PTB", "right secondary PTB"


@dataclass(frozen=True)
class Reading:
    """A radiologist's reading of one image."""

    sex: str | None = None
    age_years: float | None = None
    text: str | None = None  # the words, without the lines of sex and age
    same_patient: tuple[str, ...] = ()  # other patients that the reading says are this one


def parse_reading(text: str) -> Reading:
    """Parse a reading in the form of either release.

    Montgomery: `Patient's Sex: F`, `Patient's Age: 084Y`, then words. Shenzhen: `male 45yrs`,
    words.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    about = [
        line
        for line in lines[:2]
        if _SEX.search(line) or (_AGE.search(line) and "age" in line.lower())
    ]
    words = " ".join(lines[len(about) :])
    sex, age = _SEX.search(" ".join(about)), _AGE.search(" ".join(about))
    linked = [
        name.group("patient")
        for note in SAME_PATIENT.findall(words)
        for name in STEM.finditer(note)
    ]
    return Reading(
        SEX_NAMES[(sex.group(1) or sex.group(2))[0].upper()] if sex else None,
        round(int(age.group(1)) * YEARS_IN[age.group(2).lower()], 3) if age else None,
        words or None,
        tuple(linked),
    )


def image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the image files of a folder and all others, sorted; hidden files are in neither."""
    if not folder.is_dir():
        return [], []
    files = sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
    )
    images = [path for path in files if path.suffix.lower() in raster.ENDINGS]
    return images, [path for path in files if path.suffix.lower() not in raster.ENDINGS]


def rows(
    root: Path,
    folders: tuple[str, ...],
    masks_of: Callable[[str], dict[str, str]],
    mask_folders: tuple[str, ...],
) -> Iterator[Row | Remark]:
    """Yield the images in `folders`, and remarks.

    `masks_of(stem)` gives the paths that the masks of an image would have relative to the root, by
    `Row` field; those that exist are used. Other files in `mask_folders` get a remark.
    """
    wanted: set[str] = set()
    seen: dict[str, Path] = {}
    for folder in folders:
        images, others = image_files(root / folder)
        for path in others:
            yield Remark(_below(root, path), "info", DROPPED, "not an image file")
        for path in images:
            place, named = _below(root, path), STEM.fullmatch(path.stem)
            if named is None:
                message = "its name is not of the form MCUCXR_0001_0 or CHNCXR_0001_0"
                yield Remark(place, "warning", DROPPED, message)
                continue
            if path.stem in seen:
                message = f"{_below(root, seen[path.stem])} has the same name and is used"
                yield Remark(place, "info", DROPPED, message)
                continue
            seen[path.stem] = path
            reading, remarks = _reading(root, path.stem)
            yield from remarks
            masks = {
                field: mask
                for field, mask in masks_of(path.stem).items()
                if (root / mask).is_file()
            }
            wanted.update(masks.values())
            yield _row(place, named, reading, masks)
    yield from _unmatched(root, seen, wanted, mask_folders)


def _row(place: str, named: re.Match[str], reading: Reading, masks: dict[str, str]) -> Row:
    stem = named.group(0)
    return Row(
        place,
        stem,
        named.group("patient"),
        SOURCES[stem[:3]],
        _labels(stem, named, reading),
        lung_mask=masks.get("lung_mask"),
        right_lung_mask=masks.get("right_lung_mask"),
        left_lung_mask=masks.get("left_lung_mask"),
        view="PA",
        sex=reading.sex,
        age_years=reading.age_years,
        reading=reading.text,
        same_patient=reading.same_patient,
    )


def _labels(stem: str, named: re.Match[str], reading: Reading) -> tuple[Label, ...]:
    """Return a label of tuberculosis from the file name, and one of every finding in the reading.

    The file name is the release's own label. Where the reading agrees with it, the reading's words,
    side, zone and activity are kept with it.
    """
    state = State(int(named.group("label")))
    source = f"{READINGS}/{stem}.txt"
    by_concept = _by_concept(reading.text or "")
    found = {label.term: label for label in map(partial(_strongest, source), by_concept.values())}
    read = found.pop("tuberculosis", None)
    label = Label("tuberculosis", state, f"file name ends in _{state.value}", rule="file name")
    if read and read.state == state:
        label = replace(
            label, words=read.words, side=read.side, zone=read.zone, activity=read.activity
        )
    return label, *found.values()


def _by_concept(text: str) -> dict[str, list[report_parser.Statement]]:
    by_concept: dict[str, list[report_parser.Statement]] = {}
    for statement in report_parser.read(text):
        by_concept.setdefault(statement.concept, []).append(statement)
    return by_concept


def _strongest(source: str, statements: list[report_parser.Statement]) -> Label:
    """Return one label for all statements on a finding: present before uncertain before absent.

    Statements on the right and on the left make it bilateral.
    """
    order = (State.ABSENT, State.UNCERTAIN, State.PRESENT)
    state = max((statement.state for statement in statements), key=order.index)
    alike = [statement for statement in statements if statement.state == state]
    words = " / ".join(dict.fromkeys(one.sentence for one in alike))
    side = _side({one.side for one in alike})
    zone, activity = _only({one.zone for one in alike}), _only({one.activity for one in alike})
    return Label(alike[0].concept, state, source, "reading", words, side, zone, activity)


def _side(sides: set[str | None]) -> str | None:
    both = {"right", "left"} <= sides or "bilateral" in sides
    return "bilateral" if both else _only(sides)


def _only(found: set[str | None]) -> str | None:
    """Return the only member of a set; None where there are several."""
    return next(iter(found)) if len(found) == 1 else None


def _reading(root: Path, stem: str) -> tuple[Reading, list[Remark]]:
    path = root / READINGS / f"{stem}.txt"
    place = _below(root, path)
    if not path.is_file():
        message = f"{stem} has no clinical reading"
        return Reading(), [Remark(place, "info", "reading-missing", message)]
    text, encoding = text_file.read(path)
    remarks = []
    if encoding:
        message = (
            f"is not UTF-8; it was read as {encoding}: check its words, save it again as UTF-8"
        )
        remarks.append(Remark(place, "warning", "reading-encoding", message))
    reading = parse_reading(text)
    stated = (("sex", reading.sex), ("age", reading.age_years))
    missing = [name for name, value in stated if value is None]
    if missing:
        message = (
            f"states no {' and no '.join(missing)} in a known form; "
            'expected e.g. "male 45yrs" in the first line'
        )
        remarks.append(Remark(place, "warning", "reading-form", message))
    return reading, remarks


def _unmatched(
    root: Path, seen: dict[str, Path], wanted: set[str], mask_folders: Sequence[str]
) -> Iterator[Remark]:
    """Yield a remark on each reading and mask that belongs to no image."""
    readings = sorted((root / READINGS).glob("*.txt")) if (root / READINGS).is_dir() else []
    for path in readings:
        if path.stem not in seen and not path.name.startswith("."):
            message = "there is no image for this reading"
            yield Remark(_below(root, path), "info", "reading-orphan", message)
    for folder in mask_folders:
        for path in image_files(root / folder)[0]:
            if _below(root, path) not in wanted:
                message = "there is no image for this mask"
                yield Remark(_below(root, path), "warning", "mask-orphan", message)


def _below(root: Path, path: Path) -> str:
    return path_names.below(root, path)


# ----------------------------------------------------------------------------------- made-up copies


@dataclass(frozen=True)
class Invented:
    """A made-up study before it is written."""

    stem: str  # as in the release
    phantom: synthetic.Phantom
    sex: str  # F or M
    age_years: int
    words: str  # of the reading


def invent(
    prefix: str, count: int, rng: np.random.Generator, *, size: tuple[int, int]
) -> Iterator[Invented]:
    """Yield `count` studies of made-up patients, about half of them with tuberculosis.

    The second and third studies of `MCUCXR` are one patient's. Numbers have gaps, as in the
    releases. Height and width vary by up to 10 % around `size`.
    """
    number = 0
    body, sex, age = None, "F", 0
    for index in range(count):
        again = prefix == "MCUCXR" and index == 2
        first = f"{prefix}_{number:04d}_1"
        number += int(rng.integers(1, 4))
        if body is None or not again:
            body = synthetic.anatomy(rng)
            sex, age = "FM"[int(rng.integers(2))], int(rng.integers(16, 88))
        ill = index in (1, 2) or (index > 2 and bool(rng.integers(2)))
        sides = (int(side * rng.uniform(0.9, 1.1)) for side in size)
        height, width = (max(synthetic.SMALLEST, side) for side in sides)
        disease = "tuberculosis" if ill else None
        phantom = synthetic.draw(body, rng, height=height, width=width, disease=disease)
        words = str(rng.choice(TUBERCULOSIS)) if ill else "normal"
        if again:
            words += f" (same pt as {first})"
        yield Invented(f"{prefix}_{number:04d}_{int(ill)}", phantom, sex, age, words)


def write_reading(root: Path, study: Invented) -> None:
    """Write the reading of a made-up study in the form of its release."""
    if study.stem.startswith("MCU"):
        text = (
            f"Patient's Sex: {study.sex} \nPatient's Age: {study.age_years:03d}Y\n{study.words}\n"
        )
    else:
        text = f"{'male' if study.sex == 'M' else 'female'} {study.age_years}yrs\n{study.words}\n"
    storage.add_bytes(root / READINGS / f"{study.stem}.txt", text.encode())
