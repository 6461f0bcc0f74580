"""Parquet files, by Polars: cells as text, as `_json` writes them."""

from __future__ import annotations

import io
import json
from typing import Any

import polars as pl

from hilum.dataset import _cells
from hilum.dataset._cells import MAX_BYTES, MAX_CELLS, MAX_COLUMNS, Table
from hilum.errors import BadData


def read(name: str, data: bytes) -> Table:
    """Read a table; columns of bytes are left out and remarked. Raises `BadData`."""
    try:
        schema = pl.read_parquet_schema(io.BytesIO(data))
        height = pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item()
        if len(schema) > MAX_COLUMNS or height * max(len(schema), 1) > MAX_CELLS:
            raise BadData(
                f"{name}: more than {MAX_COLUMNS:,} columns or {MAX_CELLS:,} cells; split it"
            )
        frame = pl.read_parquet(
            io.BytesIO(data), columns=[key for key, kind in schema.items() if kind != pl.Binary]
        )
        frame, left_out = _flattened(
            frame, [key for key, kind in schema.items() if kind == pl.Binary]
        )
        cells = [_as_text(column) for column in frame.get_columns()]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BadData(
            f"{name}: cannot be read as Parquet ({reason}); copy or write it again"
        ) from error
    remarks = [f"the column '{key}' holds bytes, not text: it is left out" for key in left_out]
    return _tidied(name, pl.DataFrame(cells), remarks)


def _tidied(name: str, frame: pl.DataFrame, remarks: list[str]) -> Table:
    if sum(column.str.len_bytes().sum() or 0 for column in frame.get_columns()) > MAX_BYTES:
        raise BadData(f"{name}: its cells hold more than {MAX_BYTES:,} bytes of text; split it")
    names = [_cells.header(column) or f"column {i + 1}" for i, column in enumerate(frame.columns)]
    unique = _cells.distinct(names)
    frame = frame.with_columns(_cells.tidy(pl.all())) if frame.width else frame
    frame.columns = unique
    repeated = tuple(
        dict.fromkeys(key for key, new in zip(names, unique, strict=True) if key != new)
    )
    index = tuple(key for key in unique if _cells.is_index(key, frame[key]))
    remarks += _cells.of_repeated(names, unique) + [
        f"column '{key}' holds row numbers only" for key in index
    ]
    table = Table(name, frame, 1, tuple(remarks), repeated, index_columns=index, unit="record")
    return _cells.with_decimal_commas(table)


def _flattened(frame: pl.DataFrame, left_out: list[str]) -> tuple[pl.DataFrame, list[str]]:
    """Make the fields of structures columns "outer.inner"; leave out those of bytes."""
    while structures := [key for key, kind in frame.schema.items() if isinstance(kind, pl.Struct)]:
        for key in structures:
            fields = frame[key].struct.unnest()
            fields.columns = [f"{key}.{field}" for field in fields.columns]
            at = frame.get_column_index(key)
            columns = frame.get_columns()
            frame = pl.DataFrame([*columns[:at], *fields.get_columns(), *columns[at + 1 :]])
    binary = [key for key, kind in frame.schema.items() if kind == pl.Binary]
    return frame.drop(binary), [*left_out, *binary]


def _as_text(column: pl.Series) -> pl.Series:
    kind = column.dtype
    if kind == pl.Boolean:
        column = column.cast(pl.String).str.to_uppercase()
    elif kind.is_float():
        column = column.fill_nan(None).cast(pl.String)
    elif isinstance(kind, pl.Datetime):
        column = _of_times(column)
    elif isinstance(kind, (pl.List, pl.Array)):
        column = pl.Series(column.name, [_of_list(value) for value in column.to_list()], pl.String)
    elif kind == pl.Object:
        raise ValueError(f"the column '{column.name}' holds objects")
    else:
        column = column.cast(pl.String)
    return column.fill_null("")


def _of_times(column: pl.Series) -> pl.Series:
    """Write dates as 2020-01-31, or with the time where one column entry has a time of day."""
    dates_only = bool((column.dt.truncate("1d") == column).all())
    return column.dt.strftime("%Y-%m-%d" if dates_only else "%Y-%m-%dT%H:%M:%S%.f")


def _of_list(value: list[Any] | None) -> str:
    if not value:
        return ""
    if all(isinstance(part, str) and part and "|" not in part for part in value):
        return "|".join(value)
    return json.dumps(value, ensure_ascii=False, default=str)
