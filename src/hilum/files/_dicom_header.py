"""What a DICOM header tells of its picture: from `_dicom_walk` where the file is plain, from pydicom where it is not.

The view is, in this order, what View Position says (PS3.3 C.8.1.1), View Code Sequence (C.8.11.5), Projection Eponymous Name Code
Sequence, Patient Orientation where it is a lateral's (C.7.6.1.1.1), and the words of Series Description, Protocol Name and Acquisition
Device Processing Description where these name one view only. Spacing is between rows, then between columns (PS3.3 10.7.1.3).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hilum import acquisition
from hilum.files import _dicom_parsing, _dicom_text, raster
from hilum.files._dicom_walk import CODE, CODES, NUMBER, SYNTAX, WANTED, Facts, walked

if TYPE_CHECKING:
    from pydicom import Dataset

_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 1 / 52.18, "D": 1 / 365.25}
_SEXES = {"F": "female", "M": "male", "O": "other"}
_VIEW_CODES = {  # PS3.16 CID 4010, in SNOMED CT and in the SNOMED RT that went before
    "272479007": "PA", "R-10214": "PA", "399348003": "AP", "R-10206": "AP", "399067008": "LATERAL", "R-102CD": "LATERAL",
    "399173006": "LATERAL", "R-10236": "LATERAL", "399198007": "LATERAL", "R-10232": "LATERAL",
}  # fmt: skip
_WORDY = {0x0008103E: "Series Description", 0x00181030: "Protocol Name", 0x00181400: "Acquisition Device Processing Description"}


@dataclass(frozen=True)
class Header:
    """What a file says of its picture; null where it says nothing or something that cannot be meant."""

    instance: str | None  # SOP Instance UID
    series: str | None
    study: str | None
    patient: str | None
    sex: str | None  # female, male or other
    age_years: float | None
    view: str | None  # one of `hilum.acquisition.VIEWS`
    size: tuple[int, int] | None  # height, width in pixels, as stored
    spacing_mm: tuple[float, float] | None  # between rows, between columns, as stored
    view_from: str | None = None  # the attribute that told the view
    spacing_from: str | None = None  # the attributes that told the spacing, and what it was measured at
    orientation: tuple[str, str] | None = None  # Patient Orientation: where rows lead to, where columns lead to
    laterality: str | None = None  # R, L, U (unpaired) or B (both)
    modality: str | None = None
    body_part: str | None = None
    syntax: str | None = None  # UID of the transfer syntax
    text: tuple[str, ...] = ()  # what it tells of writing and of names, words of `_dicom_text.TOLD`


def read(path: Path) -> Header:
    """Raises `OSError`, and whatever pydicom raises where it cannot read the header either."""
    facts = walked(path)
    return header(facts if facts is not None else asked(path))


# --------------------------------------------------------------------------------------------------------------------------- pydicom


def asked(path: Path) -> Facts:
    """The wanted facts by pydicom. Raises what pydicom raises."""
    with _dicom_parsing.quietly():
        return of_dataset(_dicom_parsing.parsed(raster.load(path)).dataset)


def of_dataset(dataset: Dataset) -> Facts:
    """The wanted facts of what pydicom parsed. Raises what pydicom raises over values that it cannot understand."""
    facts: dict[int, str | int | tuple[str, str, str]] = {}
    for tag, kind in WANTED.items():
        source = dataset.file_meta if tag >> 16 == 2 and hasattr(dataset, "file_meta") else dataset
        if tag not in source:
            continue
        value = source[tag].value
        if kind is CODE:
            if value:
                facts[tag] = tuple(str(value[0][part].value or "").strip(" \0") if part in value[0] else "" for part in CODES)
        elif kind is NUMBER:
            if value is not None:
                facts[tag] = int(value)
        else:
            facts[tag] = _as_text(value)
    return facts


def _as_text(value: object) -> str:
    if isinstance(value, list | tuple) or type(value).__name__ == "MultiValue":
        return "\\".join(_as_text(one) for one in value)
    # A decimal as the file wrote it: a number would lose its trailing zeros. A name has its bytes there.
    written = getattr(value, "original_string", None)
    return "" if value is None else str(written if isinstance(written, str) and written else value)


# --------------------------------------------------------------------------------------------------------------------------- meaning


def header(facts: Facts) -> Header:
    rows, columns = facts.get(0x00280010), facts.get(0x00280011)
    view, view_from = _view(facts)
    spacing, spacing_from = _spacing(facts)
    return Header(
        _text(facts, 0x00080018), _text(facts, 0x0020000E), _text(facts, 0x0020000D), _text(facts, 0x00100020),
        _SEXES.get((_text(facts, 0x00100040) or "").upper()),
        _age(_text(facts, 0x00101010) or ""),
        view,
        (rows, columns) if rows and columns else None,
        spacing, view_from, spacing_from, _orientation(facts),
        _text(facts, 0x00200062) or _text(facts, 0x00200060),
        _text(facts, 0x00080060), _text(facts, 0x00180015), _text(facts, SYNTAX), _dicom_text.told(facts),
    )  # fmt: skip


def _text(facts: Facts, tag: int) -> str | None:
    value = facts.get(tag)
    return "\\".join(part.strip(" \0") for part in value.split("\\")) or None if value else None


def _age(text: str) -> float | None:
    found = re.fullmatch(r"(\d{1,4})([YMWD]?)", text.upper())
    return round(int(found[1]) * _YEARS[found[2]], 3) if found else None


def _orientation(facts: Facts) -> tuple[str, str] | None:
    parts = (_text(facts, 0x00200020) or "").upper().split("\\")
    return (parts[0], parts[1]) if len(parts) == 2 and all(parts) else None


def _view(facts: Facts) -> tuple[str | None, str | None]:
    if view := acquisition.view_of(_text(facts, 0x00185101)):
        return view, "View Position"
    for tag, name in ((0x00540220, "View Code Sequence"), (0x00185104, "Projection Eponymous Name Code Sequence")):
        value, _, meaning = facts.get(tag, ("", "", ""))
        if view := _VIEW_CODES.get(value) or acquisition.view_in_description(meaning):
            return view, name
    if (orientation := _orientation(facts)) and {"A", "P"} & {part[0] for part in orientation} and {"H", "F"} & {part[0] for part in orientation}:
        return "LATERAL", "Patient Orientation"
    for tag, name in _WORDY.items():
        if view := acquisition.view_in_description(_text(facts, tag)):
            return view, name
    return None, None


def _spacing(facts: Facts) -> tuple[tuple[float, float] | None, str | None]:
    """Pixel Spacing, or else Imager Pixel Spacing, at the detector, made the patient's by the magnification where it is known."""
    if spacing := _pair(facts, 0x00280030):
        kind = (_text(facts, 0x00280A02) or "").upper()
        at = f"calibrated: {kind}" if kind in ("GEOMETRY", "FIDUCIAL") else "at the detector" if spacing == _pair(facts, 0x00181164) else "calibration not told"
        return spacing, f"Pixel Spacing ({at})"
    if spacing := _pair(facts, 0x00181164):
        factor = _number(_text(facts, 0x00181114))
        if factor and 1 < factor < 5:  # distance of the source from the detector over that from the patient: never below 1
            return (spacing[0] / factor, spacing[1] / factor), f"Imager Pixel Spacing over the Estimated Radiographic Magnification Factor {factor:g}"
        return spacing, "Imager Pixel Spacing (at the detector)"
    spacing = _pair(facts, 0x00182010)
    return spacing, "Nominal Scanned Pixel Spacing (on the film)" if spacing else None


def _pair(facts: Facts, tag: int) -> tuple[float, float] | None:
    values = [_number(part) for part in (_text(facts, tag) or "").split("\\")]
    return (values[0], values[1]) if len(values) == 2 and all(values) else None


def _number(text: str | None) -> float | None:
    """A finite number above 0, or None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < math.inf else None
