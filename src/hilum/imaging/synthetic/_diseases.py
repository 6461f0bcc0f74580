"""Diseases of synthetic chest radiographs: water where there was air."""

from __future__ import annotations

import cv2
import numpy as np

from hilum.imaging.synthetic._anatomy import View, band, blob, blobs, spot

DISEASES = ("tuberculosis", "pneumonia", "effusion")
_ALONG = np.linspace(0, 1.3, 8)[:, None]  # a bronchus, from the hilum to beyond a consolidation
_BRONCHUS = np.linspace(0.012, 0.004, 8)  # its widths
_TOP = np.linspace(0, 1, 16)  # of pleural fluid, from the midline to the side wall


def displaced_air(
    view: View, outlines: list[np.ndarray], rng: np.random.Generator, disease: str
) -> np.ndarray:
    """Return the fraction of air displaced, float32 (height, width) in [0, 1].

    `view` is that of the lungs.
    Disease is in one lung, in three of ten patients in both.
    """
    paint = {"tuberculosis": _tuberculosis, "pneumonia": pneumonia, "effusion": effusion}[disease]
    severity, both, one = rng.uniform(0.1, 1), rng.uniform() < 0.3, rng.integers(2)
    one_or_both = outlines if both else outlines[one : one + 1]
    layers = [paint(view, outline, severity, rng) for outline in one_or_both]
    water = layers[0] if len(layers) == 1 else np.maximum(*layers)
    return np.clip(water, 0, 1, out=water)


def _tuberculosis(
    view: View, outline: np.ndarray, severity: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw nodules and patches around a focus in the upper zone, in some with a cavity."""
    focus, spread, grid = spot(outline, rng, 0.1, 0.42), 0.02 + 0.05 * severity, view.coarse
    number = int(3 + 22 * severity)
    centres = focus + rng.normal(0, 0.01 + spread * 0.7, (number, 2))
    shapes = blobs(centres, rng.uniform(0.005, 0.013, number), rng)
    part, place = view.patch(0.003, *shapes)
    nodules = part.fill()
    for shape, value in zip(part.pixels(shapes), rng.integers(90, 256, number), strict=True):
        cv2.fillPoly(nodules, [shape], int(value), cv2.LINE_AA, 4)
    patches = blobs(focus + rng.normal(0, spread, (3, 2)), spread * rng.uniform(0.4, 1, 3), rng)
    haze = grid.haze(0.013, *patches) * (1 + 0.4 * grid.cloud(rng, 28))
    haze *= np.float32(0.12 + 0.36 * severity)
    water = view.enlarged(haze)
    water[place] += part.soft(nodules, 0.003, 0.2 + 0.24 * severity)
    if severity > 0.45 and rng.uniform() < 0.5:
        wall = blob(focus, rng.uniform(0.022, 0.042), rng)
        part, place = view.patch(0.004, wall)
        hole = part.soft(part.fill(focus + (wall - focus) * rng.uniform(0.6, 0.75)), 0.003)
        rim = np.maximum(part.soft(part.fill(wall), 0.004) - hole, 0)
        water[place] = water[place] * (1 - 0.8 * hole) + rim * np.float32(0.35)
    return water


def pneumonia(
    view: View, outline: np.ndarray, severity: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a patchy consolidation of the middle or lower zone, with air in the bronchi."""
    focus, spread = spot(outline, rng, 0.5, 0.85), 0.035 + 0.055 * severity
    centres = focus + rng.normal(0, spread * 0.6, (4, 2))
    shapes, grid = blobs(centres, spread * rng.uniform(0.6, 1.2, 4), rng), view.coarse
    haze = grid.haze(0.02, *shapes) * (1 + 0.25 * grid.cloud(rng, 21))
    hilum = np.array([np.sign(focus[0]) * 0.08, outline[:, 1].min() + 0.3])
    lines = hilum + (focus + rng.normal(0, spread, (5, 1, 2)) - hilum) * _ALONG
    bronchi = view.soft(view.fill(*band(lines, _BRONCHUS)), 0.002)
    haze *= np.float32(0.17 + 0.6 * severity)
    return view.enlarged(haze) * (1 - 0.45 * bronchi)


def effusion(
    view: View, outline: np.ndarray, severity: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw fluid up to the meniscus, which rises towards the side wall.

    It fills between a blunted angle and a third of the lung.
    """
    bottom, reach = outline[:, 1].max(), 1.1 * np.abs(outline[:, 0]).max() * np.sign(outline[0, 0])
    level = bottom - 0.01 - 0.075 * severity - 0.12 * max(0.0, severity - 0.5) * rng.uniform(0.5, 1)
    top = np.column_stack([reach * _TOP, level - (0.005 + 0.085 * severity) * _TOP**4])
    pool = np.vstack([top, [(reach, bottom + 0.1), (0, bottom + 0.1)]])
    return view.soft(view.fill(pool), 0.004) * np.float32(rng.uniform(0.88, 1))
