"""Compute saliency maps of an ONNX model: its own class activation map, and occlusion.

Images are uint8 (size, size) as the model takes them. A map is float32 (height, width) over that
image, on a grid of its own, in units of the logit of the score: positive where the location speaks
for the finding, negative where it speaks against it.

Occlusion works with any model. Each location of a grid of PLACES x PLACES is covered by a patch
whose side is a fraction PATCH of the image's, showing a blurred copy of the image (a black patch
would be a feature in itself), and the map is the fall of the logit. A pixel of the map is the mean
over the patches that cover it. The cost is (PLACES ** 2 + 1) evaluations of the model.

Sources: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", ECCV
(occlusion); Zhou et al. 2016, "Learning deep features for discriminative localization", CVPR (class
activation maps, the model's output `map`).
"""

from __future__ import annotations

import cv2
import numpy as np

from hilum.imaging.geometry import resize
from hilum.inference.onnx_model import OnnxModel
from hilum.statistics.calibration import logit

OCCLUSION, ACTIVATION = "occlusion", "activation"
# Neighbouring patches overlap by half with PATCH (2 / PATCH - 1 places a side): every pixel is
# covered by several, and the map has no seams.
PLACES = 11
PATCH = 1 / 6  # of the side
BLUR = 1 / 12  # standard deviation, of the side: leaves no detail finer than a patch
GRID = 56  # side of an occlusion map
MAP, SCORE = "map", "score"
_EDGE = 1e-6  # keeps log-odds finite
_AT_ONCE = 16  # covered copies in memory


def maps(model: OnnxModel, image: np.ndarray, column: int = 0) -> dict[str, np.ndarray]:
    """Compute the maps of the `column`-th concept, by method.

    `ACTIVATION` is among them only where the model has a map output.
    """
    found = {OCCLUSION: occlusion(model, image, column)}
    if MAP in model.contract.outputs:
        found[ACTIVATION] = activation(model, image, column)
    return found


def activation(model: OnnxModel, image: np.ndarray, column: int = 0) -> np.ndarray:
    """Return the model's own map of a concept, float32 on its feature grid."""
    found = model(image)[MAP]
    return np.asarray(found[column] if found.ndim == 3 else found, np.float32)


def occlusion(model: OnnxModel, image: np.ndarray, column: int = 0) -> np.ndarray:
    """Compute the mean fall of the logit over the patches at each location.

    The map is float32 (GRID, GRID).
    """
    side = image.shape[0]
    patches, smooth = places(side), cv2.GaussianBlur(image, (0, 0), BLUR * side)
    whole = logits(model, image[None], column)[0]
    fall = np.empty(len(patches))
    for start in range(0, len(patches), _AT_ONCE):
        chunk = patches[start : start + _AT_ONCE]
        covered = np.stack([image] * len(chunk))
        for copy, (rows, columns) in zip(covered, chunk, strict=True):
            copy[rows, columns] = smooth[rows, columns]
        fall[start : start + _AT_ONCE] = whole - logits(model, covered, column)
    return resize(spread(fall, patches, side).astype(np.float32), (GRID, GRID))


def places(side: int) -> list[tuple[slice, slice]]:
    """Return the patches row by row; they overlap and reach the image's edges."""
    length = max(1, round(PATCH * side))
    starts = np.round(np.linspace(0, side - length, PLACES)).astype(int).tolist()
    return [
        (slice(top, top + length), slice(left, left + length)) for top in starts for left in starts
    ]


def spread(values: np.ndarray, patches: list[tuple[slice, slice]], side: int) -> np.ndarray:
    """Average the values of the patches that cover each pixel, float64 (side, side)."""
    total, times = np.zeros((side, side)), np.zeros((side, side))
    for value, patch in zip(values, patches, strict=True):
        total[patch] += value
        times[patch] += 1
    return total / times


def logits(model: OnnxModel, images: np.ndarray, column: int = 0) -> np.ndarray:
    """Compute the log-odds of one concept's scores, float64 (n,).

    Scores are in (0, 1), of shape (n,) or (n, concepts) depending on the model.
    """
    scores = np.asarray(model.many(images)[SCORE], np.float64)
    return logit(scores.reshape(len(images), -1)[:, column], _EDGE)


def upsample(found: np.ndarray, side: int) -> np.ndarray:
    """Resize a map from its own grid to float32 (side, side), linearly between grid centres."""
    return cv2.resize(np.asarray(found, np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
