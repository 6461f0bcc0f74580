"""Outlines: rings of (row, column) corners painted and traced from masks.

Pixel (r, c) is the square from (r, c) to (r + 1, c + 1); a pixel is inside where its centre is, by even-odd. `hilum.annotations.shapes` says more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

Ring = tuple[
    tuple[float, float], ...
]  # (row, column) of each corner; the last one is joined to the first
Size = tuple[int, int]  # height, width
Window = tuple[slice, slice]  # rows and columns of a picture

_DOUBTFUL = 1e-5  # pixels from a centre: so near, rounding might put an edge on its wrong side
_MOST_CORNERS = 200_000
_MOST_PASSED = 16_000_000  # rows, by all edges of a polygon
_TIMES_OVER = 16  # pixels that holes may reach over, in pictures
_AT_ONCE = 1 << 18  # rows passed whose places are held in memory
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # east, south, west, north: clockwise as seen


def window_of(ring: Ring, size: Size) -> Window:
    """Return the rows and columns of a picture that a ring reaches."""
    points = np.array(ring, np.float64).reshape(-1, 2)
    if not len(points):
        return slice(0, 0), slice(0, 0)
    low = np.clip(np.floor(points.min(axis=0)), 0, size).astype(np.int64)
    high = np.clip(np.ceil(points.max(axis=0)), 0, size).astype(np.int64)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def costly(rings: Sequence[Ring], size: Size) -> list[str]:
    """Say where rings, the first of them around the others, would take more work than any drawn by hand or traced."""
    found = []
    if (corners := sum(map(len, rings))) > _MOST_CORNERS:
        return [f"has {corners:,} corners; expected at most {_MOST_CORNERS:,}; draw it as a bitmap"]
    if (
        passed := sum(
            int(np.subtract(*_rows(_edges_of(ring), slice(0, size[0]))[::-1]).sum())
            for ring in rings
        )
    ) > _MOST_PASSED:
        found.append(
            f"passes {passed:,} rows, all edges taken together; expected at most {_MOST_PASSED:,}; draw it as a bitmap"
        )
    areas = ([side.stop - side.start for side in window_of(ring, size)] for ring in rings[1:])
    if (area := sum(height * width for height, width in areas)) > (
        most := _TIMES_OVER * size[0] * size[1]
    ):
        found.append(
            f"has holes that reach over {area:,} pixels; expected at most {most:,}; draw it as a bitmap"
        )
    return found


def filled(ring: Ring, size: Size) -> np.ndarray:
    """Even-odd inside of a ring, bool (height, width)."""
    mask, window = np.zeros(size, bool), window_of(ring, size)
    mask[window] = filled_within(ring, window)
    return mask


def filled_within(ring: Ring, window: Window) -> np.ndarray:
    """Even-odd inside of a ring in a window of a picture: each edge turns over all pixels to its right in the rows whose centres it passes."""
    rows, columns = window
    edges, exact = _edges_of(ring), _Exact(ring)
    first, last = _rows(edges, rows)
    turned = np.zeros((rows.stop - rows.start, columns.stop - columns.start + 1), bool)
    passed = np.cumsum(last - first)
    parts = np.searchsorted(passed, np.arange(_AT_ONCE, passed[-1] if passed.size else 0, _AT_ONCE))
    for some in np.split(np.arange(len(first)), np.unique(parts)):
        count = last[some] - first[some]
        edge = np.repeat(some, count)
        row = np.arange(edge.size) - np.repeat(np.cumsum(count) - last[some], count)
        column = np.clip(_centres_before(edges, edge, row, exact), columns.start, columns.stop)
        np.logical_xor.at(turned, (row - rows.start, column - columns.start), True)
    return np.logical_xor.accumulate(turned, axis=1)[:, :-1]


def _edges_of(ring: Ring) -> np.ndarray:
    """(upper or lower end, edge, row or column) of a ring."""
    points = np.array(ring, np.float64).reshape(-1, 2)
    ends = np.stack([points, np.roll(points, -1, axis=0)])
    return np.where(ends[0, :, :1] <= ends[1, :, :1], ends, ends[::-1])


def _rows(edges: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row whose centre each edge passes, and the one behind the last."""
    first, last = (
        np.clip(np.ceil(side[:, 0] - 0.5), rows.start, rows.stop).astype(np.int64) for side in edges
    )
    return first, last


def _centres_before(
    edges: np.ndarray, edge: np.ndarray, row: np.ndarray, exact: _Exact
) -> np.ndarray:
    """Count the centres of each row that lie left of an edge, from column 0. Exact."""
    upper, lower = edges[:, edge]
    height, width = (lower - upper).T
    crossing = upper[:, 1] + (row + 0.5 - upper[:, 0]) * width / height - 0.5
    count = np.ceil(crossing).astype(np.int64)
    doubtful = np.flatnonzero(np.abs(crossing - np.round(crossing)) < _DOUBTFUL)
    if doubtful.size:
        count[doubtful] = exact.centres_before(edge[doubtful], row[doubtful])
    return count


class _Exact:
    """The edges of a ring in whole numbers, made when first needed."""

    def __init__(self, ring: Ring) -> None:
        self._ring, self._edges = ring, None

    def centres_before(self, edge: np.ndarray, row: np.ndarray) -> np.ndarray:
        if self._edges is None:
            points, self._scale = _as_whole(self._ring)
            ends = np.stack([points, np.roll(points, -1, axis=0)])
            self._edges = np.where(ends[0, :, :1] <= ends[1, :, :1], ends, ends[::-1])
        (top, left), (bottom, right) = (end.T for end in self._edges[:, edge])
        height, down = bottom - top, (2 * row + 1).astype(top.dtype) * self._scale - 2 * top
        above = 2 * left * height + down * (right - left) - self._scale * height
        return (-(-above // (2 * self._scale * height))).astype(np.int64)


def traced(mask: np.ndarray) -> Iterator[tuple[Ring, tuple[Ring, ...]]]:
    """Exterior and holes of each part of a mask, corners on whole numbers; a part hangs together by edges, not by corners."""
    _, parts = cv2.connectedComponents(np.asarray(mask, np.uint8), connectivity=4)
    edges = _edges(parts)
    rings: dict[int, list[Ring]] = {}
    for first in list(edges):
        if first not in edges:
            continue  # part of a trail already
        trail, part = [first], edges[first]
        # A left turn first: it parts a hole from what lies outside where they touch at a corner only.
        while (
            ahead := next(edge for edge in _onward(trail[-1]) if edges.get(edge) == part)
        ) != trail[0]:
            trail.append(ahead)
        for edge in trail:
            del edges[edge]
        turns = (
            edge
            for edge, before in zip(trail, [trail[-1], *trail[:-1]], strict=True)
            if edge[2] != before[2]
        )
        rings.setdefault(part, []).append(
            tuple((float(row), float(column)) for row, column, _ in turns)
        )
    # The first edge of a part is the upper side of its first pixel, so the exterior comes before the holes.
    for _, (exterior, *holes) in sorted(rings.items()):
        yield exterior, tuple(holes)


def _edges(parts: np.ndarray) -> dict[tuple[int, int, int], int]:
    """(row, column, heading) of each pixel edge between a part and the outside, the part on its right hand, and the part's number."""
    padded = np.pad(parts, 1)
    edges = {}
    for heading, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
        beyond = padded[
            1 + down : padded.shape[0] - 1 + down, 1 + right : padded.shape[1] - 1 + right
        ]
        rows, columns = np.nonzero((parts > 0) & (beyond == 0))
        starts = zip(
            (rows + (heading >= 2)).tolist(),
            (columns + (heading in (1, 2))).tolist(),
            parts[rows, columns].tolist(),
            strict=True,
        )
        edges.update({(row, column, heading): part for row, column, part in starts})
    return edges


def _onward(edge: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """The edges that may follow: to the left, straight on, to the right."""
    row, column, heading = edge
    row, column = row + _STEPS[heading][0], column + _STEPS[heading][1]
    return [(row, column, (heading + turn) % 4) for turn in (-1, 0, 1)]


def corners(ring: Ring) -> Ring:
    """Without points that repeat the one before, the closing point among them."""
    return tuple(
        point for place, point in enumerate(ring) if point != ring[place - 1] or len(ring) == 1
    )


def _as_whole(ring: Ring) -> tuple[np.ndarray, int]:
    """Return the points times one power of two that makes all whole, and that: int64 where products of differences fit, else Python's own."""
    ratios = [float(value).as_integer_ratio() for point in ring for value in point]
    scale = max(below for _, below in ratios)
    whole = [above * (scale // below) for above, below in ratios]
    kind = np.int64 if max(scale, *map(abs, whole)) < 1 << 29 else object
    return np.array(whole, kind).reshape(-1, 2), scale
