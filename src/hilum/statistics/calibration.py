"""From a score to a probability: a temperature with a bias, and isotonic regression, fitted on some rows and carried over to others.

`truth` is (rows,) of 0 and 1, `score` (rows,) of finite numbers, higher for present. A fit that the rows cannot carry is not made; the
reason is told in its place (`refusal`), and no number is invented.

Temperature: probability = sigmoid(logit(score) / temperature + bias), for scores in [0, 1]; two numbers, so it suits small sets. It is the
maximum likelihood under Platt's softened truth, which exists also where the scores part the classes wholly. Isotonic: the rising step
function nearest to the truth in squares, straight lines between steps and level beyond the outer ones; it bends to any shape and so
needs more rows, and gives probabilities of 0 and 1 where the rows hold one class alone.

Sources: Platt, "Probabilistic outputs for support vector machines" (1999); Lin, Lin and Weng, Machine Learning 68:267 (2007); Guo et al.,
"On calibration of modern neural networks", ICML 2017; Zadrozny and Elkan, KDD 2002.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

FEWEST = 10  # rows of each class that a fit needs; with fewer, one row moves the curve by a tenth
EDGE = 1e-7  # scores are taken to lie this far within 0 and 1, where the logit is finite
STEPS = 100  # of Newton; the likelihood is concave, and it takes less than ten


@dataclass(frozen=True)
class Temperature:
    temperature: float
    bias: float

    def __call__(self, score: np.ndarray) -> np.ndarray:
        return sigmoid(logit(score) / self.temperature + self.bias)


@dataclass(frozen=True)
class Isotonic:
    """Corners of a rising curve: `score` strictly rising, `probability` never falling, both (corners,)."""

    score: np.ndarray
    probability: np.ndarray

    def __call__(self, score: np.ndarray) -> np.ndarray:
        return np.interp(np.asarray(score, dtype=np.float64), self.score, self.probability)


def refusal(truth: np.ndarray, score: np.ndarray) -> str:
    """Why these rows carry no calibration, in plain words; empty where they do."""
    truth, score = np.asarray(truth), np.asarray(score)
    positives = int(np.count_nonzero(truth == 1))
    negatives = truth.size - positives
    if not truth.size:
        return "no image with a known label"
    if not positives or not negatives:
        return f"no {'negative' if positives else 'positive'} image"
    if min(positives, negatives) < FEWEST:
        return f"{positives} positive and {negatives} negative images, and at least {FEWEST} of each are needed"
    return "all scores are alike" if score.min() == score.max() else ""


def temperature(truth: np.ndarray, score: np.ndarray) -> tuple[Temperature | None, str]:
    """The fit, or None and why there is none."""
    truth, score = np.asarray(truth, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if why := refusal(truth, score):
        return None, why
    if score.min() < 0 or score.max() > 1:
        return None, "the score does not lie from 0 to 1, so it has no logit"
    positives = truth.sum()
    # Platt's softened truth: one unseen image of the other class on either side
    softened = np.where(
        truth == 1, (positives + 1) / (positives + 2), 1 / (truth.size - positives + 2)
    )
    slope, bias = logistic(logit(score), softened)
    if slope <= 0:
        return None, "higher scores are not likelier to be positive"
    return Temperature(1 / slope, bias), ""


def isotonic(truth: np.ndarray, score: np.ndarray) -> tuple[Isotonic | None, str]:
    """The fit, or None and why there is none."""
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


def as_json(threshold: float, truth: np.ndarray, score: np.ndarray) -> dict[str, Any]:
    """Both fits with the threshold chosen on the same rows, in plain values; None for what there is not, and `why` for what is missing."""
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


def of_json(told: dict[str, Any]) -> dict[str, Temperature | Isotonic]:
    """The fits that `as_json` told, by name; those that were not made are missing."""
    found: dict[str, Temperature | Isotonic] = {}
    if told["temperature"] is not None:
        found["temperature"] = Temperature(told["temperature"], told["bias"])
    if told["isotonic"] is not None:
        found["isotonic"] = Isotonic(
            np.array(told["isotonic"]["score"]), np.array(told["isotonic"]["probability"])
        )
    return found


def sigmoid(value: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(value, dtype=np.float64))  # never overflows


def logit(probability: np.ndarray, edge: float = EDGE) -> np.ndarray:
    """Log-odds; what is nearer than `edge` to 0 or 1 counts as that near."""
    inside = np.clip(np.asarray(probability, dtype=np.float64), edge, 1 - edge)
    return np.log(inside) - np.log1p(-inside)


def logistic(x: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of `share` (rows,), in [0, 1], on `x` (rows,), by Newton's method with halved steps.

    (nan, nan) where there is no single finite best: `x` is constant, or its classes lie wholly apart.
    """
    if not x.size or x.min() == x.max() or share.min() == share.max():
        return float("nan"), float("nan")
    mean, scale = x.mean(), x.std()
    design = np.column_stack([(x - mean) / scale, np.ones(x.size)])
    weights, reached = np.zeros(2), _likelihood(np.zeros(x.size), share)
    for _ in range(STEPS):
        probability = sigmoid(design @ weights)
        gradient = design.T @ (share - probability)
        if np.abs(gradient).max() < 1e-9 * x.size:
            slope = weights[0] / scale
            return float(slope), float(weights[1] - slope * mean)
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design
        if np.linalg.det(curvature) < 1e-12 * x.size**2:
            break
        step, before = np.linalg.solve(curvature, gradient), reached
        while (reached := _likelihood(design @ (weights + step), share)) < before - 1e-12 * abs(
            before
        ) and np.abs(step).max() > 1e-12:
            step = step / 2
        weights = weights + step
    return float("nan"), float("nan")


def _likelihood(value: np.ndarray, share: np.ndarray) -> float:
    """Logarithm of the likelihood of `share` under sigmoid(value)."""
    return float(np.sum(share * value - np.logaddexp(0, value)))
