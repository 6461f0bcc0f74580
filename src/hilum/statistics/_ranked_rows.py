"""Rows in an order, and how many of a resample come before each, several times faster than by
`numpy.cumsum`.

Neighbours lie below each other in a table with `DEEP` lines, so that its lines are added as whole
vectors; the sums of its columns alone are then added one after another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DEEP = 16


@dataclass(frozen=True)
class RankedRows:
    """The patient of each row in an order, as a table (DEEP, columns) whose first column is empty.

    `empty` are the cells of no row.
    """

    owner: np.ndarray
    empty: np.ndarray

    @classmethod
    def of(cls, patient: np.ndarray) -> RankedRows:
        """Arrange rows by their patients (rows,) in the order."""
        columns = -(-patient.size // DEEP) + 1
        cells = np.full(columns * DEEP, -1, np.int64)
        cells[DEEP : DEEP + patient.size] = patient
        owner = np.ascontiguousarray(cells.reshape(columns, DEEP).T)
        return cls(np.maximum(owner, 0), np.flatnonzero(owner.ravel() < 0))

    def places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return cell and column of the rows before `rows`, numbers from 0 to that of all rows."""
        column, line = np.divmod(np.asarray(rows) - 1 + DEEP, DEEP)
        return line * self.owner.shape[1] + column, column

    def drawn(self, times: np.ndarray) -> DrawnRows:
        """Return the rows that a resample draws; `times` int32 (patients,)."""
        until = np.take(times, self.owner, mode="clip")
        until.ravel()[self.empty] = 0
        for line in range(1, DEEP):
            until[line] += until[line - 1]
        columns = np.zeros(until.shape[1] + 1, np.int64)
        np.cumsum(until[-1], out=columns[1:])
        return DrawnRows(until, columns)


@dataclass(frozen=True)
class DrawnRows:
    """Rows of a resample: `until` each within its column, and before each of the `columns`."""

    until: np.ndarray
    columns: np.ndarray

    @property
    def total(self) -> int:
        """Return how many rows are drawn."""
        return int(self.columns[-1])

    def before(self, places: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Return how many rows are drawn before those of `RankedRows.places`, int64."""
        cell, column = places
        return np.take(self.until, cell) + np.take(self.columns, column)

    def first_reaching(self, counts: np.ndarray) -> np.ndarray:
        """Return the first row until which, itself included, so many rows are drawn.

        `counts` lie above 0 and are at most `total`.
        """
        column = np.searchsorted(self.columns[1:], counts)
        reached = self.until[:, column] + self.columns[column] >= counts
        return (column - 1) * DEEP + reached.argmax(axis=0)
