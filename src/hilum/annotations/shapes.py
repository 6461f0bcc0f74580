"""Shapes on an image: boxes, polygons, bitmaps and run lengths, in the file's own pixels.

Points are (row, column) from the image's top left corner: pixel (r, c) is the square from (r, c) to
(r + 1, c + 1), its centre is (r + 0.5, c + 0.5), as in COCO and in Supervisely's labelling tool. A
pixel is inside a box or polygon where its centre is; a centre exactly on the outline is inside
where the inside is below it or to its right. So shapes that share an edge share no pixel, a box 2
high and 3 wide covers 6 pixels, and the outline itself is not painted (OpenCV's fillPoly paints
it). Self-crossing outlines follow the even-odd rule; holes are subtracted; what is beyond the image
is clipped.

Every shape has `to_mask(size)`, bool (height, width); `to_box()`, its bounding box; and
`to_json()`, a text from which `from_json` makes an equal shape. A shape may hold invalid values,
which `faults` lists; `to_mask` raises `BadData` only where no mask can be made: numbers that are
not finite, runs that do not fill the image.

Sources: COCO data format and mask API (Lin et al. 2014, cocodataset.org); Supervisely annotation
format (developer.supervisely.com).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hilum.annotations import mask_codecs, polygons, shape_validation
from hilum.annotations.polygons import Ring, Size
from hilum.errors import BadData, unknown
from hilum.safety import untrusted_files

_SIDES = ("top", "left", "height", "width")  # of a box, in the order of its text


@dataclass(frozen=True)
class Box:
    """An upright rectangle from (top, left) to (top + height, left + width)."""

    top: float
    left: float
    height: float
    width: float

    @classmethod
    def from_coco(cls, bbox: Sequence[float]) -> Box:
        """Return the box [x, y, width, height], as COCO and NIH's BBox_List write it."""
        x, y, width, height = mask_codecs.numbers(bbox, "a COCO box [x, y, width, height]", 4)
        return cls(y, x, height, width)

    def to_coco(self) -> list[float]:
        """Return [x, y, width, height]."""
        return [self.left, self.top, self.width, self.height]

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Top, left, bottom and right edge."""
        return self.top, self.left, self.top + self.height, self.left + self.width

    def to_mask(self, size: Size) -> np.ndarray:
        """Return the box as a mask, bool (height, width)."""
        _refuse(self._faults())
        mask = np.zeros(size, bool)
        first, last = self.edges[:2], self.edges[2:]
        (top, left), (bottom, right) = _pixels(first, size), _pixels(last, size)
        mask[top:bottom, left:right] = True
        return mask

    def to_box(self) -> Box:
        """Return the box itself."""
        return self

    def within(self, size: Size) -> Box:
        """Return the part of the box inside an image of `size`; 0 high or wide if there is none."""
        pairs = zip(self.edges, size * 2, strict=True)
        top, left, bottom, right = (min(max(edge, 0.0), side) for edge, side in pairs)
        return Box(top, left, bottom - top, right - left)

    def to_polygon(self) -> Polygon:
        """Return the outline, clockwise from the top left corner; its mask is the box's."""
        top, left, bottom, right = self.edges
        return Polygon(((top, left), (top, right), (bottom, right), (bottom, left)))

    def to_json(self) -> str:
        """Return the text that `from_json` reads."""
        _refuse(self._faults())
        sides = (self.top, self.left, self.height, self.width)
        return _text({"box": [float(value) for value in sides]})

    def _faults(self) -> list[str]:
        sides = (self.top, self.left, self.height, self.width)
        return shape_validation.not_finite(zip(_SIDES, sides, strict=True))


@dataclass(frozen=True)
class Polygon:
    """A polygon with holes."""

    exterior: Ring
    holes: tuple[Ring, ...] = ()

    @classmethod
    def from_coco(cls, flat: Sequence[float]) -> Polygon:
        """Return the polygon [x1, y1, x2, y2, …], one list of COCO's `segmentation`."""
        values = mask_codecs.numbers(flat, "a COCO polygon [x1, y1, x2, y2, …]", len(flat) // 2 * 2)
        return cls(tuple(zip(values[1::2], values[::2], strict=True)))

    def to_coco(self) -> list[float]:
        """Return [x1, y1, x2, y2, …].

        Raises `BadData` for a polygon with holes, which COCO writes as run lengths.
        """
        if self.holes:
            raise BadData(
                f"a polygon with holes ({len(self.holes)}); COCO's have none: "
                "write its run lengths, RunLengths.of(mask).to_coco()"
            )
        return [value for row, column in self.exterior for value in (column, row)]

    def to_mask(self, size: Size) -> np.ndarray:
        """Rasterise the polygon, bool (height, width)."""
        _refuse(self._faults() or polygons.costly(self.rings, size))
        mask = polygons.filled(self.exterior, size)
        for hole in self.holes:
            window = polygons.window_of(hole, size)
            mask[window] &= ~polygons.filled_within(hole, window)
        return mask

    def to_box(self) -> Box:
        """Return the bounding box of the exterior. Raises `BadData` without points."""
        if not self.exterior:
            raise BadData("a polygon without points has no box; leave it out")
        rows, columns = zip(*self.exterior, strict=True)
        top, left, bottom, right = min(rows), min(columns), max(rows), max(columns)
        return Box(top, left, bottom - top, right - left)

    def to_json(self) -> str:
        """Return the text that `from_json` reads."""
        _refuse(self._faults())
        exterior, *holes = (
            [[float(row), float(column)] for row, column in ring] for ring in self.rings
        )
        return _text({"polygon": exterior, "holes": holes})

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The exterior and the holes."""
        return self.exterior, *self.holes

    def _faults(self) -> list[str]:
        return shape_validation.not_finite(shape_validation.coordinates(self.rings))


@dataclass(frozen=True, eq=False)
class Bitmap:
    """A small mask, bool (height, width), whose first pixel is pixel (top, left) of the image."""

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
        """Return the bitmap in a mask of the whole image, bool (height, width)."""
        whole = np.zeros(size, bool)
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = self.top + self.mask.shape[0], self.left + self.mask.shape[1]
        if bottom > 0 and right > 0:
            part = whole[top:bottom, left:right]
            within = self.mask[top - self.top :, left - self.left :]
            part[:] = within[: part.shape[0], : part.shape[1]]
        return whole

    def to_box(self) -> Box:
        """Return the bounding box of the pixels inside. Raises `BadData` without any."""
        box = _box_of(self.mask)
        return Box(self.top + box.top, self.left + box.left, box.height, box.width)

    def to_json(self) -> str:
        """Return the text that `from_json` reads."""
        return _text(
            {"bitmap": mask_codecs.png_text(self.mask), "at": [int(self.top), int(self.left)]}
        )


@dataclass(frozen=True)
class RunLengths:
    """Run lengths down the columns of an image of `size`, outside first, then by turns."""

    size: Size
    counts: tuple[int, ...]

    @classmethod
    def of(cls, mask: np.ndarray) -> RunLengths:
        """Encode a bool mask (height, width)."""
        flat = np.concatenate([[False], np.asarray(mask, bool).ravel(order="F")])
        ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1)
        height, width = mask.shape
        return cls((height, width), tuple(np.diff(ends, prepend=0).tolist()))

    @classmethod
    def from_coco(cls, segmentation: Mapping[str, object]) -> RunLengths:
        """Decode {"size": [height, width], "counts": a list or COCO's compressed text}.

        Raises `BadData`.
        """
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

    def to_coco(self, compressed: bool = True) -> mask_codecs.CocoRuns:
        """Return COCO's run lengths, as compressed text or as a list of counts."""
        return {
            "size": list(self.size),
            "counts": mask_codecs.rle_encode(self.counts) if compressed else list(self.counts),
        }

    def to_mask(self, size: Size) -> np.ndarray:
        """Decode to a mask, bool (height, width).

        Raises `BadData` for an image of another size and for counts that do not add up to it.
        """
        _refuse(shape_validation.of_runs(self.size, self.counts, size))
        inside = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(inside, np.array(self.counts, np.int64)).reshape(size, order="F")

    def to_box(self) -> Box:
        """Return the bounding box of the pixels inside. Raises `BadData` without any."""
        return _box_of(self.to_mask(self.size))

    def to_json(self) -> str:
        """Return the text that `from_json` reads."""
        return _text(
            {"runs": mask_codecs.rle_encode(self.counts), "size": [int(side) for side in self.size]}
        )


Shape = Box | Polygon | Bitmap | RunLengths
_EMPTY = "draws no pixel"


def from_json(text: str) -> Shape:
    """Return the shape of a text that `to_json` made. Raises `BadData` for any other text."""
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
            "expected a shape as text ({'box': …}, polygon, bitmap or runs), "
            f"got {str(text)[:80]}"
        ) from error


def from_supervisely(drawn: Mapping[str, Any]) -> Polygon | Bitmap:
    """Return one entry of `objects` in an annotation of Supervisely or UniData.

    A polygon or a bitmap; raises `BadData` for all others. Coordinates are used as they are, from
    the image's corner. (Files that Supervisely's SDK wrote hold whole numbers that name pixels,
    half a pixel further down and right; the files do not say who wrote them.)
    """
    kind, known = drawn.get("geometryType"), ("polygon", "bitmap")
    if kind not in known:
        fault = unknown("geometryType that can be read", str(kind), known)
        raise BadData(f"{fault}; draw it again as one of these")
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
            f"a {kind} needs points.exterior, or bitmap.data and bitmap.origin; "
            f"got {str(dict(drawn))[:120]}"
        ) from error
    return Polygon(_flipped(exterior), tuple(map(_flipped, holes)))


def to_supervisely(shape: Polygon | Bitmap) -> dict[str, object]:
    """Return `geometryType` with `points` or `bitmap`, the inverse of `from_supervisely`.

    The caller adds class and labeller.
    """
    if isinstance(shape, Bitmap):
        return {
            "geometryType": "bitmap",
            "bitmap": {
                "data": mask_codecs.png_text(shape.mask),
                "origin": [int(shape.left), int(shape.top)],
            },
        }
    exterior, *holes = ([list(point) for point in _flipped(ring)] for ring in shape.rings)
    return {"geometryType": "polygon", "points": {"exterior": exterior, "interior": holes}}


def polygons_of(mask: np.ndarray) -> tuple[Polygon, ...]:
    """Return one polygon for each 4-connected component of a bool mask (height, width).

    They follow the edges of pixels, so their masks together are the mask exactly, no two of them
    share a pixel, and no outline meets itself.
    """
    return tuple(Polygon(exterior, holes) for exterior, holes in polygons.traced(mask))


def faults(shape: Shape, size: Size) -> list[str]:
    """List what is wrong with a shape on an image of `size`, a sentence each."""
    if isinstance(shape, RunLengths):
        found = shape_validation.of_runs(shape.size, shape.counts, size)
        return found or ([] if any(shape.counts[1::2]) else [_EMPTY])
    if isinstance(shape, Bitmap):
        return _outside(shape, size) if shape.mask.any() else [_EMPTY]
    if found := shape._faults():
        return found
    if isinstance(shape, Polygon):
        found = shape_validation.of_rings(shape.rings, size)
        return found if not shape.exterior else found + _outside(shape, size)
    if min(shape.height, shape.width) <= 0:
        found = [f"is {shape.height:g} high and {shape.width:g} wide; both must be above 0"]
    return found + _outside(shape, size)


def _outside(shape: Box | Polygon | Bitmap, size: Size) -> list[str]:
    return shape_validation.outside(shape.to_box().edges, size)


def _refuse(found: list[str]) -> None:
    if found:
        raise BadData.listing("a shape that cannot be drawn", found)


def _pixels(edges: Iterable[float], size: Size) -> list[int]:
    """Return the first row and column whose centre is not before the edges (row, column).

    Clipped to the image.
    """
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


def _text(content: Mapping[str, object]) -> str:
    return json.dumps(content, separators=(",", ":"))


def _ring(points: Sequence) -> Ring:
    pairs = (mask_codecs.numbers(point, "a point of two coordinates", 2) for point in points)
    return tuple((row, column) for row, column in pairs)


def _flipped(ring: Ring) -> Ring:
    return tuple((column, row) for row, column in ring)
