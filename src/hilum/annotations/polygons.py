"""Rasterise polygons and trace masks: rings of (row, column) corners.

Pixel (r, c) is the square from (r, c) to (r + 1, c + 1); a pixel is inside where its centre is, by
the even-odd rule. `hilum.annotations.shapes` has the conventions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

# (row, column) of each corner; the last one is joined to the first.
Ring = tuple[tuple[float, float], ...]
Size = tuple[int, int]  # height, width
Window = tuple[slice, slice]  # rows and columns of an image

_INEXACT = 1e-5  # pixels from a centre: nearer, rounding may put an edge on the wrong side of it
_MOST_CORNERS = 200_000  # of an image; a lung traced pixel by pixel has a few thousand
_MOST_PASSED = 16_000_000  # rows crossed by all edges of a polygon, about a second of work
_TIMES_OVER = 16  # pixels that the windows of holes may cover, in multiples of the image's
_AT_ONCE = 1 << 18  # crossed rows that are processed at a time, which bounds the memory
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # east, south, west, north: clockwise as seen
# Row and column, beside a corner, of the pixel ahead on either hand, by heading.
_AHEAD_LEFT = np.array([[-1, 0, 0, -1], [0, 0, -1, -1]])
_AHEAD_RIGHT = np.array([[0, 0, -1, -1], [0, -1, -1, 0]])


def window_of(ring: Ring, size: Size) -> Window:
    """Return the rows and columns of an image that a ring covers."""
    points = np.array(ring, np.float64).reshape(-1, 2)
    if not len(points):
        return slice(0, 0), slice(0, 0)
    low = np.clip(np.floor(points.min(axis=0)), 0, size).astype(np.int64)
    high = np.clip(np.ceil(points.max(axis=0)), 0, size).astype(np.int64)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def costly(rings: Sequence[Ring], size: Size) -> list[str]:
    """Say where rasterising would take more work than any hand-drawn or traced shape needs.

    `rings` is the exterior and the holes inside it. Returns a sentence each, none where all is
    well.
    """
    found = []
    if (corners := sum(map(len, rings))) > _MOST_CORNERS:
        return [f"has {corners:,} corners; expected at most {_MOST_CORNERS:,}; draw it as a bitmap"]
    passed = sum(_rows_passed(ring, size[0]) for ring in rings)
    if passed > _MOST_PASSED:
        found.append(
            f"passes {passed:,} rows, all edges taken together; "
            f"expected at most {_MOST_PASSED:,}; draw it as a bitmap"
        )
    area, most = (
        sum(_area(window_of(ring, size)) for ring in rings[1:]),
        _TIMES_OVER * size[0] * size[1],
    )
    if area > most:
        found.append(
            f"has holes that reach over {area:,} pixels; "
            f"expected at most {most:,}; draw it as a bitmap"
        )
    return found


def _rows_passed(ring: Ring, height: int) -> int:
    first, last = _rows(_edges_of(ring), slice(0, height))
    return int((last - first).sum())


def _area(window: Window) -> int:
    rows, columns = window
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def filled(ring: Ring, size: Size) -> np.ndarray:
    """Rasterise a ring by the even-odd rule, bool (height, width)."""
    mask, window = np.zeros(size, bool), window_of(ring, size)
    mask[window] = filled_within(ring, window)
    return mask


def filled_within(ring: Ring, window: Window) -> np.ndarray:
    """Rasterise a ring by the even-odd rule within a window of an image.

    Each edge flips all pixels to its right in the rows whose centres it crosses.
    """
    rows, columns = window
    edges, exact = _edges_of(ring), _Exact(ring)
    first, last = _rows(edges, rows)
    parity = np.zeros((rows.stop - rows.start, columns.stop - columns.start + 1), bool)
    passed = np.cumsum(last - first)
    parts = np.searchsorted(passed, np.arange(_AT_ONCE, passed[-1] if passed.size else 0, _AT_ONCE))
    for some in np.split(np.arange(len(first)), np.unique(parts)):
        count = last[some] - first[some]
        edge = np.repeat(some, count)
        row = np.arange(edge.size) - np.repeat(np.cumsum(count) - last[some], count)
        column = np.clip(_centres_before(edges, edge, row, exact), columns.start, columns.stop)
        np.logical_xor.at(parity, (row - rows.start, column - columns.start), True)
    return np.logical_xor.accumulate(parity, axis=1)[:, :-1]


def _edges_of(ring: Ring) -> np.ndarray:
    """Return the edges of a ring as (upper or lower end, edge, row or column)."""
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
    """Count the centres of each row to the left of an edge, from column 0, exactly."""
    upper, lower = edges[:, edge]
    height, width = (lower - upper).T
    crossing = upper[:, 1] + (row + 0.5 - upper[:, 0]) * width / height - 0.5
    count = np.ceil(crossing).astype(np.int64)
    inexact = np.flatnonzero(np.abs(crossing - np.round(crossing)) < _INEXACT)
    if inexact.size:
        count[inexact] = exact.centres_before(edge[inexact], row[inexact])
    return count


class _Exact:
    """The edges of a ring in whole numbers, made when first needed."""

    def __init__(self, ring: Ring) -> None:
        self._ring, self._edges = ring, None

    def centres_before(self, edge: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Count the centres of each row left of an edge, as `_centres_before` does."""
        if self._edges is None:
            points, self._scale = _as_whole(self._ring)
            ends = np.stack([points, np.roll(points, -1, axis=0)])
            self._edges = np.where(ends[0, :, :1] <= ends[1, :, :1], ends, ends[::-1])
        (top, left), (bottom, right) = (end.T for end in self._edges[:, edge])
        height, down = bottom - top, (2 * row + 1).astype(top.dtype) * self._scale - 2 * top
        above = 2 * left * height + down * (right - left) - self._scale * height
        return (-(-above // (2 * self._scale * height))).astype(np.int64)


def traced(mask: np.ndarray) -> Iterator[tuple[Ring, tuple[Ring, ...]]]:
    """Yield exterior and holes of each 4-connected component of a mask.

    Corners have whole coordinates.
    """
    layer = np.asarray(mask, np.uint8)
    left, top, width, height = cv2.boundingRect(layer)
    inside = layer[top : top + height, left : left + width]
    if not inside.size:
        return
    _, parts = cv2.connectedComponents(inside, connectivity=4)
    edges = _edges(parts)
    follows, turns = (values.tolist() for values in _trails(edges, parts))
    rows, columns = (edges[:2] + [[top], [left]]).astype(float).tolist()
    places = [*zip(rows, columns, strict=True)]
    rings: dict[int, list[Ring]] = {}
    met = bytearray(len(places))
    for first, part in enumerate(edges[3, edges[2] == 0].tolist()):  # each ring goes east somewhere
        if met[first]:
            continue  # part of a ring already
        ring, edge = [], first
        while not met[edge]:
            met[edge] = 1
            if turns[edge]:
                ring.append(places[edge])
            edge = follows[edge]
        rings.setdefault(part, []).append(tuple(ring))
    # A part's first edge is the upper side of its first pixel: the exterior precedes the holes.
    for _, (exterior, *holes) in sorted(rings.items()):
        yield exterior, tuple(holes)


def _edges(parts: np.ndarray) -> np.ndarray:
    """Return each pixel edge between a component and the outside, int64 (4, edges).

    Row and column where it starts, heading (number in _STEPS, with the component on its right
    hand), and the component's number; sorted by heading, row and column.
    """
    filled = parts > 0
    padded = np.zeros((filled.shape[0] + 2, filled.shape[1] + 2), bool)
    padded[1:-1, 1:-1] = filled
    found = []
    for heading, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
        beyond = padded[
            1 + down : padded.shape[0] - 1 + down, 1 + right : padded.shape[1] - 1 + right
        ]
        rows, columns = np.nonzero(filled > beyond)
        starts = rows + (heading >= 2), columns + (heading in (1, 2))
        found.append(np.stack([*starts, np.full_like(rows, heading), parts[rows, columns]]))
    return np.concatenate(found, axis=1)


def _trails(edges: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the edge that follows each, and whether it turns from the one before."""
    row, column, heading, part = edges
    step = np.array(_STEPS)
    row, column = row + step[heading, 0], column + step[heading, 1]
    # Pixels ahead, left and right of it. Left first: it separates a hole from the outside where
    # they touch at a corner only.
    padded = cv2.copyMakeBorder(parts, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    left, right = (
        padded[row + 1 + down[heading], column + 1 + across[heading]]
        for down, across in (_AHEAD_LEFT, _AHEAD_RIGHT)
    )
    turn = np.where(left == part, -1, np.where(right == part, 0, 1))
    shape = parts.shape[0] + 1, parts.shape[1] + 1
    order = np.ravel_multi_index((edges[2], edges[0], edges[1]), (4, *shape))
    wanted = np.ravel_multi_index(((heading + turn) % 4, row, column), (4, *shape))
    follows = np.asarray(np.searchsorted(order, wanted))
    turns = np.zeros(follows.shape, bool)
    turns[follows] = turn != 0
    return follows, turns


def corners(ring: Ring) -> Ring:
    """Return a ring without points that repeat the one before, the closing point among them."""
    return tuple(
        point for place, point in enumerate(ring) if point != ring[place - 1] or len(ring) == 1
    )


def _as_whole(ring: Ring) -> tuple[np.ndarray, int]:
    """Return the points times one power of two that makes all of them whole, and that power."""
    ratios = [float(value).as_integer_ratio() for point in ring for value in point]
    scale = max(below for _, below in ratios)
    whole = [above * (scale // below) for above, below in ratios]
    # Products of two differences must fit into 63 bits, else Python's own integers are used.
    kind = np.int64 if max(scale, *map(abs, whole)) < 1 << 29 else object
    return np.array(whole, kind).reshape(-1, 2), scale
