"""Where the header of a table is: below titles, in the first row, or nowhere."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hilum.dataset.tables._table import strip

SAMPLE_ROWS = 200  # by which header and delimiter are judged
MAX_TITLE_ROWS = 20
_IMAGE_NAME = re.compile(
    r"\.(png|jpe?g|jpe|jp2|tiff?|bmp|gif|webp|dcm|dicom|ima|img|npy|nii(\.gz)?|mha)$", re.IGNORECASE
)
_NUMBER = re.compile(r"[+-]?\d[\d.,]*(e[+-]?\d+)?", re.IGNORECASE)
_DIGITS = re.compile(r"\d+")
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Head:
    """Where the first rows of a file have their header; rows count from 0."""

    row: int
    titles: tuple[int, ...] = ()  # rows above it that have content
    headless: bool = False  # `row` is the first row of data


def is_image_name(cell: str) -> bool:
    """Return whether a cell ends as the name of an image file does."""
    return _IMAGE_NAME.search(cell) is not None


def filled_width(cells: Sequence[str]) -> int:
    """Return the number of cells up to the last one that is not empty."""
    width = len(cells)
    while width and not strip(cells[width - 1]):
        width -= 1
    return width


def fits(cells: Sequence[str], header: Sequence[str]) -> bool:
    """Return whether a row has a cell for each named column, and none beyond the header."""
    return len(cells) >= filled_width(header) and filled_width(cells) <= len(header)


def find_header(rows: Sequence[Sequence[str]]) -> Head:
    """Find the header among the first rows of a table, at least one of which is not empty.

    Rows above the first one with about as many filled cells as most rows have are titles.
    """
    counts = [sum(bool(strip(cell)) for cell in cells) for cells in rows]
    first = next(row for row, count in enumerate(counts) if count)
    usual = Counter(count for count in counts if count).most_common(1)[0][0]
    least = 1 if usual == 1 else max(2, usual // 2)
    candidates = range(first, min(first + MAX_TITLE_ROWS + 1, len(rows)))
    row = next((i for i in candidates if counts[i] >= least or _lacks_first(rows[i])), first)
    below = [
        cells for cells, count in zip(rows[row + 1 :], counts[row + 1 :], strict=True) if count
    ]
    headless = _is_data(rows[row], below)
    if row > first and headless:  # the apparent title is a header with too few names
        return Head(first)
    return Head(row, tuple(i for i in range(first, row) if counts[i]), headless)


def _lacks_first(cells: Sequence[str]) -> bool:
    """Return whether all cells but the first are filled, as in a header written by pandas."""
    return len(cells) > 1 and not strip(cells[0]) and all(map(strip, cells[1:]))


def _is_data(cells: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Return whether a first row holds data rather than names, by the cells below it."""
    columns = []
    for i, name in enumerate(map(strip, cells)):
        column = [strip(row[i]) for row in below if len(row) > i and strip(row[i])]
        if name and (column or not below):
            columns.append((name, column))
    if any(
        is_image_name(name) or _differs_in_digits_only(name, column) for name, column in columns
    ):
        return True
    names = [name for name, _ in columns]
    counted = [str(number) for number in range(len(names) + 1)]
    if not below or names in (counted[:-1], counted[1:]):  # pandas and R number nameless columns
        return False
    numbers = [_NUMBER.fullmatch(name) is not None for name in names]
    texts = [column for column, is_number in zip(columns, numbers, strict=True) if not is_number]
    over_numbers = any(
        is_number and all(map(_NUMBER.fullmatch, column))
        for is_number, (_, column) in zip(numbers, columns, strict=True)
    )
    return over_numbers and (not texts or any(name in column for name, column in texts))


def _differs_in_digits_only(name: str, column: Sequence[str]) -> bool:
    """Return whether a name is one more cell of its column, as "P-001" above "P-002"."""
    shape = _DIGITS.sub("0", name)
    if "0" not in shape or not _LETTER.search(shape) or len(column) < 2 or {name} == set(column):
        return False
    alike = sum(_DIGITS.sub("0", cell) == shape for cell in column)
    return alike >= 0.9 * len(column)
