"""Count the pixels that COCO's tools make of a polygon.

They differ from `hilum.annotations.shapes`, by a pixel here and there along slanted edges: an
outline is drawn on a grid five times as fine, and sampled where it crosses from one column of
pixels to the next. `area` of an annotation has to be what users of the file count, so it is
counted their way here.

Source: cocoapi, common/maskApi.c, rleFrPoly (Dollár and Lin 2014, simplified BSD licence).
"""

from __future__ import annotations

import numpy as np

from hilum.annotations.polygons import Ring, Size

_FINER = 5  # as in rleFrPoly: another grid counts other pixels


def pixels(ring: Ring, size: Size) -> int:
    """Count the pixels inside a ring of (row, column) points; `size` is (height, width)."""
    row, column = _boundary(np.trunc(_FINER * np.array(ring, np.float64) + 0.5).astype(np.int64))
    crosses = np.flatnonzero(np.diff(column))
    before, after = column[crosses], column[crosses + 1]
    x = (np.where(after < before, after, after - 1) + 0.5) / _FINER - 0.5
    y = (np.minimum(row[crosses], row[crosses + 1]) + 0.5) / _FINER - 0.5
    kept = (np.floor(x) == x) & (x >= 0) & (x <= size[1] - 1)
    y = np.ceil(np.clip(y[kept], 0, size[0]))
    turns = np.sort(x[kept].astype(np.int64) * size[0] + y.astype(np.int64))
    turns = np.append(turns, size[0] * size[1])[: len(turns) // 2 * 2 + len(turns) % 2 * 2]
    return int((turns[1::2] - turns[::2]).sum())


def _boundary(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of all points on the closed outline through (row, column) corners."""
    edges = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    rows, columns = zip(*(_edge(begin, end) for begin, end in edges), strict=True)
    return np.concatenate(rows), np.concatenate(columns)


def _edge(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of an edge's points, one a step of its longer side, with both ends.

    That side is walked upwards for the rounding, and given in the edge's own direction.
    """
    down, right = np.abs(end - begin)
    along = 1 if right >= down else 0  # the axis that is walked
    flipped = begin[along] > end[along]
    low, high = (end, begin) if flipped else (begin, end)
    steps = np.arange(high[along] - low[along] + 1)
    length = max(high[along] - low[along], 1)
    slope = (high[1 - along] - low[1 - along]) / length
    across = np.trunc(low[1 - along] + slope * steps + 0.5).astype(np.int64)
    walked = steps + low[along]
    row, column = (across, walked) if along else (walked, across)
    return (row[::-1], column[::-1]) if flipped else (row, column)
