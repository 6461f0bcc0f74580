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

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from hilum.errors import BadRecipe, NotFound
from hilum.imaging.synthetic._anatomy import SIDES, Anatomy, Uniforms, View, Window, closed
from hilum.imaging.synthetic._body import HUNDREDTHS, air, bones, lung_marks, trunk
from hilum.imaging.synthetic._diseases import DISEASES, displaced_air
from hilum.imaging.synthetic._signs import SIGNS, Signs
from hilum.safety import freed_memory

SMALLEST = 64  # pixels; below this the narrow angles of the lungs vanish
_MARGIN = 0.03  # fraction of the frame around the lungs, in which what they contain is blurred
_AT_ONCE = 1 << 15  # pixels that are exposed together, so that they stay near the processor
_VISIBLE = 0.03  # fraction of the air of the thickest lung, below which its loss is not seen


@dataclass(frozen=True)
class Phantom:
    """One exposure with its lung masks."""

    pixels: np.ndarray
    right_lung: np.ndarray
    left_lung: np.ndarray
    extents: Mapping[str, np.ndarray]  # of the disease and of each sign, bool (height, width)


def anatomy(rng: np.random.Generator, *, child: bool = False) -> Anatomy:
    """Draw a patient at random.

    A child has a short broad chest, a wide heart, flat ribs and no breast shadow.
    """
    u = Uniforms(rng, 17)
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
        breast=u(0.25, 0.7) * float(u(0, 1) < 0.4) * (not child),
        bubble=u(0.03, 0.07) * float(u(0, 1) < 0.6),
        texture=int(rng.integers(2**32)),
    )


def at_another_visit(body: Anatomy, rng: np.random.Generator) -> Anatomy:
    """Return the patient some weeks or years later.

    A follow-up is no copy: the patient stands and breathes otherwise, the tube is elsewhere, so
    that ribs, domes and heart are projected elsewhere, and vessels cross at other places. `draw`
    alone moves the whole image, as an altered copy of one exposure is moved.
    """
    return replace(
        body,
        apex=body.apex + rng.normal(0, 0.006),
        dome=body.dome + rng.normal(0, 0.018),
        heart_right=body.heart_right * rng.normal(1, 0.06),
        heart_left=body.heart_left * rng.normal(1, 0.05),
        rib_drop=body.rib_drop + rng.normal(0, 0.012),
        tilt=rng.uniform(-0.03, 0.03),
        spine_curve=body.spine_curve + rng.normal(0, 0.004),
        soft_tissue=body.soft_tissue * rng.normal(1, 0.04),
        texture=int(rng.integers(2**32)),
    )


def frame(height: int, width: int, size: int | None) -> tuple[int, int]:
    """Return a frame scaled so that its longer side is `size`; as it is for None.

    No side is under `SMALLEST`.
    """
    scale = size / max(height, width) if size else 1
    return max(SMALLEST, round(height * scale)), max(SMALLEST, round(width * scale))


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
    freed_memory.keep()
    u = Uniforms(rng, 19)
    view = _pose(body, u, height, width)
    film = {
        "exposure": u(1.8, 2.7),
        "contrast": u(1.15, 1.9),
        "quanta": u(1e9, 8e9),
    }
    breath = u(-0.025, 0.02)
    lead, beam = _marker(view, u), _beam(view, u)
    ill, grain = rng.integers(2**63, size=2).tolist()
    outlines = [_lung(body, side, breath) for side in SIDES]
    chest, window = view.around(outlines, _MARGIN)
    filled = [chest.fill(outline) for outline in outlines]
    seen = open_beam = beam[window]
    water = bare = np.float32(0)
    chance = np.random.default_rng(ill) if disease or signs else rng  # which healthy lungs leave
    if disease:
        water = displaced_air(chest, outlines, chance, disease)
    dense = trunk(view, body, breath)
    cv2.accumulate(bones(view, body), dense)
    if disease == "effusion":
        seen = seen & (water < 0.5)
    depth, extents = air(chest, outlines, np.maximum(*filled)), {}
    if disease:
        extents[disease] = (depth * water > _VISIBLE) & open_beam
    if signs:
        found = Signs.paint(chest, body, outlines, chance, signs)
        water, bare, seen = water + found.water, found.bare, seen & ~found.fluid
        dense[window] += found.dense * np.float32(HUNDREDTHS)
        extents |= {sign: extent & open_beam for sign, extent in found.extents.items()}
    lungs = lung_marks(chest, body)
    displaced = np.float32(0.66 * HUNDREDTHS * body.soft_tissue)  # by the air of a whole lung
    if disease or signs:
        remaining = water * np.float32(-0.7)
        remaining += 1
        lungs *= remaining
        if signs:
            lungs *= 1 - bare
        lungs += water * displaced
    lungs -= displaced
    lungs *= depth
    there = dense[window]
    cv2.add(there, lungs, dst=there)
    cv2.threshold(dense, 0, 0, cv2.THRESH_TOZERO, dense)  # a third of the time of NumPy's maximum
    if marker:
        place, attenuation = lead
        dense[place] += attenuation
    pixels = _expose(dense, np.random.default_rng(grain), **film)
    pixels *= beam
    masks = [_one_piece((layer > 127) & seen) for layer in filled]
    right, left, *extended = (_framed(view, window, part) for part in (*masks, *extents.values()))
    return Phantom(pixels, right, left, dict(zip(extents, extended, strict=True)))


def _framed(view: View, window: Window, part: np.ndarray) -> np.ndarray:
    """Return a mask of a part of the frame as one of the whole frame."""
    whole = np.zeros((view.height, view.width), bool)
    whole[window] = part
    return whole


def _pose(body: Anatomy, u: Uniforms, height: int, width: int) -> View:
    angle, zoom = math.radians(u(-2.5, 2.5)), u(0.96, 1.06)
    right, down = u(-0.02, 0.02), u(-0.02, 0.02)
    along, across = zoom * math.cos(angle), zoom * math.sin(angle)
    x = along - across * body.tilt, -across, 0.5 + right + 0.5 * across
    y = across + along * body.tilt, along, 0.5 + down - 0.5 * along
    affine = np.array(
        [
            [width * x[0], width * x[1], width * x[2] - 0.5],
            [height * y[0], height * y[1], height * y[2] - 0.5],
        ]
    )
    return View(height, width, affine, math.sqrt(height * width))


def _marker(view: View, u: Uniforms) -> tuple[Window, np.ndarray]:
    """Return where a lead R or L lies, on the patient's own side of the image, and how dense."""
    letter, across = ("R", u(0.05, 0.09)) if u(0, 1) < 0.5 else ("L", u(0.86, 0.9))
    x, y = int(across * view.width), int(u(0.09, 0.13) * view.height)
    size, stroke = view.size * u(0.0018, 0.0026), max(1, round(view.size * 0.007))
    glyph = np.zeros((min(view.height, y + stroke + 2), view.width), np.uint8)  # y is its foot
    cv2.putText(glyph, letter, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, 255, stroke, cv2.LINE_AA)
    left, top, width, height = cv2.boundingRect(glyph)
    place = slice(top, top + height), slice(left, left + width)
    return place, glyph[place] * np.float32(HUNDREDTHS * u(3, 6) / 255)


def _beam(view: View, u: Uniforms) -> np.ndarray:
    """Return bool (height, width), False behind the collimator's blades; one in three has any."""
    blades = [u(0, 0.035) for _ in range(4)]
    any_blade, lean = u(0, 1) < 0.35, u(-0.012, 0.012)
    if not any_blade:
        return np.ones((view.height, view.width), bool)
    left, right, upper, lower = blades
    across, down = (
        (left + lean, 1 - right + lean, 1 - right - lean, left - lean),
        (upper, upper, 1 - lower, 1 - lower),
    )
    corners = np.column_stack([across, down]) * (view.width, view.height)
    return cv2.fillConvexPoly(view.fill(), np.rint(corners).astype(np.int32), 1) > 0


def _expose(
    dense: np.ndarray, rng: np.random.Generator, exposure: float, contrast: float, quanta: float
) -> np.ndarray:
    """Convert attenuation, float32 (height, width) in hundredths, to uint8 film, bright is dense.

    `quanta` reach the whole frame.
    """
    sigma = max(0.4, 0.0011 * math.sqrt(dense.size))
    # At the least width, what lies two pixels away weighs 4 millionths.
    dense = cv2.GaussianBlur(dense, (3, 3) if sigma == 0.4 else (0, 0), sigma)
    # The variance of log(Poisson(n)) is about 1 / n, and n falls as exp(-attenuation).
    deviation = HUNDREDTHS * math.sqrt(dense.size / quanta)
    scale = np.float32(-((HUNDREDTHS * exposure) ** -contrast))
    starts, film = _starts(rng, *dense.shape), np.empty(dense.shape, np.uint8)
    rows = max(1, _AT_ONCE // dense.shape[1])
    halves = np.empty((rows, dense.shape[1]), np.float32)
    for top in range(0, len(dense), rows):
        part = dense[top : top + rows]
        noise = _normal(starts[top : top + rows], dense.shape[1])
        half = np.multiply(part, np.float32(0.5 / HUNDREDTHS), out=halves[: len(part)])
        noise *= cv2.exp(half, dst=half)
        cv2.scaleAdd(noise, deviation, part, dst=noise)
        # The power by its logarithm is five times as fast; OpenCV's of 0 stands for 0.
        cv2.threshold(noise, 0, 0, cv2.THRESH_TOZERO, noise)
        cv2.log(noise, dst=noise)
        noise *= np.float32(contrast)
        blocked = cv2.exp(noise, dst=noise)
        blocked *= scale
        cv2.exp(blocked, dst=blocked)
        # 4 + 242 * (1 - exp(-blocked)), rounded in one pass.
        cv2.convertScaleAbs(blocked, dst=film[top : top + rows], alpha=-242, beta=246)
    return film


@lru_cache(1)
def _bank() -> np.ndarray:
    """Return normal values, drawn once: drawing them anew took a fifth of the time of an image."""
    return np.random.default_rng(0).standard_normal(2**18, np.float32)


@lru_cache(1)
def _pieces(width: int) -> np.ndarray:
    """Return all pieces of `width` values of the bank, repeated for wide ones, float32 (n, width).

    They are views of it.
    """
    bank = _bank() if 4 * width <= _bank().size else np.tile(_bank(), 1 + 4 * width // 2**18)
    return np.ndarray((bank.size - width + 1, width), np.float32, bank, strides=2 * bank.strides)


def _starts(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return which piece of the bank is the noise of each row."""
    return rng.integers(len(_pieces(width)) - 1, size=height)


def _normal(starts: np.ndarray, width: int) -> np.ndarray:
    """Return normal noise, float32: each row is a piece of a bank, from a place of its own."""
    return _pieces(width)[starts]


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


def _one_piece(mask: np.ndarray) -> np.ndarray:
    """Return the largest piece by edge neighbours: a thin tip may separate on a coarse grid."""
    rest = mask.view(np.uint8).copy()
    row, column = divmod(int(rest.argmax()), mask.shape[1])
    cv2.floodFill(rest, None, (column, row), 0)  # five times as fast as the pieces
    if not cv2.countNonZero(rest):
        return mask
    pieces = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)[1]
    return pieces == np.bincount(pieces[mask]).argmax()
