"""The listing of a mirror: one row per file, kept so that a mirror can be read offline.

place     str   below the root, with forward slashes; rows are sorted by it
size      i64   bytes
mtime_ns  i64   as `Stated`
tag       str   as `Stated`
archive   str   kind and place of the archive that the file is in, zip:a.zip; "" for none
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from hilum import storage
from hilum.dataset.remote.transport import Stated
from hilum.errors import BadData, HilumError, on_one_line
from hilum.safety import path_names

FILE = "listing.parquet"
SCHEMA = {
    "place": pl.String,
    "size": pl.Int64,
    "mtime_ns": pl.Int64,
    "tag": pl.String,
    "archive": pl.String,
}


@dataclass(frozen=True)
class Entry:
    """One file of a mirror."""

    place: str
    stated: Stated
    archive: str = ""


@dataclass(frozen=True)
class Listing:
    """All files of a mirror, by place."""

    table: pl.DataFrame

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Listing:
        """Return the listing of these entries.

        Raises `BadData` for a place that occurs twice, or is no UTF-8, as tables must be.
        """
        entries = list(entries)
        if odd := [one.place for one in entries if path_names.as_text(one.place) != one.place]:
            raise BadData.listing("names are no UTF-8; rename these files", map(on_one_line, odd))
        rows = [
            (one.place, one.stated.size, one.stated.mtime_ns, one.stated.tag, one.archive)
            for one in entries
        ]
        table = pl.DataFrame(rows, SCHEMA, orient="row").sort("place")
        if twice := table.filter(pl.col("place").is_duplicated())["place"].unique().to_list():
            raise BadData.listing("files are listed twice", twice)
        return cls(table)

    @classmethod
    def read(cls, folder: Path) -> Listing | None:
        """Return the listing kept in a folder; None without one, or where it is damaged."""
        if not (folder / FILE).exists():
            return None
        try:
            table = storage.read_table(folder / FILE)
        except HilumError:  # it is made anew from the source
            return None
        return cls(table) if dict(table.schema) == SCHEMA else None

    def write(self, folder: Path) -> None:
        """Write the listing, complete or not at all."""
        storage.write_table(folder / FILE, self.table)

    @cached_property
    def places(self) -> pl.Series:
        """The sorted places."""
        return self.table["place"]

    def __len__(self) -> int:
        return self.table.height

    def position(self, place: str) -> int | None:
        """Return the row of a place; None where it is not listed."""
        row = int(self.places.search_sorted(place))
        return row if row < len(self) and self.places[row] == place else None

    def entry(self, row: int) -> Entry:
        """Return one row."""
        place, size, mtime_ns, tag, archive = self.table.row(row)
        return Entry(place, Stated(size, mtime_ns, tag), archive)

    def entries(self) -> Iterator[Entry]:
        """Yield all rows in order."""
        for place, size, mtime_ns, tag, archive in self.table.iter_rows():
            yield Entry(place, Stated(size, mtime_ns, tag), archive)

    def of_archive(self, archive: str) -> list[Entry]:
        """Return the files that were unpacked from an archive."""
        found = Listing(self.table.filter(pl.col("archive") == archive))
        return list(found.entries())
