"""The frame, the body and the outlines of synthetic chest radiographs.

Lengths are fractions of the frame: u across from the midline, v down from the upper border; the
PATIENT's right is at negative u. An outline or a line is float64 (points, 2) of u, v.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SIDES = (-1, 1)  # the patient's right (left in the image), the patient's left
RIB_REACHES = (0.62, 0.79, 0.89, 0.95, 0.99, 1.01, 1.02, 1.03, 1.03, 1.02)  # half widths, from top
CIRCLE = np.column_stack([np.cos(np.arange(32) * np.pi / 16), np.sin(np.arange(32) * np.pi / 16)])


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

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Convert points u, v (..., 2) to int32 pixels in sixteenths, for OpenCV's shift=4."""
        return np.rint((points @ self.map[:, :2].T + self.map[:, 2]) * 16).astype(np.int32)

    def fill(
        self, *outlines: np.ndarray, value: float = 255, layer: np.ndarray | None = None
    ) -> np.ndarray:
        """Return a uint8 layer, new unless given, with `value` inside each outline.

        Later outlines overwrite earlier ones.
        """
        layer = np.zeros((self.height, self.width), np.uint8) if layer is None else layer
        for outline in outlines:
            cv2.fillPoly(layer, [self.pixels(outline)], int(value), cv2.LINE_AA, 4)
        return layer

    def soft(self, layer: np.ndarray, sigma: float) -> np.ndarray:
        """Blur a uint8 layer by `sigma` (fraction of the frame); return float32 in [0, 1].

        A wide blur is computed on a coarse grid.
        """
        step = max(1, int(min(sigma * self.size / 3, self.width / 8, self.height / 8)))
        if step > 1:
            layer = cv2.resize(
                layer, (self.width // step, self.height // step), interpolation=cv2.INTER_AREA
            )
        layer = cv2.GaussianBlur(layer, (0, 0), max(sigma * self.size / step, 0.3)) * np.float32(
            1 / 255
        )
        return (
            layer
            if step == 1
            else cv2.resize(layer, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        )

    def round(self, mask: np.ndarray, depth: float) -> np.ndarray:
        """Return the thickness in [0, 1] of a solid with this silhouette.

        It is 0 at the edge, and rises as a parabola over `depth`.
        """
        inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3) / np.float32(
            depth * self.size
        )
        return 1 - np.square(1 - np.minimum(inside, 1))

    def cloud(self, rng: np.random.Generator, cells: int) -> np.ndarray:
        """Return smooth noise of mean 0, `cells` grains across."""
        grains = rng.standard_normal((cells, cells), np.float32)
        return cv2.resize(grains, (self.width, self.height), interpolation=cv2.INTER_CUBIC)


# Outlines
def closed(
    u: Sequence[float] | np.ndarray, v: Sequence[float] | np.ndarray, steps: int = 8
) -> np.ndarray:
    """Return a closed Catmull-Rom curve through the points; a repeated point makes a corner."""
    points, t = np.column_stack([u, v]), np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (np.roll(points, shift, 0)[:, None] for shift in (1, 0, -1, -2))
    return (
        b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    ).reshape(-1, 2)


def ellipse(
    centre: tuple[float, float] | np.ndarray, radius_u: float, radius_v: float
) -> np.ndarray:
    """Return the outline of an ellipse."""
    return np.asarray(centre) + CIRCLE * (radius_u, radius_v)


def blob(centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Return an irregular round outline."""
    corners = centre + CIRCLE[::4] * radius * rng.uniform(0.6, 1.25, (8, 1))
    return closed(corners[:, 0], corners[:, 1], steps=4)


def band(line: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """Return the outline of a stroke of `width` along an open line (n, 2)."""
    along = np.concatenate([line[1:2] - line[:1], line[2:] - line[:-2], line[-1:] - line[-2:-1]])
    half = along[:, ::-1] * (-0.5, 0.5) * (width / np.hypot(along[:, 0], along[:, 1]))[:, None]
    return np.concatenate([line + half, (line - half)[::-1]])


def posterior_rib(body: Anatomy, number: int, turn: np.ndarray) -> np.ndarray:
    """Return the middle line of a posterior rib on the patient's left; number 0 is the uppermost.

    `turn`: where along it, from 0.12 beside the spine to pi / 2 at the side wall.
    """
    reach = body.half_width * RIB_REACHES[number]
    drop = body.rib_drop * (0.6 + 0.06 * number)
    start = body.apex + 0.01 + number * body.rib_spacing
    return np.column_stack([0.01 + reach * np.sin(turn), start + drop * (1 - np.cos(turn))])


def spot(outline: np.ndarray, rng: np.random.Generator, upper: float, lower: float) -> np.ndarray:
    """Return a random point (u, v) of the lung, between two fractions of its height."""
    top, bottom = outline[:, 1].min(), outline[:, 1].max()
    v = top + (bottom - top) * rng.uniform(upper, lower)
    u = outline[np.abs(outline[:, 1] - v) < 0.03, 0]
    return np.array([rng.uniform(u.min() + 0.02, u.max() - 0.02), v])
