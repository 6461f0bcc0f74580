"""The frame, the body and the outlines of synthetic chest radiographs.

Lengths are fractions of the frame: u across from the midline, v down from the upper border; the
PATIENT's right is at negative u. An outline or a line is float64 (points, 2) of u, v.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import cast

import cv2
import numpy as np

SIDES = (-1, 1)  # the patient's right (left in the image), the patient's left
RIB_REACHES = (0.62, 0.79, 0.89, 0.95, 0.99, 1.01, 1.02, 1.03, 1.03, 1.02)  # half widths, from top
_REACHES = np.array(RIB_REACHES)
BOTH_SIDES = np.array([[[[-1, 1]]], [[[1, 1]]]])  # mirrors outlines (n, points, 2) of the left
Window = tuple[slice, slice]  # rows and columns of a frame
CIRCLE = np.column_stack([np.cos(np.arange(32) * np.pi / 16), np.sin(np.arange(32) * np.pi / 16)])


class Uniforms:
    """The next uniform values of a generator.

    They are drawn together: one by one, as `rng.uniform` draws them, they take ten times as long.
    """

    def __init__(self, rng: np.random.Generator, number: int) -> None:
        self._next = iter(rng.random(number).tolist()).__next__

    def __call__(self, low: float, high: float) -> float:
        """Return the next value, from `low` to `high`."""
        return low + (high - low) * self._next()


@dataclass(frozen=True)
class Anatomy:
    """One patient's body; lengths in fractions of the frame unless stated otherwise."""

    half_width: float  # midline to the widest place of the lung
    apex: float  # v of the top of the lungs
    dome: float  # v of the right diaphragm dome
    dome_drop: float  # left dome lower than the right by this
    angle: float  # depth of the costophrenic angle below the dome
    heart_right: float  # midline to the right border of the heart
    heart_left: float
    rib_spacing: float
    rib_drop: float  # fall of a rib from spine to side
    spine_curve: float  # sideways bow of the spine
    tilt: float  # slope of the body, v over u
    soft_tissue: float  # attenuation through the thickest place
    flank: float  # chest wall outside the lung
    breast: float  # attenuation; 0 is none
    bubble: float  # half width of the gastric bubble; 0 is none
    texture: int  # seed of the vessel tree and of the grain of tissues


@dataclass(frozen=True)
class View:
    """A frame of height x width pixels, and the affine map (2, 3) from (u, v) to pixels (x, y)."""

    height: int
    width: int
    map: np.ndarray
    size: float  # side of the square of the same area, pixels

    @cached_property
    def coarse(self) -> View:
        """The frame on the grid of 112 pixels or so on which what has no sharp edge is drawn."""
        return self.reduced(round(self.size / 112))

    @cached_property
    def _sixteenths(self) -> np.ndarray:
        return 16 * self.map

    def reduced(self, step: int) -> View:
        """Return the same frame with pixels `step` times as wide; itself for 1 or less."""
        if step <= 1:
            return self
        height, width = max(1, self.height // step), max(1, self.width // step)
        scale = np.array([[width / self.width], [height / self.height]])
        # Pixel centres are at whole numbers: the border of the frame is at -0.5 on both grids.
        shift = np.array([[0, 0, 0.5]])
        return View(height, width, (self.map + shift) * scale - shift, self.size / step)

    def around(self, outlines: Sequence[np.ndarray], margin: float) -> tuple[View, Window]:
        """Return the part of the frame around outlines, and the rows and columns that it is.

        `margin` is a fraction of the frame.
        """
        left, top, width, height = cv2.boundingRect(self.pixels(np.concatenate(outlines)))
        more = math.ceil(margin * self.size)
        right, bottom = (left + width - 1) // 16 + more + 1, (top + height - 1) // 16 + more + 1
        left = min(max(left // 16 - more, 0), self.width - 1)
        top = min(max(top // 16 - more, 0), self.height - 1)
        right = max(min(right, self.width), left + 1)
        bottom = max(min(bottom, self.height), top + 1)
        shifted = self.map - [[0, 0, left], [0, 0, top]]
        window = slice(top, bottom), slice(left, right)
        return View(bottom - top, right - left, shifted, self.size), window

    def enlarged(self, field: np.ndarray) -> np.ndarray:
        """Resample a field of a reduced frame, float32, to this one."""
        if field.shape == (self.height, self.width):
            return field
        return cv2.resize(field, (self.width, self.height), interpolation=cv2.INTER_LINEAR)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Convert points u, v (..., 2) to int32 pixels in sixteenths, for OpenCV's shift=4."""
        found = cv2.transform(points.reshape(-1, 1, 2), self._sixteenths)
        return np.rint(found, out=found).astype(np.int32).reshape(points.shape)

    def fill(
        self, *outlines: np.ndarray, value: float = 255, layer: np.ndarray | None = None
    ) -> np.ndarray:
        """Return a uint8 layer, new unless given, with `value` inside each outline.

        Later outlines overwrite earlier ones.
        """
        layer = np.zeros((self.height, self.width), np.uint8) if layer is None else layer
        if not outlines:
            return layer
        corners, first = self.pixels(np.concatenate(outlines)), 0
        for outline in outlines:
            last = first + len(outline)
            cv2.fillPoly(layer, [corners[first:last]], int(value), cv2.LINE_AA, 4)
            first = last
        return layer

    def soft(self, layer: np.ndarray, sigma: float, most: float = 1) -> np.ndarray:
        """Blur a uint8 layer by `sigma` (fraction of the frame); return float32 in [0, most]."""
        return self.blurred(layer, sigma) * np.float32(most / 255)

    def patch(self, sigma: float, *outlines: np.ndarray) -> tuple[View, Window]:
        """Return the part of the frame that outlines reach which are blurred by `sigma`."""
        return self.around(outlines, 2 * sigma + 2 / self.size)

    def blurred(self, layer: np.ndarray, sigma: float) -> np.ndarray:
        """Blur a layer by `sigma` (fraction of the frame)."""
        width = max(sigma * self.size, 0.3)
        weights = _gauss(width)
        return cv2.sepFilter2D(layer, -1, weights, weights)

    def haze(self, sigma: float, *outlines: np.ndarray, most: float = 1) -> np.ndarray:
        """Return outlines filled and blurred by `sigma` (fraction of the frame).

        float32 in [0, most], computed on a grid on which `sigma` is two pixels or more.
        """
        grid = self.reduced(int(min(sigma * self.size / 2, self.height / 8, self.width / 8)))
        return self.enlarged(grid.soft(grid.fill(*outlines), sigma, most))

    def round(self, mask: np.ndarray, depth: float, most: float = 1) -> np.ndarray:
        """Return the thickness in [0, most] of a solid with this silhouette, bool or uint8.

        It is 0 at the edge, and rises as a parabola over `depth`.
        """
        inside = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 3)
        reach = depth * self.size
        cv2.threshold(inside, reach, 0, cv2.THRESH_TRUNC, inside)
        return cv2.multiply(
            inside, np.float32(2 * reach) - inside, dst=inside, scale=most / reach**2
        )

    def cloud(self, rng: np.random.Generator, cells: int) -> np.ndarray:
        """Return smooth noise of mean 0, `cells` grains across."""
        return self.spread(rng.standard_normal((cells, cells), np.float32))

    def spread(self, grains: np.ndarray) -> np.ndarray:
        """Return a smooth field through grains that are spread over the frame, float32."""
        return spread(grains, self.height, self.width)


def fill_apart(layer: np.ndarray, corners: np.ndarray, value: float) -> None:
    """Write `value` inside outlines, int32 (..., points, 2) of `View.pixels`, to a uint8 layer.

    No two overlap. All are drawn in one pass, several times as fast as by `View.fill`.
    """
    outlines = cast("Sequence[np.ndarray]", corners.reshape(-1, *corners.shape[-2:]))
    cv2.fillPoly(layer, outlines, int(value), cv2.LINE_AA, 4)


def spread(grains: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a smooth field (height, width) through grains, both float32."""
    rows, columns = grains.shape
    return _cubic(rows, height) @ grains @ _cubic(columns, width).T


def rough(rng: np.random.Generator, rows: int, columns: int, deviation: float) -> np.ndarray:
    """Return noise of mean 0, float32 (rows, columns): nearly normal.

    The sum of four bytes is drawn in a sixth of the time of a normal value.
    """
    # Those of `Generator.bytes`, without a copy through values of 32 bits.
    raw = rng.bit_generator.random_raw(-(-4 * rows * columns // 8))
    four = raw.view(np.uint8)[: 4 * rows * columns].reshape(4, rows, columns)
    total = four.sum(0, np.int16).astype(np.float32)
    total -= 4 * 127.5
    total *= np.float32(deviation * (12 / (4 * (256**2 - 1))) ** 0.5)
    return total


@lru_cache(512)
def _cubic(grains: int, length: int) -> np.ndarray:
    """Return the weights (length, grains) of a smooth curve through grains.

    They are those of OpenCV, which takes ten times as long to resample few values to many.
    """
    eye = np.eye(grains, dtype=np.float32)
    return cv2.resize(eye, (grains, length), interpolation=cv2.INTER_CUBIC)


@lru_cache
def _gauss(sigma: float) -> np.ndarray:
    """Return the weights of a blur, of two `sigma` to either side.

    As whole numbers of 256ths, as OpenCV's own blur of uint8 has them, it takes twice the time.
    """
    return cv2.getGaussianKernel(2 * int(np.ceil(2 * sigma)) + 1, sigma, cv2.CV_32F)


# Outlines
@lru_cache
def _catmull_rom(points: int, steps: int) -> np.ndarray:
    """Return the weights (points * steps, points) of a closed curve's corners."""
    t, eye = np.linspace(0, 1, steps, endpoint=False)[None, :, None], np.eye(points)
    a, b, c, d = (np.roll(eye, shift, 0)[:, None] for shift in (1, 0, -1, -2))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return curve.reshape(-1, points)


def closed(
    u: Sequence[float] | np.ndarray, v: Sequence[float] | np.ndarray, steps: int = 8
) -> np.ndarray:
    """Return a closed Catmull-Rom curve through the points; a repeated point makes a corner."""
    return _catmull_rom(len(u), steps) @ np.array([u, v]).T


def ellipse(
    centre: tuple[float, float] | np.ndarray, radius_u: float, radius_v: float
) -> np.ndarray:
    """Return the outline of an ellipse."""
    return np.asarray(centre) + CIRCLE * (radius_u, radius_v)


def blob(centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Return an irregular round outline."""
    return blobs(np.asarray(centre)[None], np.array([radius]), rng)[0]


def blobs(centres: np.ndarray, radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return irregular round outlines (n, points, 2) around centres (n, 2)."""
    corners = CIRCLE[::4] * (radii[:, None] * rng.uniform(0.6, 1.25, (len(radii), 8)))[..., None]
    return centres[:, None] + _catmull_rom(8, 4) @ corners


def band(line: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """Return the outline (..., 2 n, 2) of a stroke of `width` along an open line (..., n, 2)."""
    points = line.view(complex)[..., 0]
    along = np.empty(points.shape, complex)
    np.subtract(points[..., 2:], points[..., :-2], out=along[..., 1:-1])
    along[..., 0] = points[..., 1] - points[..., 0]
    along[..., -1] = points[..., -1] - points[..., -2]
    half = (0.5 * width / np.abs(along)) * (1j * along)
    return pairs(np.concatenate([points + half, (points - half)[..., ::-1]], -1))


def pairs(points: np.ndarray) -> np.ndarray:
    """Return points u + v i, complex (..., n), as u, v (..., n, 2)."""
    return np.ascontiguousarray(points).view(float).reshape(*points.shape, 2)


def posterior_rib(body: Anatomy, number: int | np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Return the middle line (points, 2) of a posterior rib on the patient's left.

    Number 0 is the uppermost; an array (n, 1) of numbers gives (n, points, 2). `turn`: where along
    it, from 0.12 beside the spine to pi / 2 at the side wall.
    """
    reach = body.half_width * _REACHES[number]
    drop = body.rib_drop * (0.6 + 0.06 * number)
    start = body.apex + 0.01 + number * body.rib_spacing
    across = 0.01 + reach * np.sin(turn)
    line = np.empty((*across.shape, 2))
    line[..., 0], line[..., 1] = across, start + drop * (1 - np.cos(turn))
    return line


def spot(outline: np.ndarray, rng: np.random.Generator, upper: float, lower: float) -> np.ndarray:
    """Return a random point (u, v) of the lung, between two fractions of its height."""
    return spots(outline, rng.random((1, 2)), upper, lower)[0]


def spots(outline: np.ndarray, chance: np.ndarray, upper: float, lower: float) -> np.ndarray:
    """Return points (n, 2) of the lung, between two fractions of its height.

    `chance` is (n, 2), from 0 to 1: how far down and how far across each lies.
    """
    across, down = outline.T
    top, bottom = down.min(), down.max()
    v = top + (bottom - top) * (upper + (lower - upper) * chance[:, 0])
    near = np.abs(down - v[:, None]) < 0.03
    left = np.where(near, across, np.inf).min(1) + 0.02
    right = np.where(near, across, -np.inf).max(1) - 0.02
    return np.column_stack([left + (right - left) * chance[:, 1], v])
