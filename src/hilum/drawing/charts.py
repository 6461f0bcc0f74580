"""Line charts, histograms and interval bars as SVG with axes, tick marks and a text alternative.

Values are finite numbers; leaving out missing ones is the caller's. `told` is the text alternative: what a reader who cannot see the
chart should know. Lengths are SVG user units, about a CSS pixel each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import Markup

from hilum.drawing import COLOURS

WIDTH = 440
_LEFT, _RIGHT, _BOTTOM = 52, 12, 42  # margins around the plot, for the axes and their labels
_LINE = 17  # height of a line of text
_BINS = 24  # at most, about


@dataclass(frozen=True)
class Line:
    """A named line through the points (x, y); `faint` sets it back behind the others."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    dashed: bool = False
    faint: bool = False


@dataclass(frozen=True)
class Point:
    name: str
    x: float
    y: float
    colour: int = 0


@dataclass(frozen=True)
class Axis:
    """One axis and where its ends lie on the page."""

    label: str
    low: float
    high: float
    start: float
    end: float
    whole: bool = False  # counts: no tick between two whole numbers

    def at(self, value: float) -> float:
        return round(
            self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1
        )

    def ticks(self, about: int = 5) -> list[float]:
        step = nice_step((self.high - self.low) / about)
        step = max(step, 1) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(step * number, 12) for number in range(first, last + 1)]


def nice_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least` (> 0)."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def unit_square(
    series: Sequence[Line],
    points: Sequence[Point] = (),
    *,
    x: str,
    y: str,
    alt_text: str,
    dots: Sequence[tuple[float, float, int]] = (),
) -> Markup:
    """Lines and points with both axes from 0 to 1, and a legend above; `dots` (x, y, colour) are not in the legend."""
    legend = len(series) + len(points)
    top, side = 8 + legend * _LINE, WIDTH - _LEFT - _RIGHT
    across, up = Axis(x, 0, 1, _LEFT, _LEFT + side), Axis(y, 0, 1, top + side, top)
    parts = [
        *_axes(across, up),
        *(_line(line, across, up) for line in series),
        *(_point(point, across, up) for point in points),
    ]
    parts += [_dot(across.at(left), up.at(height), colour) for left, height, colour in dots]
    for row, entry in enumerate((*series, *points)):
        parts += _legend(entry, _LEFT, 8 + row * _LINE)
    return _svg(WIDTH, top + side + _BOTTOM, alt_text, parts)


def histograms(
    groups: Mapping[str, np.ndarray],
    *,
    x: str,
    y: str,
    alt_text: str,
    mark: tuple[float, str] | None = None,
) -> Markup:
    """A panel for each named group of values, over one axis and in one scale; `mark` is a named place on that axis.

    Raises `ValueError` where no group has a value.
    """
    edges = _edges(np.concatenate(list(groups.values())), mark)
    counts = {name: np.histogram(values, edges)[0] for name, values in groups.items()}
    tallest = max(max(int(count.max()) for count in counts.values()), 1)
    across = Axis(x, float(edges[0]), float(edges[-1]), _LEFT, WIDTH - _RIGHT)
    top, panel = (_LINE if mark else 0) + 4, 104 if len(groups) > 1 else 190
    parts: list[Markup] = []
    for row, (name, count) in enumerate(counts.items()):
        head = top + row * (panel + 8)
        up = Axis(y, 0, tallest, head + panel, head + _LINE, whole=True)
        last = row == len(counts) - 1
        parts += _axes(across, up, with_x=last)
        parts += [
            _bar(across, up, edges[k], edges[k + 1], int(count[k]), row)
            for k in np.flatnonzero(count)
        ]
        parts.append(_text(WIDTH - _RIGHT, head + 12, f"{name} ({int(count.sum())})", "end"))
    bottom = top + len(counts) * (panel + 8) - 8
    if mark:
        place = across.at(mark[0])
        parts.append(
            Markup(
                '<path d="M{0} {1}V{2}" stroke="currentColor" stroke-dasharray="4 3" fill="none"/>'
            ).format(place, top, bottom)
        )
        parts.append(_text(place, 12, mark[1], "end" if place > WIDTH * 0.6 else "start"))
    return _svg(WIDTH, bottom + _BOTTOM, alt_text, parts)


def interval(value: float, low: float, high: float, *, alt_text: str) -> Markup:
    """A small bar on a scale from 0 to 1: the interval as a line, the value as a dot."""
    across = Axis("", 0, 1, 4, 126)
    parts = [Markup('<path d="M4 9H126" stroke="currentColor" opacity=".25"/>')]
    parts += [
        Markup('<path d="M{0} 6V12" stroke="currentColor" opacity=".25"/>').format(across.at(tick))
        for tick in (0, 0.5, 1)
    ]
    if low <= high:  # neither is nan
        parts.append(
            Markup('<path d="M{} 9H{}" stroke="{}" stroke-width="5" opacity=".6"/>').format(
                across.at(low), across.at(high), Markup(COLOURS[0])
            )
        )
    parts.append(
        Markup('<circle cx="{}" cy="9" r="3.5" fill="{}"/>').format(
            across.at(value), Markup(COLOURS[0])
        )
    )
    return _svg(130, 18, alt_text, parts)


def _edges(values: np.ndarray, mark: tuple[float, str] | None) -> np.ndarray:
    """Bin edges at round numbers that hold all values and the mark."""
    if not values.size:
        raise ValueError("a histogram needs at least one value")
    held = np.append(values, mark[0]) if mark else values
    low, high = float(held.min()), float(held.max())
    step = nice_step(max(high - low, 1e-6 * max(abs(high), 1)) / _BINS)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return np.arange(first, last + 1) * step


def _axes(across: Axis, up: Axis, *, with_x: bool = True) -> Iterator[Markup]:
    """Grid, tick marks, numbers and labels; `with_x` also those of the horizontal axis."""
    left, right, bottom, top = across.start, across.end, up.start, up.end
    for tick in up.ticks(5 if bottom - top > 150 else 3):
        place = up.at(tick)
        yield Markup('<path d="M{} {}H{}" stroke="currentColor" opacity=".12"/>').format(
            left, place, right
        )
        yield _text(left - 7, place + 4, f"{tick:g}", "end")
    yield Markup('<path d="M{0} {1}V{2}H{3}" stroke="currentColor" fill="none"/>').format(
        left, top, bottom, right
    )
    yield Markup(
        '<text transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}</text>'
    ).format((top + bottom) / 2, up.label)
    if with_x:
        for tick in across.ticks():
            place = across.at(tick)
            yield Markup('<path d="M{0} {1}v5" stroke="currentColor"/>').format(place, bottom)
            yield _text(place, bottom + 18, f"{tick:g}", "middle")
        yield _text((left + right) / 2, bottom + 36, across.label, "middle")


def _line(line: Line, across: Axis, up: Axis) -> Markup:
    """The path, on tenths of a unit and without points that fall together, so that long curves stay small."""
    places = groupby((across.at(x), up.at(y)) for x, y in zip(line.x, line.y, strict=True))
    path = "M" + "L".join(f"{x} {y}" for (x, y), _ in places)
    return Markup(
        '<path d="{}" fill="none" stroke="{}" stroke-width="{}" stroke-linejoin="round"{}{}/>'
    ).format(
        path,
        Markup(COLOURS[line.colour]),
        1.5 if line.faint or line.dashed else 2.5,
        *_manner(line),
    )


def _manner(line: Line) -> tuple[Markup, Markup]:
    return Markup(' stroke-dasharray="5 4"' if line.dashed else ""), Markup(
        ' opacity=".55"' if line.faint else ""
    )


def _point(point: Point, across: Axis, up: Axis) -> Markup:
    return _dot(across.at(point.x), up.at(point.y), point.colour)


def _dot(x: float, y: float, colour: int) -> Markup:
    return Markup(
        '<circle cx="{}" cy="{}" r="5" fill="{}" stroke="var(--paper, #fff)" stroke-width="1.5"/>'
    ).format(x, y, Markup(COLOURS[colour]))


def _legend(entry: Line | Point, left: float, top: float) -> Iterator[Markup]:
    middle = top + _LINE / 2 - 3
    if isinstance(entry, Point):
        yield _dot(left + 12, middle, entry.colour)
    else:
        yield Markup('<path d="M{} {}h24" stroke="{}" stroke-width="2.5"{}{}/>').format(
            left, middle, Markup(COLOURS[entry.colour]), *_manner(entry)
        )
    yield _text(left + 32, middle + 4, entry.name, "start")


def _bar(across: Axis, up: Axis, low: float, high: float, count: int, colour: int) -> Markup:
    left, right, head = across.at(low), across.at(high), up.at(count)
    width, height = max(round(right - left - 1, 1), 0.5), round(up.start - head, 1)
    shape = Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="{}">').format(
        left, head, width, height, Markup(COLOURS[colour % len(COLOURS)])
    )
    return shape + Markup("<title>{:g} to {:g}: {}</title></rect>").format(low, high, count)


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
        round(x, 1), round(y, 1), anchor, words
    )


def _svg(width: float, height: float, alt_text: str, parts: Sequence[Markup]) -> Markup:
    head = Markup(
        '<svg class="chart" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}" font-size="12" fill="currentColor">'
    )
    return head.format(width, round(height), alt_text) + Markup("").join(parts) + Markup("</svg>")
