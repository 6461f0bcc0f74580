"""The healthy body of synthetic chest radiographs, as attenuation along the beam.

What has no sharp edge (soft tissue, organs) is drawn on the coarse grid of the view; bones and
vessels on its own pixels, in whole hundredths of attenuation, so that a uint8 layer holds them.
"""

from __future__ import annotations

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
)

_HUNDREDTH = 0.01  # attenuation of one level of a layer of bones
_NUMBERS = np.arange(len(RIB_REACHES))[:, None]
_BACK = np.linspace(0.12, np.pi / 2, 10)
_FRONT = np.linspace(0, 1, 8)
_SPINE = np.linspace(-0.1, 1.1, 30)
_CLAVICLE = np.linspace(0, 1, 16)
_TRACHEA = np.linspace(0, 1, 12) * 0.36
_BEND = np.linspace(0.1, 0.9, 3)
_FRONT_REACH = np.asarray(RIB_REACHES)[:, None] * (1 - 0.6 * _FRONT**2)
_FRONT_DROP = (0.6 + 0.06 * _NUMBERS) * (1 + 1.15 * _FRONT)
_INNER = np.array([1.0, 0.62])[:, None, None, None]  # a rib, and what its dense rims enclose
_BACK_WIDTHS, _FRONT_WIDTHS = 0.02 * _INNER, 0.02 * (1.05 + 0.3 * _FRONT) * _INNER
_BLOCK = closed([-1, -0.86, -1, 1, 0.86, 1], [-1, 0, 1, 1, 0, -1], steps=2)  # a vertebral body
_PEDICLES = np.concatenate([ellipse((across, -0.4), 0.2, 0.4)[::4] for across in (-0.6, 0.6)])
_VERTEBRA = np.concatenate([_BLOCK, 0.8 * _BLOCK, _PEDICLES])
_RIM, _MARROW = slice(len(_BLOCK)), slice(len(_BLOCK), 2 * len(_BLOCK))
_LEFT, _RIGHT = (slice(at, at + 8) for at in (2 * len(_BLOCK), 2 * len(_BLOCK) + 8))
_GRAINS, _COARSER = (68, 84), (22, 28)  # of the lungs' texture: a hundredth of the frame, and more
_TRUNK_CELLS, _BELLY_CELLS = 7, 14  # grains across the frame of soft tissue
_HEADINGS = np.tile(np.linspace(-1.45, 1.5, 8), 2)


def trunk(view: View, body: Anatomy, breath: float) -> np.ndarray:
    """Return the attenuation of soft tissue and organs without the lungs, float32."""
    grid, rng = view.coarse, np.random.default_rng(body.texture)
    grains = rng.standard_normal(_BELLY_CELLS**2, np.float32)  # the trunk's are the first of them
    dense = _soft_tissue(grid, body, grains[: _TRUNK_CELLS**2])
    dense += _organs(grid, body, breath, grains)
    return view.enlarged(dense)


def bones(view: View, body: Anatomy) -> np.ndarray:
    """Return the attenuation of ribs, spine, shoulder blades and clavicles, float32."""
    behind, front = _ribs(view, body)
    layer = cv2.add(cv2.add(behind, view.blurred(front, 0.0025)), _spine(view, body))
    shoulders = _shoulders(view, body)
    return cv2.addWeighted(layer, _HUNDREDTH, shoulders, _HUNDREDTH, 0, dtype=cv2.CV_32F)


def _soft_tissue(view: View, body: Anatomy, grains: np.ndarray) -> np.ndarray:
    """Return the trunk with neck and arms, round at its outline, and the breasts.

    The air around attenuates a little.
    """
    side = body.half_width + body.flank
    u = [0.075, 0.08, 0.13, 0.3, 0.46, 0.6, 0.8, 0.62]
    u += [side + 0.055, side + 0.015, side, side + 0.012, side + 0.03]
    v = [-0.15, 0.0, 0.055, 0.09, 0.125, 0.25, 0.7, 0.64, 0.43, 0.46, 0.62, 0.85, 1.2]
    outline = closed(u + [-x for x in reversed(u)], v + v[::-1])
    trunk = view.round(view.fill(outline) > 127, 0.1) * np.float32(body.soft_tissue)
    dense = cv2.GaussianBlur(trunk, (5, 5), 1.2)  # else the coarse grid shows along the skin
    dense += np.linspace(0.25, 0.12, view.height, dtype=np.float32)[:, None]
    dense += view.spread(grains.reshape(_TRUNK_CELLS, -1)) * np.float32(0.05)
    if body.breast:
        middle = np.array([body.half_width * 0.62, body.dome - 0.02])
        shapes = (ellipse(middle * (side, 1), body.half_width * 0.4, 0.105) for side in SIDES)
        dense += view.round(view.fill(*shapes) > 127, 0.1) * np.float32(body.breast)
    return dense


def _organs(view: View, body: Anatomy, breath: float, grains: np.ndarray) -> np.ndarray:
    """Draw the abdomen, less the air of the trachea, behind the heart and in the stomach."""
    top, dome, side = body.apex, body.dome + breath, body.half_width + body.flank * 0.6
    low = dome + body.dome_drop
    trachea = np.column_stack([np.full_like(_TRACHEA, body.spine_curve), top - 0.2 + _TRACHEA])
    half, middle = (
        (body.heart_left + body.heart_right) / 2,
        (body.heart_left - body.heart_right) / 2,
    )
    v = [low + 0.08, dome + 0.005, low + 0.01, low, low + 0.08, 1.5, 1.5]
    belly = closed([-side, -side * 0.6, 0, side * 0.6, side, side, -side], v)
    dense = view.soft(view.fill(belly), 0.006)
    dense *= 0.5 + 0.05 * view.spread(grains.reshape(_BELLY_CELLS, -1))
    dense -= view.haze(0.03, ellipse((middle, dome - 0.14), half, 0.17)) * np.float32(0.5)
    dense -= view.soft(view.fill(band(trachea, 0.03)), 0.004) * np.float32(0.4)
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
        both = np.broadcast_to(lines, (2, 1, *lines.shape))
        corners = view.pixels(band(both, widths) * BOTH_SIDES)
        for outlines, value in zip(corners, (1.0, 0.65), strict=True):
            # Scatter veils those below the diaphragm.
            for ribs, seen in ((slice(6), 1.0), (slice(6, 8), 0.8), (slice(8, 10), 0.45)):
                fill_apart(layer, outlines[:, ribs], value * density * seen)
    return back, front


def _spine(view: View, body: Anatomy) -> np.ndarray:
    """Draw vertebral bodies with rims and pedicles, seen through the mediastinum."""
    column = np.column_stack([body.spine_curve * np.sin(np.pi * _SPINE), _SPINE])
    layer = view.fill(band(column, 0.05 + 0.016 * _SPINE), value=45)
    tall = body.rib_spacing * 0.62
    top = np.arange(-0.05, 1.05, body.rib_spacing * 0.78)
    centres = np.column_stack([body.spine_curve * np.sin(np.pi * top), top + tall / 2])[:, None]
    half = np.column_stack([0.028 + 0.009 * top, np.full_like(top, tall / 2)])[:, None]
    corners = view.pixels(centres + _VERTEBRA * half)
    for part, value in ((_RIM, 84), (_MARROW, 67), (_LEFT, 95), (_RIGHT, 95)):
        fill_apart(layer, corners[:, part], value)
    return layer


def _shoulders(view: View, body: Anatomy) -> np.ndarray:
    """Draw shoulder blades, heads of the upper arms and clavicles."""
    t, wide = _CLAVICLE, body.half_width
    u = [wide * 0.9, wide * 0.93, wide * 1.02, wide * 1.06, wide + 0.08, wide + 0.09]
    blade = closed(u, [0.2, 0.3, 0.42, 0.40, 0.27, 0.2])
    fall = body.apex + 0.1 - 0.085 * t - 0.015 * np.sin(2 * np.pi * t)
    line, girth = (
        np.column_stack([0.035 + (wide + 0.05) * t, fall]),
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
    grid = view.coarse
    depth = view.enlarged(grid.round(grid.fill(*outlines) > 127, 0.06) * np.float32(0.4))
    edge = view.blurred(filled, 0.0025)
    return cv2.addWeighted(edge, 0.6 / 255, depth, 1, 0, dtype=cv2.CV_32F)


def lung_marks(view: View, body: Anatomy) -> np.ndarray:
    """Return the attenuation of vessels and lung texture around the lungs, float32.

    `view` is that of the lungs.
    """
    rng = np.random.default_rng(body.texture)
    vessels = view.blurred(_vessels(view, body, rng), 0.0022)
    grains = rough(rng, *_GRAINS) * np.float32(0.03)
    coarser = rough(rng, *_COARSER) * np.float32(0.035)
    grains += cv2.resize(coarser, _GRAINS[::-1], interpolation=cv2.INTER_CUBIC)
    texture = cv2.resize(grains, (view.width, view.height), interpolation=cv2.INTER_CUBIC)
    return cv2.addWeighted(vessels, 0.55 / 255, texture, 1, 0, dtype=cv2.CV_32F)


def _vessels(view: View, body: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Return a uint8 layer of pulmonary vessels that fork from each hilum.

    They become fainter and finer outwards; coarse ones are on top.
    """
    # Points are complex numbers, and vessels columns: several times as fast as rows of pairs.
    side = np.repeat(SIDES, 8).astype(float)
    at = side * 0.07 + 1j * (body.apex + 0.27 + rng.uniform(-0.015, 0.045, 16))
    heading = _HEADINGS + rng.normal(0, 0.1, 16)
    generations = []
    for reach in (0.055, 0.06, 0.055, 0.05, 0.04, 0.03):
        number = len(at)
        bend = _BEND[:, None] * (0.28 * rng.standard_normal(number))
        bend += heading
        length = (0.75 + (1.3 - 0.75) * rng.random(number)) * (reach / 3)
        lines = np.empty((4, number), np.complex128)
        lines.real[1:] = np.cos(bend) * side * length
        lines.imag[1:] = np.sin(bend) * length
        lines[2] += lines[1]
        lines[3] += lines[2]
        lines[1:] += at
        lines[0] = at
        generations.append(lines.T)
        fork = np.flatnonzero(rng.random(2 * number) < 0.8) // 2
        turns = rng.standard_normal(len(fork))
        at, side, heading = lines[3, fork], side[fork], bend[2, fork] + 0.45 * turns
    layer, corners = view.fill(), view.pixels(pairs(np.concatenate(generations)))
    last = len(corners)
    for number, lines in reversed(list(enumerate(generations))):
        first = last - len(lines)
        thick = view.size * 0.0105 * 0.72**number
        value = 255 * 0.85**number * min(1.0, thick)
        # Broad ones are blurred afterwards and need no smooth edges, which take most of the time.
        edges = cv2.LINE_8 if thick >= 1.5 else cv2.LINE_AA
        lines = list(corners[first:last])
        cv2.polylines(layer, lines, False, value, max(1, round(thick)), edges, 4)
        last = first
    return layer
