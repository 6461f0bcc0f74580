"""Draw the signs of findings in synthetic chest radiographs, each with its extent.

They are obvious and distinct from one another. A sign is named after the concept of
`hilum.annotations.vocabulary` that it stands for. It displaces air, adds or removes attenuation, or
erases the texture of the lung; its extent is the region a reader would outline.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import MappingProxyType

import cv2
import numpy as np

from hilum.imaging.synthetic._anatomy import (
    CIRCLE,
    SIDES,
    Anatomy,
    View,
    band,
    blob,
    ellipse,
    posterior_rib,
    spot,
    spots,
)
from hilum.imaging.synthetic._diseases import effusion, pneumonia

_RIB = 0.5  # attenuation of a posterior rib
_NEIGHBOURS = np.ones((3, 3), np.uint8)
_VISIBLE = 0.35  # fraction of the densest value of an opacity below which it is not outlined


@dataclass
class Signs:
    """What the signs of one exposure change. Images are float32 or bool, (height, width)."""

    view: View
    body: Anatomy
    lungs: list[np.ndarray]  # outlines of the right and the left lung
    rng: np.random.Generator
    water: np.ndarray  # fraction of air displaced, up to 1; below 0 is more air
    bare: np.ndarray  # fraction of the lung's vessels and texture that is missing
    dense: np.ndarray  # attenuation added
    fluid: np.ndarray  # bool: pleural fluid, which belongs to no lung
    extents: dict[str, np.ndarray] = field(default_factory=dict)  # bool, by sign

    @classmethod
    def paint(
        cls,
        view: View,
        body: Anatomy,
        lungs: list[np.ndarray],
        rng: np.random.Generator,
        signs: Collection[str],
    ) -> Signs:
        """Draw `signs`, each a key of `SIGNS`; place and size come from `rng`."""
        blank = [np.zeros((view.height, view.width), np.float32) for _ in range(3)]
        found = cls(view, body, lungs, rng, *blank, fluid=np.zeros((view.height, view.width), bool))
        for sign in signs:
            found.extents[sign] = SIGNS[sign](found)
        np.minimum(found.water, 1, out=found.water)
        return found

    def inside(self, *outlines: np.ndarray) -> np.ndarray:
        """Return bool (height, width), True within any of the outlines."""
        return self.view.fill(*outlines) > 127

    def one_lung(self) -> np.ndarray:
        """Return the outline of a random lung."""
        return self.lungs[self.rng.integers(2)]

    def add(self, density: float, sigma: float, *outlines: np.ndarray) -> None:
        """Add attenuation within outlines, blurred by `sigma` (fraction of the frame)."""
        part, place = self.view.patch(sigma, *outlines)
        self.dense[place] += part.soft(part.fill(*outlines), sigma, density)


def _calcification(signs: Signs) -> np.ndarray:
    """Draw small dots as dense as bone, in one zone of a lung."""
    rng, focus = signs.rng, spot(signs.one_lung(), signs.rng, 0.2, 0.6)
    number = rng.integers(3, 7)
    centres, radii = focus + rng.normal(0, 0.025, (number, 2)), rng.uniform(0.008, 0.012, number)
    dots = list(zip(centres, radii, strict=True))
    signs.add(2.2, 0.0015, *(ellipse(at, radius, radius) for at, radius in dots))
    return signs.inside(*(ellipse(at, radius + 0.004, radius + 0.004) for at, radius in dots))


def _lung_lesion(signs: Signs) -> np.ndarray:
    """Draw a round spot with a sharp edge."""
    at, radius = spot(signs.one_lung(), signs.rng, 0.2, 0.7), signs.rng.uniform(0.028, 0.055)
    outline = ellipse(at, radius, radius)
    signs.add(1.1, 0.003, outline)
    return signs.inside(outline)


def _airspace_opacity(signs: Signs) -> np.ndarray:
    """Draw a hazy patch with air left in the bronchi."""
    outline = signs.one_lung()
    haze = np.clip(pneumonia(signs.view, outline, signs.rng.uniform(0.5, 1), signs.rng), 0, 1)
    signs.water += haze
    lung = signs.inside(outline)
    return lung & (haze > _VISIBLE * haze[lung].max())


def _fibrosis(signs: Signs) -> np.ndarray:
    """Draw fine dense lines that cross one another, in a part of one lung."""
    outline, rng = signs.one_lung(), signs.rng
    focus, radius = spot(outline, rng, 0.1, 0.75), rng.uniform(0.06, 0.085)
    region = signs.inside(blob(focus, radius, rng)) & signs.inside(outline)
    lines = []
    for angle in rng.uniform(0, np.pi, 16):
        middle = focus + rng.normal(0, radius * 0.5, 2)
        reach = radius * np.array([np.cos(angle), np.sin(angle)])
        bow = rng.normal(0, 0.15) * reach[::-1] * (-1, 1)
        lines.append(np.array([middle - reach, middle + bow, middle + reach]))
    strokes = signs.view.soft(signs.view.fill(*(band(line, 0.0045) for line in lines)), 0.001)
    signs.dense += strokes * region * np.float32(0.9)
    return region


def _dissemination(signs: Signs) -> np.ndarray:
    """Draw many small dots all over both lungs."""
    rng, layer = signs.rng, signs.view.fill()
    for outline in signs.lungs:
        chance = rng.random((110, 4))
        radii = 0.004 + (0.006 - 0.004) * chance[:, None, 2:]
        dots = spots(outline, chance[:, :2], 0.06, 0.9)[:, None] + CIRCLE * radii
        signs.view.fill(*dots, layer=layer)
    both = signs.inside(*signs.lungs)
    signs.dense += signs.view.soft(layer, 0.0012) * both * np.float32(0.75)
    return both


def _effusion(signs: Signs) -> np.ndarray:
    """Draw a white base that blunts the costophrenic angle."""
    outline = signs.one_lung()
    water = np.clip(effusion(signs.view, outline, signs.rng.uniform(0.6, 1), signs.rng), 0, 1)
    signs.water += water
    extent = signs.inside(outline) & (water > 0.5)
    signs.fluid |= extent
    return extent


def _hilar_enlargement(signs: Signs) -> np.ndarray:
    """Draw both roots of the lungs dense, broad and lobed."""
    rng, lobes = signs.rng, []
    for side in SIDES:
        for _ in range(3):
            at = side * rng.uniform(0.085, 0.105), signs.body.apex + 0.29 + rng.uniform(-0.03, 0.03)
            lobes.append(blob(np.array(at), rng.uniform(0.035, 0.05), rng))
    signs.add(1.1, 0.005, *lobes)
    return signs.inside(*lobes)


def _annular_shadow(signs: Signs) -> np.ndarray:
    """Draw a ring: the wall of a cavity with air in it."""
    at, radius = spot(signs.one_lung(), signs.rng, 0.15, 0.65), signs.rng.uniform(0.035, 0.055)
    signs.add(1.0, 0.002, ellipse(at, radius, radius))
    signs.add(-1.0, 0.002, ellipse(at, radius * 0.72, radius * 0.72))
    return signs.inside(ellipse(at, radius, radius))


def _rib_piece(signs: Signs, length: float) -> np.ndarray:
    """Return a line (6, 2) along a piece of a posterior rib that lies over the lung.

    The third to the sixth rib have full density. `length` is the most, as a fraction of the frame.
    """
    number, side = int(signs.rng.integers(2, 6)), SIDES[signs.rng.integers(2)]
    middle, half = signs.rng.uniform(0.55, 0.9), length / 2 / signs.body.half_width
    line = posterior_rib(signs.body, number, np.linspace(middle - half, middle + half, 6))
    return line * (side, 1)


def _healed_rib_fracture(signs: Signs) -> np.ndarray:
    """Draw a thick callus on a rib."""
    line = _rib_piece(signs, 0.085)
    swelling = 0.02 + 0.018 * np.sin(np.linspace(0.1, np.pi - 0.1, len(line)))
    signs.add(1.0, 0.002, band(line, swelling))
    return signs.inside(band(line, swelling + 0.006))


def _rib_fracture(signs: Signs) -> np.ndarray:
    """Draw a gap in a rib, whose ends have slipped past one another."""
    line = _rib_piece(signs, 0.09)
    signs.add(-_RIB, 0.001, band(line[1:5], 0.022))
    across = np.array([-(line[-1] - line[0])[1], (line[-1] - line[0])[0]])
    end = line[3:5] + across * (0.02 / np.hypot(*across))
    signs.add(_RIB, 0.001, band(end, 0.018))
    return signs.inside(band(line, 0.06))


def _enlarged_mediastinum(signs: Signs) -> np.ndarray:
    """Draw the midline dense and broad above the heart."""
    half, v = signs.rng.uniform(0.1, 0.13), signs.body.apex + np.array([0.0, 0.06, 0.16, 0.3])
    u = half * np.array([0.75, 0.95, 1.0, 0.95])
    outline = np.column_stack([[*u, *-u[::-1]], [*v, *v[::-1]]])
    signs.add(0.9, 0.006, outline)
    return signs.inside(outline)


def _pneumothorax(signs: Signs) -> np.ndarray:
    """Draw a black rim without vessels along side and top of a lung that is retracted from it."""
    outline, rng = signs.one_lung(), signs.rng
    lung, bottom = signs.inside(outline), outline[:, 1].max()
    shrink = np.array([rng.uniform(0.74, 0.84), rng.uniform(0.88, 0.93)])
    retracted = [(outline - (0, bottom)) * (shrink - edge) + (0, bottom) for edge in (0.0, 0.012)]
    rim = lung & ~signs.inside(retracted[0])
    edge = (signs.inside(retracted[0]) & ~signs.inside(retracted[1]) & lung).view(np.uint8) * 255
    soft = signs.view.soft(rim.view(np.uint8) * 255, 0.0015)
    signs.water += np.float32(0.15) * (lung & ~rim) - soft * np.float32(0.3)
    np.maximum(signs.bare, soft, out=signs.bare)
    signs.dense += signs.view.soft(edge, 0.0015) * np.float32(0.5)
    return rim


def _atelectasis(signs: Signs) -> np.ndarray:
    """Draw a dense band across a lung, just above the diaphragm or higher."""
    outline, rng = signs.one_lung(), signs.rng
    middle, lean = spot(outline, rng, 0.45, 0.75), rng.uniform(-0.35, 0.35)
    reach = 0.1 * np.array([np.cos(lean), np.sin(lean)])
    strip = band(np.array([middle - reach, middle, middle + reach]), rng.uniform(0.022, 0.034))
    lung = signs.inside(outline)
    signs.dense += signs.view.soft(signs.view.fill(strip), 0.002) * lung * np.float32(1.1)
    return signs.inside(strip) & cv2.dilate(lung.view(np.uint8), _NEIGHBOURS).view(bool)


SIGNS: MappingProxyType[str, Callable[[Signs], np.ndarray]] = MappingProxyType(
    {
        "calcification": _calcification,
        "lung_lesion": _lung_lesion,
        "airspace_opacity": _airspace_opacity,
        "fibrosis": _fibrosis,
        "dissemination": _dissemination,
        "effusion": _effusion,
        "hilar_enlargement": _hilar_enlargement,
        "annular_shadow": _annular_shadow,
        "healed_rib_fracture": _healed_rib_fracture,
        "enlarged_mediastinum": _enlarged_mediastinum,
        "rib_fracture": _rib_fracture,
        "pneumothorax": _pneumothorax,
        "atelectasis": _atelectasis,
    }
)
