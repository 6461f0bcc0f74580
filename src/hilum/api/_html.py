"""Show facts and tables in a notebook. Every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

import polars as pl

SHOWN = 10  # rows of a table


def facts(title: str, rows: Mapping[str, object]) -> str:
    """Return a heading and a table of two columns."""
    lines = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<h4>{escape(title)}</h4><table>{lines}</table>"


def table(frame: pl.DataFrame, columns: Iterable[str] | None = None) -> str:
    """Return the first rows of a table, and how many more there are."""
    shown = frame.select(list(columns)) if columns else frame
    head = "".join(f"<th>{escape(name)}</th>" for name in shown.columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{'' if cell is None else escape(str(cell))}</td>" for cell in row)
        + "</tr>"
        for row in shown.head(SHOWN).iter_rows()
    )
    more = f"<p>and {frame.height - SHOWN} more</p>" if frame.height > SHOWN else ""
    return f"<table><tr>{head}</tr>{body}</table>{more}"
