"""Parquet files, read by Polars; values become text as those of JSON do (see `_json`)."""

from __future__ import annotations

import io
import json
from typing import Any

import polars as pl
from polars.datatypes import DataTypeClass

from hilum.dataset.tables._table import (
    MAX_BYTES,
    MAX_CELLS,
    MAX_COLUMNS,
    Table,
    column_name,
    named,
    stripped,
)
from hilum.errors import BadData


def read(name: str, data: bytes) -> Table:
    """Read a table; columns of binary values are left out with a remark. Raises `BadData`."""
    try:
        frame, left_out = _flattened(*_frame(name, data))
        frame = pl.DataFrame([_as_text(column) for column in frame.get_columns()])
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise BadData(
            f"{name}: cannot be read as Parquet ({reason}); copy it or write it again"
        ) from error
    size = sum(column.str.len_bytes().sum() for column in frame.get_columns())
    if size > MAX_BYTES:  # a dictionary page can refer to one long text a million times
        raise BadData(f"{name}: its cells hold more than {MAX_BYTES:,} bytes of text; split it")
    remarks = tuple(f"column '{key}' holds binary values and is not read" for key in left_out)
    names = [column_name(column) for column in frame.columns]
    return named(Table(name, stripped(frame), remarks=remarks, unit="record"), names)


def _frame(name: str, data: bytes) -> tuple[pl.DataFrame, list[str]]:
    """Read the columns that are not binary, and name those that are."""
    schema = pl.read_parquet_schema(io.BytesIO(data))
    height = pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item()
    if len(schema) > MAX_COLUMNS or height * max(len(schema), 1) > MAX_CELLS:
        raise BadData(
            f"{name}: has {height:,} rows and {len(schema):,} columns; "
            f"expected at most {MAX_CELLS:,} cells and {MAX_COLUMNS:,} columns"
        )
    binary = [key for key, kind in schema.items() if _is_binary(kind)]
    columns = [key for key in schema if key not in binary]
    return pl.read_parquet(io.BytesIO(data), columns=columns), binary


def _is_binary(kind: pl.DataType | DataTypeClass) -> bool:
    """Return whether values are bytes or lists of anything that holds bytes."""
    if isinstance(kind, (pl.List, pl.Array)):
        inner = kind.inner
        return _is_binary(inner) or (
            isinstance(inner, pl.Struct) and any(_is_binary(field.dtype) for field in inner.fields)
        )
    return kind in (pl.Binary, pl.Object)


def _flattened(frame: pl.DataFrame, left_out: list[str]) -> tuple[pl.DataFrame, list[str]]:
    """Turn the fields of structures into columns "outer.inner", less those of binary values."""
    while any(isinstance(kind, pl.Struct) for kind in frame.dtypes):
        columns = []
        for column in frame.get_columns():
            if isinstance(column.dtype, pl.Struct):
                fields = column.struct.unnest().get_columns()
                columns += [field.alias(f"{column.name}.{field.name}") for field in fields]
            else:
                columns.append(column)
        frame = pl.DataFrame(columns)
    binary = [key for key, kind in frame.schema.items() if _is_binary(kind)]
    return frame.drop(binary), [*left_out, *binary]


def _as_text(column: pl.Series) -> pl.Series:
    kind = column.dtype
    if kind == pl.Boolean:
        column = column.cast(pl.String).str.to_uppercase()
    elif kind.is_float():
        column = column.fill_nan(None).cast(pl.String)
    elif isinstance(kind, pl.Datetime):
        dates_only = bool((column.dt.truncate("1d") == column).all())
        column = column.dt.strftime("%Y-%m-%d" if dates_only else "%Y-%m-%dT%H:%M:%S%.f")
    elif isinstance(kind, (pl.List, pl.Array)):
        column = pl.Series(column.name, [_of_list(value) for value in column.to_list()], pl.String)
    else:
        column = column.cast(pl.String)
    return column.fill_null("")


def _of_list(value: list[Any] | None) -> str:
    if not value:
        return ""
    if all(isinstance(part, str) and part and "|" not in part for part in value):
        return "|".join(value)
    return json.dumps(value, ensure_ascii=False, default=str)
