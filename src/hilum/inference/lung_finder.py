"""Segment the lungs with test-time augmentation, and estimate the quality of the mask.

The estimate is a number from 0 to 1 that predicts the Dice coefficient with a reference mask,
without having one. It is computed from these signs, each higher for a better mask:

    agreement   mean Dice of the mask with those found after small changes of the image (shifted,
                scaled, rotated, darker, lighter)
    sure        soft Dice of the probabilities with their own threshold
    shape       -log(1 + distance of the mask's shape from reference masks, as the root mean square
                of standard deviations), see `shape`

The first two are fractions and enter as log-odds. The estimate is a logistic function of the
weighted sum. Weights are not negative, so a worse sign never improves it, and each sign is capped:
`sure` where nearly all good masks lie above, so that it only counts where it is low, since how
confident a network is depends on the masks that it was trained on; the others where nearly none do.
`resources/mask_quality.json` holds the weights and the shapes of reference masks;
tools/build_models/fit_mask_quality.py fits it on images whose masks were found by models that had
not seen them, unchanged and degraded, and measures it on others. The estimate is 0 where no lung
was found.

The estimates hold for the models that they were fitted on. For another model they rank masks, but
its Dice may differ.

Agreement under changes of the input: Wang et al., "Aleatoric uncertainty estimation with test-time
augmentation", Neurocomputing 338 (2019).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple, TypedDict

import cv2
import numpy as np

from hilum.annotations import lung_masks
from hilum.imaging.geometry import Letterbox, Size
from hilum.inference import orientation
from hilum.inference.onnx_model import OnnxModel

RULE = "resources/mask_quality.json"
FRACTIONS = ("agreement", "sure")
SIGNS = (*FRACTIONS, "shape")
GOOD = 0.9  # masks with a lower estimate are listed for review
SHAPES = (
    "area",
    "balance",
    "right_solidity",
    "left_solidity",
    "filled",
    "aspect",
    "right_column",
    "left_column",
    "offset",
    "centre",
    "scattered",
    "holes",
    "border",
)
# Upper limits of the quality of flagged images, set and not estimated: such masks must not be used.
CAPS = {
    orientation.EMPTY: 0.0,
    orientation.OUT_OF_DISTRIBUTION: 0.05,
    orientation.INVERTED: 0.1,
    orientation.ROTATED: 0.1,
    orientation.MIRRORED: 0.2,
}
_EDGE = 0.005  # keeps log-odds finite
_FARTHEST = 10.0  # standard deviations at which one part of a shape is capped


class _Change(NamedTuple):
    """A small change of an image; shifts are fractions of its side."""

    scale: float
    degrees: float
    down: float
    right: float
    gamma: float


_CHANGES = (
    _Change(1.0, 5.0, 0.02, -0.02, 1.1),
    _Change(1.0, -5.0, -0.02, 0.03, 0.9),
    _Change(0.92, 0.0, 0.03, 0.02, 0.8),
    _Change(1.08, 0.0, -0.02, -0.03, 1.25),
)
# Where the mask agrees with those of the first FEW changes as closely as CLEAR, the others would
# hardly change it, and are not evaluated (benchmarks/accuracy/lung_changes.py).
FEW, CLEAR = 2, 0.97
ALWAYS = 2.0  # in place of CLEAR: no agreement is as close, so every change is evaluated


class Rule(TypedDict):
    """Contents of `mask_quality.json`.

    `weights` and `bias` of the signs, `most` at which each sign is capped, and for each protocol
    and part of a shape its mean and standard deviation among reference masks.
    """

    weights: dict[str, float]
    bias: float
    most: dict[str, float]
    shapes: dict[str, dict[str, tuple[float, float]]]


@dataclass(frozen=True)
class LungSegmentation:
    """The lungs of one image in the model's square, with the estimated quality of the mask.

    `labels` are uint8 (size, size), `likely` float32 (2, size, size) the probabilities of right and
    left lung. `signs` is empty where no lung was found.
    """

    labels: np.ndarray
    likely: np.ndarray
    quality: float
    signs: Mapping[str, float]


def segment_lungs(
    model: OnnxModel,
    image: np.ndarray,
    size: Size,
    protocol: str = lung_masks.AIR,
    clear: float = CLEAR,
    *,
    changes: bool = True,
) -> LungSegmentation:
    """Segment a letterboxed uint8 image of a file of (height, width) `size`.

    `protocol` is one of lung_masks.PROTOCOLS, `clear` as in `segment_with_tta`. Without `changes`
    the image alone is evaluated, and the quality is an upper limit. The result never depends on
    images segmented before or after.
    """
    segment = segment_with_tta if changes else _segment_once
    labels, likely, fractions, measured = segment(model, image, size, protocol, clear)
    if not fractions:
        return LungSegmentation(labels, likely, 0.0, {})
    shapes = rule()["shapes"][protocol]
    signs = {**fractions, "shape": -math.log1p(distance(measured, shapes))}
    return LungSegmentation(labels, likely, estimate(signs, rule()), signs)


def segment_with_tta(
    model: OnnxModel,
    image: np.ndarray,
    size: Size,
    protocol: str = lung_masks.AIR,
    clear: float = CLEAR,
) -> tuple[np.ndarray, np.ndarray, dict[str, float], dict[str, float] | None]:
    """Return labels, probabilities, the `FRACTIONS`, and the `shape`.

    The last two are empty and None where no lung was found. Probabilities are the mean over the
    image and its changes, which the signs need anyway: this is closer to reference masks, most so
    where noise is strong (tools/build_models/fit_mask_quality.py, benchmarks/accuracy/lungs.py
    --what shipped). The later changes are evaluated only where the mask agrees less than `clear`
    with one of the first.
    """
    output = model.lung_output(protocol)
    likely, agreements = _augmented(model, image, output, clear)
    return _with_signs(likely, float(np.mean(agreements)), size)


def _segment_once(
    model: OnnxModel, image: np.ndarray, size: Size, protocol: str, clear: float
) -> tuple[np.ndarray, np.ndarray, dict[str, float], dict[str, float] | None]:
    """Return what `segment_with_tta` does, of the image alone: whatever is `clear`, all agree."""
    return _with_signs(_likely(model, image[None], model.lung_output(protocol))[0], 1.0, size)


def _likely(model: OnnxModel, images: np.ndarray, output: str) -> np.ndarray:
    """Return the probabilities of images, float32 (n, 2, side, side); no other output is made."""
    return model.many(images, (output,))[output]


def _with_signs(
    likely: np.ndarray, agreement: float, size: Size
) -> tuple[np.ndarray, np.ndarray, dict[str, float], dict[str, float] | None]:
    """Return labels, the probabilities, the `FRACTIONS` and the `shape`."""
    labels = lung_masks.from_probabilities(likely)
    if not labels.any():
        return labels, likely, {}, None
    fractions = {"agreement": agreement, "sure": _confidence(likely, labels)}
    inside = Letterbox(size, labels.shape[0]).inside()
    return labels, likely, fractions, shape(labels, lung_masks.likelier_side(likely), inside)


def no_lungs(size: int) -> LungSegmentation:
    """Return the empty segmentation of a square of `size` pixels."""
    return LungSegmentation(
        np.zeros((size, size), np.uint8), np.zeros((2, size, size), np.float32), 0.0, {}
    )


def cap_quality(quality: float, flags: Iterable[orientation.QualityFlag]) -> float:
    """Limit the estimate by the `CAPS` of an image's quality flags.

    A mask of an image that is not an upright frontal chest radiograph must not be trusted.
    """
    return min([quality, *(CAPS[flag.fault] for flag in flags)])


@cache
def rule() -> Rule:
    """Read the fitted function and the shapes of reference masks from `RULE`."""
    return json.loads(resources.files("hilum").joinpath(RULE).read_text(encoding="utf-8"))


def estimate(signs: Mapping[str, float], rule: Rule) -> float:
    """Compute the quality estimate, in [0, 1], from the `SIGNS`."""
    total = rule["bias"] + sum(
        rule["weights"][name] * min(value, rule["most"][name])
        for name, value in inputs(signs).items()
    )
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


def inputs(signs: Mapping[str, float]) -> dict[str, float]:
    """Return the values that are weighted: fractions as log-odds, the shape unchanged."""
    return {
        name: math.log((signs[name] + _EDGE) / (1 - signs[name] + _EDGE))
        if name in FRACTIONS
        else signs[name]
        for name in SIGNS
    }


# ---------------------------------------------------------------------------- the signs


def _augmented(
    model: OnnxModel, image: np.ndarray, output: str, clear: float
) -> tuple[np.ndarray, list[float]]:
    """Return the mean probabilities over the image and its changes, and each agreement."""
    first, again = _likely(model, image[None], output)[0], list[np.ndarray]()
    likely, agreements = first, list[float]()
    for changes in (_CHANGES[:FEW], _CHANGES[FEW:]):
        again += list(_evaluated(model, image, output, changes))
        likely = _mean(first, again)
        agreements = _agreements(likely, again)
        if min(agreements) >= clear:
            break
    return likely, agreements


def _evaluated(
    model: OnnxModel, image: np.ndarray, output: str, changes: Sequence[_Change]
) -> np.ndarray:
    """Return the probabilities of the changed images, float32 (changes, 2, side, side)."""
    side = image.shape[0]
    warped = [
        cv2.warpAffine(image, _move(side, change), (side, side), borderMode=cv2.BORDER_REFLECT_101)
        for change in changes
    ]
    changed = [
        cv2.LUT(one, _tone_curve(change.gamma)) for one, change in zip(warped, changes, strict=True)
    ]
    return _likely(model, np.stack(changed), output)


@cache
def _tone_curve(gamma: float) -> np.ndarray:
    """Return a gamma curve as a table, uint8 (256,)."""
    return (np.linspace(0, 1, 256) ** gamma * 255 + 0.5).astype(np.uint8)


def _mean(first: np.ndarray, again: Sequence[np.ndarray]) -> np.ndarray:
    """Average `first` and the probabilities of the first `_CHANGES`, mapped back.

    A pixel that a change moved outside the image is left out of the mean there.
    """
    total = first.copy()
    for change, found in zip(_CHANGES, again, strict=False):
        for lung, sum_of_lung in zip(found, total, strict=True):
            sum_of_lung += _moved_back(lung, change)
    total /= _coverage(first.shape[-1], len(again))
    return total


def _moved_back(values: np.ndarray, change: _Change) -> np.ndarray:
    """Map float32 (side, side) of a changed image back to the image; 0 where it saw nothing."""
    move, how = _move(len(values), change), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(values, move, values.shape, flags=how)


@cache
def _coverage(side: int, changes: int) -> np.ndarray:
    """Count the image and those of its changes that see each pixel, float32 (side, side)."""
    seen = np.ones((side, side), np.float32)
    total = seen.copy()
    for change in _CHANGES[:changes]:
        total += _moved_back(seen, change)
    return total


def _agreements(likely: np.ndarray, again: Sequence[np.ndarray]) -> list[float]:
    """Compute the Dice of a mask, moved like each changed image, with the mask of that image."""
    before, side = lung_masks.likelier_side(likely), likely.shape[-1]
    found = []
    for change, after in zip(_CHANGES, again, strict=False):
        moved = cv2.warpAffine(before, _move(side, change), (side, side), flags=cv2.INTER_NEAREST)
        found.append(_dice_of_labels(moved, lung_masks.likelier_side(after)))
    return found


def _dice_of_labels(first: np.ndarray, second: np.ndarray) -> float:
    same = np.count_nonzero((first == second) & (second > 0))
    whole = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * same / whole if whole else 0.0


@cache
def _move(side: int, change: _Change) -> np.ndarray:
    """Return the affine map (2, 3) of a change."""
    centre = (side - 1) / 2
    move = cv2.getRotationMatrix2D((centre, centre), change.degrees, change.scale)
    move[:, 2] += change.right * side, change.down * side
    return move


def _confidence(likely: np.ndarray, labels: np.ndarray) -> float:
    """Compute the soft Dice of probabilities (2, size, size) with the labels made of them."""
    lung, inside = np.maximum(*likely), labels > 0
    return min(2 * float(lung[inside].sum()) / float(lung.sum() + inside.sum()), 1.0)


def shape(
    labels: np.ndarray, before: np.ndarray, inside: tuple[slice, slice]
) -> dict[str, float] | None:
    """Compute the `SHAPES` of a mask; None where a lung is missing.

    `before` are the labels before parts were selected (equal to `labels` for reference masks),
    `inside` is the image's place within the letterboxed square.
    """
    sides = [labels == side for side in (lung_masks.RIGHT, lung_masks.LEFT)]
    areas = [int(np.count_nonzero(side)) for side in sides]
    if not all(areas):
        return None
    both, area = labels > 0, sum(areas)
    left, top, width, height = cv2.boundingRect(both.view(np.uint8))
    (right_row, right_column), (left_row, left_column) = (_centroid(side) for side in sides)
    image = both[inside]
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    kept = int(np.count_nonzero(both & (before > 0)))
    return {
        "area": math.log(area / image.size),
        "balance": math.log(areas[0] / areas[1]),
        "right_solidity": _solidity(sides[0]),
        "left_solidity": _solidity(sides[1]),
        "filled": area / (height * width),
        "aspect": math.log(height / width),
        "right_column": (right_column - left) / width,
        "left_column": (left_column - left) / width,
        "offset": (right_row - left_row) / height,
        "centre": ((right_row + left_row) / 2 - top) / height,
        "scattered": 1 - kept / max(int(np.count_nonzero(before)), 1),
        "holes": 1 - kept / area,
        "border": float(rim.mean()),
    }


def distance(of: Mapping[str, float] | None, reference: Mapping[str, tuple[float, float]]) -> float:
    """Compute a shape's distance from reference masks, in standard deviations.

    It is the root mean square over the parts of the shape, each capped; the cap where the shape is
    None, that is, where a lung is missing.
    """
    if of is None:
        return _FARTHEST
    apart = [
        min(abs(of[name] - mean) / spread, _FARTHEST) for name, (mean, spread) in reference.items()
    ]
    return math.sqrt(sum(value * value for value in apart) / len(apart))


def _centroid(mask: np.ndarray) -> tuple[float, float]:
    """Return row and column of a mask's centre of area."""
    moments = cv2.moments(mask.view(np.uint8), binaryImage=True)
    return moments["m01"] / moments["m00"], moments["m10"] / moments["m00"]


def _solidity(mask: np.ndarray) -> float:
    """Compute the fraction of its rasterised convex hull that a mask covers.

    The hull is counted in pixels, so the value stays meaningful (about 1) for structures thinner
    than a pixel's extent, whose hull polygon has no area.
    """
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    hull = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(contours)), 1)
    return float(mask.sum() / hull.sum())
