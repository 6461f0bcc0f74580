"""Made-up chest radiographs with exact lung masks: what the demo, the docs and the tests stand on. Nobody's picture.

Conventions. An `Anatomy` is a patient, a `Phantom` one posterior-anterior exposure as on a viewing box: the PATIENT's
right lung is on the picture's LEFT, the heart points to the picture's right. Pixels are uint8 (height, width), bright
is dense. Masks are bool (height, width), each one piece by edge neighbours. Lengths are shares of the frame: u across
from the midline, v down from the upper border. The body fills a frame of any shape; an oblong one stretches it.

How a picture comes about. Attenuation is summed along the beam: soft tissue as thick as the body is round, less the
air of the lungs, plus bone, vessels and a lead marker; disease puts water where air was. X-ray quanta give noise that
grows with attenuation (Poisson, as a normal of equal variance), the detector blurs, and the film curve
1 - exp(-(attenuation / exposure) ** contrast) makes brightness of it.

Masks follow the Montgomery and Shenzhen protocol (Candemir et al. 2014; Stirenko et al. 2018): the aerated field,
without the heart, what lies behind the diaphragm and an opaque effusion; consolidation and nodules stay inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hilum.errors import BadRecipe, NotFound

DISEASES = ("tuberculosis", "pneumonia", "effusion")
SMALLEST = 64  # pixels; below this the narrow angles of the lungs vanish
SIDES = (-1, 1)  # the patient's right (picture's left), the patient's left
CIRCLE = np.column_stack([np.cos(np.arange(32) * np.pi / 16), np.sin(np.arange(32) * np.pi / 16)])


@dataclass(frozen=True)
class Anatomy:
    """One patient's body; lengths in shares of the frame unless said otherwise."""

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
class Phantom:
    pixels: np.ndarray
    right_lung: np.ndarray
    left_lung: np.ndarray


def anatomy(rng: np.random.Generator, *, child: bool = False) -> Anatomy:
    """Draw a patient. A child has a short broad chest, a wide heart, flat ribs and no breast shadow."""
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
    body: Anatomy, rng: np.random.Generator, *, height: int, width: int, disease: str | None = None, marker: bool = True
) -> Phantom:
    """One exposure of `body`: position, breath, exposure, noise and extent of disease come from `rng`.

    The same arguments and generator state give the same bytes. `disease` is None (healthy) or one of `DISEASES`, and
    changes only the lungs. Raises `NotFound` for another disease, `BadRecipe` for a side under 64 pixels.
    """
    if disease is not None and disease not in DISEASES:
        raise NotFound.named("disease", disease, DISEASES)
    if min(height, width) < SMALLEST:
        raise BadRecipe(
            f"a phantom of {height}x{width} (height x width) is too small; give sides of {SMALLEST} or more"
        )
    view = _pose(body, rng, height, width)
    film = {"exposure": rng.uniform(1.8, 2.7), "contrast": rng.uniform(1.15, 1.9), "quanta": rng.uniform(1e9, 8e9)}
    breath = rng.uniform(-0.025, 0.02)
    lead, beam = _marker(view, rng), _beam(view, rng)
    ill, grain = (np.random.default_rng(rng.integers(2**63)) for _ in range(2))
    outlines = [_lung(body, side, breath) for side in SIDES]
    masks = [view.fill(outline) > 127 for outline in outlines]
    water = np.float32(0) if disease is None else _disease(view, outlines, ill, disease)
    dense = _soft_tissue(view, body) + _ribs(view, body) + _spine(view, body) + _shoulders(view, body)
    dense += _organs(view, body, breath) + _lungs(view, body, masks[0] | masks[1], water)
    pixels = _expose(dense + lead * marker, grain, **film) * beam
    seen = beam & (water < 0.5) if disease == "effusion" else beam
    return Phantom(pixels, *(_one_piece(mask & seen) for mask in masks))


# The frame and the film
@dataclass(frozen=True)
class _View:
    """A frame of height x width pixels, and the affine map (2, 3) from (u, v) to its pixels (x, y)."""

    height: int
    width: int
    map: np.ndarray
    size: float  # side of the square of the same area, pixels

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) points u, v -> int32 pixels in sixteenths, as OpenCV's shift=4 wants them."""
        return np.rint((points @ self.map[:, :2].T + self.map[:, 2]) * 16).astype(np.int32)

    def fill(self, *outlines: np.ndarray, value: float = 255, layer: np.ndarray | None = None) -> np.ndarray:
        """uint8 layer, new unless given, with `value` inside each outline; the later one wins where they cross."""
        layer = np.zeros((self.height, self.width), np.uint8) if layer is None else layer
        for outline in outlines:
            cv2.fillPoly(layer, [self.pixels(outline)], int(value), cv2.LINE_AA, 4)
        return layer

    def soft(self, layer: np.ndarray, sigma: float) -> np.ndarray:
        """uint8 layer -> float32 0..1, blurred by `sigma` (share of the frame), on a coarse grid where it is wide."""
        step = max(1, int(min(sigma * self.size / 3, self.width / 8, self.height / 8)))
        if step > 1:
            layer = cv2.resize(layer, (self.width // step, self.height // step), interpolation=cv2.INTER_AREA)
        layer = cv2.GaussianBlur(layer, (0, 0), max(sigma * self.size / step, 0.3)) * np.float32(1 / 255)
        return layer if step == 1 else cv2.resize(layer, (self.width, self.height), interpolation=cv2.INTER_LINEAR)

    def round(self, mask: np.ndarray, depth: float) -> np.ndarray:
        """Thickness in 0..1 of a solid with this silhouette: 0 at its edge, rising as a parabola over `depth`."""
        inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3) / np.float32(depth * self.size)
        return 1 - np.square(1 - np.minimum(inside, 1))

    def cloud(self, rng: np.random.Generator, cells: int) -> np.ndarray:
        """Smooth noise of mean 0, `cells` grains across."""
        grains = rng.standard_normal((cells, cells), np.float32)
        return cv2.resize(grains, (self.width, self.height), interpolation=cv2.INTER_CUBIC)


def _pose(body: Anatomy, rng: np.random.Generator, height: int, width: int) -> _View:
    turn, zoom, shift = np.deg2rad(rng.uniform(-2.5, 2.5)), rng.uniform(0.96, 1.06), rng.uniform(-0.02, 0.02, 2)
    turned = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[1, 0], [body.tilt, 1]]
    affine = np.column_stack([turned, 0.5 + shift - turned @ [0, 0.5]]) * [[width], [height]] - [0, 0, 0.5]
    return _View(height, width, affine, float(np.sqrt(height * width)))


def _marker(view: _View, rng: np.random.Generator) -> np.ndarray:
    """Attenuation of a lead R or L, on the patient's own side of the picture."""
    letter, u = ("R", rng.uniform(0.05, 0.09)) if rng.uniform() < 0.5 else ("L", rng.uniform(0.86, 0.9))
    at = int(u * view.width), int(rng.uniform(0.09, 0.13) * view.height)
    size, stroke = view.size * rng.uniform(0.0018, 0.0026), max(1, round(view.size * 0.007))
    glyph = cv2.putText(view.fill(), letter, at, cv2.FONT_HERSHEY_SIMPLEX, size, 255, stroke, cv2.LINE_AA)
    return glyph * np.float32(rng.uniform(3, 6) / 255)


def _beam(view: _View, rng: np.random.Generator) -> np.ndarray:
    """Bool (height, width), False behind the collimator's blades, which two pictures in three do not show."""
    left, right, upper, lower = rng.uniform(0, 0.035, 4) * (rng.uniform() < 0.35)
    lean = rng.uniform(-0.012, 0.012) * (left > 0)
    u, v = (left + lean, 1 - right + lean, 1 - right - lean, left - lean), (upper, upper, 1 - lower, 1 - lower)
    corners = np.column_stack([u, v]) * (view.width, view.height)
    return cv2.fillConvexPoly(view.fill(), np.rint(corners).astype(np.int32), 1) > 0


def _expose(dense: np.ndarray, rng: np.random.Generator, exposure: float, contrast: float, quanta: float) -> np.ndarray:
    """Attenuation float32 (height, width) -> uint8 film, bright is dense; `quanta` reach the whole frame."""
    dense = cv2.GaussianBlur(dense, (0, 0), max(0.4, 0.0011 * np.sqrt(dense.size)))
    # The variance of log(Poisson(n)) is about 1 / n, and n falls as exp(-attenuation).
    noise = rng.standard_normal(dense.shape, np.float32) * np.float32(np.sqrt(dense.size / quanta))
    dense = np.maximum(dense + noise * cv2.exp(dense * 0.5), 0)
    film = 1 - cv2.exp(-cv2.pow(dense * np.float32(1 / exposure), contrast))
    return np.rint(film * 242 + 4).astype(np.uint8)


# Shapes: outlines (n, 2) of points u, v
def _closed(u: list[float], v: list[float], steps: int = 8) -> np.ndarray:
    """Catmull-Rom curve through the points and back to the first; a doubled point makes a corner."""
    points, t = np.column_stack([u, v]), np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (np.roll(points, shift, 0)[:, None] for shift in (1, 0, -1, -2))
    return (b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))).reshape(-1, 2)


def _ellipse(centre: tuple[float, float] | np.ndarray, radius_u: float, radius_v: float) -> np.ndarray:
    return np.asarray(centre) + CIRCLE * (radius_u, radius_v)


def _blob(centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """An irregular round outline."""
    corners = centre + CIRCLE[::4] * radius * rng.uniform(0.6, 1.25, (8, 1))
    return _closed(*corners.T, steps=4)


def _band(line: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """Outline of a stroke of `width` along an open line (n, 2)."""
    along = np.concatenate([line[1:2] - line[:1], line[2:] - line[:-2], line[-1:] - line[-2:-1]])
    half = along[:, ::-1] * (-0.5, 0.5) * (width / np.hypot(along[:, 0], along[:, 1]))[:, None]
    return np.concatenate([line + half, (line - half)[::-1]])


def _lung(body: Anatomy, side: int, breath: float) -> np.ndarray:
    """Outline of the aerated field of one lung: apex, side wall, costophrenic angle, dome, heart, mediastinum."""
    wide, top, dome = body.half_width, body.apex, body.dome + breath + body.dome_drop * (side > 0)
    heart = body.heart_right if side < 0 else body.heart_left
    u = [wide * share for share in (0.41, 0.60, 0.77, 0.89, 0.96, 1.0, 0.985, 0.985, 0.87, 0.70)]
    v = [top + (dome - top) * share for share in (0.0, 0.045, 0.17, 0.37, 0.62, 0.92)]
    v += [dome + body.angle * share for share in (1, 1, 0.45, 0.1)]
    if side < 0:
        u += [wide * 0.48, heart + 0.03, heart, heart * 0.97, heart * 0.78, 0.062, 0.05, 0.05]
        down = [0.993, 1.02, 0.95, 0.84, 0.71, 0.58, 0.4, 0.2]
    else:
        u += [heart + 0.02, heart, heart * 0.95, heart * 0.8, heart * 0.58, 0.068, 0.062, 0.068, 0.058, 0.05]
        down = [1.01, 0.95, 0.86, 0.73, 0.6, 0.5, 0.42, 0.34, 0.26, 0.16]
    v += [top + (dome - top) * share for share in (*down, 0.045)]
    return _closed([*u, wide * 0.22], v) * (side, 1)


# The healthy body: each function returns attenuation, float32 (height, width)
def _soft_tissue(view: _View, body: Anatomy) -> np.ndarray:
    """The trunk with neck and arms, round at its outline, and the breasts; the air around attenuates a little."""
    side = body.half_width + body.flank
    u = [0.075, 0.08, 0.13, 0.3, 0.46, 0.6, 0.8, 0.62, side + 0.055, side + 0.015, side, side + 0.012, side + 0.03]
    v = [-0.15, 0.0, 0.055, 0.09, 0.125, 0.25, 0.7, 0.64, 0.43, 0.46, 0.62, 0.85, 1.2]
    outline = _closed(u + [-x for x in reversed(u)], v + v[::-1])
    dense = view.round(view.fill(outline) > 127, 0.1) * np.float32(body.soft_tissue)
    dense += np.linspace(0.25, 0.12, view.height, dtype=np.float32)[:, None]
    dense += view.cloud(np.random.default_rng(body.texture), 7) * np.float32(0.05)
    if body.breast:
        shapes = [_ellipse((s * body.half_width * 0.62, body.dome - 0.02), body.half_width * 0.4, 0.105) for s in SIDES]
        dense += view.round(view.fill(*shapes) > 127, 0.1) * np.float32(body.breast)
    return dense


def _ribs(view: _View, body: Anatomy) -> np.ndarray:
    """Posterior and anterior halves of ten pairs of ribs; the rim of a rib is denser than its marrow."""
    back, front = view.fill(), view.fill()
    turn, t = np.linspace(0.12, np.pi / 2, 16), np.linspace(0, 1, 14)
    for number, share in enumerate((0.62, 0.79, 0.89, 0.95, 0.99, 1.01, 1.02, 1.03, 1.03, 1.02)):
        start, reach = body.apex + 0.01 + number * body.rib_spacing, body.half_width * share
        drop = body.rib_drop * (0.6 + 0.06 * number)
        behind = np.column_stack([0.01 + reach * np.sin(turn), start + drop * (1 - np.cos(turn))])
        before = np.column_stack([0.01 + reach * (1 - 0.6 * t**2), start + drop * (1 + 1.15 * t)])
        strength = min(1.0, 1.9 - 0.17 * number)  # scatter veils the ones below the diaphragm
        for layer, line, widening in ((back, behind, 1.0), (front, before, 1.05 + 0.3 * t)):
            for share, value in ((1.0, 255), (0.62, 165)):
                rib = _band(line, 0.02 * widening * share)
                view.fill(*(rib * (side, 1) for side in SIDES), value=value * strength, layer=layer)
    return back * np.float32(0.5 / 255) + view.soft(front, 0.0025) * np.float32(0.3)


def _spine(view: _View, body: Anatomy) -> np.ndarray:
    """Vertebral bodies with rims and pedicles, seen through the mediastinum."""
    v = np.linspace(-0.1, 1.1, 30)
    column = np.column_stack([body.spine_curve * np.sin(np.pi * v), v])
    layer = view.fill(_band(column, 0.05 + 0.016 * v), value=120)
    tall, block = body.rib_spacing * 0.62, _closed([-1, -0.86, -1, 1, 0.86, 1], [-1, 0, 1, 1, 0, -1], steps=4)
    for top in np.arange(-0.05, 1.05, body.rib_spacing * 0.78):
        half, at = 0.028 + 0.009 * top, np.array([body.spine_curve * np.sin(np.pi * top), top + tall / 2])
        for share, value in ((1.0, 225), (0.8, 180)):
            view.fill(at + block * (half, tall / 2) * share, value=value, layer=layer)
        view.fill(*(_ellipse(at + (u * half, -0.2 * tall), half * 0.2, tall * 0.2) for u in (-0.6, 0.6)), layer=layer)
    return layer * np.float32(0.95 / 255)


def _shoulders(view: _View, body: Anatomy) -> np.ndarray:
    """Shoulder blades, heads of the upper arms and clavicles."""
    t, wide = np.linspace(0, 1, 16), body.half_width
    u = [wide * 0.9, wide * 0.93, wide * 1.02, wide * 1.06, wide + 0.08, wide + 0.09]
    blade = _closed(u, [0.2, 0.3, 0.42, 0.40, 0.27, 0.2])
    layer = view.fill(*(blade * (side, 1) for side in SIDES), value=85)
    fall = body.apex + 0.1 - 0.085 * t - 0.015 * np.sin(2 * np.pi * t)
    line, girth = np.column_stack([0.035 + (wide + 0.05) * t, fall]), 0.03 - 0.012 * np.sin(np.pi * t)
    for share, value in ((1.0, 255), (0.65, 175)):
        shapes = _ellipse((wide + 0.125, 0.2), 0.045 * share, 0.045 * share), _band(line, girth * share)
        for outline, density in zip(shapes, (0.7, 1.0), strict=True):
            view.fill(*(outline * (side, 1) for side in SIDES), value=value * density, layer=layer)
    return layer * np.float32(0.7 / 255)


def _organs(view: _View, body: Anatomy, breath: float) -> np.ndarray:
    """Abdomen, less the air of the trachea, behind the heart and in the stomach."""
    top, dome, side = body.apex, body.dome + breath, body.half_width + body.flank * 0.6
    low, t = dome + body.dome_drop, np.linspace(0, 1, 12)
    trachea = np.column_stack([np.full(12, body.spine_curve), top - 0.2 + t * 0.36])
    air = view.soft(view.fill(_band(trachea, 0.03)), 0.004)
    half, middle = (body.heart_left + body.heart_right) / 2, (body.heart_left - body.heart_right) / 2
    heart = view.soft(view.fill(_ellipse((middle, dome - 0.14), half, 0.17)), 0.03)
    v = [low + 0.08, dome + 0.005, low + 0.01, low, low + 0.08, 1.5, 1.5]
    belly = view.soft(view.fill(_closed([-side, -side * 0.6, 0, side * 0.6, side, side, -side], v)), 0.006)
    dense = belly * (0.5 + 0.05 * view.cloud(np.random.default_rng(body.texture), 14))
    dense -= heart * np.float32(0.5) + air * np.float32(0.4)
    if body.bubble:
        gas = _ellipse((side * 0.5, low + 0.03 + body.bubble * 0.55), body.bubble, body.bubble * 0.55)
        dense -= view.round(view.fill(gas) > 127, 0.03)
    return dense


def _lungs(view: _View, body: Anatomy, field: np.ndarray, water: np.ndarray) -> np.ndarray:
    """Minus the air of both lungs, plus vessels and lung texture; `water` in 0..1 is the share of air displaced."""
    air = view.round(field, 0.06) * np.float32(0.4) + view.soft(field.view(np.uint8) * 255, 0.0025) * np.float32(0.6)
    rng = np.random.default_rng(body.texture)
    marks = view.soft(_vessels(view, body, rng), 0.0022) * np.float32(0.55)
    marks += view.cloud(rng, 110) * np.float32(0.03) + view.cloud(rng, 36) * np.float32(0.035)
    return air * (np.float32(-0.66 * body.soft_tissue) * (1 - water) + marks * (1 - 0.7 * water))


def _vessels(view: _View, body: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """uint8 layer of pulmonary vessels forking from each hilum, fainter and finer outwards; coarse ones lie on top."""
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
        at, side, heading = lines[fork, -1], side[fork], bend[fork, -1] + rng.normal(0, 0.45, len(fork))
    layer = view.fill()
    for number, lines in reversed(list(enumerate(generations))):
        thick = view.size * 0.0105 * 0.72**number
        value = 255 * 0.85**number * min(1.0, thick)
        cv2.polylines(layer, list(view.pixels(lines)), False, value, max(1, round(thick)), cv2.LINE_AA, 4)
    return layer


# Disease: water where there was air
def _disease(view: _View, outlines: list[np.ndarray], rng: np.random.Generator, disease: str) -> np.ndarray:
    """Share of air displaced, float32 (height, width) in 0..1; in one lung, in three of ten patients in both."""
    paint = {"tuberculosis": _tuberculosis, "pneumonia": _pneumonia, "effusion": _effusion}[disease]
    severity, both, one = rng.uniform(0.1, 1), rng.uniform() < 0.3, rng.integers(2)
    water = view.fill().astype(np.float32)
    for outline in outlines if both else outlines[one : one + 1]:
        water = np.maximum(water, np.clip(paint(view, outline, severity, rng), 0, 1))
    return water


def _spot(outline: np.ndarray, rng: np.random.Generator, upper: float, lower: float) -> np.ndarray:
    """A random point (u, v) of the lung, at a height between two shares of the lung's."""
    top, bottom = outline[:, 1].min(), outline[:, 1].max()
    v = top + (bottom - top) * rng.uniform(upper, lower)
    u = outline[np.abs(outline[:, 1] - v) < 0.03, 0]
    return np.array([rng.uniform(u.min() + 0.02, u.max() - 0.02), v])


def _tuberculosis(view: _View, outline: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Nodules and patches about a focus in the upper zone, in some with a cavity."""
    focus, spread, nodules = _spot(outline, rng, 0.1, 0.42), 0.02 + 0.05 * severity, view.fill()
    for _ in range(int(3 + 22 * severity)):
        nodule = _blob(focus + rng.normal(0, 0.01 + spread * 0.7, 2), rng.uniform(0.005, 0.013), rng)
        view.fill(nodule, value=rng.integers(90, 256), layer=nodules)
    patches = [_blob(focus + rng.normal(0, spread, 2), spread * rng.uniform(0.4, 1), rng) for _ in range(3)]
    haze = view.soft(view.fill(*patches), 0.013) * (1 + 0.4 * view.cloud(rng, 40))
    water = view.soft(nodules, 0.003) * np.float32(0.2 + 0.24 * severity) + haze * np.float32(0.12 + 0.36 * severity)
    if severity > 0.45 and rng.uniform() < 0.5:
        wall = _blob(focus, rng.uniform(0.022, 0.042), rng)
        hole = view.soft(view.fill(focus + (wall - focus) * rng.uniform(0.6, 0.75)), 0.003)
        water = water * (1 - 0.8 * hole) + np.maximum(view.soft(view.fill(wall), 0.004) - hole, 0) * np.float32(0.35)
    return water


def _pneumonia(view: _View, outline: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """A hazy consolidation of the middle or lower zone, patchy, with air left in the bronchi."""
    focus, spread = _spot(outline, rng, 0.5, 0.85), 0.035 + 0.055 * severity
    shapes = [_blob(focus + rng.normal(0, spread * 0.6, 2), spread * rng.uniform(0.6, 1.2), rng) for _ in range(4)]
    haze = view.soft(view.fill(*shapes), 0.02) * (1 + 0.25 * view.cloud(rng, 30))
    hilum, t = np.array([np.sign(focus[0]) * 0.08, outline[:, 1].min() + 0.3]), np.linspace(0, 1.3, 8)[:, None]
    lines = [hilum + (focus + rng.normal(0, spread, 2) - hilum) * t for _ in range(5)]
    bronchi = view.soft(view.fill(*(_band(line, np.linspace(0.012, 0.004, 8)) for line in lines)), 0.002)
    return haze * (1 - 0.45 * bronchi) * np.float32(0.17 + 0.6 * severity)


def _effusion(view: _View, outline: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """A layer of fluid up to the meniscus, which climbs towards the side wall: from a blunted angle to a third."""
    bottom, reach = outline[:, 1].max(), 1.1 * np.abs(outline[:, 0]).max() * np.sign(outline[0, 0])
    level = bottom - 0.01 - 0.075 * severity - 0.12 * max(0.0, severity - 0.5) * rng.uniform(0.5, 1)
    t = np.linspace(0, 1, 16)
    top = np.column_stack([reach * t, level - (0.005 + 0.085 * severity) * t**4])
    pool = np.vstack([top, [(reach, bottom + 0.1), (0, bottom + 0.1)]])
    return view.soft(view.fill(pool), 0.004) * np.float32(rng.uniform(0.88, 1))


def _one_piece(mask: np.ndarray) -> np.ndarray:
    """The largest piece by edge neighbours: a thin tip may come loose on a coarse grid."""
    _, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return pieces == np.bincount(pieces[mask]).argmax()
