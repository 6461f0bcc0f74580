"""Joins of tables that name no image file: by patient, study or another key that images have.

A key of images is a column of an image table, a level of folders or a field of DICOM headers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hilum.dataset.plan import lexicon
from hilum.dataset.plan.columns import TableReading, is_blank

ENOUGH = 0.5  # fraction of the key's distinct values, on either side, that must meet
FEWEST = 3  # distinct keys that must meet: two equal words, such as class folders, are no key
LEAST_DISTINCT = 0.05  # distinct cells per row of a key: fewer are words that repeat, such as sexes
_FORMS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("", lambda cell: cell.strip().casefold()),
    (" without leading zeros", lambda cell: cell.strip().casefold().lstrip("0") or "0"),
    (" by its number", lambda cell: re.sub(r"\D", "", cell).lstrip("0")),
)


@dataclass(frozen=True)
class Attribute:
    """A fact of images that may be a key: the name of its source, and its value by image path."""

    name: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class Join:
    """A join of a table with images by one of its columns and an attribute of the images."""

    column: str
    attribute: str
    rows: Mapping[str, Sequence[int]]  # rows of the table by image path
    missing: tuple[str, ...]  # distinct keys of the table that no image has
    reached: float  # fraction of the attribute's distinct values that were met


def join(reading: TableReading, attributes: Sequence[Attribute]) -> Join | None:
    """Find the column and attribute that join a table with images, or None.

    Of several, those that reach most values of the attribute, then the column with most distinct
    cells.
    """
    best: tuple[tuple[float, float, bool], Join] | None = None
    stated = reading.named("key")
    for name, column in reading.columns.items():
        cells = [cell for cell in column.filled if not is_blank(cell)]
        if (
            len(cells) < FEWEST
            or (stated and name not in stated)
            or column.fraction(lexicon.meaning) > ENOUGH
        ):
            continue
        for attribute in attributes:
            found = _joined(reading, name, cells, attribute)
            if found:
                distinct = len(cells) / max(reading.table.frame.height, 1)
                rank = (round(found.reached, 1), distinct, found.attribute.endswith(name))
                if best is None or rank > best[0]:
                    best = rank, found
    return best[1] if best else None


def _joined(
    reading: TableReading, name: str, cells: Sequence[str], attribute: Attribute
) -> Join | None:
    held = set(attribute.values.values())
    if len(held) < FEWEST:
        return None
    for how, form in _FORMS:
        forms = {form(cell) for cell in cells} - {""}
        keys = {form(value) for value in held} - {""}
        if len(forms) < ENOUGH * len(cells) or len(keys) < ENOUGH * len(held):
            continue
        met = forms & keys
        if len(met) < FEWEST or max(len(met) / len(forms), len(met) / len(keys)) < ENOUGH:
            continue
        if len(cells) < LEAST_DISTINCT * reading.table.frame.height:
            continue
        rows = defaultdict(list)
        for row, cell in enumerate(reading.table.frame[name].to_list()):
            if (key := form(cell)) in met:
                rows[key].append(row)
        by_image = {
            path: tuple(rows[key])
            for path, value in attribute.values.items()
            if (key := form(value)) in met
        }
        missing = tuple(cell for cell in cells if form(cell) not in met)
        return Join(name, attribute.name + how, by_image, missing, len(met) / len(keys))
    return None
