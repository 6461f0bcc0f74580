"""Validate truth and score, and divide with nan where a ratio is undefined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

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


@overload
def ratio(part: float, whole: float) -> float: ...
@overload
def ratio(part: np.ndarray, whole: np.ndarray | float) -> np.ndarray: ...
def ratio(part: np.ndarray | float, whole: np.ndarray | float) -> np.ndarray | float:
    """Return `part / whole`, nan where `whole` is 0; of arrays, element by element."""
    undefined = np.full(np.broadcast(part, whole).shape, np.nan)
    found = np.divide(part, whole, out=undefined, where=np.not_equal(whole, 0))
    return found if found.ndim else float(found)
