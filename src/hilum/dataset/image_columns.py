"""Images of a data set as columns: what a reader yields of many images at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import polars as pl

from hilum.dataset.manifest import COLUMNS, DISPLAY, Drawn, Label, Row

PIECE = 50_000  # rows made into columns at a time: as lists they take three times their memory
KEYS = {"image": pl.String, "name": pl.String, "patient": pl.String, "labels": pl.UInt32}
_OF_TABLE = {"image_id", "dataset", "patient_id", "path", *DISPLAY}
FACTS = {name: kind for name, kind in COLUMNS.items() if name not in _OF_TABLE}


class Note(NamedTuple):
    """What an image's reading says: that its patient is another one, too."""

    image: str
    patient: str
    other: str


@dataclass(frozen=True)
class ImageColumns:
    """Images as the columns `KEYS` and those of `FACTS` that are known, named as those of `Row`.

    The column `labels` gives the place of an image's labels in the field `labels`, as a few
    hundred sets of labels are those of 100,000 images. `drawn` has the name of the image with each
    shape.
    """

    table: pl.DataFrame
    labels: Sequence[tuple[Label, ...]]
    drawn: Sequence[tuple[str, Drawn]] = ()
    notes: Sequence[Note] = ()

    @classmethod
    def of(cls, rows: Iterable[Row]) -> ImageColumns:
        """Return rows as columns; rows that share a tuple of labels share its place."""
        # Found by identity, which the tuple itself keeps from being given to another one.
        places: dict[int, int] = {}
        labels: list[tuple[Label, ...]] = []
        drawn: list[tuple[str, Drawn]] = []
        notes: list[Note] = []
        pieces = [pl.DataFrame(schema=KEYS | FACTS)]
        left = iter(rows)
        while piece := list(islice(left, PIECE)):
            cells = []
            for row in piece:
                if (place := places.setdefault(id(row.labels), len(labels))) == len(labels):
                    labels.append(row.labels)
                facts = [getattr(row, name) for name in FACTS]
                cells.append([row.image, row.name, row.patient, place, *facts])
                drawn += [(row.name, shape) for shape in row.drawn]
                notes += [Note(row.image, row.patient, other) for other in row.same_patient]
            pieces.append(pl.DataFrame(cells, schema=KEYS | FACTS, orient="row"))
        return cls(pl.concat(pieces), labels, drawn, notes)

    def without(self, places: Collection[str]) -> ImageColumns:
        """Return these images without those of some paths."""
        if not places:
            return self
        left_out = pl.col("image").is_in(list(places))
        names = set(self.table.filter(left_out)["name"])
        return ImageColumns(
            self.table.filter(~left_out),
            self.labels,
            [one for one in self.drawn if one[0] not in names],
            [one for one in self.notes if one.image not in places],
        )


def joined(found: Iterable[Row | ImageColumns]) -> ImageColumns:
    """Return images as one table, where a reader yields rows, columns or both."""
    found = list(found)
    parts = [one for one in found if isinstance(one, ImageColumns)]
    if rows := [one for one in found if isinstance(one, Row)]:
        parts.append(ImageColumns.of(rows))
    if len(parts) == 1:
        return parts[0]
    tables, labels = [pl.DataFrame(schema=KEYS | FACTS)], []
    for part in parts:
        tables.append(part.table.with_columns(pl.col("labels") + pl.lit(len(labels), pl.UInt32)))
        labels += part.labels
    return ImageColumns(
        pl.concat(tables, how="diagonal_relaxed"),
        labels,
        [one for part in parts for one in part.drawn],
        [one for part in parts for one in part.notes],
    )
