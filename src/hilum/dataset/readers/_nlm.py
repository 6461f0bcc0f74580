"""What the tuberculosis sets of the National Library of Medicine have in common: names, readings, and made-up copies.

A picture is named `MCUCXR_0113_1.png` (Montgomery) or `CHNCXR_0327_1.png` (Shenzhen): set, number, and 1 for manifestations of
tuberculosis or 0 for normal. Its reading is `ClinicalReadings/<same stem>.txt`: sex and age, then the radiologist's words.
Source: Jaeger et al., Quant Imaging Med Surg 2014;4(6):475-477.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
    sex: str | None
    age_years: float | None
    text: str | None  # the radiologist's words, without the lines of sex and age
    same_patient: tuple[str, ...]


def parse_reading(text: str) -> Reading:
    """Both releases' forms: `Patient's Sex: F` / `Patient's Age: 084Y` / words, and `male 45yrs` / words."""
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
    """Picture files of a folder and all others, sorted; hidden files are neither."""
    files = (
        sorted(
            path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
        )
        if folder.is_dir()
        else []
    )
    shown = [path for path in files if path.suffix.lower() in raster.ENDINGS]
    return shown, [path for path in files if path.suffix.lower() not in raster.ENDINGS]


def rows(
    root: Path,
    folders: tuple[str, ...],
    masks_of: Callable[[str], dict[str, str]],
    mask_folders: tuple[str, ...],
) -> Iterator[Row | Remark]:
    """Rows of the pictures in `folders`; `masks_of(stem)` names where masks would lie below `root`, by `Row` field."""
    wanted: set[str] = set()
    seen: dict[str, Path] = {}
    for folder in folders:
        shown, others = image_files(root / folder)
        yield from (
            Remark(_below(root, path), "info", DROPPED, "not a picture file") for path in others
        )
        for path in shown:
            named = STEM.fullmatch(path.stem)
            if named is None:
                yield Remark(
                    _below(root, path),
                    "warning",
                    DROPPED,
                    "its name is not of the form MCUCXR_0001_0 or CHNCXR_0001_0",
                )
            elif path.stem in seen:
                yield Remark(
                    _below(root, path),
                    "info",
                    DROPPED,
                    f"{_below(root, seen[path.stem])} has the same name and is kept",
                )
            else:
                seen[path.stem] = path
                reading, remark = _reading(root, path.stem)
                yield from remark
                masks = {
                    field: place
                    for field, place in masks_of(path.stem).items()
                    if (root / place).is_file()
                }
                wanted.update(masks.values())
                yield _row(root, path, named, reading, masks)
    yield from _left_over(root, seen, wanted, mask_folders)


def _row(
    root: Path, path: Path, named: re.Match[str], reading: Reading, masks: dict[str, str]
) -> Row:
    return Row(
        _below(root, path),
        path.stem,
        named.group("patient"),
        SOURCES[path.stem[:3]],
        _labels(path.stem, named, reading),
        **masks,
        view="PA",
        sex=reading.sex,
        age_years=reading.age_years,
        reading=reading.text,
        same_patient=reading.same_patient,
    )


def _labels(stem: str, named: re.Match[str], reading: Reading) -> tuple[Label, ...]:
    """What the file name says of tuberculosis, and what the reading says of every other finding, one label a finding.

    The file name is the release's own word. Where the reading agrees with it, the reading's side, zone and activity are kept with it.
    """
    state = State(int(named.group("label")))
    told = {
        label.term: label
        for label in map(
            partial(_strongest, f"{READINGS}/{stem}.txt"), _by_concept(reading.text or "")
        )
    }
    read = told.pop("tuberculosis", None)
    where = (
        {name: getattr(read, name) for name in ("words", "side", "zone", "activity")}
        if read and read.state == state
        else {}
    )
    return Label(
        "tuberculosis", state, f"file name ends in _{state.value}", rule="file name", **where
    ), *told.values()


def _by_concept(text: str) -> list[list[report_parser.Statement]]:
    by_concept: dict[str, list[report_parser.Statement]] = {}
    for statement in report_parser.read(text):
        by_concept.setdefault(statement.concept, []).append(statement)
    return list(by_concept.values())


def _strongest(source: str, statements: list[report_parser.Statement]) -> Label:
    """One label of all statements on one finding: present goes before uncertain, and that before absent; both sides make bilateral."""
    state = max(
        (statement.state for statement in statements),
        key=(State.ABSENT, State.UNCERTAIN, State.PRESENT).index,
    )
    alike = [statement for statement in statements if statement.state == state]
    sides, zones, activities = (
        {getattr(one, name) for one in alike} for name in ("side", "zone", "activity")
    )
    side = (
        sides.pop()
        if len(sides) == 1
        else "bilateral"
        if {"right", "left"} <= sides or "bilateral" in sides
        else None
    )
    words = " / ".join(dict.fromkeys(one.sentence for one in alike))
    zone, activity = (found.pop() if len(found) == 1 else None for found in (zones, activities))
    return Label(alike[0].concept, state, source, "reading", words, side, zone, activity)


def _reading(root: Path, stem: str) -> tuple[Reading, list[Remark]]:
    path = root / READINGS / f"{stem}.txt"
    place = _below(root, path)
    if not path.is_file():
        return Reading(None, None, None, ()), [
            Remark(place, "info", "reading-missing", f"{stem} has no clinical reading")
        ]
    text, encoding = text_file.read(path)
    remarks = []
    if encoding:
        message = f"is not UTF-8; it was read as {encoding}: look at its words, and save it again as UTF-8"
        remarks.append(Remark(place, "warning", "reading-encoding", message))
    reading = parse_reading(text)
    missing = [
        name for name, value in (("sex", reading.sex), ("age", reading.age_years)) if value is None
    ]
    if missing:
        message = f'states no {" and no ".join(missing)} in a known form; expected e.g. "male 45yrs" in the first line'
        remarks.append(Remark(place, "warning", "reading-form", message))
    return reading, remarks


def _left_over(
    root: Path, seen: dict[str, Path], wanted: set[str], mask_folders: tuple[str, ...]
) -> Iterator[Remark]:
    """Readings and masks that belong to no picture."""
    readings = sorted((root / READINGS).glob("*.txt")) if (root / READINGS).is_dir() else []
    for path in readings:
        if path.stem not in seen and not path.name.startswith("."):
            yield Remark(
                _below(root, path), "info", "reading-orphan", "there is no picture for this reading"
            )
    for folder in mask_folders:
        for path in image_files(root / folder)[0]:
            if _below(root, path) not in wanted:
                yield Remark(
                    _below(root, path),
                    "warning",
                    "mask-orphan",
                    "there is no picture for this mask",
                )


def _below(root: Path, path: Path) -> str:
    return path_names.below(root, path)


# ------------------------------------------------------------------------------------------------------------------ made-up copies


@dataclass(frozen=True)
class Invented:
    """One made-up study before it is written: the release's stem, the picture, and the reading's words."""

    stem: str
    picture: synthetic.Phantom
    sex: str  # F or M
    age_years: int
    words: str


def invent(
    prefix: str, count: int, rng: np.random.Generator, *, size: tuple[int, int]
) -> Iterator[Invented]:
    """`count` studies of made-up patients, about half of them with tuberculosis; the second and third studies of `MCUCXR` are one patient's.

    Numbers have gaps, as in the releases; proportions vary from picture to picture.
    """
    number, body, sex, age = 0, None, "F", 0
    for index in range(count):
        again = prefix == "MCUCXR" and index == 2
        first = f"{prefix}_{number:04d}_1"
        number += int(rng.integers(1, 4))
        if not again:
            body, sex, age = (
                synthetic.anatomy(rng),
                "FM"[int(rng.integers(2))],
                int(rng.integers(16, 88)),
            )
        ill = index in (1, 2) or (index > 2 and bool(rng.integers(2)))
        height, width = (int(side * rng.uniform(0.9, 1.1)) for side in size)
        picture = synthetic.draw(
            body, rng, height=height, width=width, disease="tuberculosis" if ill else None
        )
        words = (
            "normal"
            if not ill
            else str(rng.choice(TUBERCULOSIS)) + (f" (same pt as {first})" if again else "")
        )
        yield Invented(f"{prefix}_{number:04d}_{int(ill)}", picture, sex, age, words)


def write_reading(root: Path, study: Invented) -> None:
    if study.stem.startswith("MCU"):
        text = (
            f"Patient's Sex: {study.sex} \nPatient's Age: {study.age_years:03d}Y\n{study.words}\n"
        )
    else:
        text = f"{'male' if study.sex == 'M' else 'female'} {study.age_years}yrs\n{study.words}\n"
    storage.write_text(root / READINGS / f"{study.stem}.txt", text)
