"""The healthy body of synthetic chest radiographs, as attenuation along the beam, in hundredths.

What has no sharp edge (soft tissue, organs) is drawn on the coarse grid of the view; bones and
vessels on its own pixels, bones in whole hundredths, so that a uint8 layer holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import cast

import cv2
import numpy as np

from hilum.imaging.synthetic._anatomy import (
    BOTH_SIDES,
    RIB_REACHES,
    SIDES,
    Anatomy,
    View,
    band,
    closed,
    ellipse,
    fill_apart,
    pairs,
    posterior_rib,
    rough,
    spread,
)

HUNDREDTHS = 100  # of attenuation 1
_VESSEL = 55  # attenuation of the broadest vessel
_RIM_OF_AIR = 0.6  # fraction of the depth of a lung that it has beside its outline already
_NUMBERS = np.arange(len(RIB_REACHES))[:, None]
_BACK = np.linspace(0.12, np.pi / 2, 10)
_FRONT = np.linspace(0, 1, 8)
_SPINE = np.linspace(-0.1, 1.1, 30)
_SPINE_BOW, _SPINE_WIDTH = np.sin(np.pi * _SPINE), 0.05 + 0.016 * _SPINE
_CLAVICLE = np.linspace(0, 1, 16)
_TRACHEA = np.linspace(0, 1, 12) * 0.36
_BEND = np.linspace(0.1, 0.9, 3)[:, None]
_LAST_BEND = float(_BEND[-1, 0])
_FRONT_REACH = np.asarray(RIB_REACHES)[:, None] * (1 - 0.6 * _FRONT**2)
_FRONT_DROP = (0.6 + 0.06 * _NUMBERS) * (1 + 1.15 * _FRONT)
_INNER = np.array([1.0, 0.62])[:, None, None, None]  # a rib, and what its dense rims enclose
_BACK_WIDTHS, _FRONT_WIDTHS = 0.02 * _INNER, 0.02 * (1.05 + 0.3 * _FRONT) * _INNER
_BLOCK = closed([-1, -0.86, -1, 1, 0.86, 1], [-1, 0, 1, 1, 0, -1], steps=2)  # a vertebral body
_PEDICLES = np.concatenate([ellipse((across, -0.4), 0.2, 0.4)[::4] for across in (-0.6, 0.6)])
_VERTEBRA = np.concatenate([_BLOCK, 0.8 * _BLOCK, _PEDICLES])
_RIM, _MARROW = slice(len(_BLOCK)), slice(len(_BLOCK), 2 * len(_BLOCK))
_PAIR = slice(2 * len(_BLOCK), None)  # of pedicles
_GRAINS, _COARSER = (68, 84), (22, 28)  # of the lungs' texture: a hundredth of the frame, and more
_TRUNK_CELLS, _BELLY_CELLS = 7, 14  # grains across the frame of soft tissue
_REACH = np.array([0.055, 0.06, 0.055, 0.05, 0.04, 0.03]) / 3  # of a third of a vessel
_SIDE_OF_ROOT = np.repeat(SIDES, 8).astype(float)
_HEADINGS = np.tile(np.linspace(-1.45, 1.5, 8), 2)


def trunk(view: View, body: Anatomy, breath: float) -> np.ndarray:
    """Return the attenuation of soft tissue and organs without the lungs, float32."""
    grid, rng = view.coarse, np.random.default_rng(body.texture)
    grains = rng.standard_normal(_BELLY_CELLS**2, np.float32)  # the trunk's are the first of them
    dense = _soft_tissue(grid, body, grains[: _TRUNK_CELLS**2])
    dense += _organs(grid, body, breath, grains)
    dense *= np.float32(HUNDREDTHS)
    return view.enlarged(dense)


def bones(view: View, body: Anatomy) -> np.ndarray:
    """Return the attenuation of ribs, spine, shoulder blades and clavicles, uint8."""
    layer, front = _ribs(view, body)
    for part in (view.blurred(front, 0.0025), _spine(view, body), _shoulders(view, body)):
        cv2.add(layer, part, dst=layer)
    return layer


@lru_cache(512)
def _surroundings(height: int) -> np.ndarray:
    """Return the attenuation of the air around the body, float32 (height, 1)."""
    return np.linspace(0.25, 0.12, height, dtype=np.float32)[:, None]


def _soft_tissue(view: View, body: Anatomy, grains: np.ndarray) -> np.ndarray:
    """Return the trunk with neck and arms, round at its outline, and the breasts.

    The air around attenuates a little.
    """
    side = body.half_width + body.flank
    u = [0.075, 0.08, 0.13, 0.3, 0.46, 0.6, 0.8, 0.62]
    u += [side + 0.055, side + 0.015, side, side + 0.012, side + 0.03]
    v = [-0.15, 0.0, 0.055, 0.09, 0.125, 0.25, 0.7, 0.64, 0.43, 0.46, 0.62, 0.85, 1.2]
    outline = closed(u + [-x for x in reversed(u)], v + v[::-1])
    trunk = view.round(view.fill(outline) > 127, 0.1, body.soft_tissue)
    dense = cv2.GaussianBlur(trunk, (5, 5), 1.2)  # else the coarse grid shows along the skin
    dense += _surroundings(view.height)
    dense += view.spread(grains.reshape(_TRUNK_CELLS, -1) * np.float32(0.05))
    if body.breast:
        middle = np.array([body.half_width * 0.62, body.dome - 0.02])
        shapes = (ellipse(middle * (side, 1), body.half_width * 0.4, 0.105) for side in SIDES)
        dense += view.round(view.fill(*shapes) > 127, 0.1, body.breast)
    return dense


def _organs(view: View, body: Anatomy, breath: float, grains: np.ndarray) -> np.ndarray:
    """Draw the abdomen, less the air of the trachea, behind the heart and in the stomach."""
    top, dome, side = body.apex, body.dome + breath, body.half_width + body.flank * 0.6
    low = dome + body.dome_drop
    trachea = pairs(body.spine_curve + 1j * (top - 0.2 + _TRACHEA))
    half, middle = (
        (body.heart_left + body.heart_right) / 2,
        (body.heart_left - body.heart_right) / 2,
    )
    v = [low + 0.08, dome + 0.005, low + 0.01, low, low + 0.08, 1.5, 1.5]
    belly = closed([-side, -side * 0.6, 0, side * 0.6, side, side, -side], v)
    dense = view.soft(view.fill(belly), 0.006)
    dense *= 0.5 + view.spread(grains.reshape(_BELLY_CELLS, -1) * np.float32(0.05))
    dense -= view.haze(0.03, ellipse((middle, dome - 0.14), half, 0.17), most=0.5)
    dense -= view.soft(view.fill(band(trachea, 0.03)), 0.004, 0.4)
    if body.bubble:
        gas = ellipse(
            (side * 0.5, low + 0.03 + body.bubble * 0.55), body.bubble, body.bubble * 0.55
        )
        dense -= view.round(view.fill(gas) > 127, 0.03)
    return dense


def _ribs(view: View, body: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Return the posterior and anterior halves of ten pairs of ribs, denser at their rims."""
    back, front = view.fill(), view.fill()
    start = body.apex + 0.01 + _NUMBERS * body.rib_spacing
    before = np.empty((len(_NUMBERS), len(_FRONT), 2))
    before[..., 0] = 0.01 + body.half_width * _FRONT_REACH
    before[..., 1] = start + body.rib_drop * _FRONT_DROP
    behind = posterior_rib(body, _NUMBERS, _BACK)
    for layer, lines, widths, density in (
        (back, behind, _BACK_WIDTHS, 50),
        (front, before, _FRONT_WIDTHS, 30),
    ):
        corners = view.pixels(band(lines, widths) * BOTH_SIDES)
        for outlines, value in zip(corners, (1.0, 0.65), strict=True):
            # Scatter veils those below the diaphragm.
            for ribs, seen in ((slice(6), 1.0), (slice(6, 8), 0.8), (slice(8, 10), 0.45)):
                fill_apart(layer, outlines[:, ribs], value * density * seen)
    return back, front


def _spine(view: View, body: Anatomy) -> np.ndarray:
    """Draw vertebral bodies with rims and pedicles, seen through the mediastinum."""
    column = pairs(body.spine_curve * _SPINE_BOW + 1j * _SPINE)
    layer = view.fill(band(column, _SPINE_WIDTH), value=45)
    tall = body.rib_spacing * 0.62
    top = np.arange(-0.05, 1.05, body.rib_spacing * 0.78)
    vertebrae = np.empty((len(top), len(_VERTEBRA), 2))
    middle, half = body.spine_curve * np.sin(np.pi * top), 0.028 + 0.009 * top
    vertebrae[..., 0] = middle[:, None] + half[:, None] * _VERTEBRA[:, 0]
    vertebrae[..., 1] = top[:, None] + tall / 2 * (1 + _VERTEBRA[:, 1])
    corners = view.pixels(vertebrae)
    for part, value in ((_RIM, 84), (_MARROW, 67)):
        fill_apart(layer, corners[:, part], value)
    fill_apart(layer, corners[:, _PAIR].reshape(len(top), 2, -1, 2), 95)
    return layer


def _shoulders(view: View, body: Anatomy) -> np.ndarray:
    """Draw shoulder blades, heads of the upper arms and clavicles."""
    t, wide = _CLAVICLE, body.half_width
    u = [wide * 0.9, wide * 0.93, wide * 1.02, wide * 1.06, wide + 0.08, wide + 0.09]
    blade = closed(u, [0.2, 0.3, 0.42, 0.40, 0.27, 0.2])
    fall = body.apex + 0.1 - 0.085 * t - 0.015 * np.sin(2 * np.pi * t)
    line, girth = (
        pairs(0.035 + (wide + 0.05) * t + 1j * fall),
        0.03 - 0.012 * np.sin(np.pi * t),
    )
    shapes, values = [blade], [23.0]
    for inner, value in ((1.0, 70), (0.65, 48)):
        shapes.append(ellipse((wide + 0.125, 0.2), 0.045 * inner, 0.045 * inner))
        shapes.append(band(line, girth * inner))
        values += [value * 0.7, value]
    layer = view.fill()
    corners, first = view.pixels(np.concatenate(shapes) * BOTH_SIDES), 0
    for shape, value in zip(shapes, values, strict=True):
        fill_apart(layer, corners[..., first : first + len(shape), :], value)
        first += len(shape)
    return layer


def air(view: View, outlines: list[np.ndarray], filled: np.ndarray) -> np.ndarray:
    """Return the depth of air in both lungs, float32 in [0, 1].

    `view` is that of the lungs, `filled` its layer with both outlines filled.
    """
    grid, share = view.coarse, _RIM_OF_AIR / 255
    inner = grid.round(grid.fill(*outlines) > 127, 0.06, (1 - _RIM_OF_AIR) / (1 - share))
    depth = view.enlarged(inner)
    cv2.accumulateWeighted(view.blurred(filled, 0.0025), depth, share)
    return depth


def lung_marks(view: View, body: Anatomy) -> np.ndarray:
    """Return the attenuation of vessels and lung texture around the lungs, float32.

    `view` is that of the lungs.
    """
    rng, share = np.random.default_rng(body.texture), _VESSEL / 255
    vessels = view.blurred(_vessels(view, body, rng), 0.0022)
    grains = rough(rng, *_GRAINS, 3 / (1 - share))
    grains += spread(rough(rng, *_COARSER, 3.5 / (1 - share)), *_GRAINS)
    marks = cv2.resize(grains, (view.width, view.height), interpolation=cv2.INTER_CUBIC)
    cv2.accumulateWeighted(vessels, marks, share)
    return marks


def _vessels(view: View, body: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Return a uint8 layer of pulmonary vessels that fork from each hilum.

    They become fainter and finer outwards; coarse ones are on top.
    """
    # Points are complex numbers, and vessels columns: several times as fast as rows of pairs.
    at = _SIDE_OF_ROOT * 0.07 + 1j * (body.apex + 0.27 + rng.uniform(-0.015, 0.045, 16))
    side, heading = _SIDE_OF_ROOT, _HEADINGS + 0.1 * rng.standard_normal(16)
    grown, forks = [], []
    for _ in _REACH:
        curl, stretch = 0.28 * rng.standard_normal(len(side)), rng.random(len(side))
        grown.append((curl, stretch, side, heading))
        fork = (rng.random(2 * len(side)) < 0.8).nonzero()[0] >> 1
        turn = 0.45 * rng.standard_normal(len(fork))
        side, heading = side[fork], (_LAST_BEND * curl + heading)[fork] + turn
        forks.append(fork)
    numbers = [len(curl) for curl, *_ in grown]
    curl, stretch, side, heading = map(np.concatenate, zip(*grown, strict=True))
    bend = _BEND * curl + heading
    length = (0.75 + (1.3 - 0.75) * stretch) * np.repeat(_REACH, numbers)
    lines = np.empty((4, len(side)), np.complex128)
    np.multiply(np.cos(bend), side * length, out=lines.real[1:])
    np.multiply(np.sin(bend), length, out=lines.imag[1:])
    lines[2] += lines[1]
    lines[3] += lines[2]
    bounds = list(pairwise(accumulate(numbers, initial=0)))
    for (first, last), fork in zip(bounds, forks, strict=True):
        generation = lines[:, first:last]
        generation[0] = at
        generation[1:] += at
        at = generation[3, fork]
    layer, corners = view.fill(), view.pixels(pairs(lines.T))
    for number, (first, last) in reversed(list(enumerate(bounds))):
        thick = view.size * 0.0105 * 0.72**number
        value = 255 * 0.85**number * min(1.0, thick)
        # Broad ones are blurred afterwards and need no smooth edges, which take most of the time.
        edges = cv2.LINE_8 if thick >= 1.5 else cv2.LINE_AA
        generation = cast("Sequence[np.ndarray]", corners[first:last])
        cv2.polylines(layer, generation, False, value, max(1, round(thick)), edges, 4)
    return layer
