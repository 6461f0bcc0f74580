"""Made-up chest radiographs with exact lung masks: what the demo, the docs and the tests stand on. Nobody's picture.

Conventions. An `Anatomy` is a patient and a `Phantom` one posterior-anterior exposure, seen as on a viewing box: the
PATIENT's right lung is on the picture's LEFT, the heart points to the picture's right. Pixels are uint8 (height,
width), bright is dense. Masks are bool (height, width), one connected piece (edge neighbours) each. Lengths are shares of the frame: u runs
across from the midline, v down from the upper border, so the body fills a picture of any shape and an oblong one shows a stretched body.

How a picture comes about. Attenuation is summed along the beam: soft tissue as thick as the body outline is round,
less the air of the lungs, plus bone, heart, vessels and lead marker; disease puts water where air was. X-ray quanta
give noise that grows with attenuation (Poisson, as a normal of the same variance), the detector blurs, and a film
curve 1 - exp(-(attenuation / exposure) ** contrast) turns attenuation into brightness.

Masks follow the Montgomery and Shenzhen protocol (Candemir et al. 2014; Stirenko et al. 2018): the aerated field, without the heart, without what
lies behind the diaphragm, without an opaque effusion; consolidation and nodules stay inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from hilum.errors import BadRecipe, NotFound

DISEASES = ("tuberculosis", "pneumonia", "effusion")
SMALLEST = 64  # pixels; below this the narrow angles of the lungs vanish
SIDES = (-1, 1)  # patient's right (picture's left), patient's left


@dataclass(frozen=True)
class Anatomy:
    """One patient's body; lengths in shares of the frame unless said otherwise."""

    half_width: float  # midline to the widest place of the lung
    apex: float  # v of the top of the lungs
    dome: float  # v of the right diaphragm dome
    dome_drop: float  # left dome lower than the right by this
    angle: float  # depth of the costophrenic angle below the dome
    heart_right: float  # midline to the right and left border of the heart
    heart_left: float
    knob: float  # midline to the aortic knob
    rib_spacing: float
    rib_drop: float  # fall of a rib from spine to side
    rib_width: float
    clavicle_rise: float
    spine_curve: float  # sideways bow of the spine
    tilt: float  # slope of the body, v over u
    soft_tissue: float  # attenuation through the thickest place
    flank: float  # chest wall outside the lung
    breast: float  # attenuation; 0 is none
    bubble: float  # half width of the gastric bubble; 0 is none
    branching: int  # seed of the vessel tree and lung texture


@dataclass(frozen=True)
class Phantom:
    pixels: np.ndarray
    right_lung: np.ndarray
    left_lung: np.ndarray


def anatomy(rng: np.random.Generator, *, child: bool = False) -> Anatomy:
    """Draw a patient. A child has a short broad chest, a wide heart, flat ribs and no breast shadow."""
    u = rng.uniform
    adult = not child
    return Anatomy(
        half_width=u(0.325, 0.375) if adult else u(0.34, 0.38),
        apex=u(0.115, 0.165),
        dome=u(0.66, 0.76) if adult else u(0.62, 0.69),
        dome_drop=u(0.01, 0.04),
        angle=u(0.075, 0.125) if adult else u(0.06, 0.09),
        heart_right=u(0.075, 0.105) if adult else u(0.095, 0.12),
        heart_left=u(0.155, 0.215) if adult else u(0.19, 0.23),
        knob=u(0.06, 0.08) if adult else u(0.055, 0.065),
        rib_spacing=u(0.066, 0.078) if adult else u(0.060, 0.068),
        rib_drop=u(0.11, 0.165) if adult else u(0.06, 0.09),
        rib_width=u(0.017, 0.024),
        clavicle_rise=u(0.05, 0.12),
        spine_curve=u(-0.012, 0.012),
        tilt=u(-0.03, 0.03),
        soft_tissue=u(3.0, 3.9) if adult else u(2.6, 3.2),
        flank=u(0.03, 0.075),
        breast=u(0.25, 0.7) * float(u() < 0.4) * adult,
        bubble=u(0.03, 0.07) * float(u() < 0.6),
        branching=int(rng.integers(2**32)),
    )


def draw(
    body: Anatomy, rng: np.random.Generator, *, height: int, width: int, disease: str | None = None, marker: bool = True
) -> Phantom:
    """One exposure of `body`: position, breath, exposure and noise come from `rng`, the body does not change.

    The same arguments and generator state give the same bytes. `disease` is None (healthy) or one of `DISEASES`; with the same
    generator state the rest of the picture stays as it is. An effusion's fluid is cut out of the masks. Raises `NotFound` for an unknown disease, `BadRecipe` for a side under 64 pixels.
    """
    if disease is not None and disease not in DISEASES:
        raise NotFound.named("disease", disease, DISEASES)
    if min(height, width) < SMALLEST:
        raise BadRecipe(
            f"a phantom of {height}x{width} (height x width) is too small to hold lungs; give at least {SMALLEST}x{SMALLEST}"
        )
    view = _pose(body, rng, height, width)
    exposure, contrast, quanta = rng.uniform(1.8, 2.7), rng.uniform(1.15, 1.9), rng.uniform(1e9, 8e9)
    breath = rng.uniform(-0.025, 0.02)
    lead, beam = _marker(view, rng), _beam(view, rng)
    ill, grain = (np.random.default_rng(rng.integers(2**63)) for _ in range(2))

    outlines = [_lung(body, side, breath) for side in SIDES]
    masks = [view.fill(outline) > 127 for outline in outlines]
    water, fluid = _disease(view, body, outlines, ill, disease)
    dense = _soft_tissue(view, body) + _bones(view, body) + _organs(view, body, breath)
    dense += _lungs(view, body, masks, water)
    if marker:
        dense += lead
    masks = [_one_piece(mask & ~fluid) for mask in masks]
    return Phantom(_expose(np.maximum(dense, 0), grain, exposure, contrast, quanta, beam), *masks)


# The film


@dataclass(frozen=True)
class _View:
    """A frame of height x width pixels, and the affine map (2, 3) from (u, v) to its pixels (x, y)."""

    height: int
    width: int
    map: np.ndarray

    @property
    def size(self) -> float:
        return float(np.sqrt(self.height * self.width))

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) points u, v -> int32 pixels in sixteenths, as OpenCV's shift=4 wants them."""
        return np.rint((np.asarray(points) @ self.map[:, :2].T + self.map[:, 2]) * 16).astype(np.int32)

    def fill(self, *outlines: np.ndarray, inner: float = 0, layer: np.ndarray | None = None) -> np.ndarray:
        """uint8 layer, 255 (or `inner`) inside each outline; the later one wins where they cross."""
        layer = np.zeros((self.height, self.width), np.uint8) if layer is None else layer
        for outline in outlines:
            cv2.fillPoly(layer, [self.pixels(outline)], int(inner or 255), cv2.LINE_AA, 4)
        return layer

    def soft(self, layer: np.ndarray, sigma: float) -> np.ndarray:
        """uint8 layer as float32 in 0..1, blurred by `sigma` (share of the frame); wide blurs are made on a smaller grid."""
        step = max(1, int(sigma * self.size / 3))
        if step > 1:
            layer = cv2.resize(layer, (self.width // step, self.height // step), interpolation=cv2.INTER_AREA)
        layer = cv2.GaussianBlur(layer, (0, 0), max(sigma * self.size / step, 0.3)).astype(np.float32)
        layer *= np.float32(1 / 255)
        return layer if step == 1 else cv2.resize(layer, (self.width, self.height), interpolation=cv2.INTER_LINEAR)

    def round(self, mask: np.ndarray, depth: float) -> np.ndarray:
        """Thickness in 0..1 of a solid with this silhouette: 0 at its edge, rising as a parabola over `depth`."""
        inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
        np.minimum(inside / np.float32(depth * self.size), 1, out=inside)
        return inside * (2 - inside)

    def cloud(self, rng: np.random.Generator, cells: int) -> np.ndarray:
        """Smooth noise of variance about 1, `cells` grains across."""
        return cv2.resize(
            rng.standard_normal((cells, cells), np.float32), (self.width, self.height), interpolation=cv2.INTER_CUBIC
        )


def _pose(body: Anatomy, rng: np.random.Generator, height: int, width: int) -> _View:
    turn, zoom = np.deg2rad(rng.uniform(-2.5, 2.5)), rng.uniform(0.96, 1.06)
    shift = rng.uniform(-0.02, 0.02, 2)
    turned = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned = turned @ np.array([[1, 0], [body.tilt, 1]])
    offset = np.array([0.5, 0.5]) + shift - turned @ np.array([0, 0.5])
    frame = np.array([width, height], float)
    return _View(height, width, np.column_stack([turned * frame[:, None], offset * frame - 0.5]))


def _marker(view: _View, rng: np.random.Generator) -> np.ndarray:
    """Attenuation of a lead R or L, on the patient's own side of the picture."""
    right = rng.uniform() < 0.5
    at = np.array([rng.uniform(0.05, 0.09) if right else rng.uniform(0.86, 0.90), rng.uniform(0.09, 0.13)])
    layer = np.zeros((view.height, view.width), np.uint8)
    cv2.putText(
        layer,
        "R" if right else "L",
        (int(at[0] * view.width), int(at[1] * view.height)),
        cv2.FONT_HERSHEY_SIMPLEX,
        view.size * rng.uniform(0.0018, 0.0026),
        255,
        max(1, round(view.size * 0.007)),
        cv2.LINE_AA,
    )
    return layer * np.float32(rng.uniform(3, 6) / 255)


def _beam(view: _View, rng: np.random.Generator) -> np.ndarray:
    """Bool (height, width), False behind the collimator; most pictures have none."""
    left, right, upper, lower = rng.uniform(0, 0.035, 4) * (rng.uniform() < 0.35)
    lean = rng.uniform(-0.012, 0.012) * (left > 0)
    corners = np.array([[left + lean, upper], [1 - right + lean, upper], [1 - right - lean, 1 - lower], [left - lean, 1 - lower]])
    frame = np.zeros((view.height, view.width), np.uint8)
    return cv2.fillConvexPoly(frame, np.rint(corners * (view.width, view.height)).astype(np.int32), 1) > 0


def _expose(
    dense: np.ndarray, rng: np.random.Generator, exposure: float, contrast: float, quanta: float, beam: np.ndarray
) -> np.ndarray:
    """Attenuation float32 (height, width) -> uint8 film, bright is dense; `quanta` reach the whole frame."""
    dense = cv2.GaussianBlur(dense, (0, 0), max(0.4, 0.0011 * np.sqrt(dense.size)))
    # The variance of log(Poisson(n)) is about 1 / n, and n falls as exp(-attenuation).
    noise = rng.standard_normal(dense.shape, np.float32) * np.float32(np.sqrt(dense.size / quanta))
    dense = np.maximum(dense + noise * cv2.exp(dense * 0.5), 0)
    film = 1 - cv2.exp(-cv2.pow(dense * np.float32(1 / exposure), contrast))
    return np.rint(film * beam * 242 + 4 * beam).astype(np.uint8)


# Shapes: every outline is a smooth curve through a few points (u, v)


def _closed(points: list[tuple[float, float]], steps: int = 8) -> np.ndarray:
    """Catmull-Rom curve (n, 2) through the points and back to the first; a doubled point makes a corner."""
    p = np.asarray(points, float)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (np.roll(p, shift, 0)[:, None] for shift in (1, 0, -1, -2))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return curve.reshape(-1, 2)


_CIRCLE = np.column_stack([np.cos(np.arange(32) * np.pi / 16), np.sin(np.arange(32) * np.pi / 16)])


def _ellipse(centre: tuple[float, float] | np.ndarray, radius_u: float, radius_v: float) -> np.ndarray:
    return np.asarray(centre) + _CIRCLE * (radius_u, radius_v)


def _blob(centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """An irregular round outline."""
    turn = np.arange(8) * np.pi / 4
    reach = radius * rng.uniform(0.6, 1.25, 8)
    return _closed(np.column_stack([centre[0] + reach * np.cos(turn), centre[1] + reach * np.sin(turn)]), 4)


def _band(line: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """Outline of a stroke of `width` along an open line (n, 2)."""
    along = np.concatenate([line[1:2] - line[:1], line[2:] - line[:-2], line[-1:] - line[-2:-1]])
    half = along[:, ::-1] * (-0.5, 0.5) * (width / np.hypot(along[:, 0], along[:, 1]))[:, None]
    return np.concatenate([line + half, (line - half)[::-1]])


def _lung(body: Anatomy, side: int, breath: float) -> np.ndarray:
    """Outline of the aerated field of one lung."""
    wide, top = body.half_width, body.apex
    dome = body.dome + breath + body.dome_drop * (side > 0)
    tall = dome - top
    outer = [(0.41, 0.0), (0.60, 0.045), (0.77, 0.17), (0.89, 0.37), (0.96, 0.62), (1.0, 0.92)]
    points = [(wide * x, top + tall * y) for x, y in outer] + [(wide * 0.985, dome + body.angle)] * 2
    points += [(wide * x, dome + body.angle * y) for x, y in ((0.87, 0.45), (0.70, 0.1))]
    if side < 0:
        wall = body.heart_right
        points.append((wide * 0.48, dome - 0.004))
        inner = [(wall + 0.03, 1.02), (wall, 0.95), (wall * 0.97, 0.84), (wall * 0.78, 0.71), (0.062, 0.58), (0.05, 0.4), (0.05, 0.2)]
    else:
        tip = body.heart_left
        inner = [(tip + 0.02, 1.01), (tip, 0.95), (tip * 0.95, 0.86), (tip * 0.80, 0.73), (tip * 0.58, 0.6), (0.068, 0.5)]
        inner += [(0.062, 0.42), (body.knob, 0.34), (0.058, 0.26), (0.05, 0.16)]
    points += [(x, top + tall * y) for x, y in inner] + [(wide * 0.22, top + tall * 0.045)]
    return _closed(points) * (side, 1)


# Organs: each returns attenuation, float32 (height, width)


def _soft_tissue(view: _View, body: Anatomy) -> np.ndarray:
    """The trunk with neck and arms, round at its outline, and the breasts; the air around attenuates a little."""
    side = body.half_width + body.flank
    half = [(0.075, -0.15), (0.08, 0.0), (0.13, 0.055), (0.3, 0.09), (0.46, 0.125), (0.6, 0.25), (0.8, 0.7)]
    half += [(0.62, 0.64), (side + 0.055, 0.43), (side + 0.015, 0.46), (side, 0.62), (side + 0.012, 0.85), (side + 0.03, 1.2)]
    outline = _closed(half + [(-x, y) for x, y in reversed(half)])
    dense = view.round(view.fill(outline) > 127, 0.14) * np.float32(body.soft_tissue)
    dense += np.linspace(0.25, 0.12, view.height, dtype=np.float32)[:, None]
    dense += view.cloud(np.random.default_rng(body.branching), 7) * np.float32(0.05)
    if body.breast:
        shapes = [_ellipse((s * body.half_width * 0.62, body.dome - 0.02), body.half_width * 0.4, 0.105) for s in SIDES]
        dense += view.round(view.fill(*shapes) > 127, 0.1) * np.float32(body.breast)
    return dense


def _bones(view: _View, body: Anatomy) -> np.ndarray:
    back, front = _ribs(view, body)
    bones = _spine(view, body) * np.float32(0.95 / 255) + back * np.float32(0.5 / 255)
    return bones + _shoulders(view, body) * np.float32(0.7 / 255) + view.soft(front, 0.0025) * np.float32(0.3)


def _ribs(view: _View, body: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Posterior and anterior halves of ten pairs of ribs; the rim of a rib is denser than its marrow."""
    back, front = (np.zeros((view.height, view.width), np.uint8) for _ in range(2))
    turn, t = np.linspace(0.12, np.pi / 2, 16), np.linspace(0, 1, 14)
    for number in range(10):
        start = body.apex + 0.01 + number * body.rib_spacing
        reach = body.half_width * (0.62, 0.79, 0.89, 0.95, 0.99, 1.01, 1.02, 1.03, 1.03, 1.02)[number]
        drop = body.rib_drop * (0.6 + 0.06 * number)
        behind = np.column_stack([0.01 + reach * np.sin(turn), start + drop * (1 - np.cos(turn)) - 0.015 * np.sin(2 * turn)])
        before = np.column_stack([0.01 + reach * (1 - 0.6 * t**2), start + drop * (1 + 1.15 * t)])
        strength = min(1.0, 1.9 - 0.17 * number)  # scatter veils the ones below the diaphragm
        for side in SIDES:
            for layer, line, width in ((back, behind, 1.0), (front, before, 1.05 + 0.3 * t)):
                for share, value in ((1.0, 255), (0.62, 165)):
                    view.fill(_band(line * (side, 1), body.rib_width * width * share), inner=value * strength, layer=layer)
    return back, front


def _spine(view: _View, body: Anatomy) -> np.ndarray:
    """Vertebral bodies with rims, pedicles and a spinous process each, seen through the mediastinum."""
    layer = np.zeros((view.height, view.width), np.uint8)
    v = np.linspace(-0.1, 1.1, 30)
    view.fill(_band(np.column_stack([body.spine_curve * np.sin(np.pi * v), v]), 0.05 + 0.016 * v), inner=120, layer=layer)
    tall = body.rib_spacing * 0.62
    square = _closed([(-1, -1), (-0.86, 0), (-1, 1), (1, 1), (0.86, 0), (1, -1)], 4)
    for top in np.arange(-0.05, 1.05, body.rib_spacing * 0.78):
        half, at = 0.028 + 0.009 * top, np.array([body.spine_curve * np.sin(np.pi * top), top + tall / 2])
        for share, value in ((1.0, 225), (0.8, 180)):
            view.fill(at + square * (half, tall / 2) * share, inner=value, layer=layer)
        view.fill(*[_ellipse(at + (u * half, -0.2 * tall), half * 0.2, tall * 0.2) for u in (-0.6, 0.6)], layer=layer)
        view.fill(_ellipse(at + (0, 0.3 * tall), half * 0.13, tall * 0.3), layer=layer)
    return layer


def _shoulders(view: _View, body: Anatomy) -> np.ndarray:
    """uint8 layer of clavicles, shoulder blades and heads of the upper arms."""
    layer = np.zeros((view.height, view.width), np.uint8)
    t, wide = np.linspace(0, 1, 16), body.half_width
    blade = _closed([(wide * 0.9, 0.2), (wide * 0.93, 0.3), (wide * 1.02, 0.42), (wide * 1.06, 0.40), (wide + 0.08, 0.27), (wide + 0.09, 0.2)])
    fall = body.apex + 0.1 - body.clavicle_rise * t - 0.015 * np.sin(2 * np.pi * t)
    clavicle = np.column_stack([0.035 + (wide + 0.05) * t, fall])
    for side in SIDES:
        for share, value in ((1.0, 110), (0.94, 60)):
            view.fill((blade.mean(0) + (blade - blade.mean(0)) * share) * (side, 1), inner=value, layer=layer)
        for share, value in ((1.0, 255), (0.65, 175)):
            view.fill(_ellipse((side * (wide + 0.125), 0.2), 0.045 * share, 0.045 * share), inner=value * 0.7, layer=layer)
            view.fill(_band(clavicle * (side, 1), (0.03 - 0.012 * np.sin(np.pi * t)) * share), inner=value, layer=layer)
    return layer


def _organs(view: _View, body: Anatomy, breath: float) -> np.ndarray:
    """Abdomen, and the air of the trachea, behind the heart and in the stomach."""
    top, dome, side = body.apex, body.dome + breath, body.half_width + body.flank * 0.6
    low, t = dome + body.dome_drop, np.linspace(0, 1, 12)
    tubes = [np.column_stack([body.spine_curve + 0 * t, top - 0.2 + t * 0.36])]
    tubes += [np.column_stack([side * 0.05 * t, top + 0.16 + 0.06 * t]) for side in SIDES]
    air = view.soft(view.fill(*[_band(line, w) for line, w in zip(tubes, (0.03, 0.02, 0.02), strict=True)]), 0.004)
    heart = _ellipse(((body.heart_left - body.heart_right) / 2, dome - 0.14), (body.heart_left + body.heart_right) / 2, 0.17)
    belly = _closed([(-side, low + 0.08), (-side * 0.6, dome + 0.005), (0, low + 0.01), (side * 0.6, low), (side, low + 0.08), (side, 1.5), (-side, 1.5)])
    dense = view.soft(view.fill(belly), 0.006) * (0.5 + 0.05 * view.cloud(np.random.default_rng(body.branching), 14))
    dense -= view.soft(view.fill(heart), 0.03) * np.float32(0.5) + air * np.float32(0.4)
    if body.bubble:
        gas = _ellipse((side * 0.5, low + 0.03 + body.bubble * 0.55), body.bubble, body.bubble * 0.55)
        dense -= view.round(view.fill(gas) > 127, 0.03)
    return dense


def _lungs(view: _View, body: Anatomy, masks: list[np.ndarray], water: np.ndarray) -> np.ndarray:
    """Minus the air of both lungs, plus vessels and lung texture; `water` in 0..1 is the share of air displaced."""
    field = masks[0] | masks[1]
    air = view.round(field, 0.06) * np.float32(0.4) + view.soft(field.view(np.uint8) * 255, 0.0025) * np.float32(0.6)
    rng = np.random.default_rng(body.branching)
    marks = view.soft(_vessels(view, body, rng), 0.0022) * np.float32(0.55)
    marks += view.cloud(rng, 110) * np.float32(0.03) + view.cloud(rng, 36) * np.float32(0.035)
    return air * (np.float32(-0.66 * body.soft_tissue) * (1 - water) + marks * (1 - 0.7 * water))


def _vessels(view: _View, body: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """uint8 layer of pulmonary vessels forking from each hilum, fainter and finer outwards; coarse ones lie on top."""
    side = np.repeat(SIDES, 8)
    at = np.column_stack([side * 0.07, body.apex + 0.27 + rng.uniform(-0.015, 0.045, 16)])
    heading = np.tile(np.linspace(-1.45, 1.5, 8), 2) + rng.normal(0, 0.1, 16)
    generations = []
    for number in range(6):
        length = (0.055, 0.06, 0.055, 0.05, 0.04, 0.03)[number] * rng.uniform(0.75, 1.3, len(at))
        bend = heading[:, None] + np.linspace(0, 1, 5) * rng.normal(0, 0.28, (len(at), 1))
        steps = np.stack([np.cos(bend) * side[:, None], np.sin(bend)], -1) * (length / 5)[:, None, None]
        lines = at[:, None] + np.concatenate([np.zeros((len(at), 1, 2)), np.cumsum(steps, 1)], 1)
        generations.append(lines)
        keep = np.repeat(np.arange(len(at)), 2)[rng.uniform(size=2 * len(at)) < 0.8]
        at, side = lines[keep, -1], side[keep]
        heading = bend[keep, -1] + rng.normal(0, 0.45, len(keep))
    layer = np.zeros((view.height, view.width), np.uint8)
    for number, lines in reversed(list(enumerate(generations))):
        thick = view.size * 0.0105 * 0.72**number
        value = 255 * 0.85**number * min(1.0, thick)
        cv2.polylines(layer, list(view.pixels(lines)), False, value, max(1, round(thick)), cv2.LINE_AA, 4)
    return layer


# Disease: water where there was air


def _disease(
    view: _View, body: Anatomy, outlines: list[np.ndarray], rng: np.random.Generator, disease: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Share of air displaced, float32 in 0..1, and the opaque fluid, bool."""
    water, fluid = np.zeros((view.height, view.width), np.float32), np.zeros((view.height, view.width), bool)
    severity = rng.uniform(0.1, 1)
    sick = SIDES if rng.uniform() < 0.3 else (SIDES[rng.integers(2)],)
    for side in sick if disease else ():
        outline = outlines[SIDES.index(side)]
        if disease == "effusion":
            pool = _effusion(body, outline, side, severity, rng)
            fluid |= view.fill(pool) > 127
            water = np.maximum(water, view.soft(view.fill(pool), 0.004) * np.float32(rng.uniform(0.88, 1)))
        else:
            paint = _tuberculosis if disease == "tuberculosis" else _pneumonia
            water = np.maximum(water, paint(view, outline, severity, rng))
    return water, fluid


def _spot(outline: np.ndarray, rng: np.random.Generator, upper: float, lower: float) -> np.ndarray:
    """A random point (u, v) of the lung whose height lies between two shares of the lung's height."""
    low, high = outline.min(0), outline.max(0)
    while True:
        point = rng.uniform(low, high)
        share = (point[1] - low[1]) / (high[1] - low[1])
        if upper <= share <= lower and cv2.pointPolygonTest(outline.astype(np.float32)[:, None], point.tolist(), False) > 0:
            return point


def _tuberculosis(view: _View, outline: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Nodules and patches about a focus in the upper zone, in some with a cavity."""
    focus = _spot(outline, rng, 0.1, 0.42)
    patch, nodules = (np.zeros((view.height, view.width), np.uint8) for _ in range(2))
    spread = 0.02 + 0.05 * severity
    for _ in range(int(3 + 22 * severity)):
        spot = _blob(focus + rng.normal(0, 0.01 + spread * 0.7, 2), rng.uniform(0.005, 0.013), rng)
        view.fill(spot, inner=rng.integers(90, 256), layer=nodules)
    view.fill(*[_blob(focus + rng.normal(0, spread, 2), spread * rng.uniform(0.4, 1), rng) for _ in range(3)], layer=patch)
    water = view.soft(nodules, 0.003) * np.float32(0.15 + 0.2 * severity)
    water += view.soft(patch, 0.013) * (1 + 0.4 * view.cloud(rng, 40)) * np.float32(0.08 + 0.32 * severity)
    if severity > 0.45 and rng.uniform() < 0.5:
        wall = _blob(focus, rng.uniform(0.022, 0.042), rng)
        cavity = focus + (wall - focus) * rng.uniform(0.6, 0.75)
        hole = view.soft(view.fill(cavity), 0.003)
        water = water * (1 - 0.8 * hole) + np.maximum(view.soft(view.fill(wall), 0.004) - hole, 0) * np.float32(0.35)
    return np.clip(water, 0, 1)


def _pneumonia(view: _View, outline: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """A hazy consolidation of the middle or lower zone, patchy, with air left in the bronchi."""
    focus = _spot(outline, rng, 0.5, 0.85)
    spread = 0.035 + 0.055 * severity
    shapes = [_blob(focus + rng.normal(0, spread * 0.6, 2), spread * rng.uniform(0.6, 1.2), rng) for _ in range(4)]
    haze = view.soft(view.fill(*shapes), 0.02)
    hilum = np.array([np.sign(focus[0]) * 0.08, outline[:, 1].min() + 0.3])
    t = np.linspace(0, 1.3, 8)[:, None]
    tubes = [_band(hilum + (focus + rng.normal(0, spread, 2) - hilum) * t, np.linspace(0.012, 0.004, 8)) for _ in range(5)]
    bronchi = view.soft(view.fill(*tubes), 0.002)
    water = haze * (1 + 0.25 * view.cloud(rng, 30)) * (1 - 0.45 * bronchi) * np.float32(0.14 + 0.6 * severity)
    return np.clip(water, 0, 1)


def _effusion(body: Anatomy, outline: np.ndarray, side: int, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Outline of the fluid: up to the meniscus, which climbs towards the side wall."""
    bottom = outline[:, 1].max()
    level = bottom - body.angle * (0.3 + 0.55 * severity) - 0.12 * max(0.0, severity - 0.5) * rng.uniform(0.5, 1)
    t = np.linspace(0, 1, 16)
    climb = (0.03 + 0.06 * severity) * t**4
    top = np.column_stack([body.half_width * 1.1 * t * side, level - climb])
    return np.vstack([top, [(1.1 * body.half_width * side, bottom + 0.1), (0, bottom + 0.1)]])


def _one_piece(mask: np.ndarray) -> np.ndarray:
    """The largest piece by edge neighbours; a thin tip may come loose on a coarse grid."""
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return pieces == 1 + np.argmax(ndimage.sum_labels(mask, pieces, np.arange(1, count + 1)))
