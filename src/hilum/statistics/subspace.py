"""Describe rows by a linear subspace, and measure how far another row lies from them.

Rows are standardised by the mean and standard deviation of each column, and projected on the
principal components of the rows that were given. The distance of a row is the root of

    |residual|^2 / mean |residual|^2    what the components do not explain
    + mean of (projection^2 / variance) over the components, where `variances` are kept

so a typical row lies at about 1, or about 1.4 with the second term. With the first term alone it is
the reconstruction error of principal component analysis (Jackson and Mudholkar, Technometrics
21:341, 1979); with both it is Mahalanobis' distance under probabilistic principal components
(Tipping and Bishop, JRSS B 61:611, 1999), up to the weights of the terms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOOR = (
    1e-6  # of a standard deviation, and of a mean square: a constant column must not divide by 0
)


@dataclass(frozen=True)
class Subspace:
    """Mean and scale (d,), components (k, d) with orthonormal rows, variances (k,) or (0,).

    `residual` is the mean squared residual of the rows that it was fitted to.
    """

    mean: np.ndarray
    scale: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    residual: float

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Return the distances of rows (n, d), float64 (n,)."""
        standardised = (np.asarray(rows, np.float64) - self.mean) / self.scale
        projected = standardised @ self.components.T
        left = np.square(standardised).sum(1) - np.square(projected).sum(1)
        squared = np.maximum(left, 0.0) / max(self.residual, FLOOR)
        if self.variances.size:
            squared = squared + (np.square(projected) / self.variances).mean(1)
        return np.sqrt(squared)


def fit(rows: np.ndarray, components: int, *, whitened: bool = False) -> Subspace:
    """Fit a subspace to rows (n, d) with at most `components` components.

    No more than a quarter of the rows and half of the columns, so that something is left for the
    residual. `whitened` keeps the variances. Raises `ValueError` for fewer than two rows, or values
    that are not finite.
    """
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
        raise ValueError(f"expected two rows or more of finite numbers, got shape {rows.shape}")
    mean, scale = rows.mean(0), np.maximum(rows.std(0), FLOOR)
    standardised = (rows - mean) / scale
    kept = min(components, max(1, len(rows) // 4), max(1, rows.shape[1] // 2))
    _, singular, directions = np.linalg.svd(standardised, full_matrices=False)
    chosen = directions[:kept]
    residual = np.square(singular[kept:]).sum() / len(rows)
    variances = np.maximum(np.square(singular[:kept]) / len(rows), FLOOR)
    return Subspace(mean, scale, chosen, variances if whitened else np.empty(0), float(residual))
