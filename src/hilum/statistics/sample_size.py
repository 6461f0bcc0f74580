"""What a test set of a given size can resolve of an AUROC, before or after it is measured.

Everything follows from the variance that Hanley and McNeil (Radiology 143:29, 1982, formulas 1 and
2) give for a ROC curve of exponentially distributed scores. It takes images as independent: with
several images a patient, even less can be resolved.
"""

from __future__ import annotations

import math
from statistics import NormalDist

POWER = 0.8  # probability of detecting a difference that counts as resolved, the usual convention
STEP = 0.01  # resolution of AUROC values in sentences


def variance(area: float, positives: int, negatives: int) -> float:
    """Return the variance of an AUROC `area` in [0, 1] measured on so many images.

    nan without images of both classes. Raises `ValueError` for an area outside [0, 1].
    """
    if not 0 <= area <= 1:
        raise ValueError(f"an area lies from 0 to 1, got {area}")
    if positives < 1 or negatives < 1:
        return float("nan")
    two_positives, two_negatives = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (
        area * (1 - area)
        + (positives - 1) * (two_positives - area**2)
        + (negatives - 1) * (two_negatives - area**2)
    )
    return max(spread, 0.0) / (positives * negatives)


def half_width(area: float, positives: int, negatives: int, *, confidence: float = 0.95) -> float:
    """Return half the expected width of the confidence interval of an AUROC."""
    return _quantile((1 + confidence) / 2) * math.sqrt(variance(area, positives, negatives))


def distinguishable(
    first: float, second: float, positives: int, negatives: int, *, confidence: float = 0.95
) -> bool:
    """Say whether two true AUROCs would be distinguished with a power of `POWER`.

    Tested in both directions: a model of the one is detected as different from the other.
    """
    if positives < 1 or negatives < 1:
        return False
    errors = [math.sqrt(variance(area, positives, negatives)) for area in (first, second)]
    needed = max(
        _quantile((1 + confidence) / 2) * one + _quantile(POWER) * other
        for one, other in (errors, errors[::-1])
    )
    return abs(first - second) >= needed


def indistinguishable_range(
    area: float, positives: int, negatives: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the lowest and highest AUROC that so many images cannot distinguish from `area`.

    Both to a hundredth.
    """
    steps = [round(k * STEP, 2) for k in range(round(1 / STEP) + 1)]
    alike = [
        step
        for step in steps
        if not distinguishable(area, step, positives, negatives, confidence=confidence)
    ]
    return (min(alike), max(alike)) if alike else (area, area)


def sentence(
    area: float, positives: int, negatives: int, *, part: str = "test", confidence: float = 0.95
) -> str:
    """Say in plain words what so many images cannot distinguish.

    Empty where only the neighbouring hundredths are indistinguishable, or `area` is nan.
    """
    count = positives + negatives
    images = f"{count:,} {part} image{'s' * (count != 1)} ({positives:,} positive)"
    if positives < 1 or negatives < 1:
        return f"{images} give no AUROC: all are of one class"
    if math.isnan(area):
        return ""
    low, high = indistinguishable_range(area, positives, negatives, confidence=confidence)
    others = [f"{other:.2f}" for other in (low, high) if abs(other - area) > STEP]
    if not others:
        return ""
    return f"{images} cannot distinguish an AUROC of {area:.2f} from {' or '.join(others)}"


def _quantile(probability: float) -> float:
    return NormalDist().inv_cdf(probability)
