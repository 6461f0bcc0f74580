"""Checks of what always holds of the tables of a `hilum.dataset.manifest.Manifest`.

Functions called `faults_of_…` yield one message per fault and nothing for a sound table.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import polars as pl

from hilum.annotations.vocabulary import LOCAL, concepts
from hilum.dataset.groups import repeats
from hilum.dataset.label_states import LabelStates
from hilum.errors import BadData, Mismatch, on_one_line
from hilum.storage.stored_table import StoredTable

PIECE = 1_000_000  # rows compared with those above them at a time


def faults_of_ids(table: pl.DataFrame, required: Collection[str]) -> Iterator[str]:
    """Yield required columns with empty cells, and images and paths that occur more than once."""
    for column in required:
        if count := table[column].null_count():
            yield f"{column} is empty in {count} rows"
    for column in ("image_id", "path"):
        values = table[column]
        # Sorted ones are compared in a tenth of the time; counting all takes several times more.
        rising = (values[1:] > values[:-1]).all(ignore_nulls=False)
        if rising or not repeats(values):
            continue
        repeated = table.group_by(column).len().filter(pl.col("len") > 1).sort(column)
        for value in repeated[column]:
            yield f"{column} {value} stands in several rows"


def faults_of_stated(
    table: pl.DataFrame, states: LabelStates, labels: Callable[[], pl.DataFrame]
) -> Iterator[str]:
    """Yield what `faults_of_labels` does; the labels are unpacked only where a state is unsound."""
    if states.sound:
        yield from faults_of_concepts(states.of)
    else:
        yield from faults_of_labels(table, labels())


def faults_of_labels(table: pl.DataFrame, labels: pl.DataFrame) -> Iterator[str]:
    """Yield repeated labels, labels of unknown images, and unknown concepts.

    `labels` must be sorted by image and concept, so that repeated ones are neighbours.
    """
    key = pl.col("image_id", "concept")
    again = pl.all_horizontal(key.eq_missing(key.shift()))
    found = [part.filter(again)["image_id"] for part in overlapping(labels.select(key))]
    for image in pl.concat([labels["image_id"].clear(), *found]).unique(maintain_order=True):
        yield f"{image}: several labels for one finding"
    # The labels of an image are neighbours: each image is sought once.
    image_id = pl.col("image_id")
    first = image_id.ne_missing(image_id.shift())
    images = [part.filter(first) for part in overlapping(labels.select(image_id))]
    labelled = pl.concat([labels.select(image_id).clear(), *images])
    unknown = labelled.join(table.select("image_id"), on="image_id", how="anti")
    for image in unknown["image_id"].unique():
        yield f"label for {image}, which is not in the table"
    yield from faults_of_concepts(labels["concept"].unique())


def faults_of_concepts(named: Iterable[str]) -> Iterator[str]:
    """Yield concepts that are neither in the vocabulary nor local."""
    for concept in named:
        if concept not in concepts() and not concept.startswith(LOCAL):
            yield f"no concept is called '{concept}'"


def in_order(table: pl.DataFrame, columns: Collection[str]) -> bool:
    """Say whether no row comes before the one above it, by these columns without nulls."""
    falls = pl.lit(False)
    for column in reversed(list(columns)):
        now, before = pl.col(column), pl.col(column).shift()
        falls = (now < before) | ((now == before) & falls)
    parts = overlapping(table.select(columns))
    return not any(part.select(falls.any()).item() for part in parts)


def sorted_by(table: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Return a table sorted by these columns; itself where it is, as a copy takes its memory."""
    known = not any(table[column].null_count() for column in columns)
    return table if known and in_order(table, columns) else table.sort(columns)


def overlapping(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield pieces of a table that begin with the last row of the piece before.

    Compared with the rows above them, 14 million labels as a whole would take twice their memory.
    """
    for at in range(0, table.height, PIECE):
        yield table.slice(max(at - 1, 0), PIECE + min(at, 1))


def faults_of_values(
    table: pl.DataFrame, allowed_values: Mapping[str, Collection[str]]
) -> Iterator[str]:
    """Yield cells that are neither null nor among the allowed values of their column."""
    for column, allowed in allowed_values.items():
        is_other = pl.col(column).is_not_null() & ~pl.col(column).is_in(allowed)
        for image, value in table.filter(is_other).select("image_id", column).iter_rows():
            yield f"{image}: {column} is '{value}', expected one of {', '.join(allowed)}"


def faults_of_rotations(table: pl.DataFrame) -> Iterator[str]:
    """Yield rotations other than by quarter turns; an upright image has none."""
    rotated = pl.col("rotated")
    for image, value in (
        table.filter(rotated.is_not_null() & ~rotated.is_in([90, 180, 270]))
        .select("image_id", "rotated")
        .iter_rows()
    ):
        yield f"{image}: rotated is {value}, expected 90, 180 or 270 degrees clockwise, or null"


def faults_of_places(table: pl.DataFrame, columns: Collection[str]) -> Iterator[str]:
    """Yield paths that are absolute, have a part "..", or contain a zero byte."""
    for column in columns:
        place = pl.col(column)
        outside = table.filter(
            place.str.starts_with("/")
            | place.str.contains(r"(?:^|/)\.\.(?:/|$)")
            | place.str.contains("\0", literal=True)
        )
        for one in outside[column]:
            yield f"{on_one_line(one)}: leads out of the folder"


def stored(
    folder: Path,
    tables: Mapping[str, Mapping[str, pl.DataType]],
    later: Mapping[str, Mapping[str, pl.DataType]],
) -> dict[str, StoredTable]:
    """Return the tables of a folder, once each has its columns but for those of `later`.

    Raises as `refuse_other_columns` does.
    """
    found = {name: StoredTable.read(folder / f"{name}.parquet", again(folder)) for name in tables}
    for name, columns in tables.items():
        held = {**later.get(name, {}), **found[name].schema}
        refuse_other_columns(folder, name, held, columns)
    return found


def refuse_other_columns(
    folder: Path, name: str, found: Mapping[str, pl.DataType], columns: Mapping[str, pl.DataType]
) -> None:
    """Raise `Mismatch` where a column is missing, and `BadData` where one has another type."""
    file = f"{folder}/{name}.parquet"
    if missing := [column for column in columns if column not in found]:
        raise Mismatch(
            f"{file} lacks {', '.join(missing)}: an earlier Hilum wrote it; {again(folder)}"
        )
    other = {column: found[column] for column in columns if found[column] != columns[column]}
    if other:
        faults = [
            f"{column} is {kind}, expected {columns[column]}" for column, kind in other.items()
        ]
        raise BadData.listing(f"{file} has columns of another type; {again(folder)}", faults)


def again(folder: Path) -> str:
    """Return what to do where the tables in `folder` cannot be used."""
    return f"make it again with `hilum ingest {shlex.quote(str(folder))}`"
