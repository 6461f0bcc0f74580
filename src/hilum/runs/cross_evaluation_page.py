"""The table of a cross-evaluation for people: as one HTML page, and for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

import polars as pl
from markupsafe import Markup

from hilum.annotations.vocabulary import name_of
from hilum.drawing import heat_table, templates
from hilum.runs.cross_evaluation_figures import FIGURES

TEMPLATE = "cross_evaluation.html.j2"
DASH = "–"
HEADS = (
    "model",
    "set",
    "of",
    "images",
    "positives",
    "AUROC",
    "sens transferred",
    "spec transferred",
    "sens re-optimised",
    "spec re-optimised",
    "reason",
)


@dataclass(frozen=True)
class Chart:
    """A heat table of AUROC, every model on every set."""

    title: str
    drawing: Markup


class _Pair(TypedDict):
    """The columns of a model on a set that a heat table shows."""

    model: str
    set: str
    auroc: float
    auroc_low: float
    auroc_high: float
    images: int
    patients: int
    reason: str


def page(table: pl.DataFrame, names: Sequence[str]) -> str:
    """Return one HTML page, with nothing loaded from elsewhere.

    `table` has the columns `hilum.runs.cross_evaluation_figures.COLUMNS`.
    """
    titles = [title(task, concept) for task, concept in table.select("task", "concept").iter_rows()]
    titled = table.with_columns(title=pl.Series(titles, dtype=pl.String))
    charts = [
        _chart(str(name), rows, names)
        for (name,), rows in titled.group_by("title", maintain_order=True)
    ]
    lines = [
        {**row, "cells": cells}
        for row, cells in zip(titled.iter_rows(named=True), _written(titled), strict=True)
    ]
    pages = templates.environment(autoescape=True)
    return pages.get_template(TEMPLATE).render(charts=charts, rows=lines, names=names)


def title(task: str, concept: str) -> str:
    """Return what a score is compared with, for a reader."""
    return name_of(concept) if task == "finding" else "Anomaly, against each set's own finding"


def _chart(name: str, rows: pl.DataFrame, names: Sequence[str]) -> Chart:
    pairs = cast("Iterator[_Pair]", rows.iter_rows(named=True))
    cells = {(pair["model"], pair["set"]): _cell(pair) for pair in pairs}
    values = "; ".join(f"{model} on {of}: {cell.value:.3f}" for (model, of), cell in cells.items())
    # The scale begins at 0.5, chance: below it a model is no better for being darker.
    drawing = heat_table.heat_table(
        names,
        names,
        cells,
        low=0.5,
        high=1.0,
        alt_text=f"AUROC of each model on each set. {values}",
    )
    return Chart(name, drawing)


def _cell(row: _Pair) -> heat_table.Cell:
    low, high = row["auroc_low"], row["auroc_high"]
    interval = "" if math.isnan(low) else f"{low:.2f} to {high:.2f}"
    hint = (
        f"{row['model']} on {row['set']}: {row['images']} images of {row['patients']} patients. "
        f"{row['reason']}"
    )
    return heat_table.Cell(row["auroc"], interval, hint.strip())


def _written(table: pl.DataFrame) -> Iterator[list[str]]:
    """Yield each row's measures as text, with their intervals."""
    for row in table.select(FIGURES).iter_rows():
        yield [_interval(*row[at : at + 3]) for at in range(0, len(FIGURES), 3)]


def _interval(value: float, low: float, high: float) -> str:
    """Return `0.912 (0.871 to 0.945)`, or the part of it that is defined."""
    if math.isnan(value):
        return DASH
    return f"{value:.3f}" if math.isnan(low) else f"{value:.3f} ({low:.3f} to {high:.3f})"


def shown(table: pl.DataFrame) -> pl.DataFrame:
    """Return the table as text for a terminal."""
    rows = [
        [
            row["model"],
            row["set"],
            title(row["task"], row["concept"]).split(",")[0],
            row["images"],
            row["positives"],
            *cells,
            row["reason"],
        ]
        for row, cells in zip(table.iter_rows(named=True), _written(table), strict=True)
    ]
    return pl.DataFrame(rows, schema=HEADS, orient="row", strict=False)
