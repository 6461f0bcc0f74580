"""Check the numbers of shapes: what is wrong with a box, polygon or run lengths, in sentences.

Every function returns a list of sentences that lack their subject ("count 3 is -1; …"), empty where
all is well. Sizes are (height, width) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from hilum.annotations import polygon_crossings, polygons
from hilum.annotations.polygons import Ring, Size

_MOST_PIXELS = 1 << 30  # of an image that run lengths are decoded for
# Pixels from the corner. Larger numbers are mistakes, and their differences lose the fraction of a
# pixel in float64 arithmetic.
_FARTHEST = 1e9


def not_finite(named: Iterable[tuple[str, float]]) -> list[str]:
    """Check named coordinates: each a finite number of pixels."""
    return [
        f"{name} is {value}; expected a number of pixels"
        for name, value in named
        if not abs(value) <= _FARTHEST  # also for nan
    ]


def coordinates(rings: Iterable[Ring]) -> Iterator[tuple[str, float]]:
    """Yield each coordinate of rings with the name of its point, for `not_finite`."""
    for ring in rings:
        for place, point in enumerate(ring):
            for value in point:
                yield f"point {place}", value


def outside(edges: tuple[float, float, float, float], size: Size) -> list[str]:
    """Check that a bounding box (top, left, bottom, right) is within an image."""
    top, left, bottom, right = edges
    if min(top, left) >= 0 and bottom <= size[0] and right <= size[1]:
        return []
    where = f"rows {top:g} to {bottom:g}, columns {left:g} to {right:g}"
    return [
        f"reaches outside the image: {where}, the image is {size[0]}x{size[1]} (height x width)"
    ]


def of_rings(rings: tuple[Ring, ...], size: Size) -> list[str]:
    """Check a polygon: the first ring is its exterior, the others are its holes."""
    if found := polygons.costly(rings, size):
        return found
    inside = polygons.filled(rings[0], size)
    for place, ring in enumerate(rings):
        name = f"hole {place}" if place else "the outline"
        found += _of_corners(name, ring)
        window = polygons.window_of(ring, size)
        beyond = np.count_nonzero(polygons.filled_within(ring, window) & ~inside[window])
        if place and beyond:
            found.append(f"{name} covers {beyond} pixels that are not inside the outline")
    return found


def _of_corners(name: str, ring: Ring) -> list[str]:
    corners = polygons.corners(ring)
    if len(corners) < 3:
        return [f"{name} has {len(corners)} different points in a row; at least 3 are needed"]
    meeting = polygon_crossings.meeting(corners)
    if not meeting:
        return []
    ends = [(corners[edge], corners[(edge + 1) % len(corners)]) for edge in meeting]
    first, second = (" to ".join(f"({row:g}, {column:g})" for row, column in edge) for edge in ends)
    return [f"{name} crosses or touches itself: {first} and {second} meet"]


def of_runs(stated: Size, counts: tuple[int, ...], size: Size) -> list[str]:
    """Check run lengths that state a size, for an image of `size`."""
    if not (min(stated) >= 0 and math.prod(stated) <= _MOST_PIXELS):
        return [
            f"is given for an image of {str(stated)[:80]}; "
            f"expected height and width of at most {_MOST_PIXELS:,} pixels together"
        ]
    found = []
    if tuple(stated) != tuple(size):
        found.append(
            f"is given for an image of {stated}, this one is {tuple(size)} (height, width)"
        )
    found += [
        f"count {place} is {count}; a run cannot be shorter than 0"
        for place, count in enumerate(counts)
        if count < 0
    ]
    if sum(counts) != math.prod(stated):
        found.append(
            f"the counts add up to {sum(counts)} pixels; "
            f"the image of {stated} has {math.prod(stated)}"
        )
    return found
