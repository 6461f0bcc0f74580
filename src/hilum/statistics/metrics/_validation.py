"""What metrics of truth and score share: the check of their rows, and a ratio that is nan where it has no meaning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Values = Sequence[float] | np.ndarray


def checked(truth: Values, score: Values) -> tuple[np.ndarray, np.ndarray]:
    """Truth as booleans and score as float64, both (rows,). Raises `ValueError` for a truth but 0 and 1 and for a score that is not finite."""
    truth, score = np.asarray(truth), np.asarray(score, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != score.shape:
        raise ValueError(
            f"truth and score must be equally long lists of numbers, got shapes {truth.shape} and {score.shape}"
        )
    present = truth == 1
    if not (present | (truth == 0)).all():
        others = sorted({str(value) for value in truth.tolist() if value not in (0, 1)})
        raise ValueError(f"truth must be 0 or 1 in every row, got {', '.join(others[:5])}")
    finite = np.count_nonzero(np.isfinite(score))
    if finite < score.size:
        raise ValueError(
            f"score must be finite in every row, got {score.size - finite} nan or infinite of {score.size}"
        )
    return present, score


def ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
