"""Whether a film looks like a small child's, by the outlines of its lungs alone: for pictures of whose patient nothing is told.

A small child's heart and thymus are wide and its lungs short and spread. Signs, of labels uint8 (size, size) as `hilum.annotations.lung_masks` has them; none of
them changes where a picture is stretched along an axis, for one set of children is known squeezed to squares only:

    width_ratio                  of the heart's level, see `hilum.inference.chest_measurements`
    filled, balance, right_column, left_column, offset, centre     see `quality.SHAPES`

`resources/age_group.json` holds the weights of a logistic function of them and two limits: `small`, which one in 100 adults' films exceeded, and `grown`,
below which one in 100 of small children's lay, out of fold; between them nothing is said, of adults of a third hospital for most. bench/age.py fits it to films of children of one to
five years (Kermany) and of adults (Montgomery, Shenzhen), and measures it on others. The children are of one hospital and the adults of two others,
so what sets hospitals apart may help it; children of school age look grown to it. It is a reason for a warning, and no measure of age.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from hilum.inference import chest_measurements, lung_finder

RULE = "resources/age_group.json"
SIGNS = ("width_ratio", "filled", "balance", "right_column", "left_column", "offset", "centre")
SMALL_CHILD, GROWN = "small child", "older than a small child"
OLDEST = 6.0  # years of a small child, not reached
_EVERYWHERE = (slice(None), slice(None))


def signs(labels: np.ndarray) -> dict[str, float] | None:
    """None where a lung is missing or the heart's level cannot be told."""
    shape, ratio = (
        lung_finder.shape(labels, labels, _EVERYWHERE),
        chest_measurements.measure(labels).width_ratio,
    )
    return (
        None
        if shape is None or ratio is None
        else {"width_ratio": ratio, **{name: shape[name] for name in SIGNS[1:]}}
    )


def log_odds(labels: np.ndarray) -> float | None:
    """Of a small child's film; None where `signs` are."""
    found, told = signs(labels), rule()
    return (
        None
        if found is None
        else told["bias"] + sum(told["weights"][name] * found[name] for name in SIGNS)
    )


def looks(labels: np.ndarray) -> str:
    """SMALL_CHILD, GROWN, or "" where it cannot be told."""
    odds, told = log_odds(labels), rule()
    if odds is None:
        return ""
    return SMALL_CHILD if odds > told["small"] else GROWN if odds < told["grown"] else ""


@cache
def rule() -> dict[str, Any]:
    return json.loads(resources.files("hilum").joinpath(RULE).read_text(encoding="utf-8"))
