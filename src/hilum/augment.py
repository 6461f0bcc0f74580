"""Augmentation of images, their label masks, boxes and points: a set of numbers is drawn first, and applied afterwards.

Apart from one another, the draw can be kept, shown, or repeated, and applying it needs no randomness. Images are uint8 or uint16
(height, width), masks uint8 (height, width) with 0 for background, points float (k, 2) row and column with a pixel's centre at whole
numbers, boxes float (k, 4) top, left, bottom, right at the pixels' edges, the ends left out, as in `Crop`. What comes in from beyond
the border is 0, in the image as in the mask.

All of a draw's geometry is one map, in which OpenCV looks up each new pixel once: a matrix, and where there is elastic displacement,
that on top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import cv2
import numpy as np

from hilum.lungs import LEFT, RIGHT
from hilum.radiograph import look_up

GRID = 4  # the elastic displacement is drawn on GRID x GRID points, and smooth between them
_ROUNDS = 12  # of the search for where a point went; each leaves at most a third of the error, as the displacement is smooth


@dataclass(frozen=True)
class Augmentation:
    """The largest change of each kind; 0 switches one off.

    Positive degrees turn anticlockwise. `scale`, `contrast` and `gamma` are shares of the factor 1 (0.1: from 1/1.1 to 1.1);
    `brightness` is a share of full white; `shift` and `elastic` are shares of the image's height and width. `flip` mirrors every
    second image: off, as the heart lies on the left. `crop` is the side of the square, in pixels, that is cut out at a drawn place.
    """

    rotation_degrees: float = 10.0
    scale: float = 0.1
    shift: float = 0.06
    contrast: float = 0.25
    brightness: float = 0.1
    gamma: float = 0.3
    elastic: float = 0.0
    flip: bool = False
    crop: int = 0

    @classmethod
    def of(cls, settings: object) -> Augmentation:
        """From a model's settings, as far as they name these limits."""
        return cls(**{limit.name: getattr(settings, limit.name) for limit in fields(cls) if hasattr(settings, limit.name)})


@dataclass(frozen=True)
class Draw:
    """One drawn set of changes; `dataclasses.asdict` of it can be written as JSON.

    `elastic` holds the displacements (2, GRID, GRID), rows then columns, as shares of the image's size; empty when there is none.
    `crop` is the side of the square that is cut out, 0 for none; `crop_row` and `crop_column`, from 0 to 1, say where.
    """

    rotation_degrees: float
    scale: float
    shift_rows: float
    shift_columns: float
    contrast: float
    brightness: float
    gamma: float
    elastic: tuple[tuple[tuple[float, ...], ...], ...]
    flip: bool
    crop: int = 0
    crop_row: float = 0.0
    crop_column: float = 0.0


def draw(settings: Augmentation, rng: np.random.Generator) -> Draw:
    """Draw each change evenly within its limits (factors evenly in their logarithm)."""
    return draws(settings, rng, 1)[0]


def draws(settings: Augmentation, rng: np.random.Generator, count: int) -> list[Draw]:
    """`count` draws: the same as one after the other, and quicker."""
    bends = 2 * GRID * GRID if settings.elastic else 0
    numbers = rng.random((count, bends + 7 + settings.flip + 2 * (settings.crop > 0)))
    grids = (settings.elastic * (2 * numbers[:, :bends] - 1)).reshape(count, 2, GRID, GRID).tolist() if bends else [[]] * count
    limits = [settings.rotation_degrees, math.log1p(settings.scale), settings.shift, settings.shift]
    limits += [math.log1p(settings.contrast), settings.brightness, math.log1p(settings.gamma)]
    even = np.array(limits) * (2 * numbers[:, bends : bends + 7] - 1)
    even[:, [1, 4, 6]] = np.exp(even[:, [1, 4, 6]])
    rest = numbers[:, bends + 7 :].tolist()
    return [
        Draw(
            *changes,
            tuple(tuple(map(tuple, plane)) for plane in grid),
            settings.flip and more[0] < 0.5,
            settings.crop,
            *(more[-2:] if settings.crop else (0.0, 0.0)),
        )
        for changes, grid, more in zip(even.tolist(), grids, rest, strict=True)
    ]


def apply(draw: Draw, image: np.ndarray, mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """The changed image (linear interpolation) and mask (nearest label), both moved by one and the same map.

    The grey values of the image alone are changed, by a lookup table. Where the draw mirrors, right and left lung swap in the mask.
    """
    move = Move(draw, image.shape)
    return grey(draw, move.picture(image)), None if mask is None else move.labels(mask)


def grey(draw: Draw, image: np.ndarray) -> np.ndarray:
    """`image` with its grey values changed; itself where the draw leaves them."""
    if (draw.contrast, draw.brightness, draw.gamma) == (1, 0, 1):
        return image
    return look_up(image, _table(draw, image.dtype))


class Move:
    """Where a draw takes the pixels of a picture of (height, width) `source`; the result has (height, width) `target`."""

    def __init__(self, draw: Draw, source: tuple[int, ...]) -> None:
        self.draw, self.source = draw, source
        self.target = (draw.crop, draw.crop) if draw.crop else source
        room = source[0] - self.target[0], source[1] - self.target[1]
        if min(room) < 0:
            raise ValueError(f"cannot cut {self.target} out of a picture of {source} pixels (height, width); choose a smaller crop")
        corner = min(int(draw.crop_row * (room[0] + 1)), room[0]), min(int(draw.crop_column * (room[1] + 1)), room[1])
        self.matrix = _matrix(draw, source, corner)
        self._corner = corner

    def picture(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return self._moved(image, cv2.INTER_LINEAR, out)

    def labels(self, mask: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        moved = self._moved(mask, cv2.INTER_NEAREST, out)
        return cv2.LUT(moved, _SWAPPED, dst=moved) if self.draw.flip else moved

    def points(self, points: np.ndarray) -> np.ndarray:
        """float64 (k, 2): where the points went, also beyond the border."""
        wanted = np.asarray(points, np.float64)[:, ::-1]
        back = cv2.invertAffineTransform(self.matrix)
        found = wanted @ back[:, :2].T + back[:, 2]
        if self.draw.elastic:
            across, down = self._bends()
            for _ in range(_ROUNDS):
                place = np.clip(found, 0, np.array(self.target[::-1]) - 1).astype(np.float32)
                offset = [cv2.remap(bend, place[:, :1], place[:, 1:], cv2.INTER_LINEAR)[:, 0] for bend in (across, down)]
                found = (wanted - np.stack(offset, 1)) @ back[:, :2].T + back[:, 2]
        return found[:, ::-1]

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """float64 (k, 4): the upright boxes around where the boxes went, within the picture; one that left it is empty."""
        top, left, bottom, right = np.asarray(boxes, np.float64).reshape(-1, 4).T - 0.5
        corners = np.stack([np.stack([row, column], 1) for row in (top, bottom) for column in (left, right)], 1)
        moved = self.points(corners.reshape(-1, 2)).reshape(-1, 4, 2) + 0.5
        limit = np.array(self.target, np.float64)
        return np.concatenate([np.clip(moved.min(1), 0, limit), np.clip(moved.max(1), 0, limit)], 1)

    def _moved(self, image: np.ndarray, method: int, out: np.ndarray | None) -> np.ndarray:
        if self.draw.elastic:
            columns, rows = self._places()
            return cv2.remap(image, columns, rows, method, dst=out, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        (a, b, across), (c, d, down) = self.matrix.tolist()
        if (abs(a), b, c, d) == (1, 0, 0, 1) and across.is_integer() and down.is_integer():
            return self._cut(image, int(down), int(across), a < 0, out)
        how = method | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(image, self.matrix, self.target[::-1], dst=out, flags=how, borderMode=cv2.BORDER_CONSTANT, borderValue=0)

    def _cut(self, image: np.ndarray, down: int, across: int, mirrored: bool, out: np.ndarray | None) -> np.ndarray:
        """The window that begins at row `down` and column `across`, or, mirrored, ends with that column."""
        (height, width), (rows, columns) = self.target, self.source
        left = across - width + 1 if mirrored else across
        above, before = max(0, -down), max(0, -left)
        seen = image[max(0, down) : min(rows, down + height), max(0, left) : min(columns, left + width)]
        out = np.empty(self.target, image.dtype) if out is None else out
        if seen.shape != self.target:
            out[:] = 0
        start = width - before - seen.shape[1] if mirrored else before
        place = out[above : above + seen.shape[0], start : start + seen.shape[1]]
        if mirrored and seen.size:
            place[:] = cv2.flip(seen, 1)
        else:
            place[:] = seen
        return out

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """For each pixel of the result, the column and the row it is taken from: float32 (height, width) each."""
        rows, columns = np.ogrid[0 : self.target[0], 0 : self.target[1]]
        across, down = (line[0] * columns + line[1] * rows + line[2] for line in self.matrix)
        bends = self._bends()
        return across.astype(np.float32) + bends[0], down.astype(np.float32) + bends[1]

    def _bends(self) -> tuple[np.ndarray, np.ndarray]:
        """The elastic displacement of columns and of rows, in pixels: float32 (height, width) each, of the result."""
        (height, width), (top, left) = self.source, self._corner
        inside = slice(top, top + self.target[0]), slice(left, left + self.target[1])
        down, across = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC) for plane in np.asarray(self.draw.elastic, np.float32))
        return across[inside] * np.float32(width), down[inside] * np.float32(height)


def _matrix(draw: Draw, source: tuple[int, ...], corner: tuple[int, int]) -> np.ndarray:
    """float64 (2, 3): from a column and row of the result to those in the picture, turned and scaled about the picture's centre."""
    (height, width), (top, left) = source, corner
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    if not draw.rotation_degrees and draw.scale == 1 and not draw.shift_rows and not draw.shift_columns:  # nothing to round
        return np.array([[-1, 0, width - 1 - left], [0, 1, top]] if draw.flip else [[1, 0, left], [0, 1, top]], np.float64)
    cosine = math.cos(math.radians(draw.rotation_degrees)) / draw.scale
    sine = math.sin(math.radians(draw.rotation_degrees)) / draw.scale
    mirror = -1.0 if draw.flip else 1.0
    row, column = top - middle_row - draw.shift_rows * height, mirror * (left - middle_column - draw.shift_columns * width)
    return np.array(
        [[mirror * cosine, -sine, cosine * column - sine * row + middle_column], [mirror * sine, cosine, sine * column + cosine * row + middle_row]]
    )


def _table(draw: Draw, dtype: np.dtype) -> np.ndarray:
    """The new grey value of each: gamma first, then contrast about mid-grey and brightness."""
    top = np.iinfo(dtype).max
    bright = (np.arange(top + 1) / top) ** draw.gamma
    return np.rint(np.clip((bright - 0.5) * draw.contrast + 0.5 + draw.brightness, 0, 1) * top).astype(dtype)


_SWAPPED = np.arange(256, dtype=np.uint8)
_SWAPPED[[RIGHT, LEFT]] = LEFT, RIGHT
