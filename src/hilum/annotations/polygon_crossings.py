"""Find where an outline crosses or touches itself, exactly and in n log n steps.

A line sweeps over the corners and holds the edges that it meets, in their order along it; two
edges can meet only once they are neighbours there, and the search ends with the first such pair
(Shamos and Hoey 1976, "Geometric intersection problems").
"""

from __future__ import annotations

from hilum.annotations.polygons import Ring

Point = tuple[int, int]


def meeting(ring: Ring) -> tuple[int, int] | None:
    """Return two edges that share a point, other than neighbours their common corner; None.

    Edge `i` leads from corner `i` of at least 3 to the next; no corner repeats the one before.
    """
    points = _whole(ring)
    return _repeated(points) or _folded(points) or _Sweep(points).meeting()


def _whole(ring: Ring) -> list[Point]:
    """Multiply all coordinates by one power of two that makes them whole."""
    ratios = [[float(value).as_integer_ratio() for value in point] for point in ring]
    scale = max(below for point in ratios for _, below in point)
    return [(row * (scale // a), column * (scale // b)) for (row, a), (column, b) in ratios]


def _repeated(points: list[Point]) -> tuple[int, int] | None:
    """Return the edges from one corner that stands at two places of the ring."""
    first: dict[Point, int] = {}
    for place, point in enumerate(points):
        if (before := first.setdefault(point, place)) != place:
            return before, place
    return None


def _folded(points: list[Point]) -> tuple[int, int] | None:
    """Return neighbours of which the second leads back along the first."""
    for place, corner in enumerate(points):
        before, after = points[place - 1], points[(place + 1) % len(points)]
        inner = (corner[0] - before[0]) * (after[0] - corner[0])
        inner += (corner[1] - before[1]) * (after[1] - corner[1])
        if inner < 0 and _turn(before, corner, after) == 0:
            return _ordered((place - 1) % len(points), place)
    return None


class _Sweep:
    """Of corners that all differ; the edges on the line stand in the order of their columns."""

    def __init__(self, points: list[Point]) -> None:
        self.points, self.count = points, len(points)
        self.ends = [
            _ordered_points(point, points[(place + 1) % self.count])
            for place, point in enumerate(points)
        ]
        self.line: list[int] = []

    def meeting(self) -> tuple[int, int] | None:
        """Return the first two edges found to share a point; None where none do."""
        for corner in sorted(range(self.count), key=self.points.__getitem__):
            if found := self._pass(corner):
                return _ordered(*found)
        return None

    def _pass(self, corner: int) -> tuple[int, int] | None:
        """Replace the edges that end in a corner by those that begin there."""
        point, own = self.points[corner], ((corner - 1) % self.count, corner)
        first = last = self._place(point)
        while last < len(self.line) and _turn(*self.ends[self.line[last]], point) == 0:
            if self.line[last] not in own:
                return self.line[last], corner
            last += 1
        begun = [edge for edge in own if self.ends[edge][0] == point]
        if len(begun) == 2 and _turn(point, self.ends[begun[0]][1], self.ends[begun[1]][1]) < 0:
            begun.reverse()
        self.line[first:last] = begun
        for place in {first, first + len(begun)}:
            if 0 < place < len(self.line):
                pair = self.line[place - 1], self.line[place]
                if self._share_a_point(*pair):
                    return pair
        return None

    def _place(self, point: Point) -> int:
        """Return how many edges on the line pass before a point."""
        low, high = 0, len(self.line)
        while low < high:
            middle = (low + high) // 2
            if _turn(*self.ends[self.line[middle]], point) > 0:
                low = middle + 1
            else:
                high = middle
        return low

    def _share_a_point(self, one: int, other: int) -> bool:
        if abs(one - other) in (1, self.count - 1):
            return False  # neighbours on the ring, which do not lead back along one another
        (a, b), (c, d) = self.ends[one], self.ends[other]
        if max(a, c) > min(b, d):
            return False
        return _turn(a, b, c) * _turn(a, b, d) <= 0 and _turn(c, d, a) * _turn(c, d, b) <= 0


def _turn(start: Point, end: Point, point: Point) -> int:
    """Return above 0, 0 or below 0: on which side of the line from start to end a point lies."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def _ordered(one: int, other: int) -> tuple[int, int]:
    return min(one, other), max(one, other)


def _ordered_points(one: Point, other: Point) -> tuple[Point, Point]:
    return (one, other) if one < other else (other, one)
