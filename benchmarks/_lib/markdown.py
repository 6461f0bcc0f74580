"""Read figures out of the sections that scripts record: a cell of a table, by section, row, column.

A cell that is not found raises `LookupError`, which says what was there instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Cell:
    """Where a figure stands: how its section's title begins, texts of its row, its column.

    `row`: each text begins one of the row's cells. Of columns of one name `nth` counts from 0.
    """

    section: str
    row: tuple[str, ...]
    column: str
    nth: int = 0

    def read(self, page: str) -> float:
        """Return the first number of the cell. Raises `LookupError`."""
        text = section(page, self.section)
        for table in tables(text):
            head, *rows = table
            columns = [number for number, name in enumerate(head) if name == self.column]
            if len(columns) <= self.nth:
                continue
            for cells in rows:
                if all(any(cell.startswith(one) for cell in cells) for one in self.row):
                    return number(cells[columns[self.nth]])
        raise LookupError(
            f"'{self.section}' has no row {' / '.join(self.row)} with a column '{self.column}'"
        )


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
