"""Calibrate scores to probabilities: temperature scaling with a bias, and isotonic regression.

`truth` is (rows,) of 0 and 1, `score` (rows,) of finite numbers, higher for present. A fit is made
on some rows and applied to others. Where the rows do not support a fit there is none, and the
reason is given instead (`refusal`).

Temperature: probability = sigmoid(logit(score) / temperature + bias), for scores in [0, 1]; two
parameters, so it suits small sets. It maximises the likelihood of Platt's softened truth, so that
it exists also where the scores separate the classes completely. Isotonic: the least-squares
non-decreasing step function, interpolated linearly between steps and constant beyond the outermost
ones; it fits any monotonic shape and so needs more rows, and gives probabilities of 0 and 1 where
the rows hold one class only.

Sources: Platt, "Probabilistic outputs for support vector machines" (1999); Lin, Lin and Weng,
Machine Learning 68:267 (2007); Guo et al., "On calibration of modern neural networks", ICML 2017;
Zadrozny and Elkan, KDD 2002.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np

FEWEST = 10  # rows of each class that a fit needs; with fewer, one row moves the curve by a tenth
EDGE = 1e-7  # scores are clipped to this far within 0 and 1, so that the logit is finite
# A fit has ended when its gradient is less for each row. At 1e-9 slopes of shallow likelihoods
# still differed by more than 1e-8 between two starts; it costs one step, as errors are squared.
CONVERGED = 1e-11
STEPS = 100  # of Newton's method; the likelihood is concave, and it takes fewer than ten


@dataclass(frozen=True)
class Temperature:
    """probability = sigmoid(logit(score) / temperature + bias)."""

    temperature: float
    bias: float

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """Return probabilities of scores in (0, 1), of the same shape."""
        return sigmoid(logit(score) / self.temperature + self.bias)


@dataclass(frozen=True)
class Isotonic:
    """Corners of a non-decreasing curve.

    `score` strictly increasing, `probability` non-decreasing, both (corners,).
    """

    score: np.ndarray
    probability: np.ndarray

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """Return probabilities of scores, of the same shape; the curve is flat beyond its ends."""
        return np.interp(np.asarray(score, dtype=np.float64), self.score, self.probability)


class IsotonicCorners(TypedDict):
    """The corners of an `Isotonic`, as JSON."""

    score: list[float]
    probability: list[float]


class Fitted(TypedDict):
    """What was chosen on one tune part, as JSON; None for what could not be fitted.

    `temperature` and `bias` are those of `Temperature`; `reason` says why one of the fits is None.
    Where there are two thresholds, a score from `present_from` on is present and one below
    `absent_below` absent.
    """

    absent_below: NotRequired[float]
    present_from: NotRequired[float]

    threshold: float | None
    temperature: float | None
    bias: float | None
    isotonic: IsotonicCorners | None
    tune_images: int
    tune_positives: int
    reason: str


def refusal(truth: np.ndarray, score: np.ndarray) -> str:
    """Return why these rows do not support a calibration; "" where they do."""
    truth, score = np.asarray(truth), np.asarray(score)
    positives = int(np.count_nonzero(truth == 1))
    negatives = truth.size - positives
    if not truth.size:
        return "no image with a known label"
    if not positives or not negatives:
        return f"no {'negative' if positives else 'positive'} image"
    if min(positives, negatives) < FEWEST:
        found = f"{positives} positive and {negatives} negative images"
        return f"{found}, and at least {FEWEST} of each are needed"
    return "all scores are alike" if score.min() == score.max() else ""


def temperature(truth: np.ndarray, score: np.ndarray) -> tuple[Temperature | None, str]:
    """Fit a temperature and a bias. Returns None and the reason where there is no fit."""
    truth, score = np.asarray(truth, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if why := refusal(truth, score):
        return None, why
    if score.min() < 0 or score.max() > 1:
        return None, "the score does not lie from 0 to 1, so it has no logit"
    positives = truth.sum()
    # Platt's softened truth: as if one more image of each class had been seen on either side.
    softened = np.where(
        truth == 1, (positives + 1) / (positives + 2), 1 / (truth.size - positives + 2)
    )
    slope, bias = logistic(logit(score), softened)
    if slope <= 0:
        return None, "higher scores are not likelier to be positive"
    return Temperature(1 / slope, bias), ""


def isotonic(truth: np.ndarray, score: np.ndarray) -> tuple[Isotonic | None, str]:
    """Fit an isotonic regression. Returns None and the reason where there is no fit."""
    from scipy.optimize import isotonic_regression

    truth, score = np.asarray(truth, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if why := refusal(truth, score):
        return None, why
    distinct, of_row = np.unique(score, return_inverse=True)
    rows = np.bincount(of_row)
    fitted = isotonic_regression(np.bincount(of_row, truth) / rows, weights=rows).x
    level = np.concatenate([[False], fitted[1:] == fitted[:-1]])
    kept = ~(level & np.append(level[1:], False))  # the first and last score of each step
    return Isotonic(distinct[kept], fitted[kept]), ""


def to_json(threshold: float, truth: np.ndarray, score: np.ndarray) -> Fitted:
    """Return both fits, with the threshold chosen on the same rows, as a JSON object.

    What could not be fitted is None, with the cause under `reason`.
    """
    warm, why_no_temperature = temperature(truth, score)
    rising, why_no_isotonic = isotonic(truth, score)
    return {
        "threshold": None if np.isnan(threshold) else float(threshold),
        "temperature": warm and warm.temperature,
        "bias": warm and warm.bias,
        "isotonic": rising
        and {"score": rising.score.tolist(), "probability": rising.probability.tolist()},
        "tune_images": int(np.asarray(truth).size),
        "tune_positives": int(np.count_nonzero(np.asarray(truth) == 1)),
        "reason": why_no_temperature or why_no_isotonic,
    }


def from_json(stored: Fitted) -> dict[str, Temperature | Isotonic]:
    """Return the fits in an object of `to_json` by name, without those that were not made."""
    found: dict[str, Temperature | Isotonic] = {}
    if stored["temperature"] is not None and stored["bias"] is not None:
        found["temperature"] = Temperature(stored["temperature"], stored["bias"])
    if stored["isotonic"] is not None:
        found["isotonic"] = Isotonic(
            np.array(stored["isotonic"]["score"]), np.array(stored["isotonic"]["probability"])
        )
    return found


def sigmoid(value: np.ndarray) -> np.ndarray:
    """Return the logistic function of `value`, float64; never overflows."""
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(value, dtype=np.float64))


def logit(probability: np.ndarray, edge: float = EDGE) -> np.ndarray:
    """Return the log-odds; a probability nearer than `edge` to 0 or 1 is clipped to it."""
    inside = np.clip(np.asarray(probability, dtype=np.float64), edge, 1 - edge)
    return np.log(inside) - np.log1p(-inside)


def logistic(x: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Fit the logistic regression of `target` (rows,) in [0, 1] on `x` (rows,).

    Returns slope and intercept, by Newton's method with step halving; (nan, nan) where no finite
    maximum exists: `x` is constant, or separates the classes completely.
    """
    if not x.size or x.min() == x.max() or target.min() == target.max():
        return float("nan"), float("nan")
    mean, scale = x.mean(), x.std()
    design = np.column_stack([(x - mean) / scale, np.ones(x.size)])
    weights, reached = np.zeros(2), _likelihood(np.zeros(x.size), target)
    for _ in range(STEPS):
        probability = sigmoid(design @ weights)
        gradient = design.T @ (target - probability)
        if np.abs(gradient).max() < CONVERGED * x.size:
            slope = weights[0] / scale
            return float(slope), float(weights[1] - slope * mean)
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design
        if np.linalg.det(curvature) < 1e-12 * x.size**2:
            break
        step, before = np.linalg.solve(curvature, gradient), reached
        while (reached := _likelihood(design @ (weights + step), target)) < before - 1e-12 * abs(
            before
        ) and np.abs(step).max() > 1e-12:
            step = step / 2
        weights = weights + step
    return float("nan"), float("nan")


def _likelihood(value: np.ndarray, target: np.ndarray) -> float:
    """Return the log-likelihood of `target` under sigmoid(value)."""
    return float(np.sum(target * value - np.logaddexp(0, value)))
