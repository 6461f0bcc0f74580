"""Columns of ChestX-ray14's tables, and the parsers of their cells.

A parser gets the stripped cell and raises `ValueError` with the rest of the sentence "Patient Age
'old' …". There are two spellings of the columns: `OriginalImage[Width,Height]`, which CSV splits
into two columns, and `OriginalImageWidth`, `OriginalImageHeight`; likewise the spacing, and
`Patient Gender` or `Patient Sex`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import polars as pl

from hilum.annotations.vocabulary import State
from hilum.dataset.manifest import Label
from hilum.dataset.readers._nih_table import Column

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
TERMS = {**FINDINGS, "Infiltrate": "infiltration"}  # as the list of boxes spells it
NO_FINDING = "No Finding"
NOT_LISTED = "not listed"
_MAX_DIGITS = 9  # of a count or a number of pixels; more would not fit every integer column
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
    """Return the number without leading zeros: the table writes 1, file names write 00000001."""
    return str(_count(cell))


def _count(cell: str) -> int:
    if not cell.isdecimal() or len(cell) > _MAX_DIGITS:
        raise ValueError(f"is not a whole number of at most {_MAX_DIGITS} digits")
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
    """Return an age in years, rounded to a thousandth."""
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


def labels(source: str, cell: str) -> tuple[tuple[Label, ...], bool]:
    """Return a label per finding, and whether the cell has "No Finding" beside a finding."""
    words = cell.split("|")
    unknown = [f"'{word}'" for word in words if word not in FINDINGS and word != NO_FINDING]
    if unknown:
        raise ValueError(
            f"names {', '.join(unknown)}, which is none of the 14 findings nor '{NO_FINDING}'"
        )
    if len(set(words)) < len(words):
        raise ValueError("names a finding twice")
    stated = (
        Label(word, State.PRESENT, source)
        if word in words
        else Label(word, State.ABSENT, source, NOT_LISTED)
        for word in FINDINGS
    )
    return tuple(stated), NO_FINDING in words and len(words) > 1


def _listed(cell: str) -> str:
    labels("", cell)
    return cell


NAME = Column(("Image Index",), _image, "file", plain=r"^[\w-]+(?:\.[\w-]+)+$")
LABELS = Column(("Finding Labels",), _listed, "listed")  # which `labels` parses
_HEIGHT = ("Height]", "OriginalImageHeight")
_WIDTH = ("OriginalImage[Width", "OriginalImageWidth")
_ROWS = ("y]", "OriginalImagePixelSpacing_y")
_COLUMNS = ("OriginalImagePixelSpacing[x", "OriginalImagePixelSpacing_x")
FACTS = (
    Column(("Patient ID",), _patient, "patient", plain="^[1-9][0-9]{0,8}$"),
    Column(("Patient Age",), _or_empty(_age), "age_years", pl.Float64),
    Column(("Patient Gender", "Patient Sex"), partial(_one_of, _SEXES), "sex"),
    Column(("View Position",), partial(_one_of, _VIEWS), "view"),
    Column(("Follow-up #",), _count, "follow_up", pl.Int64),
    Column(_HEIGHT, _or_empty(_count), "stated_height", pl.Int64),
    Column(_WIDTH, _or_empty(_count), "stated_width", pl.Int64),
    Column(_ROWS, _or_empty(_millimetres), "row_spacing_mm", pl.Float64),
    Column(_COLUMNS, _or_empty(_millimetres), "column_spacing_mm", pl.Float64),
)
BOX = (
    Column(("Finding Label",), partial(_one_of, {word: word for word in TERMS})),
    *(Column((name,), _number) for name in ("Bbox [x", "y", "w", "h]")),
)
