"""Augmentation of images and their label masks: a set of numbers is drawn first, and applied afterwards.

Apart from one another, the draw can be kept, shown, or repeated, and applying it needs no randomness. Images are uint8 (height, width),
masks uint8 (height, width) with 0 for background. What comes in from beyond the border is 0, in the image as in the mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from hilum.lungs import LEFT, RIGHT

GRID = 4  # the elastic displacement is drawn on GRID x GRID points, and smooth between them


@dataclass(frozen=True)
class Augmentation:
    """The largest change of each kind; 0 switches one off.

    Positive degrees turn anticlockwise. `scale`, `contrast` and `gamma` are shares of the factor 1 (0.1: from 1/1.1 to 1.1);
    `brightness` is a share of full white; `shift` and `elastic` are shares of the image's height and width. `flip` mirrors every
    second image: off, as the heart lies on the left.
    """

    rotation_degrees: float = 10.0
    scale: float = 0.1
    shift: float = 0.06
    contrast: float = 0.25
    brightness: float = 0.1
    gamma: float = 0.3
    elastic: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Draw:
    """One drawn set of changes; `dataclasses.asdict` of it can be written as JSON.

    `elastic` holds the displacements (2, GRID, GRID), rows then columns, as shares of the image's size; empty when there is none.
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


def draw(settings: Augmentation, rng: np.random.Generator) -> Draw:
    """Draw each change evenly within its limits (factors evenly in their logarithm)."""

    def between(limit: float) -> float:
        return float(rng.uniform(-limit, limit))

    def factor(limit: float) -> float:
        return math.exp(between(math.log1p(limit)))

    grid = rng.uniform(-settings.elastic, settings.elastic, (2, GRID, GRID)).tolist() if settings.elastic else []
    return Draw(
        rotation_degrees=between(settings.rotation_degrees),
        scale=factor(settings.scale),
        shift_rows=between(settings.shift),
        shift_columns=between(settings.shift),
        contrast=factor(settings.contrast),
        brightness=between(settings.brightness),
        gamma=factor(settings.gamma),
        elastic=tuple(tuple(tuple(line) for line in plane) for plane in grid),
        flip=bool(settings.flip and rng.random() < 0.5),
    )


def apply(draw: Draw, image: np.ndarray, mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """The changed image (linear interpolation) and mask (nearest label), both moved by one and the same map.

    The grey values of the image alone are changed, by a lookup table. Where the draw mirrors, right and left lung swap in the mask.
    """
    columns, rows = _map(draw, image.shape)
    moved = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    moved = cv2.LUT(moved, _table(draw))
    if mask is None:
        return moved, None
    labels = cv2.remap(mask, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return moved, _swapped(labels) if draw.flip else labels


def _map(draw: Draw, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of the result, the column and the row it is taken from: float32 (height, width) each."""
    height, width = shape
    rows, columns = np.ogrid[0:height, 0:width]
    centre_row, centre_column = (height - 1) / 2, (width - 1) / 2
    row = (rows - centre_row - draw.shift_rows * height).astype(np.float32)
    column = (columns - centre_column - draw.shift_columns * width).astype(np.float32)
    if draw.flip:
        column = -column
    cosine = np.float32(math.cos(math.radians(draw.rotation_degrees)) / draw.scale)
    sine = np.float32(math.sin(math.radians(draw.rotation_degrees)) / draw.scale)
    from_columns = cosine * column - sine * row + np.float32(centre_column)
    from_rows = sine * column + cosine * row + np.float32(centre_row)
    if draw.elastic:
        planes = np.asarray(draw.elastic, np.float32)
        rows_off, columns_off = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC) for plane in planes)
        from_rows += rows_off * np.float32(height)
        from_columns += columns_off * np.float32(width)
    return from_columns, from_rows


def _table(draw: Draw) -> np.ndarray:
    """The new grey value of each of the 256: gamma first, then contrast about mid-grey and brightness."""
    grey = (np.arange(256) / 255) ** draw.gamma
    return np.rint(np.clip((grey - 0.5) * draw.contrast + 0.5 + draw.brightness, 0, 1) * 255).astype(np.uint8)


def _swapped(labels: np.ndarray) -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    table[[RIGHT, LEFT]] = LEFT, RIGHT
    return cv2.LUT(labels, table)
