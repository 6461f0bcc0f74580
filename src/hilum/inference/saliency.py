"""Where an exported model looks: the class activation map it gives itself, and occlusion, which asks any model.

Pictures are uint8 (size, size) as the model takes them. A map is float32 (height, width) over that picture, on a grid of its own, in units
of the logit of the score: above 0 where the place speaks for the finding, below 0 where it speaks against.

Occlusion: each place of a grid of PLACES x PLACES is covered by a patch of a share PATCH of the side, that shows a blurred copy of the
picture (a black patch would be a sign of its own), and the map is how much the logit falls. A pixel of the map is the mean of the patches
that cover it. It costs (PLACES ** 2 + 1) times one answer.

Sources: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", ECCV (occlusion); Zhou et al. 2016, "Learning deep
features for discriminative localization", CVPR (class activation maps, the model's output `map`).
"""

from __future__ import annotations

import cv2
import numpy as np

from hilum.imaging.geometry import resize
from hilum.inference.onnx_model import OnnxModel
from hilum.statistics.calibration import logit

OCCLUSION, ACTIVATION = "occlusion", "activation"
PLACES = 11
PATCH = 1 / 6  # of the side
BLUR = 1 / 12  # of the side, standard deviation: nothing finer than a patch is left
GRID = 56  # side of an occlusion map
MAP, SCORE = "map", "score"
_EDGE = 1e-6  # keeps log-odds finite
_AT_ONCE = 16


def maps(model: OnnxModel, picture: np.ndarray, column: int = 0) -> dict[str, np.ndarray]:
    """By method, of the `column`-th concept of a finding model: `OCCLUSION`, and `ACTIVATION` where the model gives maps."""
    found = {OCCLUSION: occlusion(model, picture, column)}
    return found | (
        {ACTIVATION: activation(model, picture, column)} if MAP in model.contract.outputs else {}
    )


def activation(model: OnnxModel, picture: np.ndarray, column: int = 0) -> np.ndarray:
    """The model's own map of a concept, float32 on its feature grid."""
    found = model(picture)[MAP]
    return np.asarray(found[column] if found.ndim == 3 else found, np.float32)


def occlusion(model: OnnxModel, picture: np.ndarray, column: int = 0) -> np.ndarray:
    """float32 (GRID, GRID): the mean fall of the logit over the patches that cover each place."""
    side = picture.shape[0]
    patches, smooth = places(side), cv2.GaussianBlur(picture, (0, 0), BLUR * side)
    whole = logits(model, picture[None], column)[0]
    fall = np.empty(len(patches))
    for start in range(0, len(patches), _AT_ONCE):
        some = patches[start : start + _AT_ONCE]
        covered = np.stack([picture] * len(some))
        for image, (rows, columns) in zip(covered, some, strict=True):
            image[rows, columns] = smooth[rows, columns]
        fall[start : start + _AT_ONCE] = whole - logits(model, covered, column)
    return resize(spread(fall, patches, side).astype(np.float32), (GRID, GRID))


def places(side: int) -> list[tuple[slice, slice]]:
    """The patches, row by row: they begin and end at the picture's edges and overlap."""
    length = max(1, round(PATCH * side))
    starts = np.round(np.linspace(0, side - length, PLACES)).astype(int).tolist()
    return [
        (slice(top, top + length), slice(left, left + length)) for top in starts for left in starts
    ]


def spread(values: np.ndarray, patches: list[tuple[slice, slice]], side: int) -> np.ndarray:
    """float64 (side, side): of each pixel the mean of the values of the patches that cover it."""
    total, times = np.zeros((side, side)), np.zeros((side, side))
    for value, patch in zip(values, patches, strict=True):
        total[patch] += value
        times[patch] += 1
    return total / times


def logits(model: OnnxModel, pictures: np.ndarray, column: int = 0) -> np.ndarray:
    """float64 (n,): log-odds of the scores of one concept. Scores are in (0, 1); n or n x concepts, as the model has one or several."""
    scores = np.asarray(model.many(pictures)[SCORE], np.float64).reshape(len(pictures), -1)[
        :, column
    ]
    return logit(scores, _EDGE)


def grown(found: np.ndarray, side: int) -> np.ndarray:
    """A map on its own grid as float32 (side, side), between grid centres by straight lines."""
    return cv2.resize(np.asarray(found, np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
