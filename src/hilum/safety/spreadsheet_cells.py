"""Write CSV of which no spreadsheet runs a cell as a formula.

A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula, which may fetch an
address or start a program; white space before it makes no difference (OWASP, "CSV Injection").
Such a text gets an apostrophe before it, by which spreadsheets know text. Numbers stay numbers.
Hilum's reader of tables takes the apostrophe away again (`hilum.dataset`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

# The wide forms of the four signs, which some spreadsheets take for them, are in it too.
FORMULA = r"^[\s\x00]*[=+\-@\t\r＝＋－＠]"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_FORMULA, _IS_NUMBER = re.compile(FORMULA), re.compile(_NUMBER)


def harmless(cell: Any) -> Any:
    """Return a cell that no spreadsheet runs; all that is no text comes back as it is."""
    if not isinstance(cell, str) or not _FORMULA.match(cell) or _IS_NUMBER.match(cell):
        return cell
    return f"'{cell}"


def restored(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table of texts with the cells as they were before `harmless`."""
    import polars as pl

    quoted = r"^'(" + FORMULA[1:] + ")"
    if not table.select(pl.any_horizontal(pl.all().str.starts_with("'").any())).item():
        return table
    return table.with_columns(pl.all().str.replace(quoted, "$1"))


def of_rows(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Write rows as the text of a CSV file with these columns; None becomes an empty cell."""
    lines = [columns, *([row.get(column) for column in columns] for row in rows)]
    return "".join(f"{','.join(map(_quoted, line))}\n" for line in lines)


def _quoted(cell: Any) -> str:
    """Return a cell as RFC 4180 has it; Python's writer leaves a lone carriage return bare."""
    text = "" if cell is None else str(harmless(cell))
    return '"' + text.replace('"', '""') + '"' if any(one in text for one in '",\r\n') else text


def of_table(table: pl.DataFrame) -> str:
    """Write a table as the text of a CSV file; null becomes an empty cell."""
    import polars as pl

    for column, kind in table.schema.items():
        text = pl.col(column)
        formula = text.str.contains(FORMULA) & ~text.str.contains(_NUMBER)
        # A column without one is not copied: a table may have hundreds of megabytes.
        if kind == pl.String and table.select(formula.any()).item():
            quoted = pl.when(formula).then("'" + text).otherwise(text)
            table = table.with_columns(quoted.alias(column))
    return table.rename(harmless).write_csv()
