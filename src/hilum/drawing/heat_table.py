"""A table of numbers as a picture: a cell's shade tells its number, and the number stands in it. SVG, as `hilum.drawing.charts`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hilum.drawing import COLOURS

_CELL = (104, 44)  # width, height
_HEAD, _LETTER = 30, 7.2  # height of the column names; width of a letter, about
_DARKEST = 0.55  # opacity: text on it can still be read, on white and on black
_LONGEST = 26  # letters of a name


@dataclass(frozen=True)
class Cell:
    """`value` nan: there is none. `below` stands under it, `hint` is shown on pointing at it."""

    value: float
    below: str = ""
    hint: str = ""


def heat_table(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[str, str], Cell],
    *,
    low: float,
    high: float,
    alt_text: str,
) -> Markup:
    """Cells by (row, column), shaded from `low` (none) to `high` (darkest); those that are not there are left empty."""
    left = round(8 + _LETTER * max(len(_cut(row)) for row in rows))
    width, height = left + _CELL[0] * len(columns) + 4, _HEAD + _CELL[1] * len(rows) + 4
    parts = [
        _text(left + _CELL[0] * (k + 0.5), _HEAD - 10, _cut(name), "middle")
        for k, name in enumerate(columns)
    ]
    parts += [
        _text(left - 8, _HEAD + _CELL[1] * (k + 0.5) + 4, _cut(name), "end")
        for k, name in enumerate(rows)
    ]
    for down, row in enumerate(rows):
        for across, column in enumerate(columns):
            if cell := cells.get((row, column)):
                parts.append(
                    _drawn(cell, left + across * _CELL[0], _HEAD + down * _CELL[1], low, high)
                )
    head = Markup(
        '<svg class="chart" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}" font-size="12" fill="currentColor">'
    )
    return head.format(width, height, alt_text) + Markup("").join(parts) + Markup("</svg>")


def _drawn(cell: Cell, x: float, y: float, low: float, high: float) -> Markup:
    share = 0.0 if math.isnan(cell.value) else min(max((cell.value - low) / (high - low), 0.0), 1.0)
    box = Markup(
        '<rect x="{}" y="{}" width="{}" height="{}" fill="{}" fill-opacity="{:.3f}" stroke="currentColor" stroke-opacity=".2"/>'
    ).format(x + 1, y + 1, _CELL[0] - 2, _CELL[1] - 2, Markup(COLOURS[0]), _DARKEST * share)
    number = "–" if math.isnan(cell.value) else f"{cell.value:.3f}"
    middle = x + _CELL[0] / 2
    words = [
        _text(middle, y + (19 if cell.below else 26), number, "middle", 14),
        *([_text(middle, y + 34, cell.below, "middle", 10)] if cell.below else []),
    ]
    return (
        Markup("<g><title>{}</title>").format(cell.hint)
        + box
        + Markup("").join(words)
        + Markup("</g>")
    )


def _text(x: float, y: float, words: str, anchor: str, size: int = 12) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}" font-size="{}">{}</text>').format(
        round(x, 1), round(y, 1), anchor, size, words
    )


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
