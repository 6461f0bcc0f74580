"""Check what a classifier's file says of itself, see `hilum.inference.pretrained`.

A model file may come from anywhere: what is missing, of another type, not finite or impossible is
named before the model is applied to an image.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hilum.inference.onnx_model import EARLIER_LIST, SIZES, TRAINING_LIST

NUMBERS = ("threshold", "temperature", "bias", "absent_below", "present_from")
CURVE = ("score", "probability")  # of an isotonic fit
BOX = ("left", "top", "right", "bottom")  # of `typical`, fractions of the image


def faults(metadata: Mapping[str, Any], concepts: Sequence[str]) -> list[str]:
    """Return in words what in the metadata of a classifier of `concepts` cannot be."""
    found = [] if isinstance(metadata["card"], dict) else ["its card is no object"]
    found += _faults_of_lists(metadata)
    calibration = metadata["calibration"]
    if not isinstance(calibration, dict):
        return [*found, "its calibration is no object"]
    for concept in concepts:
        if concept not in calibration:
            found.append(f"no calibration of {concept}")
        else:
            found += [f"calibration of {concept}: {one}" for one in _of_fit(calibration[concept])]
    return found + _of_population(metadata["population"]) + _of_crop(metadata.get("crop"))


def _faults_of_lists(metadata: Mapping[str, Any]) -> list[str]:
    figures, trained = metadata["figures"], metadata["trained_on"]
    found = [] if isinstance(figures, dict) else ["its figures are no object"]
    pixels = trained.get(TRAINING_LIST, []) if isinstance(trained, dict) else None
    if not isinstance(pixels, list) or not all(isinstance(one, str) for one in pixels):
        found.append("trained_on does not list its images by digest")
    elif EARLIER_LIST in trained:
        found.append(f"trained_on lists its images by SHA-256, expected {TRAINING_LIST!r}")
    return found


def _of_fit(fit: Any) -> list[str]:
    if not isinstance(fit, dict) or not {"threshold", "temperature", "bias", "isotonic"} <= set(
        fit
    ):
        return ["expected threshold, temperature, bias and isotonic"]
    found = [
        f"{name} must be a finite number or null"
        for name in NUMBERS
        if fit.get(name) is not None and not _finite(fit[name])
    ]
    if found:
        return found
    if fit["temperature"] is not None and fit["temperature"] <= 0:
        found.append("temperature must be above 0")
    limits = [fit.get("absent_below", 0.0), fit.get("present_from", 0.0)]
    if (
        ("absent_below" in fit) != ("present_from" in fit)
        or None in limits
        or limits[0] > limits[1]
    ):
        found.append("absent_below and present_from must be two numbers that rise")
    return found + _of_curve(fit["isotonic"])


def _of_curve(curve: Any) -> list[str]:
    if curve is None:
        return []
    rows = [curve.get(name) for name in CURVE] if isinstance(curve, dict) else [None]
    if not all(isinstance(row, list) and row and all(map(_finite, row)) for row in rows):
        return ["isotonic must hold a list of scores and one of probabilities"]
    score, probability = (np.array(row, np.float64) for row in rows)
    rises = score.shape == probability.shape and (np.diff(score) > 0).all()
    if not rises or probability.min() < 0 or probability.max() > 1:
        return ["isotonic must have as many rising scores as probabilities between 0 and 1"]
    return []


def _of_population(population: Any) -> list[str]:
    wrong = ["its population must be words and age_years, two numbers that rise"]
    if not isinstance(population, dict) or not isinstance(population.get("words"), str):
        return wrong
    ages = population.get("age_years")
    if not isinstance(ages, list) or len(ages) != 2 or not all(map(_finite, ages)):
        return wrong
    return [] if 0 <= ages[0] <= ages[1] else wrong


def _of_crop(crop: Any) -> list[str]:
    """Return the faults of how crops are made; none where nothing is said of them."""
    if crop is None:
        return []
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "pixels": (
            lambda value: type(value) is int and SIZES[0] <= value <= SIZES[1],
            f"a whole number from {SIZES[0]} to {SIZES[1]}",
        ),
        "margin": (lambda value: _finite(value) and 0 <= value <= 1, "a number from 0 to 1"),
        "masked": (lambda value: isinstance(value, bool), "true or false"),
        "min_mask_quality": (
            lambda value: _finite(value) and 0 <= value <= 1,
            "a number from 0 to 1",
        ),
        "typical": (_is_box, f"empty, or {', '.join(BOX)} as fractions of the image"),
    }
    if not isinstance(crop, dict):
        return ["its crop is no object"]
    return [
        f"crop: {name} must be {words}"
        for name, (holds, words) in rules.items()
        if not holds(crop.get(name))
    ]


def _is_box(value: Any) -> bool:
    if value == {}:
        return True
    if not isinstance(value, dict) or not all(_finite(value.get(side)) for side in BOX):
        return False
    return 0 <= value["left"] < value["right"] <= 1 and 0 <= value["top"] < value["bottom"] <= 1


def _finite(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max  # nan is not
    )
