"""What is drawn on an image: boxes, polygons, bitmaps and run lengths, in the file's own pixels.

Points are (row, column) from the picture's top left corner: pixel (r, c) is the square from (r, c) to (r + 1, c + 1), its centre is
(r + 0.5, c + 0.5), as in COCO and in Supervisely's labelling tool. A pixel belongs to a box or polygon where its centre lies inside;
a centre exactly on the outline belongs where the inside is below it or to its right. So shapes that share an edge share no pixel, a
box 2 high and 3 wide covers 6 pixels, and the outline is not painted (OpenCV's fillPoly paints it). Inside is even-odd where an
outline crosses itself; holes are taken away; what lies beyond the picture is cut off.

Every shape has `to_mask(size)`, bool (height, width); `to_box()`, the smallest box around it; and `to_json()`, one text form that
`from_json` turns back into an equal shape. A shape may hold nonsense, which `faults` names; `to_mask` raises `BadData` only where
there is no honest answer: numbers that are not finite, runs that do not fill the picture.

Sources: COCO data format and mask API (Lin et al. 2014, cocodataset.org); Supervisely annotation format (developer.supervisely.com).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hilum.annotations import mask_codecs, polygon_crossings, polygons
from hilum.annotations.polygons import Ring, Size
from hilum.errors import BadData, unknown
from hilum.safety import untrusted_files

_MOST_PIXELS = 1 << 30  # of a picture that run lengths are drawn for
_FARTHEST = 1e9  # pixels from the corner: beyond it a number is a mistake, and differences lose the fraction of a pixel


@dataclass(frozen=True)
class Box:
    """An upright rectangle from (top, left) to (top + height, left + width)."""

    top: float
    left: float
    height: float
    width: float

    @classmethod
    def from_coco(cls, bbox: Sequence[float]) -> Box:
        """Of [x, y, width, height], as COCO and NIH's BBox_List write it."""
        x, y, width, height = mask_codecs.numbers(bbox, "a COCO box [x, y, width, height]", 4)
        return cls(y, x, height, width)

    def to_coco(self) -> list[float]:
        return [self.left, self.top, self.width, self.height]

    def to_mask(self, size: Size) -> np.ndarray:
        _refuse(_not_finite(self))
        mask = np.zeros(size, bool)
        bottom, right = _pixels([self.top + self.height, self.left + self.width], size)
        top, left = _pixels([self.top, self.left], size)
        mask[top:bottom, left:right] = True
        return mask

    def to_box(self) -> Box:
        return self

    def within(self, size: Size) -> Box:
        """The part of it that lies on a picture of `size`; of one that lies beside it nothing, 0 high or wide."""
        top, left = (
            min(max(edge, 0.0), side)
            for edge, side in zip((self.top, self.left), size, strict=True)
        )
        ends = (self.top + self.height, self.left + self.width)
        bottom, right = (min(max(edge, 0.0), side) for edge, side in zip(ends, size, strict=True))
        return Box(top, left, bottom - top, right - left)

    def to_polygon(self) -> Polygon:
        """Its outline, clockwise from the top left corner; `to_mask` of both are equal."""
        bottom, right = self.top + self.height, self.left + self.width
        return Polygon(
            ((self.top, self.left), (self.top, right), (bottom, right), (bottom, self.left))
        )

    def to_json(self) -> str:
        _refuse(_not_finite(self))
        return _text(
            {"box": [float(value) for value in (self.top, self.left, self.height, self.width)]}
        )


@dataclass(frozen=True)
class Polygon:
    exterior: Ring
    holes: tuple[Ring, ...] = ()

    @classmethod
    def from_coco(cls, flat: Sequence[float]) -> Polygon:
        """Of [x1, y1, x2, y2, …], one of the lists in COCO's `segmentation`."""
        values = mask_codecs.numbers(flat, "a COCO polygon [x1, y1, x2, y2, …]", len(flat) // 2 * 2)
        return cls(tuple(zip(values[1::2], values[::2], strict=True)))

    def to_coco(self) -> list[float]:
        """Raises `BadData` for a polygon with holes, which COCO writes as run lengths."""
        if self.holes:
            raise BadData(
                f"a polygon with holes ({len(self.holes)}); COCO's have none: write its run lengths, RunLengths.of(mask).to_coco()"
            )
        return [value for row, column in self.exterior for value in (column, row)]

    def to_mask(self, size: Size) -> np.ndarray:
        _refuse(_not_finite(self) or polygons.costly((self.exterior, *self.holes), size))
        mask = polygons.filled(self.exterior, size)
        for hole in self.holes:
            window = polygons.window_of(hole, size)
            mask[window] &= ~polygons.filled_within(hole, window)
        return mask

    def to_box(self) -> Box:
        if not self.exterior:
            raise BadData("a polygon without points has no box; leave it out")
        (top, left), (bottom, right) = (
            tuple(map(end, zip(*self.exterior, strict=True))) for end in (min, max)
        )
        return Box(top, left, bottom - top, right - left)

    def to_json(self) -> str:
        _refuse(_not_finite(self))
        exterior, *holes = (
            [[float(row), float(column)] for row, column in ring]
            for ring in (self.exterior, *self.holes)
        )
        return _text({"polygon": exterior, "holes": holes})


@dataclass(frozen=True, eq=False)
class Bitmap:
    """A small mask, bool (height, width), whose first pixel is pixel (top, left) of the picture."""

    top: int
    left: int
    mask: np.ndarray

    def __post_init__(self) -> None:
        own = np.array(self.mask, bool)
        own.setflags(write=False)
        object.__setattr__(self, "mask", own)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Bitmap)
            and (self.top, self.left) == (other.top, other.left)
            and np.array_equal(self.mask, other.mask)
        )

    def __hash__(self) -> int:
        return hash((self.top, self.left, self.mask.shape, self.mask.tobytes()))

    def to_mask(self, size: Size) -> np.ndarray:
        picture = np.zeros(size, bool)
        top, left, bottom, right = (
            max(self.top, 0),
            max(self.left, 0),
            self.top + self.mask.shape[0],
            self.left + self.mask.shape[1],
        )
        if bottom > 0 and right > 0:
            part = picture[top:bottom, left:right]
            part[:] = self.mask[top - self.top :, left - self.left :][
                : part.shape[0], : part.shape[1]
            ]
        return picture

    def to_box(self) -> Box:
        box = _box_of(self.mask)
        return Box(self.top + box.top, self.left + box.left, box.height, box.width)

    def to_json(self) -> str:
        return _text(
            {"bitmap": mask_codecs.png_text(self.mask), "at": [int(self.top), int(self.left)]}
        )


@dataclass(frozen=True)
class RunLengths:
    """Lengths of runs of pixels down the columns of a picture of `size`, by turns outside and inside, the first one outside."""

    size: Size
    counts: tuple[int, ...]

    @classmethod
    def of(cls, mask: np.ndarray) -> RunLengths:
        """Of a bool mask (height, width)."""
        flat = np.concatenate([[False], np.asarray(mask, bool).ravel(order="F")])
        ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1)
        return cls(tuple(mask.shape), tuple(np.diff(ends, prepend=0).tolist()))

    @classmethod
    def from_coco(cls, segmentation: Mapping) -> RunLengths:
        """Of {"size": [height, width], "counts": a list or COCO's compressed text}. Raises `BadData`."""
        what = 'COCO run lengths {"size": [height, width], "counts": …}'
        try:
            size, counts = segmentation["size"], segmentation["counts"]
        except (KeyError, TypeError) as error:
            raise BadData(f"expected {what}, got {str(segmentation)[:80]}") from error
        text = counts.decode("ascii", "replace") if isinstance(counts, bytes) else counts
        read = (
            mask_codecs.rle_decode(text)
            if isinstance(text, str)
            else mask_codecs.whole(counts, what)
        )
        height, width = mask_codecs.whole(size, what, 2)
        return cls((height, width), read)

    def to_coco(self, compressed: bool = True) -> dict:
        return {
            "size": list(self.size),
            "counts": mask_codecs.rle_encode(self.counts) if compressed else list(self.counts),
        }

    def to_mask(self, size: Size) -> np.ndarray:
        """Raises `BadData` for a picture of another size and for counts that do not add up to it."""
        _refuse(_faults_of_runs(self, size))
        inside = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(inside, np.array(self.counts, np.int64)).reshape(size, order="F")

    def to_box(self) -> Box:
        return _box_of(self.to_mask(self.size))

    def to_json(self) -> str:
        return _text(
            {"runs": mask_codecs.rle_encode(self.counts), "size": [int(side) for side in self.size]}
        )


Shape = Box | Polygon | Bitmap | RunLengths


def from_json(text: str) -> Shape:
    """The shape whose `to_json` this is. Raises `BadData` where it is not one."""
    try:
        read = untrusted_files.parse_json(text, "a shape")
        if "box" in read:
            return Box(*mask_codecs.numbers(read["box"], "a box [top, left, height, width]", 4))
        if "polygon" in read:
            return Polygon(_ring(read["polygon"]), tuple(_ring(hole) for hole in read["holes"]))
        if "bitmap" in read:
            top, left = mask_codecs.whole(read["at"], "a place [row, column]", 2)
            return Bitmap(top, left, mask_codecs.from_png_text(read["bitmap"]))
        return RunLengths.from_coco({"size": read["size"], "counts": read["runs"]})
    except (KeyError, TypeError) as error:
        raise BadData(
            f"expected a shape as text ({{'box': …}}, polygon, bitmap or runs), got {str(text)[:80]}"
        ) from error


def from_supervisely(drawn: Mapping) -> Polygon | Bitmap:
    """One entry of `objects` in an annotation of Supervisely or UniData: a polygon or a bitmap. Raises `BadData` for all others.

    Coordinates are taken as they stand, from the picture's corner. (Files that Supervisely's SDK wrote hold whole numbers that name
    pixels, half a pixel further down and right; the files do not say who wrote them.)
    """
    kind = drawn.get("geometryType")
    if kind not in ("polygon", "bitmap"):
        raise BadData(
            f"{unknown('geometryType that can be read', str(kind), ('polygon', 'bitmap'))}; draw it again as one of these"
        )
    try:
        if kind == "bitmap":
            left, top = mask_codecs.whole(drawn["bitmap"]["origin"], "a bitmap's origin [x, y]", 2)
            return Bitmap(top, left, mask_codecs.from_png_text(drawn["bitmap"]["data"]))
        points = drawn["points"]
        exterior, *holes = (
            _ring(ring) for ring in (points["exterior"], *points.get("interior", ()))
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BadData(
            f"a {kind} needs points.exterior, or bitmap.data and bitmap.origin; got {str(dict(drawn))[:120]}"
        ) from error
    return Polygon(_flipped(exterior), tuple(map(_flipped, holes)))


def to_supervisely(shape: Polygon | Bitmap) -> dict:
    """The inverse of `from_supervisely`: `geometryType` with `points` or `bitmap`; class and labeller are the caller's to add."""
    if isinstance(shape, Bitmap):
        return {
            "geometryType": "bitmap",
            "bitmap": {
                "data": mask_codecs.png_text(shape.mask),
                "origin": [int(shape.left), int(shape.top)],
            },
        }
    exterior, *holes = (
        [list(point) for point in _flipped(ring)] for ring in (shape.exterior, *shape.holes)
    )
    return {"geometryType": "polygon", "points": {"exterior": exterior, "interior": holes}}


def polygons_of(mask: np.ndarray) -> tuple[Polygon, ...]:
    """One polygon for each part of a bool mask (height, width) that hangs together by edges, along the edges of its pixels.

    Their `to_mask` together are the mask exactly, and no two of them share a pixel. No outline meets itself.
    """
    return tuple(Polygon(exterior, holes) for exterior, holes in polygons.traced(mask))


def faults(shape: Shape, size: Size) -> list[str]:
    """All that is wrong with a shape on a picture of `size`, a sentence each; empty where nothing is."""
    if found := _not_finite(shape):
        return found
    if isinstance(shape, Polygon):
        found = _faults_of_rings(shape, size)
    elif isinstance(shape, RunLengths):
        return _faults_of_runs(shape, size) or (
            [] if any(shape.counts[1::2]) else ["draws no pixel"]
        )
    elif isinstance(shape, Bitmap) and not shape.mask.any():
        return ["draws no pixel"]
    elif isinstance(shape, Box) and min(shape.height, shape.width) <= 0:
        found = [f"is {shape.height:g} high and {shape.width:g} wide; both must be above 0"]
    return found + _outside(shape, size)


def _outside(shape: Box | Polygon | Bitmap, size: Size) -> list[str]:
    if isinstance(shape, Polygon) and not shape.exterior:
        return []
    box = shape.to_box()
    bottom, right = box.top + box.height, box.left + box.width
    if min(box.top, box.left) >= 0 and bottom <= size[0] and right <= size[1]:
        return []
    where = f"rows {box.top:g} to {bottom:g}, columns {box.left:g} to {right:g}"
    return [
        f"reaches outside the picture: {where}, the picture is {size[0]}x{size[1]} (height x width)"
    ]


def _faults_of_rings(polygon: Polygon, size: Size) -> list[str]:
    rings = (polygon.exterior, *polygon.holes)
    if found := polygons.costly(rings, size):
        return found
    inside = polygons.filled(polygon.exterior, size)
    for place, ring in enumerate(rings):
        name = f"hole {place}" if place else "the outline"
        corners = polygons.corners(ring)
        if len(corners) < 3:
            found.append(
                f"{name} has {len(corners)} different points in a row; at least 3 are needed"
            )
        elif meeting := polygon_crossings.meeting(corners):
            ends = [(corners[edge], corners[(edge + 1) % len(corners)]) for edge in meeting]
            first, second = (
                " to ".join(f"({row:g}, {column:g})" for row, column in edge) for edge in ends
            )
            found.append(f"{name} crosses or touches itself: {first} and {second} meet")
        window = polygons.window_of(ring, size)
        if place and (
            count := np.count_nonzero(polygons.filled_within(ring, window) & ~inside[window])
        ):
            found.append(f"{name} covers {count} pixels that are not inside the outline")
    return found


def _faults_of_runs(runs: RunLengths, size: Size) -> list[str]:
    if not (min(runs.size) >= 0 and math.prod(runs.size) <= _MOST_PIXELS):
        return [
            f"is drawn for a picture of {str(runs.size)[:80]}; expected height and width of at most {_MOST_PIXELS:,} pixels together"
        ]
    found = (
        []
        if tuple(runs.size) == tuple(size)
        else [f"is drawn for a picture of {runs.size}, this one is {tuple(size)} (height, width)"]
    )
    found += [
        f"count {place} is {count}; a run cannot be shorter than 0"
        for place, count in enumerate(runs.counts)
        if count < 0
    ]
    if sum(runs.counts) != math.prod(runs.size):
        found.append(
            f"the counts add up to {sum(runs.counts)} pixels; the picture of {runs.size} has {math.prod(runs.size)}"
        )
    return found


def _not_finite(shape: Shape) -> list[str]:
    if isinstance(shape, Box):
        named = zip(
            ("top", "left", "height", "width"),
            (shape.top, shape.left, shape.height, shape.width),
            strict=True,
        )
    elif isinstance(shape, Polygon):
        rings = (shape.exterior, *shape.holes)
        named = (
            (f"point {place}", value)
            for ring in rings
            for place, point in enumerate(ring)
            for value in point
        )
    else:
        return []
    return [
        f"{name} is {value}; expected a number of pixels"
        for name, value in named
        if not abs(value) <= _FARTHEST
    ]


def _refuse(found: list[str]) -> None:
    if found:
        raise BadData.listing("a shape that cannot be drawn", found)


def _pixels(edges: Iterable[float], size: Size) -> list[int]:
    """The first row and the first column whose centre is not before these (row, column) lines, kept within the picture."""
    return [
        min(max(math.ceil(edge - 0.5), 0), side) for edge, side in zip(edges, size, strict=True)
    ]


def _box_of(mask: np.ndarray) -> Box:
    if not mask.any():
        raise BadData("a mask without a pixel has no box; leave it out")
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return Box(
        float(rows[0]),
        float(columns[0]),
        float(rows[-1] - rows[0] + 1),
        float(columns[-1] - columns[0] + 1),
    )


# Forms of text.


def _text(content: dict) -> str:
    return json.dumps(content, separators=(",", ":"))


def _ring(points: Sequence) -> Ring:
    return tuple(
        tuple(mask_codecs.numbers(point, "a point of two coordinates", 2)) for point in points
    )


def _flipped(ring: Ring) -> Ring:
    return tuple((column, row) for row, column in ring)
