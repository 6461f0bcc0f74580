"""How far found lungs can be trusted, told without drawn ones: a number from 0 to 1 that estimates the Dice with them.

What it is told from, each sign a number that is higher for a better mask:

    agreement   mean Dice of the mask with those found after small changes of the picture (moved, scaled, turned, darker, lighter)
    worst       the lowest of these
    sure        soft Dice of the probabilities with their own threshold
    sharp       1 - mean entropy of the probabilities in a band along the outline, in bits
    shape       -log(1 + how far the mask's shape is from drawn lungs: root mean square of standard deviations), see `shape`

The first four are shares, taken as log-odds. A logistic function of their weighted sum is the estimate; weights are not negative, so a worse
sign never betters it, and no sign counts for more than nearly all good masks had, so a model that is merely sure of itself gains nothing.
`resources/mask_quality.json` holds the weights and the shapes of drawn lungs; bench/quality.py fits it on pictures whose masks were found by
models that had not seen them, plain and made hard, and measures it on others. Where no lung was found it is 0.

Estimates are of the models that they were fitted on; of another one they rank masks, and its Dice may differ.
Agreement under changes of the input: Wang et al., "Aleatoric uncertainty estimation with test-time augmentation", Neurocomputing 338 (2019).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import cv2
import numpy as np

from hilum.annotations import lung_masks
from hilum.imaging.geometry import Letterbox, Size
from hilum.inference import orientation
from hilum.inference.onnx_model import OnnxModel

RULE = "resources/mask_quality.json"
SHARES = ("agreement", "worst", "sure", "sharp")
SIGNS = (*SHARES, "shape")
GOOD = 0.9  # an estimate below is doubtful: the mask wants to be looked at
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
CAPS = {
    orientation.EMPTY: 0.0,
    orientation.STRANGE: 0.05,
    orientation.INVERTED: 0.1,
    orientation.TURNED: 0.1,
    orientation.MIRRORED: 0.2,
}  # no estimate: not to be used
_CHANGES = (  # scale, degrees, shift down and right as shares of the side, gamma
    (0.92, 0.0, 0.03, 0.02, 0.8),
    (1.08, 0.0, -0.02, -0.03, 1.25),
    (1.0, 5.0, 0.02, -0.02, 1.1),
    (1.0, -5.0, -0.02, 0.03, 0.9),
)
_EDGE = 0.005  # keeps log-odds finite
_FARTHEST = 10.0  # standard deviations that one part of a shape counts for


@dataclass(frozen=True)
class LungSegmentation:
    """The lungs of one picture: labels uint8 (size, size), the estimate, and its signs; no signs where no lung was found."""

    labels: np.ndarray
    likely: np.ndarray  # float32 (2, size, size): probabilities of right and left lung, see `look`
    quality: float
    signs: Mapping[str, float]


def segment_lungs(model: OnnxModel, picture: np.ndarray, size: Size) -> LungSegmentation:
    """The lungs of a letterboxed uint8 picture of a file of (height, width) `size`. The same whatever is asked before and after."""
    labels, likely, shares, seen = segment_with_tta(model, picture, size)
    if not shares:
        return LungSegmentation(labels, likely, 0.0, {})
    signs = {**shares, "shape": -math.log1p(distance(seen, rule()["shapes"]))}
    return LungSegmentation(labels, likely, estimate(signs, rule()), signs)


def segment_with_tta(
    model: OnnxModel, picture: np.ndarray, size: Size
) -> tuple[np.ndarray, np.ndarray, dict[str, float], dict[str, float] | None]:
    """Labels, probabilities, the signs that are shares, and the `shape`; no signs and no shape where no lung was found.

    Probabilities are the mean over the picture and its changes, which the signs ask for anyway: nearer to what is drawn, most so where noise
    is strong (bench/quality.py, bench/lungs.py --what shipped).
    """
    moves, again = _changed(model, picture)
    likely = _mean(model(picture)["lungs"], moves, again)
    labels = lung_masks.from_probabilities(likely)
    if not labels.any():
        return labels, likely, {}, None
    shares = {**_agreements(likely, moves, again), **doubt(likely, labels)}
    return (
        labels,
        likely,
        shares,
        shape(labels, raw(likely), Letterbox(size, picture.shape[0]).inside()),
    )


def no_lungs(size: int) -> LungSegmentation:
    """What is found where there is nothing to look at."""
    return LungSegmentation(
        np.zeros((size, size), np.uint8), np.zeros((2, size, size), np.float32), 0.0, {}
    )


def is_unreliable(quality: float, doubts: Iterable[orientation.QualityFlag]) -> float:
    """The estimate for a picture whose posture is doubted: a mask of what is no upright frontal chest is none to be trusted."""
    return min([quality, *(CAPS[doubt.fault] for doubt in doubts)])


@cache
def rule() -> dict[str, Any]:
    """`weights` and `bias` of the signs, `most` that each input counts for, and of each part of a shape [mean, spread] in drawn lungs."""
    return json.loads(resources.files("hilum").joinpath(RULE).read_text(encoding="utf-8"))


def estimate(signs: Mapping[str, float], rule: Mapping[str, Any]) -> float:
    total = rule["bias"] + sum(
        rule["weights"][name] * min(value, rule["most"][name])
        for name, value in inputs(signs).items()
    )
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


def inputs(signs: Mapping[str, float]) -> dict[str, float]:
    """What is weighted: shares as log-odds, the shape as it is."""
    return {
        name: math.log((signs[name] + _EDGE) / (1 - signs[name] + _EDGE))
        if name in SHARES
        else signs[name]
        for name in SIGNS
    }


# ------------------------------------------------------------------------------------------------------------------------ the signs


def raw(likely: np.ndarray) -> np.ndarray:
    """Labels of every pixel that is likelier lung than not, before parts are chosen and holes filled."""
    return np.where(
        likely.max(axis=0) < 0.5,
        0,
        np.where(likely[0] >= likely[1], lung_masks.RIGHT, lung_masks.LEFT),
    ).astype(np.uint8)


def _changed(model: OnnxModel, picture: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """How each of _CHANGES moves the picture, 2 x 3 each, and what is found then: probabilities (changes, 2, size, size)."""
    side = picture.shape[0]
    moves = [_move(side, *change[:4]) for change in _CHANGES]
    tables = [
        (np.linspace(0, 1, 256) ** change[4] * 255 + 0.5).astype(np.uint8) for change in _CHANGES
    ]
    warped = [
        cv2.warpAffine(picture, move, (side, side), borderMode=cv2.BORDER_REFLECT_101)
        for move in moves
    ]
    changed = [cv2.LUT(one, table) for one, table in zip(warped, tables, strict=True)]
    return moves, model.many(np.stack(changed))["lungs"]


def _mean(first: np.ndarray, moves: Sequence[np.ndarray], again: np.ndarray) -> np.ndarray:
    """Of `first` and what was found after each move, moved back; a pixel that a move put outside is not asked there."""
    side = first.shape[-1]
    total = np.dstack([*first, np.ones((side, side), np.float32)])
    for move, found in zip(moves, again, strict=True):
        moved = np.dstack([*found, np.ones((side, side), np.float32)])
        total += cv2.warpAffine(
            moved, move, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
    return np.moveaxis(total[..., :2] / total[..., 2:], -1, 0)


def _agreements(
    likely: np.ndarray, moves: Sequence[np.ndarray], again: np.ndarray
) -> dict[str, float]:
    before = raw(likely)
    dices = [_agreement(before, after, move) for after, move in zip(again, moves, strict=True)]
    return {"agreement": float(np.mean(dices)), "worst": float(np.min(dices))}


def _move(side: int, scale: float, degrees: float, down: float, right: float) -> np.ndarray:
    move = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, scale)
    move[:, 2] += right * side, down * side
    return move


def _agreement(before: np.ndarray, after: np.ndarray, move: np.ndarray) -> float:
    """Dice over both sides of the mask, moved as the picture was, with that of the changed picture, where both are seen."""
    side = before.shape[0]
    moved = cv2.warpAffine(before, move, (side, side), flags=cv2.INTER_NEAREST)
    found = raw(after)
    same = int(((moved == found) & (found > 0)).sum())
    whole = int((moved > 0).sum()) + int((found > 0).sum())
    return 2 * same / whole if whole else 0.0


def doubt(likely: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The signs `sure` and `sharp` of probabilities (2, size, size) and the labels made of them."""
    lung, inside = likely.max(axis=0), labels > 0
    sure = 2 * float(lung[inside].sum()) / float(lung.sum() + inside.sum())
    reach = 2 * max(1, round(labels.shape[0] / 85)) + 1
    square, mask = np.ones((reach, reach), np.uint8), inside.astype(np.uint8)
    band = cv2.dilate(mask, square) != cv2.erode(mask, square)
    p = np.clip(lung[band].astype(np.float64), 1e-6, 1 - 1e-6)
    entropy = float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean()) if p.size else 1.0
    return {"sure": min(sure, 1.0), "sharp": min(max(1 - entropy, 0.0), 1.0)}


def shape(
    labels: np.ndarray, before: np.ndarray, inside: tuple[slice, slice]
) -> dict[str, float] | None:
    """The parts of SHAPES of found lungs; None where a side is missing.

    `before` are the labels before parts were chosen (for drawn lungs the same), `inside` is where the picture lies in the square.
    """
    sides = [labels == side for side in (lung_masks.RIGHT, lung_masks.LEFT)]
    areas = [int(side.sum()) for side in sides]
    if not all(areas):
        return None
    both = labels > 0
    left, top, width, height = cv2.boundingRect(both.astype(np.uint8))
    (right_row, right_column), (left_row, left_column) = (_middle(side) for side in sides)
    picture = both[inside]
    rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    kept = int((both & (before > 0)).sum())
    return {
        "area": math.log(both.sum() / picture.size),
        "balance": math.log(areas[0] / areas[1]),
        "right_solidity": _solidity(sides[0]),
        "left_solidity": _solidity(sides[1]),
        "filled": both.sum() / (height * width),
        "aspect": math.log(height / width),
        "right_column": (right_column - left) / width,
        "left_column": (left_column - left) / width,
        "offset": (right_row - left_row) / height,
        "centre": ((right_row + left_row) / 2 - top) / height,
        "scattered": 1 - kept / max(int((before > 0).sum()), 1),
        "holes": 1 - kept / int(both.sum()),
        "border": float(rim.mean()),
    }


def distance(of: Mapping[str, float] | None, drawn: Mapping[str, tuple[float, float]]) -> float:
    """Root mean square of the standard deviations by which a shape differs from drawn lungs'; the farthest where a lung is missing."""
    if of is None:
        return _FARTHEST
    apart = [
        min(abs(of[name] - mean) / spread, _FARTHEST) for name, (mean, spread) in drawn.items()
    ]
    return math.sqrt(sum(value * value for value in apart) / len(apart))


def _middle(mask: np.ndarray) -> tuple[float, float]:
    """Row and column of the centre of area."""
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    return moments["m01"] / moments["m00"], moments["m10"] / moments["m00"]


def _solidity(mask: np.ndarray) -> float:
    """Share of its convex hull that the mask covers; about 1 for what is thinner than the hull's own pixels."""
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    hull = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(contours)), 1)
    return float(mask.sum() / hull.sum())
