"""Read figures out of the sections that scripts record: a cell of a table, by section, row, column.

A cell that is not found raises `LookupError`, which says what was there instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


class Reading(Protocol):
    """A figure that can be read from a page."""

    def read(self, page: str) -> float:
        """Return it. Raises `LookupError`."""
        ...


@dataclass(frozen=True)
class Cells:
    """The sum, or another figure, of several cells."""

    cells: tuple[Reading, ...]
    of: Callable[[Iterable[float]], float]

    def read(self, page: str) -> float:
        """Return it. Raises `LookupError`."""
        return self.of(cell.read(page) for cell in self.cells)


@dataclass(frozen=True)
class Cell:
    """Where a figure stands: how its section's title begins, texts of its row, its column.

    `row`: each text begins one of the row's cells. Of columns of one name `nth` counts from 0.
    `of` all rows that fit, as min, max or sum; None: the first one's.
    """

    section: str
    row: tuple[str, ...]
    column: str
    nth: int = 0
    of: Callable[[Iterable[float]], float] | None = None

    def read(self, page: str) -> float:
        """Return the first number of the cell, or that `of` all. Raises `LookupError`."""
        text = section(page, self.section)
        for table in tables(text):
            head, *rows = table
            columns = [number for number, name in enumerate(head) if name == self.column]
            if len(columns) <= self.nth:
                continue
            fitting = [cells[columns[self.nth]] for cells in rows if self._fits(cells)]
            if self.of is None:
                if fitting:
                    return number(fitting[0])
                continue
            if measured := [cell for cell in fitting if NUMBER.search(cell)]:
                return self.of(number(cell) for cell in measured)
        raise LookupError(
            f"'{self.section}' has no row {' / '.join(self.row)} with a column '{self.column}'"
        )

    def _fits(self, cells: list[str]) -> bool:
        """Return whether each text of the row begins one of the cells."""
        return all(any(cell.startswith(one) for cell in cells) for one in self.row)


def section(page: str, title: str) -> str:
    """Return the section whose title begins so. Raises `LookupError`."""
    for found in re.findall(r"^## (.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE):
        if found.startswith(title):
            return found
    raise LookupError(f"there is no section '{title}'")


def tables(text: str) -> list[list[list[str]]]:
    """Return the tables of Markdown text: rows of cells, the first one the names of columns."""
    found: list[list[list[str]]] = []
    last = ""
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not last.startswith("|"):
                found.append([])
            if not set("".join(cells)) <= set("-: "):
                found[-1].append(cells)
        last = line
    return found


def number(cell: str) -> float:
    """Return the first number in a cell, with commas between thousands. Raises `LookupError`."""
    found = NUMBER.search(cell)
    if found is None:
        raise LookupError(f"'{cell}' holds no number")
    return float(found[0].replace(",", ""))
