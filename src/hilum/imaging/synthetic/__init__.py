"""Synthesise chest radiographs with exact lung masks, of no real patient, for demo, docs and tests.

Conventions. An `Anatomy` is a patient, a `Phantom` one posterior-anterior exposure as on a viewing
box: the PATIENT's right lung is on the image's LEFT, the heart points to the image's right. Pixels
are uint8 (height, width), bright is dense. Masks are bool (height, width), each one piece by edge
neighbours. Lengths are fractions of the frame: u across from the midline, v down from the upper
border. The body fills a frame of any shape; an oblong one stretches it.

Image formation. Attenuation is summed along the beam: soft tissue of a round body, minus the air of
the lungs, plus bone, vessels and a lead marker; disease replaces air by water. X-ray quanta give
noise that grows with attenuation (Poisson, as a normal of equal variance), the detector blurs, and
the film curve 1 - exp(-(attenuation / exposure) ** contrast) converts attenuation to brightness.

Masks follow the Montgomery and Shenzhen protocol (Candemir et al. 2014; Stirenko et al. 2018): the
aerated field, without the heart, the part behind the diaphragm and an opaque effusion;
consolidation and nodules are inside.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from hilum.errors import BadRecipe, NotFound
from hilum.imaging.synthetic._anatomy import (
    RIB_REACHES,
    SIDES,
    Anatomy,
    View,
    band,
    closed,
    ellipse,
    posterior_rib,
)
from hilum.imaging.synthetic._diseases import DISEASES, displaced_air
from hilum.imaging.synthetic._signs import SIGNS, Signs

SMALLEST = 64  # pixels; below this the narrow angles of the lungs vanish


@dataclass(frozen=True)
class Phantom:
    """One exposure with its lung masks."""

    pixels: np.ndarray
    right_lung: np.ndarray
    left_lung: np.ndarray
    extents: Mapping[str, np.ndarray]  # where each of the signs lies, bool (height, width)


def anatomy(rng: np.random.Generator, *, child: bool = False) -> Anatomy:
    """Draw a patient at random.

    A child has a short broad chest, a wide heart, flat ribs and no breast shadow.
    """
    u = rng.uniform
    return Anatomy(
        half_width=u(0.34, 0.38) if child else u(0.325, 0.375),
        apex=u(0.115, 0.165),
        dome=u(0.62, 0.69) if child else u(0.66, 0.76),
        dome_drop=u(0.01, 0.04),
        angle=u(0.06, 0.09) if child else u(0.075, 0.125),
        heart_right=u(0.095, 0.12) if child else u(0.075, 0.105),
        heart_left=u(0.19, 0.23) if child else u(0.155, 0.215),
        rib_spacing=u(0.060, 0.068) if child else u(0.066, 0.078),
        rib_drop=u(0.06, 0.09) if child else u(0.11, 0.165),
        spine_curve=u(-0.012, 0.012),
        tilt=u(-0.03, 0.03),
        soft_tissue=u(2.6, 3.2) if child else u(3.0, 3.9),
        flank=u(0.03, 0.075),
        breast=u(0.25, 0.7) * float(u() < 0.4) * (not child),
        bubble=u(0.03, 0.07) * float(u() < 0.6),
        texture=int(rng.integers(2**32)),
    )


def draw(
    body: Anatomy,
    rng: np.random.Generator,
    *,
    height: int,
    width: int,
    disease: str | None = None,
    signs: Collection[str] = (),
    marker: bool = True,
) -> Phantom:
    """Expose `body` once: position, breath, exposure, noise and extent of disease come from `rng`.

    The same arguments and generator state give the same bytes. `disease` is None (healthy) or one
    of `DISEASES`, and changes only the lungs; `signs` are of `SIGNS`, and each comes with its
    extent. Raises `NotFound` for another disease or sign, `BadRecipe` for a side under 64 pixels.
    """
    if disease is not None and disease not in DISEASES:
        raise NotFound.named("disease", disease, DISEASES)
    for sign in signs:
        if sign not in SIGNS:
            raise NotFound.named("sign", sign, SIGNS)
    if min(height, width) < SMALLEST:
        raise BadRecipe(
            f"a phantom of {height}x{width} (height x width) is too small; give sides of "
            f"{SMALLEST} or more"
        )
    view = _pose(body, rng, height, width)
    film = {
        "exposure": rng.uniform(1.8, 2.7),
        "contrast": rng.uniform(1.15, 1.9),
        "quanta": rng.uniform(1e9, 8e9),
    }
    breath = rng.uniform(-0.025, 0.02)
    lead, beam = _marker(view, rng), _beam(view, rng)
    ill, grain = (np.random.default_rng(rng.integers(2**63)) for _ in range(2))
    outlines = [_lung(body, side, breath) for side in SIDES]
    masks = [view.fill(outline) > 127 for outline in outlines]
    water = np.float32(0) if disease is None else displaced_air(view, outlines, ill, disease)
    found = Signs.paint(view, body, outlines, ill, signs)
    dense = (
        _soft_tissue(view, body) + _ribs(view, body) + _spine(view, body) + _shoulders(view, body)
    )
    dense += _organs(view, body, breath) + _lungs(
        view, body, masks[0] | masks[1], water + found.water, found.bare
    )
    pixels = _expose(np.maximum(dense + found.dense, 0) + lead * marker, grain, **film) * beam
    seen = beam & ~found.fluid & (water < 0.5) if disease == "effusion" else beam & ~found.fluid
    right, left = (_one_piece(mask & seen) for mask in masks)
    extents = {sign: extent & beam for sign, extent in found.extents.items()}
    return Phantom(pixels, right, left, extents)


def _pose(body: Anatomy, rng: np.random.Generator, height: int, width: int) -> View:
    angle, zoom = np.deg2rad(rng.uniform(-2.5, 2.5)), rng.uniform(0.96, 1.06)
    shift = rng.uniform(-0.02, 0.02, 2)
    linear = (
        zoom
        * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        @ [[1, 0], [body.tilt, 1]]
    )
    affine = np.column_stack([linear, 0.5 + shift - linear @ [0, 0.5]]) * [[width], [height]]
    affine = affine - [0, 0, 0.5]
    return View(height, width, affine, float(np.sqrt(height * width)))


def _marker(view: View, rng: np.random.Generator) -> np.ndarray:
    """Return the attenuation of a lead R or L, on the patient's own side of the image."""
    letter, u = (
        ("R", rng.uniform(0.05, 0.09)) if rng.uniform() < 0.5 else ("L", rng.uniform(0.86, 0.9))
    )
    at = int(u * view.width), int(rng.uniform(0.09, 0.13) * view.height)
    size, stroke = view.size * rng.uniform(0.0018, 0.0026), max(1, round(view.size * 0.007))
    glyph = cv2.putText(
        view.fill(), letter, at, cv2.FONT_HERSHEY_SIMPLEX, size, 255, stroke, cv2.LINE_AA
    )
    return glyph * np.float32(rng.uniform(3, 6) / 255)


def _beam(view: View, rng: np.random.Generator) -> np.ndarray:
    """Return bool (height, width), False behind the collimator's blades; one in three has any."""
    left, right, upper, lower = rng.uniform(0, 0.035, 4) * (rng.uniform() < 0.35)
    lean = rng.uniform(-0.012, 0.012) * (left > 0)
    u, v = (
        (left + lean, 1 - right + lean, 1 - right - lean, left - lean),
        (upper, upper, 1 - lower, 1 - lower),
    )
    corners = np.column_stack([u, v]) * (view.width, view.height)
    return cv2.fillConvexPoly(view.fill(), np.rint(corners).astype(np.int32), 1) > 0


def _expose(
    dense: np.ndarray, rng: np.random.Generator, exposure: float, contrast: float, quanta: float
) -> np.ndarray:
    """Convert attenuation float32 (height, width) to uint8 film, bright is dense.

    `quanta` reach the whole frame.
    """
    dense = cv2.GaussianBlur(dense, (0, 0), max(0.4, 0.0011 * np.sqrt(dense.size)))
    # The variance of log(Poisson(n)) is about 1 / n, and n falls as exp(-attenuation).
    noise = rng.standard_normal(dense.shape, np.float32) * np.float32(np.sqrt(dense.size / quanta))
    dense = np.maximum(dense + noise * cv2.exp(dense * 0.5), 0)
    film = 1 - cv2.exp(-cv2.pow(dense * np.float32(1 / exposure), contrast))
    return np.rint(film * 242 + 4).astype(np.uint8)


def _lung(body: Anatomy, side: int, breath: float) -> np.ndarray:
    """Return the outline of one lung's aerated field.

    It runs along apex, side wall, costophrenic angle, dome, heart and mediastinum.
    """
    wide, top, dome = body.half_width, body.apex, body.dome + breath + body.dome_drop * (side > 0)
    heart = body.heart_right if side < 0 else body.heart_left
    u = [wide * share for share in (0.41, 0.60, 0.77, 0.89, 0.96, 1.0, 0.985, 0.985, 0.87, 0.70)]
    v = [top + (dome - top) * share for share in (0.0, 0.045, 0.17, 0.37, 0.62, 0.92)]
    v += [dome + body.angle * share for share in (1, 1, 0.45, 0.1)]
    if side < 0:
        u += [wide * 0.48, heart + 0.03, heart, heart * 0.97, heart * 0.78, 0.062, 0.05, 0.05]
        down = [0.993, 1.02, 0.95, 0.84, 0.71, 0.58, 0.4, 0.2]
    else:
        u += [
            heart + 0.02,
            heart,
            heart * 0.95,
            heart * 0.8,
            heart * 0.58,
            0.068,
            0.062,
            0.068,
            0.058,
            0.05,
        ]
        down = [1.01, 0.95, 0.86, 0.73, 0.6, 0.5, 0.42, 0.34, 0.26, 0.16]
    v += [top + (dome - top) * share for share in (*down, 0.045)]
    return closed([*u, wide * 0.22], v) * (side, 1)


# The healthy body: each function returns attenuation, float32 (height, width)
def _soft_tissue(view: View, body: Anatomy) -> np.ndarray:
    """Return the trunk with neck and arms, round at its outline, and the breasts.

    The air around attenuates a little.
    """
    side = body.half_width + body.flank
    u = [
        0.075,
        0.08,
        0.13,
        0.3,
        0.46,
        0.6,
        0.8,
        0.62,
        side + 0.055,
        side + 0.015,
        side,
        side + 0.012,
        side + 0.03,
    ]
    v = [-0.15, 0.0, 0.055, 0.09, 0.125, 0.25, 0.7, 0.64, 0.43, 0.46, 0.62, 0.85, 1.2]
    outline = closed(u + [-x for x in reversed(u)], v + v[::-1])
    dense = view.round(view.fill(outline) > 127, 0.1) * np.float32(body.soft_tissue)
    dense += np.linspace(0.25, 0.12, view.height, dtype=np.float32)[:, None]
    dense += view.cloud(np.random.default_rng(body.texture), 7) * np.float32(0.05)
    if body.breast:
        shapes = [
            ellipse((s * body.half_width * 0.62, body.dome - 0.02), body.half_width * 0.4, 0.105)
            for s in SIDES
        ]
        dense += view.round(view.fill(*shapes) > 127, 0.1) * np.float32(body.breast)
    return dense


def _ribs(view: View, body: Anatomy) -> np.ndarray:
    """Return the posterior and anterior halves of ten pairs of ribs, denser at their rims."""
    back, front = view.fill(), view.fill()
    turn, t = np.linspace(0.12, np.pi / 2, 16), np.linspace(0, 1, 14)
    for number, share in enumerate(RIB_REACHES):
        start, reach = body.apex + 0.01 + number * body.rib_spacing, body.half_width * share
        drop = body.rib_drop * (0.6 + 0.06 * number)
        behind = posterior_rib(body, number, turn)
        before = np.column_stack([0.01 + reach * (1 - 0.6 * t**2), start + drop * (1 + 1.15 * t)])
        strength = min(1.0, 1.9 - 0.17 * number)  # scatter veils the ones below the diaphragm
        for layer, line, widening in ((back, behind, 1.0), (front, before, 1.05 + 0.3 * t)):
            for share, value in ((1.0, 255), (0.62, 165)):
                rib = band(line, 0.02 * widening * share)
                view.fill(*(rib * (side, 1) for side in SIDES), value=value * strength, layer=layer)
    return back * np.float32(0.5 / 255) + view.soft(front, 0.0025) * np.float32(0.3)


def _spine(view: View, body: Anatomy) -> np.ndarray:
    """Draw vertebral bodies with rims and pedicles, seen through the mediastinum."""
    v = np.linspace(-0.1, 1.1, 30)
    column = np.column_stack([body.spine_curve * np.sin(np.pi * v), v])
    layer = view.fill(band(column, 0.05 + 0.016 * v), value=120)
    tall, block = (
        body.rib_spacing * 0.62,
        closed([-1, -0.86, -1, 1, 0.86, 1], [-1, 0, 1, 1, 0, -1], steps=4),
    )
    for top in np.arange(-0.05, 1.05, body.rib_spacing * 0.78):
        half, at = (
            0.028 + 0.009 * top,
            np.array([body.spine_curve * np.sin(np.pi * top), top + tall / 2]),
        )
        for share, value in ((1.0, 225), (0.8, 180)):
            view.fill(at + block * (half, tall / 2) * share, value=value, layer=layer)
        view.fill(
            *(ellipse(at + (u * half, -0.2 * tall), half * 0.2, tall * 0.2) for u in (-0.6, 0.6)),
            layer=layer,
        )
    return layer * np.float32(0.95 / 255)


def _shoulders(view: View, body: Anatomy) -> np.ndarray:
    """Draw shoulder blades, heads of the upper arms and clavicles."""
    t, wide = np.linspace(0, 1, 16), body.half_width
    u = [wide * 0.9, wide * 0.93, wide * 1.02, wide * 1.06, wide + 0.08, wide + 0.09]
    blade = closed(u, [0.2, 0.3, 0.42, 0.40, 0.27, 0.2])
    layer = view.fill(*(blade * (side, 1) for side in SIDES), value=85)
    fall = body.apex + 0.1 - 0.085 * t - 0.015 * np.sin(2 * np.pi * t)
    line, girth = (
        np.column_stack([0.035 + (wide + 0.05) * t, fall]),
        0.03 - 0.012 * np.sin(np.pi * t),
    )
    for share, value in ((1.0, 255), (0.65, 175)):
        shapes = (
            ellipse((wide + 0.125, 0.2), 0.045 * share, 0.045 * share),
            band(line, girth * share),
        )
        for outline, density in zip(shapes, (0.7, 1.0), strict=True):
            view.fill(*(outline * (side, 1) for side in SIDES), value=value * density, layer=layer)
    return layer * np.float32(0.7 / 255)


def _organs(view: View, body: Anatomy, breath: float) -> np.ndarray:
    """Draw the abdomen, less the air of the trachea, behind the heart and in the stomach."""
    top, dome, side = body.apex, body.dome + breath, body.half_width + body.flank * 0.6
    low, t = dome + body.dome_drop, np.linspace(0, 1, 12)
    trachea = np.column_stack([np.full(12, body.spine_curve), top - 0.2 + t * 0.36])
    air = view.soft(view.fill(band(trachea, 0.03)), 0.004)
    half, middle = (
        (body.heart_left + body.heart_right) / 2,
        (body.heart_left - body.heart_right) / 2,
    )
    heart = view.soft(view.fill(ellipse((middle, dome - 0.14), half, 0.17)), 0.03)
    v = [low + 0.08, dome + 0.005, low + 0.01, low, low + 0.08, 1.5, 1.5]
    belly = view.soft(
        view.fill(closed([-side, -side * 0.6, 0, side * 0.6, side, side, -side], v)), 0.006
    )
    dense = belly * (0.5 + 0.05 * view.cloud(np.random.default_rng(body.texture), 14))
    dense -= heart * np.float32(0.5) + air * np.float32(0.4)
    if body.bubble:
        gas = ellipse(
            (side * 0.5, low + 0.03 + body.bubble * 0.55), body.bubble, body.bubble * 0.55
        )
        dense -= view.round(view.fill(gas) > 127, 0.03)
    return dense


def _lungs(
    view: View, body: Anatomy, field: np.ndarray, water: np.ndarray, bare: np.ndarray
) -> np.ndarray:
    """Return minus the air of both lungs, plus vessels and lung texture.

    `water` is the fraction of air displaced, up to 1, below 0 where there is more air; `bare` the
    fraction of texture missing.
    """
    air = view.round(field, 0.06) * np.float32(0.4) + view.soft(
        field.view(np.uint8) * 255, 0.0025
    ) * np.float32(0.6)
    rng = np.random.default_rng(body.texture)
    marks = view.soft(_vessels(view, body, rng), 0.0022) * np.float32(0.55)
    marks += view.cloud(rng, 110) * np.float32(0.03) + view.cloud(rng, 36) * np.float32(0.035)
    return air * (
        np.float32(-0.66 * body.soft_tissue) * (1 - water) + marks * (1 - 0.7 * water) * (1 - bare)
    )


def _vessels(view: View, body: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Return a uint8 layer of pulmonary vessels that fork from each hilum.

    They become fainter and finer outwards; coarse ones are on top.
    """
    side = np.repeat(SIDES, 8)
    at = np.column_stack([side * 0.07, body.apex + 0.27 + rng.uniform(-0.015, 0.045, 16)])
    heading = np.tile(np.linspace(-1.45, 1.5, 8), 2) + rng.normal(0, 0.1, 16)
    generations = []
    for reach in (0.055, 0.06, 0.055, 0.05, 0.04, 0.03):
        bend = heading[:, None] + np.linspace(0, 1, 5) * rng.normal(0, 0.28, (len(at), 1))
        steps = np.stack([np.cos(bend) * side[:, None], np.sin(bend)], -1) * reach / 5
        steps *= rng.uniform(0.75, 1.3, (len(at), 1, 1))
        lines = np.concatenate([at[:, None], at[:, None] + np.cumsum(steps, 1)], 1)
        generations.append(lines)
        fork = np.repeat(np.arange(len(at)), 2)[rng.uniform(size=2 * len(at)) < 0.8]
        at, side, heading = (
            lines[fork, -1],
            side[fork],
            bend[fork, -1] + rng.normal(0, 0.45, len(fork)),
        )
    layer = view.fill()
    for number, lines in reversed(list(enumerate(generations))):
        thick = view.size * 0.0105 * 0.72**number
        value = 255 * 0.85**number * min(1.0, thick)
        cv2.polylines(
            layer, list(view.pixels(lines)), False, value, max(1, round(thick)), cv2.LINE_AA, 4
        )
    return layer


def _one_piece(mask: np.ndarray) -> np.ndarray:
    """Return the largest piece by edge neighbours: a thin tip may separate on a coarse grid."""
    _, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return pieces == np.bincount(pieces[mask]).argmax()
