"""Validate truth and score, and divide with nan where a ratio is undefined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Values = Sequence[float] | np.ndarray


def checked(truth: Values, score: Values) -> tuple[np.ndarray, np.ndarray]:
    """Return truth as booleans and score as float64, both (rows,).

    Raises `ValueError` for truth other than 0 and 1, and for scores that are not finite.
    """
    truth, score = np.asarray(truth), np.asarray(score, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != score.shape:
        raise ValueError(
            "truth and score must be equally long lists of numbers, "
            f"got shapes {truth.shape} and {score.shape}"
        )
    present = truth == 1
    if not (present | (truth == 0)).all():
        others = sorted({str(value) for value in truth.tolist() if value not in (0, 1)})
        raise ValueError(f"truth must be 0 or 1 in every row, got {', '.join(others[:5])}")
    finite = np.count_nonzero(np.isfinite(score))
    if finite < score.size:
        others = f"{score.size - finite} nan or infinite of {score.size}"
        raise ValueError(f"score must be finite in every row, got {others}")
    return present, score


def ratio(part: float, whole: float) -> float:
    """Return `part / whole`, nan where `whole` is 0."""
    return float(part / whole) if whole else float("nan")


def ratios(part: np.ndarray, whole: np.ndarray | int) -> np.ndarray:
    """Return `part / whole` element by element, nan where `whole` is 0; `part` has the shape."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=np.not_equal(whole, 0))
