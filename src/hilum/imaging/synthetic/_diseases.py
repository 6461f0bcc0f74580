"""Diseases of synthetic chest radiographs: water where there was air."""

from __future__ import annotations

import numpy as np

from hilum.imaging.synthetic._anatomy import View, band, blob, spot

DISEASES = ("tuberculosis", "pneumonia", "effusion")


def displaced_air(
    view: View, outlines: list[np.ndarray], rng: np.random.Generator, disease: str
) -> np.ndarray:
    """Return the fraction of air displaced, float32 (height, width) in [0, 1].

    Disease is in one lung, in three of ten patients in both.
    """
    paint = {"tuberculosis": _tuberculosis, "pneumonia": pneumonia, "effusion": effusion}[disease]
    severity, both, one = rng.uniform(0.1, 1), rng.uniform() < 0.3, rng.integers(2)
    water = view.fill().astype(np.float32)
    for outline in outlines if both else outlines[one : one + 1]:
        water = np.maximum(water, np.clip(paint(view, outline, severity, rng), 0, 1))
    return water


def _tuberculosis(
    view: View, outline: np.ndarray, severity: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw nodules and patches around a focus in the upper zone, in some with a cavity."""
    focus, spread, nodules = spot(outline, rng, 0.1, 0.42), 0.02 + 0.05 * severity, view.fill()
    for _ in range(int(3 + 22 * severity)):
        nodule = blob(focus + rng.normal(0, 0.01 + spread * 0.7, 2), rng.uniform(0.005, 0.013), rng)
        view.fill(nodule, value=int(rng.integers(90, 256)), layer=nodules)
    patches = [
        blob(focus + rng.normal(0, spread, 2), spread * rng.uniform(0.4, 1), rng) for _ in range(3)
    ]
    haze = view.soft(view.fill(*patches), 0.013) * (1 + 0.4 * view.cloud(rng, 40))
    water = view.soft(nodules, 0.003) * np.float32(0.2 + 0.24 * severity) + haze * np.float32(
        0.12 + 0.36 * severity
    )
    if severity > 0.45 and rng.uniform() < 0.5:
        wall = blob(focus, rng.uniform(0.022, 0.042), rng)
        hole = view.soft(view.fill(focus + (wall - focus) * rng.uniform(0.6, 0.75)), 0.003)
        water = water * (1 - 0.8 * hole) + np.maximum(
            view.soft(view.fill(wall), 0.004) - hole, 0
        ) * np.float32(0.35)
    return water


def pneumonia(
    view: View, outline: np.ndarray, severity: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a patchy consolidation of the middle or lower zone, with air in the bronchi."""
    focus, spread = spot(outline, rng, 0.5, 0.85), 0.035 + 0.055 * severity
    shapes = [
        blob(focus + rng.normal(0, spread * 0.6, 2), spread * rng.uniform(0.6, 1.2), rng)
        for _ in range(4)
    ]
    haze = view.soft(view.fill(*shapes), 0.02) * (1 + 0.25 * view.cloud(rng, 30))
    hilum, t = (
        np.array([np.sign(focus[0]) * 0.08, outline[:, 1].min() + 0.3]),
        np.linspace(0, 1.3, 8)[:, None],
    )
    lines = [hilum + (focus + rng.normal(0, spread, 2) - hilum) * t for _ in range(5)]
    bronchi = view.soft(
        view.fill(*(band(line, np.linspace(0.012, 0.004, 8)) for line in lines)), 0.002
    )
    return haze * (1 - 0.45 * bronchi) * np.float32(0.17 + 0.6 * severity)


def effusion(
    view: View, outline: np.ndarray, severity: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw fluid up to the meniscus, which rises towards the side wall.

    It fills between a blunted angle and a third of the lung.
    """
    bottom, reach = outline[:, 1].max(), 1.1 * np.abs(outline[:, 0]).max() * np.sign(outline[0, 0])
    level = bottom - 0.01 - 0.075 * severity - 0.12 * max(0.0, severity - 0.5) * rng.uniform(0.5, 1)
    t = np.linspace(0, 1, 16)
    top = np.column_stack([reach * t, level - (0.005 + 0.085 * severity) * t**4])
    pool = np.vstack([top, [(reach, bottom + 0.1), (0, bottom + 0.1)]])
    return view.soft(view.fill(pool), 0.004) * np.float32(rng.uniform(0.88, 1))
