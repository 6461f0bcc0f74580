"""Rows in an order, and how many of a resample come before each, several times faster than by
`numpy.cumsum`.

Neighbours lie below each other in a table with `DEEP` lines, so that its lines are added as whole
vectors; the sums of its columns alone are then added one after another. Resamples are drawn several
at a time: of few rows, the calls would cost more than the sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

DEEP = 16
# Of a table of resamples and rows that is computed at once, so that it stays in a core's cache.
_CELLS = 1 << 17


def parts(resamples: int, rows: int) -> Iterator[slice]:
    """Yield as many resamples after another as belong into one table of them and `rows`."""
    most = max(1, _CELLS // max(rows, 1))
    for at in range(0, resamples, most):
        yield slice(at, at + most)


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
        """Return the rows that resamples draw; `times` int32 (resamples, patients)."""
        until = np.take(times, self.owner, axis=1, mode="clip")
        until.reshape(len(times), self.owner.size)[:, self.empty] = 0
        for line in range(1, DEEP):
            until[:, line] += until[:, line - 1]
        columns = np.zeros((len(times), until.shape[2] + 1), np.int64)
        np.cumsum(until[:, -1], axis=1, out=columns[:, 1:])
        return DrawnRows(until, columns)


@dataclass(frozen=True)
class DrawnRows:
    """Rows of resamples: `until` each within its column, and before each of the `columns`.

    `until` (resamples, DEEP, columns), `columns` (resamples, columns + 1).
    """

    until: np.ndarray
    columns: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Return how many rows each resample draws, int64 (resamples,)."""
        return self.columns[:, -1]

    def before(self, places: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Return how many rows are drawn before those of `RankedRows.places`, int64.

        The places are the same (rows,) in all resamples, or (resamples, rows).
        """
        cell, column = places
        until = self.until.reshape(len(self.until), self.until.shape[1] * self.until.shape[2])
        if cell.ndim == 1:
            return np.take(until, cell, axis=1) + np.take(self.columns, column, axis=1)
        return np.take_along_axis(until, cell, 1) + np.take_along_axis(self.columns, column, 1)

    def first_reaching(self, counts: np.ndarray) -> np.ndarray:
        """Return the first row until which, itself included, so many rows are drawn.

        `counts` (resamples, k) lie above 0 and are at most `total`.
        """
        # Sought in the columns of all resamples at once, each above those of the one before.
        above = (np.cumsum(self.total) - self.total)[:, None]
        resample, width = np.arange(len(counts))[:, None], self.until.shape[2]
        column = np.searchsorted((self.columns[:, 1:] + above).ravel(), counts + above)
        column -= resample * width
        inside = self.until[resample, :, column] + self.columns[resample, column][..., None]
        reached = inside >= counts[..., None]
        return (column - 1) * DEEP + reached.argmax(axis=2)
