"""Bound error rates exactly, and choose a threshold whose false positive rate is guaranteed.

A rate is estimated from `count` events in `images` independent ones; its exact bounds are those of
Clopper and Pearson (Biometrika 26:404, 1934). Confidence is one-sided where a function says
"bound", two-sided where it says "interval".

A threshold is chosen on the scores of images without the finding, and promised to exceed the
false positive rate `max_rate` with a probability of at most 1 - `confidence`, although it is chosen
on these very images. Why that holds (Wilks, Annals of Mathematical Statistics 12:91, 1941): let
S_1 >= S_2 >= ... >= S_n be the scores, independent and from one distribution, and T = S_(k+1), with
k fixed in advance. Images are called present above T. If the distribution is continuous, the rate
R = P(S > T) of further images has the distribution Beta(k + 1, n - k), so

    P(R > max_rate) = P(Binomial(n, max_rate) <= k),

and with ties it is smaller still. k is the largest number for which the right side is at most
1 - confidence; it depends on n alone, not on the scores, so nothing is spent on choosing. The same
threshold is found by testing thresholds from the strictest down, each with an exact binomial test
at the full level, until one fails: fixed-sequence testing (Angelopoulos et al., "Learn then Test",
arXiv:2110.01052). With k = 0 the least number of images follows: (1 - max_rate)^n <= 1 -
confidence, which is 29 for 10 % with 95 % confidence.

What is promised is for images like these: of the same place, devices and people. Images of one
patient are not independent; give one score of each patient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MOST_IMAGES = 100_000  # that a search for a sufficient number goes up to


@dataclass(frozen=True)
class GuaranteedThreshold:
    """A threshold on scores, called present at or above it, and what is promised of it.

    `allowed` of the `images` without the finding lie above it at most; `rate_bound` is the false
    positive rate that is not exceeded with the requested confidence, at most the requested rate.
    """

    threshold: float
    images: int
    allowed: int
    rate_bound: float


def lower_bound(count: int, images: int, confidence: float = 0.95) -> float:
    """Return the exact one-sided lower bound of a rate; 0.0 where nothing was counted."""
    _check(count, images, confidence)
    if not count:
        return 0.0
    return _beta_quantile(1 - confidence, count, images - count + 1)


def upper_bound(count: int, images: int, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper bound of a rate; 1.0 where all were counted."""
    _check(count, images, confidence)
    if count == images:
        return 1.0
    return _beta_quantile(confidence, count + 1, images - count)


def interval(count: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a rate; (0.0, 1.0) of no images."""
    of_side = (1 + confidence) / 2
    return lower_bound(count, images, of_side), upper_bound(count, images, of_side)


def guaranteed_threshold(
    negatives: np.ndarray, max_rate: float, confidence: float = 0.95
) -> GuaranteedThreshold | None:
    """Choose the lowest threshold with a false positive rate of at most `max_rate`.

    `negatives` (n,) are the scores of images without the finding, one a patient. See the module's
    text for what is promised and why. None where so few images cannot support the promise:
    `negatives_needed` says how many can. Raises `ValueError` for scores that are not finite, and
    for a rate or confidence outside (0, 1).
    """
    scores = np.sort(np.asarray(negatives, dtype=np.float64))[::-1]
    if not np.isfinite(scores).all():
        raise ValueError("expected finite scores")
    allowed = _allowed(scores.size, max_rate, confidence)
    if allowed < 0:
        return None
    # Present is "at or above", so the threshold is the next number above the score that may stay.
    threshold = float(np.nextafter(scores[allowed], np.inf))
    bound = upper_bound(allowed, scores.size, confidence)
    return GuaranteedThreshold(threshold, scores.size, allowed, bound)


def negatives_needed(max_rate: float, confidence: float = 0.95, allowed: int = 0) -> int | None:
    """Return the least number of images without the finding that support the promise.

    `allowed` of them may lie above the threshold: the more, the less sensitivity is given away.
    None where more than `MOST_IMAGES` would be needed.
    """
    low, high = allowed + 1, MOST_IMAGES
    if _allowed(high, max_rate, confidence) < allowed:
        return None
    while low < high:
        middle = (low + high) // 2
        if _allowed(middle, max_rate, confidence) >= allowed:
            high = middle
        else:
            low = middle + 1
    return low


def images_needed(rate: float, half_width: float, confidence: float = 0.95) -> int:
    """Return how many images make the exact interval of about `rate` as narrow as `half_width`.

    To the next one at which it holds, going up in steps of a twentieth.
    """
    _check_rate(half_width, "half-width")
    images = 1
    while images < MOST_IMAGES:
        low, high = interval(round(rate * images), images, confidence)
        if (high - low) / 2 <= half_width:
            return images
        images += max(1, images // 20)
    return MOST_IMAGES


def _allowed(images: int, max_rate: float, confidence: float) -> int:
    """Return the largest k with P(Binomial(images, max_rate) <= k) <= 1 - confidence, else -1."""
    _check_rate(max_rate, "rate")
    _check_rate(confidence, "confidence")
    probability, k = 0.0, -1
    while k + 1 < images:
        probability += _binomial(k + 1, images, max_rate)
        if probability > (1 - confidence) * (1 + 1e-9):  # rounding of the sum
            break
        k += 1
    return k


def _binomial(count: int, images: int, rate: float) -> float:
    choose = math.lgamma(images + 1) - math.lgamma(count + 1) - math.lgamma(images - count + 1)
    return math.exp(choose + count * math.log(rate) + (images - count) * math.log1p(-rate))


def _beta_quantile(probability: float, first: float, second: float) -> float:
    from scipy.special import betaincinv

    return float(betaincinv(first, second, probability))


def _check(count: int, images: int, confidence: float) -> None:
    if not 0 <= count <= images:
        raise ValueError(f"expected a count from 0 to {images}, got {count}")
    _check_rate(confidence, "confidence")


def _check_rate(value: float, what: str) -> None:
    if not 0 < value < 1:
        raise ValueError(f"expected a {what} within (0, 1), got {value}")
