"""Rows of a table by group, such as the images of each patient, which mostly are neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Groups:
    """The rows of each group.

    `order`: the rows, those of a group as neighbours; None where they are. `starts`: the first of
    each group in it. Both are int64.
    """

    order: np.ndarray | None
    starts: np.ndarray

    @classmethod
    def of(cls, names: pl.Series) -> Groups:
        """Group rows by the names of their groups, none of which is null."""
        first = starts(names)
        if not repeats(names.gather(first)):
            return cls(None, first)
        order = np.argsort(names.rank("dense").to_numpy(), kind="stable")
        return cls(order, starts(names.gather(order)))

    def count(self, holds: np.ndarray) -> int:
        """Count the groups of which something `holds` in a row, bool (rows,)."""
        if not len(holds):
            return 0
        rows = holds if self.order is None else holds[self.order]
        return int(np.count_nonzero(np.logical_or.reduceat(rows, self.starts)))


def starts(names: pl.Series) -> np.ndarray:
    """Return the rows, int64, whose name is not that of the row above."""
    return np.flatnonzero((names != names.shift()).fill_null(value=True).to_numpy())


def duplicated(table: pl.DataFrame, column: str, where: pl.Expr | None = None) -> pl.DataFrame:
    """Return the rows that, among those for which `where` holds, share their value of a column."""
    if not repeats(table[column]):  # which is known without a copy of the table
        return table.clear()
    chosen = table if where is None else table.filter(where)
    return chosen.filter(pl.col(column).is_duplicated())


def repeats(values: pl.Series) -> bool:
    """Say whether a value, or null, occurs several times."""
    # Hashes that all differ show that the values do, in a fifth of the time.
    hashes = np.sort(values.hash().to_numpy())
    return bool((hashes[1:] == hashes[:-1]).any()) and values.n_unique() < len(values)
