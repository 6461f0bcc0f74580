"""Draw the random changes of an image: parameters first, to be applied afterwards.

Because drawing and applying are separate, a draw can be kept, shown or repeated, and applying it
(`hilum.training.transforms`) needs no randomness. Training draws with a generator of seed, epoch
and row (see `hilum.training.training_loop`), so the changes of an image in an epoch can be
reproduced from these three, and nothing need be stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypedDict

import numpy as np

from hilum.training.settings import OcclusionLimits

GRID = 4  # the elastic displacement is drawn on GRID x GRID points, and smooth between them
Rows = tuple[tuple[float, ...], ...]
# Only some images get some changes, so that the model also sees undisturbed ones.
BANDED, UNEVEN, NOISY, BLURRED = 1 / 3, 0.5, 0.5, 0.3  # fractions of the images
BLACK, WHITE = 0.4, 0.6  # cumulative fractions of bands that are black, then white, else grey
GLOBAL = 1 / 3  # fraction of the equalised histograms that is global


@dataclass(frozen=True)
class Augmentation(OcclusionLimits):
    """The largest change of each kind, see `OcclusionLimits`; 0 switches one off.

    `crop` is the side in pixels of a square that is cut out at a random place.
    """

    crop: int = 0

    @property
    def only_cuts(self) -> bool:
        """Whether images are cut out and mirrored at most: no pixel gets another value."""
        return not any(
            getattr(self, limit.name)
            for limit in fields(self)
            if limit.name not in ("crop", "flip")
        )

    @classmethod
    def from_settings(cls, settings: object) -> Augmentation:
        """Return the limits that a model's settings name; the default for the others."""
        return cls(
            **{
                limit.name: getattr(settings, limit.name)
                for limit in fields(cls)
                if hasattr(settings, limit.name)
            }
        )


@dataclass(frozen=True)
class AugmentationParams:
    """One set of random changes; `dataclasses.asdict` of it can be written as JSON.

    `elastic` holds the displacements (2, GRID, GRID), rows then columns, as fractions of the
    image's size; empty when there is none. `crop` is the side of the square that is cut out, 0 for
    none; `crop_row` and `crop_column`, from 0 to 1, place it. `outside` is the grey level that
    enters from beyond the border; negative values repeat the border's own pixels. `covers` holds
    rectangles: top, left, bottom, right and grey level. `tiles` is the number per side for local
    contrast, 0 for none. `opacities` are arguments of `degradations.opaque`.
    """

    rotation_degrees: float
    scale: float
    shift_rows: float
    shift_columns: float
    contrast: float
    brightness: float
    gamma: float
    elastic: tuple[Rows, ...]
    flip: bool
    crop: int = 0
    crop_row: float = 0.0
    crop_column: float = 0.0
    aspect: float = 1.0
    outside: float = 0.0
    covers: Rows = ()
    uneven: Rows = ()
    noise: float = 0.0
    noise_seed: int = 0
    blur: float = 0.0
    tiles: int = 0
    clip: float = 0.0
    inverted: bool = False
    opacities: Rows = ()


def draw(settings: Augmentation, rng: np.random.Generator) -> AugmentationParams:
    """Draw each change uniformly within its limits (factors uniformly in their logarithm)."""
    return draw_many(settings, rng, 1)[0]


def draw_many(
    settings: Augmentation, rng: np.random.Generator, count: int
) -> list[AugmentationParams]:
    """Draw `count` times: equal to as many calls of `draw`, and faster."""
    return from_numbers(settings, numbers_for(settings, rng, count))


def numbers_for(settings: Augmentation, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return the random numbers of `count` draws, for `from_numbers` in any thread, at any time."""
    return rng.random((count, _needed(settings)))


def draw_each(
    settings: Augmentation, rngs: Sequence[np.random.Generator]
) -> list[AugmentationParams]:
    """Draw once from each generator: equal to `draw` for each, and faster."""
    needed = _needed(settings)
    return from_numbers(settings, np.stack([rng.random(needed) for rng in rngs]))


def _needed(settings: Augmentation) -> int:
    """Return how many random numbers a draw consumes."""
    bends, cuts = 2 * GRID * GRID if settings.elastic else 0, 2 * (settings.crop > 0)
    optional = [_OPTIONAL[name][0] for name in _OPTIONAL if getattr(settings, name)]
    return bends + 7 + settings.flip + cuts + sum(optional)


def from_numbers(settings: Augmentation, numbers: np.ndarray) -> list[AugmentationParams]:
    """Turn the random numbers of `numbers_for`, float64 (draws, numbers of each), into draws."""
    count = len(numbers)
    bends = 2 * GRID * GRID if settings.elastic else 0
    cuts = 2 * (settings.crop > 0)
    optional = [(name, *_OPTIONAL[name]) for name in _OPTIONAL if getattr(settings, name)]
    displacements = settings.elastic * (2 * numbers[:, :bends] - 1)
    grids = displacements.reshape(count, 2, GRID, GRID).tolist() if bends else [[]] * count
    limits = [settings.rotation_degrees, math.log1p(settings.scale), settings.shift, settings.shift]
    limits += [math.log1p(settings.contrast), settings.brightness, math.log1p(settings.gamma)]
    basic = np.array(limits) * (2 * numbers[:, bends : bends + 7] - 1)
    basic[:, [1, 4, 6]] = np.exp(basic[:, [1, 4, 6]])  # scale, contrast and gamma are factors
    rest = numbers[:, bends + 7 :].tolist()
    drawn = []
    for (degrees, scale, down, right, contrast, brightness, gamma), grid, more in zip(
        basic.tolist(), grids, rest, strict=True
    ):
        crop_row, crop_column = more[settings.flip : settings.flip + 2] if cuts else (0.0, 0.0)
        drawn.append(
            AugmentationParams(
                rotation_degrees=degrees,
                scale=scale,
                shift_rows=down,
                shift_columns=right,
                contrast=contrast,
                brightness=brightness,
                gamma=gamma,
                elastic=tuple(tuple(map(tuple, plane)) for plane in grid),
                flip=settings.flip and more[0] < 0.5,
                crop=settings.crop,
                crop_row=crop_row,
                crop_column=crop_column,
                **_optional(settings, optional, more[settings.flip + cuts :]),
            )
        )
    return drawn


class _Changes(TypedDict, total=False):
    """The fields of `AugmentationParams` that optional changes set."""

    aspect: float
    outside: float
    covers: Rows
    uneven: Rows
    noise: float
    noise_seed: int
    blur: float
    tiles: int
    clip: float
    inverted: bool
    opacities: Rows


_Interpret = Callable[[float, list[float]], _Changes]
"""limit, random numbers in [0, 1) -> the change"""


def _optional(
    settings: Augmentation, optional: list[tuple[str, int, _Interpret]], numbers: list[float]
) -> _Changes:
    """Turn random numbers in [0, 1) into changes, each of which consumes as many as it needs."""
    changes: _Changes = {}
    covers: Rows = ()
    for name, needed, interpret in optional:
        own, numbers = numbers[:needed], numbers[needed:]
        found = interpret(getattr(settings, name), own)
        covers += found.pop("covers", ())  # bands and markers may come together
        changes.update(found)
    if covers:
        changes["covers"] = covers
    return changes


def _aspect(limit: float, numbers: list[float]) -> _Changes:
    return {"aspect": (1 + limit) ** (2 * numbers[0] - 1)}


def _border(fraction: float, numbers: list[float]) -> _Changes:
    if numbers[0] >= fraction:
        return {}
    return {"outside": numbers[2] if numbers[1] < 0.5 else -1.0}


def _invert(fraction: float, numbers: list[float]) -> _Changes:
    return {"inverted": numbers[0] < fraction}


def _local_contrast(fraction: float, numbers: list[float]) -> _Changes:
    if numbers[0] >= fraction:
        return {}
    if numbers[1] < GLOBAL:
        return {"tiles": 1}
    return {"tiles": 2 + int(7 * numbers[2]), "clip": 1 + 3 * numbers[3]}


def _uneven(limit: float, numbers: list[float]) -> _Changes:
    if numbers[0] >= UNEVEN:
        return {}
    scaled = [limit * (2 * number - 1) for number in numbers[1:10]]
    return {"uneven": tuple(tuple(scaled[at : at + 3]) for at in (0, 3, 6))}


def _noise(limit: float, numbers: list[float]) -> _Changes:
    if numbers[0] >= NOISY:
        return {}
    return {"noise": limit * numbers[1], "noise_seed": int(numbers[2] * 2**32)}


def _blur(limit: float, numbers: list[float]) -> _Changes:
    return {"blur": limit * numbers[1]} if numbers[0] < BLURRED else {}


def _marker(fraction: float, numbers: list[float]) -> _Changes:
    if numbers[0] >= fraction:
        return {}
    _, top, left, height, width, grey = numbers
    bottom = min(1.0, top + 0.03 + 0.12 * height)
    right = min(1.0, left + 0.03 + 0.12 * width)
    return {"covers": ((top, left, bottom, right, grey),)}


def _bands(limit: float, numbers: list[float]) -> _Changes:
    """Cover all four edges with one grey level; each band is more often narrow than wide."""
    if numbers[0] >= BANDED:
        return {}
    top, left, bottom, right = (limit * number * number for number in numbers[1:5])
    light = 1.0 if numbers[5] < WHITE else numbers[6]
    grey = 0.0 if numbers[5] < BLACK else light
    return {
        "covers": (
            (0.0, 0.0, top, 1.0, grey),
            (1 - bottom, 0.0, 1.0, 1.0, grey),
            (0.0, 0.0, 1.0, left, grey),
            (0.0, 1 - right, 1.0, 1.0, grey),
        )
    }


def _opacities(fraction: float, numbers: list[float]) -> _Changes:
    """Place one to three patches, each from six numbers."""
    if numbers[0] >= fraction:
        return {}
    count = 1 + int(3 * numbers[1])
    starts = range(2, 2 + 6 * count, 6)
    return {"opacities": tuple(_opacity(*numbers[at : at + 6]) for at in starts)}


def _opacity(
    row: float, column: float, height: float, width: float, grey: float, opacity: float
) -> tuple[float, ...]:
    """Scale six numbers to a patch away from the image's edges, where lungs are."""
    return (
        0.2 + 0.65 * row,
        0.1 + 0.8 * column,
        0.03 + 0.22 * height,
        0.03 + 0.15 * width,
        0.5 + 0.5 * grey,
        0.4 + 0.6 * opacity,
    )


# By limit: how many random numbers the change consumes, and what they mean. The order is part of
# the reproducibility: numbers are consumed in it.
_OPTIONAL: dict[str, tuple[int, _Interpret]] = {
    "aspect": (1, _aspect),
    "border": (3, _border),
    "invert": (1, _invert),
    "local_contrast": (4, _local_contrast),
    "uneven": (10, _uneven),
    "noise": (3, _noise),
    "blur": (2, _blur),
    "markers": (6, _marker),
    "bands": (7, _bands),
    "opacities": (20, _opacities),
}
