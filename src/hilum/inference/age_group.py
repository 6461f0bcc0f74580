"""Classify a chest radiograph as that of a small child or not, from the lungs' outlines alone.

Used where the patient's age is not stated. A small child's heart and thymus are wide, and its lungs
short and broad. Signs are computed from labels uint8 (size, size) as in
`hilum.annotations.lung_masks`. None of them changes when an image is stretched along an axis, since
one of the sets of children is distributed squeezed to squares only:

    width_ratio     heart width over thorax width, see `hilum.inference.chest_measurements`
    filled, balance, right_column, left_column, offset, centre     see `lung_finder.SHAPES`

`resources/age_group.json` holds the weights of a logistic function of the signs and two limits,
both measured out of fold: `small`, which one in 100 adult images exceeded, and `grown`, below which
one in 100 images of small children lay. Between them no answer is given, which is the case for most
adults of a third hospital. tools/build_models/fit_age_group.py fits the function to children of one
to five years (Kermany) and to adults (Montgomery, Shenzhen), and measures it on other sets. The
children are of one hospital and the adults of two others, so differences between hospitals may
contribute; school-age children are classified as grown. The result justifies a warning and is no
measure of age.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TypedDict

import numpy as np

from hilum.inference import chest_measurements, lung_finder

RULE = "resources/age_group.json"
SIGNS = ("width_ratio", "filled", "balance", "right_column", "left_column", "offset", "centre")
SMALL_CHILD, GROWN = "small child", "older than a small child"
OLDEST = 6.0  # years; small children are younger
_EVERYWHERE = (slice(None), slice(None))


class Rule(TypedDict):
    """Contents of `age_group.json`: a logistic function of the signs and its two limits."""

    weights: dict[str, float]
    bias: float
    small: float
    grown: float


def signs(labels: np.ndarray) -> dict[str, float] | None:
    """Compute the `SIGNS`; None where a lung is missing or the heart's level is not visible."""
    shape = lung_finder.shape(labels, labels, _EVERYWHERE)
    ratio = chest_measurements.measure(labels).width_ratio
    if shape is None or ratio is None:
        return None
    return {"width_ratio": ratio, **{name: shape[name] for name in SIGNS[1:]}}


def log_odds(labels: np.ndarray) -> float | None:
    """Compute the log-odds that the image shows a small child; None where `signs` returns None."""
    values, fitted = signs(labels), rule()
    if values is None:
        return None
    return fitted["bias"] + sum(fitted["weights"][name] * values[name] for name in SIGNS)


def classify(labels: np.ndarray) -> str:
    """Return SMALL_CHILD, GROWN, or "" where the outlines do not decide."""
    odds, fitted = log_odds(labels), rule()
    if odds is None:
        return ""
    if odds > fitted["small"]:
        return SMALL_CHILD
    return GROWN if odds < fitted["grown"] else ""


@cache
def rule() -> Rule:
    """Read the fitted function from `RULE`."""
    return json.loads(resources.files("hilum").joinpath(RULE).read_text(encoding="utf-8"))
