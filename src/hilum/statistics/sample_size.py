"""What a test set of so many positive and negative images can tell of an AUROC, before or after it is measured.

Everything follows from the variance that Hanley and McNeil (Radiology 143:29, 1982) give for an area with the shape of the exponential
distribution's curve. It takes images as independent: with several images a patient, even less can be told.
"""

from __future__ import annotations

import math

POWER = 0.8  # a difference that is missed more often than one time in five cannot be told
STEP = 0.01  # areas are told to hundredths


def variance(area: float, positives: int, negatives: int) -> float:
    """Of an AUROC `area` in [0, 1] measured on so many images; nan without images of both classes."""
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
    """Half the width of the interval that is to be expected around an AUROC."""
    return _quantile((1 + confidence) / 2) * math.sqrt(variance(area, positives, negatives))


def distinguishable(
    first: float, second: float, positives: int, negatives: int, *, confidence: float = 0.95
) -> bool:
    """Whether a model whose true AUROC is the one would be told from a stated other in at least four of five such test sets, both ways round."""
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
    """The lowest and the highest AUROC, to a hundredth, that so many images cannot tell from `area`."""
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
    """In plain words: what so many images cannot tell. Empty where all but the very neighbours can be told."""
    images = f"{positives + negatives:,} {part} image{'s' * (positives + negatives != 1)} ({positives:,} positive)"
    if positives < 1 or negatives < 1:
        return f"{images} can tell no AUROC: all are of one class"
    if math.isnan(area):
        return ""
    low, high = indistinguishable_range(area, positives, negatives, confidence=confidence)
    others = [f"{other:.2f}" for other in (low, high) if abs(other - area) > STEP]
    return (
        f"{images} cannot tell an AUROC of {area:.2f} from one of {' or '.join(others)}"
        if others
        else ""
    )


def _quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))
