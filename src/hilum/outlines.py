"""Outlines: rings of (row, column) corners painted, traced from masks and searched for crossings.

Pixel (r, c) is the square from (r, c) to (r + 1, c + 1); a pixel is inside where its centre is, by even-odd. `hilum.shapes` says more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np

Ring = tuple[tuple[float, float], ...]  # (row, column) of each corner; the last one is joined to the first
Size = tuple[int, int]  # height, width

_DOUBTFUL = 1e-5  # pixels from a centre: so near, rounding might put an edge on its wrong side
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # east, south, west, north: clockwise as seen


def filled(ring: Ring, size: Size) -> np.ndarray:
    """Even-odd inside of a ring: each edge turns over all pixels to its right in the rows whose centres it passes."""
    points = np.array(ring, np.float64).reshape(-1, 2)
    ends = np.stack([points, np.roll(points, -1, axis=0)])
    upper, lower = np.where(ends[0, :, :1] <= ends[1, :, :1], ends, ends[::-1])
    first, last = (np.clip(np.ceil(side[:, 0] - 0.5), 0, size[0]).astype(np.int64) for side in (upper, lower))
    edge = np.repeat(np.arange(len(points)), last - first)
    row = np.arange(edge.size) - np.repeat(np.cumsum(last - first) - last, last - first)
    column = np.clip(_centres_before(upper[edge], lower[edge], row), 0, size[1])
    turned = np.zeros((size[0], size[1] + 1), bool)
    np.logical_xor.at(turned, (row, column), True)
    return np.logical_xor.accumulate(turned, axis=1)[:, :-1]


def _centres_before(upper: np.ndarray, lower: np.ndarray, row: np.ndarray) -> np.ndarray:
    """How many centres of each row lie left of the edge from upper to lower, counted from column 0. Exact."""
    height, width = (lower - upper).T
    crossing = upper[:, 1] + (row + 0.5 - upper[:, 0]) * width / height - 0.5
    count = np.ceil(crossing).astype(np.int64)
    for place in np.flatnonzero(np.abs(crossing - np.round(crossing)) < _DOUBTFUL):
        (top, left), (bottom, right) = (map(Fraction, point) for point in (upper[place].tolist(), lower[place].tolist()))
        down = int(row[place]) + Fraction(1, 2) - top
        count[place] = math.ceil(left + down * (right - left) / (bottom - top) - Fraction(1, 2))
    return count


def traced(mask: np.ndarray) -> Iterator[tuple[Ring, tuple[Ring, ...]]]:
    """Exterior and holes of each part of a mask, corners on whole numbers; a part hangs together by edges, not by corners."""
    _, parts = cv2.connectedComponents(np.asarray(mask, np.uint8), connectivity=4)
    edges = _edges(parts)
    rings: dict[int, list[Ring]] = {}
    while edges:
        trail = [next(iter(edges))]
        part = edges[trail[0]]
        # A left turn first: it parts a hole from what lies outside where they touch at a corner only.
        while (ahead := next(edge for edge in _onward(trail[-1]) if edges.get(edge) == part)) != trail[0]:
            trail.append(ahead)
        for edge in trail:
            del edges[edge]
        turns = (edge for edge, before in zip(trail, [trail[-1], *trail[:-1]], strict=True) if edge[2] != before[2])
        rings.setdefault(part, []).append(tuple((float(row), float(column)) for row, column, _ in turns))
    # The first edge of a part is the upper side of its first pixel, so the exterior comes before the holes.
    for _, (exterior, *holes) in sorted(rings.items()):
        yield exterior, tuple(holes)


def _edges(parts: np.ndarray) -> dict[tuple[int, int, int], int]:
    """(row, column, heading) of each pixel edge between a part and the outside, the part on its right hand, and the part's number."""
    padded = np.pad(parts, 1)
    edges = {}
    for heading, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
        beyond = padded[1 + down : padded.shape[0] - 1 + down, 1 + right : padded.shape[1] - 1 + right]
        rows, columns = np.nonzero((parts > 0) & (beyond == 0))
        starts = zip((rows + (heading >= 2)).tolist(), (columns + (heading in (1, 2))).tolist(), parts[rows, columns].tolist(), strict=True)
        edges.update({(row, column, heading): part for row, column, part in starts})
    return edges


def _onward(edge: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """The edges that may follow: to the left, straight on, to the right."""
    row, column, heading = edge
    row, column = row + _STEPS[heading][0], column + _STEPS[heading][1]
    return [(row, column, (heading + turn) % 4) for turn in (-1, 0, 1)]


def corners(ring: Ring) -> Ring:
    """Without points that repeat the one before, the closing point among them."""
    return tuple(point for place, point in enumerate(ring) if point != ring[place - 1] or len(ring) == 1)


def meetings(ring: Ring) -> list[tuple[Ring, Ring]]:
    """Pairs of edges of a ring that share a point, other than neighbours their common corner. Exact: in whole numbers."""
    start = _as_whole(ring)
    end, count = np.roll(start, -1, axis=0), len(ring)
    low, high = np.minimum(start, end), np.maximum(start, end)
    order = np.argsort(low[:, 0], kind="stable")
    sorted_low, found = low[order, 0], []
    for place, one in enumerate(order):
        others = order[place + 1 : np.searchsorted(sorted_low, high[one, 0], side="right")]
        others = others[(low[others, 1] <= high[one, 1]) & (high[others, 1] >= low[one, 1])]
        near = (others - one) % count
        apart = others[(near != 1) & (near != count - 1)]
        across = _side(start[one], end[one], start[apart]) * _side(start[one], end[one], end[apart])
        along = _side(start[apart], end[apart], start[one]) * _side(start[apart], end[apart], end[one])
        found += [(one, other) for other in apart[(across <= 0) & (along <= 0)]]
        following = (one + 1) % count
        back = ((end[one] - start[one]) * (end[following] - start[following])).sum() < 0
        if back and _side(start[one], end[one], end[following][None])[0] == 0:
            found.append((one, following))
    return [tuple((ring[edge], ring[(edge + 1) % count]) for edge in sorted(pair)) for pair in sorted(map(sorted, found))]


def _side(start: np.ndarray, end: np.ndarray, points: np.ndarray) -> np.ndarray:
    """-1, 0 or 1: on which side of the line from start to end the points lie."""
    along, to = end - start, points - start
    turn = along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0]
    return (turn > 0).astype(np.int8) - (turn < 0).astype(np.int8)


def _as_whole(ring: Ring) -> np.ndarray:
    """The points times one power of two that makes all whole: int64 where products of differences fit, else Python's own."""
    ratios = [float(value).as_integer_ratio() for point in ring for value in point]
    scale = max(below for _, below in ratios)
    whole = [above * (scale // below) for above, below in ratios]
    kind = np.int64 if max(map(abs, whole)) < 1 << 29 else object
    return np.array(whole, kind).reshape(-1, 2)
