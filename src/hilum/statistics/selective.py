"""Measure a model that may decline to call: how much it calls, and how often its calls are wrong.

`certainty` (rows,) orders the rows: those with the highest are called first. `error` (rows,) is 1
where a call of the row would be wrong, else 0. At a coverage of c the fraction c of the rows is
called, and the risk is the fraction of these that is wrong. Rows of equal certainty are called
together, so the result does not depend on their order.

Source: El-Yaniv and Wiener, "On the foundations of noise-free selective classification", JMLR
11:1605 (2010); Geifman and El-Yaniv, "Selective classification for deep neural networks", NeurIPS
2017.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class RiskCoverage(NamedTuple):
    """The curve: rising `coverage` in (0, 1], and `risk` in [0, 1] of the calls there."""

    coverage: np.ndarray
    risk: np.ndarray


def risk_coverage(certainty: np.ndarray, error: np.ndarray) -> RiskCoverage:
    """Compute the risk at each coverage that a limit on the certainty can give.

    Both are empty where there are no rows. Raises `ValueError` for a nan certainty.
    """
    certainty, error = np.asarray(certainty, np.float64), np.asarray(error, np.float64)
    if np.isnan(certainty).any():
        raise ValueError("expected a certainty of every row, got nan")
    order = np.argsort(-certainty, kind="stable")
    ranked = certainty[order]
    last = np.append(ranked[1:] != ranked[:-1], True)[: ranked.size]  # the last row of each tie
    called = np.flatnonzero(last) + 1
    wrong = np.cumsum(error[order])[called - 1]
    return RiskCoverage(called / max(certainty.size, 1), wrong / called)


def coverage_at_risk(certainty: np.ndarray, error: np.ndarray, target: float) -> float:
    """Return the largest coverage at which the risk is at most `target`; 0.0 where there is none.

    nan without rows.
    """
    coverage, risk = risk_coverage(certainty, error)
    if not coverage.size:
        return float("nan")
    return coverage_within(coverage, risk, target)


def coverage_within(coverage: np.ndarray, risk: np.ndarray, target: float) -> float:
    """Return the largest of `coverage` at which `risk` is at most `target`, else 0.0."""
    return float(coverage[risk <= target].max(initial=0.0))


def mean_risk(certainty: np.ndarray, error: np.ndarray) -> float:
    """Return the area under the risk-coverage curve (AURC): the mean risk over the coverages.

    0 is ideal; a certainty that says nothing gives the risk of calling everything. nan without
    rows.
    """
    coverage, risk = risk_coverage(certainty, error)
    if not coverage.size:
        return float("nan")
    return area(coverage, risk)


def area(coverage: np.ndarray, risk: np.ndarray) -> float:
    """Return the area under a curve of at least one point."""
    return float(np.sum(risk * np.diff(coverage, prepend=0.0)))
