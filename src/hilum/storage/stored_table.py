"""A table as it is stored, in a few bytes a row, of which a step unpacks what it needs."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import polars as pl

from hilum.errors import BadData, on_one_line
from hilum.safety import untrusted_files

_Made = TypeVar("_Made")
_Table = TypeVar("_Table", pl.DataFrame, pl.LazyFrame)
_SMALL = 10_000  # rows of a table of which all columns are unpacked at once
_REMEDY = "copy the file again, or repeat the command that wrote it"


@dataclass(frozen=True)
class StoredTable:
    """The bytes of a Parquet file, held so that it cannot change between two uses of it.

    `remedy`: what to do where they are damaged.
    """

    path: Path
    data: bytes
    remedy: str = _REMEDY

    @classmethod
    def read(cls, path: Path, remedy: str = _REMEDY) -> StoredTable:
        """Read a file. Raises `NotFound` and `CannotRead` as `untrusted_files.read_bytes` does."""
        return cls(path, untrusted_files.read_bytes(path), remedy)

    @cached_property
    def schema(self) -> pl.Schema:
        """Return the type of each column. Raises `BadData` where the file is not Parquet."""
        return self.unpacked(lambda: pl.Schema(pl.read_parquet_schema(io.BytesIO(self.data))))

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """Return that of `storage.write_table`. Raises `BadData` where the file is not Parquet."""
        return self.unpacked(lambda: pl.read_parquet_metadata(io.BytesIO(self.data)))

    def scan(self) -> pl.LazyFrame:
        """Return the table to query, of which only the columns and rows in use are unpacked.

        Damage shows where the query is collected, which belongs in `unpacked`.
        """
        return pl.scan_parquet(io.BytesIO(self.data))

    def table(self) -> pl.DataFrame:
        """Return the whole table, with `constants_once`. Raises `BadData` as `unpacked` does."""
        names = list(self.schema)
        if len(names) < 2:
            return self.unpacked(lambda: pl.read_parquet(io.BytesIO(self.data)))
        first = self._columns(names[:1])
        # Column by column: all of a large table at once take several times what is kept of them.
        at_once = len(names) if first.height <= _SMALL else 1
        rest = (
            self._columns(names[start : start + at_once]) for start in range(1, len(names), at_once)
        )
        return pl.concat([first, *rest], how="horizontal")

    def _columns(self, names: list[str]) -> pl.DataFrame:
        return self.unpacked(
            lambda: constants_once(pl.read_parquet(io.BytesIO(self.data), columns=names))
        )

    def unpacked(self, unpack: Callable[[], _Made]) -> _Made:
        """Return what `unpack` makes of it. Raises `BadData` where that is not Parquet."""
        try:
            return unpack()
        except (
            pl.exceptions.PolarsError,
            pl.exceptions.PanicException,
            OSError,
            ValueError,
        ) as error:
            raise BadData(
                f"{self.path}: is not readable as Parquet: got {len(self.data):,} bytes "
                f"({on_one_line(str(error))}), expected a whole table; {self.remedy}"
            ) from None


def words_as_text(table: _Table) -> _Table:
    """Return a table, or a query of one, with the words of each `Enum` as text."""
    return table.cast({pl.Enum: pl.String})


def constants_once(table: pl.DataFrame) -> pl.DataFrame:
    """Return the same table with columns of one value, or of nulls alone, held as that value.

    Such a column of text takes 16 bytes a row: a gigabyte in 14 million labels with four of them.
    """
    if not table.height:
        return table
    constant = {
        column.name: column[0]
        for column in table
        if column.null_count() == table.height
        or (not column.null_count() and column[0] == column[-1] and column.n_unique() == 1)
    }
    return table.with_columns(
        pl.lit(value, table.schema[name]).alias(name) for name, value in constant.items()
    )
