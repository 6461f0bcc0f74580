"""Augmentation of images, their label masks, boxes and points: a set of numbers is drawn first, and applied afterwards.

Apart from one another, the draw can be kept, shown, or repeated, and applying it needs no randomness. Images are uint8 or uint16
(height, width), masks uint8 (height, width) with 0 for background, points float (k, 2) row and column with a pixel's centre at whole
numbers, boxes float (k, 4) top, left, bottom, right at the pixels' edges, the ends left out, as in `Crop`. What comes in from beyond
the border is 0 in the mask, and in the image too unless `border` says otherwise.

Training draws with a generator of seed, epoch and row (see `models._loop`), so that what befell a picture in an epoch is found again
from these three, and nothing need be written down.

All of a draw's geometry is one map, in which OpenCV looks up each new pixel once: a matrix, and where there is elastic displacement,
that on top.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from hilum.annotations.lung_masks import LEFT, RIGHT
from hilum.imaging.radiograph import apply_lut
from hilum.training import degradations

GRID = 4  # the elastic displacement is drawn on GRID x GRID points, and smooth between them
_ROUNDS = 12  # of the search for where a point went; each leaves at most a third of the error, as the displacement is smooth


@dataclass(frozen=True)
class Augmentation:
    """The largest change of each kind; 0 switches one off.

    Positive degrees turn anticlockwise. `scale`, `contrast` and `gamma` are shares of the factor 1 (0.1: from 1/1.1 to 1.1);
    `brightness` is a share of full white; `shift` and `elastic` are shares of the image's height and width. `flip` mirrors every
    second image: off, as the heart lies on the left. `crop` is the side of the square, in pixels, that is cut out at a drawn place.

    For pictures of other scanners and hospitals, all off: `aspect` is a share of the factor 1 by which the width grows against the
    height. `border`, `local_contrast`, `markers` and `invert` are shares of the images: in which something other than black comes in from
    beyond the border, a grey or the border's own pixels; whose histogram is equalised, locally or as a whole; on which a rectangle of
    one grey lies; which come inverted; `opacities`: in which one to three soft bright patches lie, such as disease makes, so that a lung
    is known by its outline where it is white. `bands` are covered at the edges, at most this share of the side each; `uneven` is brightness that
    varies over the picture, `noise` a standard deviation, both shares of full white; `blur` a standard deviation, a share of the side.
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
    aspect: float = 0.0
    border: float = 0.0
    bands: float = 0.0
    uneven: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    local_contrast: float = 0.0
    markers: float = 0.0
    invert: float = 0.0
    opacities: float = 0.0

    @classmethod
    def from_settings(cls, settings: object) -> Augmentation:
        """From a model's settings, as far as they name these limits."""
        return cls(
            **{
                limit.name: getattr(settings, limit.name)
                for limit in fields(cls)
                if hasattr(settings, limit.name)
            }
        )


@dataclass(frozen=True)
class AugmentationParams:
    """One drawn set of changes; `dataclasses.asdict` of it can be written as JSON.

    `elastic` holds the displacements (2, GRID, GRID), rows then columns, as shares of the image's size; empty when there is none.
    `crop` is the side of the square that is cut out, 0 for none; `crop_row` and `crop_column`, from 0 to 1, say where. `outside` is the
    grey that comes in from beyond the border, or, below 0, the border's own pixels do. `covers` holds rectangles: top, left, bottom,
    right and grey. `tiles` is how many of each side local contrast is made in, 0 for none.
    `opacities` are the arguments of `exposure.opaque`, one after the other.
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
    aspect: float = 1.0
    outside: float = 0.0
    covers: tuple[tuple[float, ...], ...] = ()
    uneven: tuple[tuple[float, ...], ...] = ()
    noise: float = 0.0
    noise_seed: int = 0
    blur: float = 0.0
    tiles: int = 0
    clip: float = 0.0
    inverted: bool = False
    opacities: tuple[tuple[float, ...], ...] = ()


def draw(settings: Augmentation, rng: np.random.Generator) -> AugmentationParams:
    """Draw each change evenly within its limits (factors evenly in their logarithm)."""
    return draw_many(settings, rng, 1)[0]


def draw_many(
    settings: Augmentation, rng: np.random.Generator, count: int
) -> list[AugmentationParams]:
    """`count` draws: the same as one after the other, and quicker."""
    bends = 2 * GRID * GRID if settings.elastic else 0
    cuts = 2 * (settings.crop > 0)
    others = [(name, *_OTHERS[name]) for name in _OTHERS if getattr(settings, name)]
    numbers = rng.random(
        (count, bends + 7 + settings.flip + cuts + sum(wanted for _, wanted, _ in others))
    )
    grids = (
        (settings.elastic * (2 * numbers[:, :bends] - 1)).reshape(count, 2, GRID, GRID).tolist()
        if bends
        else [[]] * count
    )
    limits = [settings.rotation_degrees, math.log1p(settings.scale), settings.shift, settings.shift]
    limits += [math.log1p(settings.contrast), settings.brightness, math.log1p(settings.gamma)]
    even = np.array(limits) * (2 * numbers[:, bends : bends + 7] - 1)
    even[:, [1, 4, 6]] = np.exp(even[:, [1, 4, 6]])
    rest = numbers[:, bends + 7 :].tolist()
    return [
        AugmentationParams(
            *changes,
            tuple(tuple(map(tuple, plane)) for plane in grid),
            settings.flip and more[0] < 0.5,
            settings.crop,
            *(more[settings.flip : settings.flip + 2] if cuts else (0.0, 0.0)),
            **_others(settings, others, more[settings.flip + cuts :]),
        )
        for changes, grid, more in zip(even.tolist(), grids, rest, strict=True)
    ]


def _others(
    settings: Augmentation, others: list[tuple[str, int, _Meant]], numbers: list[float]
) -> dict[str, Any]:
    """The fields of a `Draw` that the changes of `_OTHERS` come to; `numbers` in [0, 1), as many for each as it wants."""
    found: dict[str, Any] = {}
    for name, wanted, meant in others:
        mine, numbers = numbers[:wanted], numbers[wanted:]
        for field, value in meant(getattr(settings, name), mine).items():
            found[field] = (
                (*found[field], *value) if field == "covers" and field in found else value
            )
    return found


_Meant = Callable[[float, list[float]], dict[str, Any]]


def _marker(share: float, of: list[float]) -> dict[str, Any]:
    if of[0] >= share:
        return {}
    top, left = of[1], of[2]
    return {
        "covers": (
            (
                top,
                left,
                min(1.0, top + 0.03 + 0.12 * of[3]),
                min(1.0, left + 0.03 + 0.12 * of[4]),
                of[5],
            ),
        )
    }


def _bands(most: float, of: list[float]) -> dict[str, Any]:
    """On every third image; black, white or any grey, the same on all sides, and each side more often narrow than wide."""
    if of[0] >= 1 / 3:
        return {}
    top, left, bottom, right = (most * part * part for part in of[1:5])
    grey = 0.0 if of[5] < 0.4 else 1.0 if of[5] < 0.6 else of[6]
    return {
        "covers": (
            (0.0, 0.0, top, 1.0, grey),
            (1 - bottom, 0.0, 1.0, 1.0, grey),
            (0.0, 0.0, 1.0, left, grey),
            (0.0, 1 - right, 1.0, 1.0, grey),
        )
    }


def _local_contrast(share: float, of: list[float]) -> dict[str, Any]:
    if of[0] >= share:
        return {}
    return {"tiles": 1} if of[1] < 1 / 3 else {"tiles": 2 + int(7 * of[2]), "clip": 1 + 3 * of[3]}


def _uneven(most: float, of: list[float]) -> dict[str, Any]:
    if of[0] >= 0.5:
        return {}
    return {
        "uneven": tuple(
            tuple(most * (2 * part - 1) for part in of[at : at + 3]) for at in (1, 4, 7)
        )
    }


def _opacities(share: float, of: list[float]) -> dict[str, Any]:
    if of[0] >= share:
        return {}
    return {
        "opacities": tuple(
            _opacity(*of[at : at + 6]) for at in range(2, 2 + 6 * (1 + int(3 * of[1])), 6)
        )
    }


def _opacity(
    row: float, column: float, height: float, width: float, grey: float, share: float
) -> tuple[float, ...]:
    """Away from the edges, as lungs are."""
    return (
        0.2 + 0.65 * row,
        0.1 + 0.8 * column,
        0.03 + 0.22 * height,
        0.03 + 0.15 * width,
        0.5 + 0.5 * grey,
        0.4 + 0.6 * share,
    )


_OTHERS: dict[str, tuple[int, _Meant]] = {
    "aspect": (1, lambda share, of: {"aspect": (1 + share) ** (2 * of[0] - 1)}),
    "border": (
        3,
        lambda share, of: {"outside": of[2] if of[1] < 0.5 else -1.0} if of[0] < share else {},
    ),
    "invert": (1, lambda share, of: {"inverted": of[0] < share}),
    "local_contrast": (4, _local_contrast),
    "uneven": (10, _uneven),
    "noise": (
        3,
        lambda most, of: (
            {"noise": most * of[1], "noise_seed": int(of[2] * 2**32)} if of[0] < 0.5 else {}
        ),
    ),
    "blur": (2, lambda most, of: {"blur": most * of[1]} if of[0] < 0.3 else {}),
    "markers": (6, _marker),
    "bands": (7, _bands),
    "opacities": (20, _opacities),
}
"""By the setting: how many random numbers it wants, and what they and the setting come to."""


def apply(
    draw: AugmentationParams, image: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The changed image (linear interpolation) and mask (nearest label), both moved by one and the same map.

    The grey values of the image alone are changed. Where the draw mirrors, right and left lung swap in the mask.
    """
    move = SpatialTransform(draw, image.shape)
    return grey(draw, move.image(image)), None if mask is None else move.labels(mask)


def grey(draw: AugmentationParams, image: np.ndarray) -> np.ndarray:
    """`image` with its grey values changed; itself where the draw leaves them."""
    for opacity in (
        draw.opacities
    ):  # first: what lies in the patient is seen through the same machine as the rest
        image = degradations.opaque(image, *opacity)
    if draw.tiles:
        image = degradations.local_contrast(image, draw.clip, draw.tiles)
    if (draw.contrast, draw.brightness, draw.gamma, draw.inverted) != (1, 0, 1, False):
        image = apply_lut(image, _table(draw, image.dtype))
    if draw.uneven:
        image = degradations.uneven(image, draw.uneven)
    if draw.noise:
        image = degradations.noisy(image, draw.noise, draw.noise_seed)
    if draw.blur:
        image = degradations.blur(image, draw.blur)
    for cover in draw.covers:
        image = degradations.cover(image, *cover)
    return image


class SpatialTransform:
    """Where a draw takes the pixels of a picture of (height, width) `source`; the result has (height, width) `target`."""

    def __init__(self, draw: AugmentationParams, source: tuple[int, ...]) -> None:
        self.draw, self.source = draw, source
        self.target = (draw.crop, draw.crop) if draw.crop else source
        room = source[0] - self.target[0], source[1] - self.target[1]
        if min(room) < 0:
            raise ValueError(
                f"cannot cut {self.target} out of a picture of {source} pixels (height, width); choose a smaller crop"
            )
        corner = (
            min(int(draw.crop_row * (room[0] + 1)), room[0]),
            min(int(draw.crop_column * (room[1] + 1)), room[1]),
        )
        self.matrix = _matrix(draw, source, corner)
        self._corner = corner

    def image(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        outside = max(0.0, self.draw.outside) * np.iinfo(image.dtype).max
        return self._moved(
            image,
            cv2.INTER_LINEAR,
            out,
            outside,
            cv2.BORDER_REPLICATE if self.draw.outside < 0 else cv2.BORDER_CONSTANT,
        )

    def labels(self, mask: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        moved = self._moved(mask, cv2.INTER_NEAREST, out, 0, cv2.BORDER_CONSTANT)
        return cv2.LUT(moved, _SWAPPED, dst=moved) if self.draw.flip else moved

    def points(self, points: np.ndarray) -> np.ndarray:
        """float64 (k, 2): where the points went, also beyond the border."""
        wanted = np.asarray(points, np.float64)[:, ::-1]
        back = cv2.invertAffineTransform(self.matrix)
        found = wanted @ back[:, :2].T + back[:, 2]
        if self.draw.elastic:
            across, down = self._bends
            for _ in range(_ROUNDS):
                place = np.clip(found, 0, np.array(self.target[::-1]) - 1).astype(np.float32)
                offset = [
                    cv2.remap(bend, place[:, :1], place[:, 1:], cv2.INTER_LINEAR)[:, 0]
                    for bend in (across, down)
                ]
                found = (wanted - np.stack(offset, 1)) @ back[:, :2].T + back[:, 2]
        return found[:, ::-1]

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """float64 (k, 4): the upright boxes around where the boxes went, within the picture; one that left it is empty."""
        top, left, bottom, right = np.asarray(boxes, np.float64).reshape(-1, 4).T - 0.5
        corners = np.stack(
            [np.stack([row, column], 1) for row in (top, bottom) for column in (left, right)], 1
        )
        moved = self.points(corners.reshape(-1, 2)).reshape(-1, 4, 2) + 0.5
        limit = np.array(self.target, np.float64)
        return np.concatenate([np.clip(moved.min(1), 0, limit), np.clip(moved.max(1), 0, limit)], 1)

    def _moved(
        self, image: np.ndarray, method: int, out: np.ndarray | None, outside: float, border: int
    ) -> np.ndarray:
        if self.draw.elastic:
            columns, rows = self._places
            return cv2.remap(
                image, columns, rows, method, dst=out, borderMode=border, borderValue=outside
            )
        (a, b, across), (c, d, down) = self.matrix.tolist()
        if (
            (abs(a), b, c, d) == (1, 0, 0, 1)
            and across.is_integer()
            and down.is_integer()
            and not outside
            and border == cv2.BORDER_CONSTANT
        ):
            return self._cut(image, int(down), int(across), a < 0, out)
        how = method | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(
            image,
            self.matrix,
            self.target[::-1],
            dst=out,
            flags=how,
            borderMode=border,
            borderValue=outside,
        )

    def _cut(
        self, image: np.ndarray, down: int, across: int, mirrored: bool, out: np.ndarray | None
    ) -> np.ndarray:
        """The window that begins at row `down` and column `across`, or, mirrored, ends with that column."""
        (height, width), (rows, columns) = self.target, self.source
        left = across - width + 1 if mirrored else across
        above, before = max(0, -down), max(0, -left)
        seen = image[
            max(0, down) : min(rows, down + height), max(0, left) : min(columns, left + width)
        ]
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

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """For each pixel of the result, the column and the row it is taken from: float32 (height, width) each."""
        rows, columns = np.ogrid[0 : self.target[0], 0 : self.target[1]]
        across, down = (line[0] * columns + line[1] * rows + line[2] for line in self.matrix)
        bends = self._bends
        return across.astype(np.float32) + bends[0], down.astype(np.float32) + bends[1]

    @cached_property
    def _bends(self) -> tuple[np.ndarray, np.ndarray]:
        """The elastic displacement of columns and of rows, in pixels: float32 (height, width) each, of the result."""
        (height, width), (top, left) = self.source, self._corner
        inside = slice(top, top + self.target[0]), slice(left, left + self.target[1])
        down, across = (
            cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC)
            for plane in np.asarray(self.draw.elastic, np.float32)
        )
        return across[inside] * np.float32(width), down[inside] * np.float32(height)


def _matrix(
    draw: AugmentationParams, source: tuple[int, ...], corner: tuple[int, int]
) -> np.ndarray:
    """float64 (2, 3): from a column and row of the result to those in the picture, turned and scaled about the picture's centre.

    The aspect changes along the result's own rows and columns, after the turn.
    """
    (height, width), (top, left) = source, corner
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    if (
        not draw.rotation_degrees
        and draw.scale == draw.aspect == 1
        and not draw.shift_rows
        and not draw.shift_columns
    ):  # nothing to round
        return np.array(
            [[-1, 0, width - 1 - left], [0, 1, top]] if draw.flip else [[1, 0, left], [0, 1, top]],
            np.float64,
        )
    cosine = math.cos(math.radians(draw.rotation_degrees)) / draw.scale
    sine = math.sin(math.radians(draw.rotation_degrees)) / draw.scale
    down, across = draw.aspect**0.5, (-1.0 if draw.flip else 1.0) * draw.aspect**-0.5
    row, column = (
        down * (top - middle_row - draw.shift_rows * height),
        across * (left - middle_column - draw.shift_columns * width),
    )
    return np.array(
        [
            [across * cosine, -sine * down, cosine * column - sine * row + middle_column],
            [across * sine, cosine * down, sine * column + cosine * row + middle_row],
        ]
    )


def _table(draw: AugmentationParams, dtype: np.dtype) -> np.ndarray:
    """The new grey value of each: inverted first, then gamma, then contrast about mid-grey and brightness."""
    top = np.iinfo(dtype).max
    greys = np.arange(top + 1) / top
    bright = (greys[::-1] if draw.inverted else greys) ** draw.gamma
    return np.rint(
        np.clip((bright - 0.5) * draw.contrast + 0.5 + draw.brightness, 0, 1) * top
    ).astype(dtype)


_SWAPPED = np.arange(256, dtype=np.uint8)
_SWAPPED[[RIGHT, LEFT]] = LEFT, RIGHT
