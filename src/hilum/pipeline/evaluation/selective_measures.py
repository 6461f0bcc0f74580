"""List what is measured of calls, where a model may decline to call.

coverage                 fraction of the images that get a call
sensitivity_of_calls, specificity_of_calls, error_of_calls   of the images that get one
coverage_at_target       the largest coverage at which the calls' error is at most `[evaluate]
                         target_error`, calling the most certain images first
mean_risk                the mean error over all coverages (AURC)

An image without a call is outside the model's domain (`hilum.inference.domain`), or no threshold
was chosen for it. The order of certainty: images inside before those outside, then by the distance
of the score from the threshold, and outside by how far.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import polars as pl

from hilum.config import Evaluate
from hilum.pipeline.evaluation import estimate
from hilum.pipeline.evaluation.estimate import NAN
from hilum.pipeline.evaluation.measures import Measure
from hilum.statistics import selective, weighted
from hilum.statistics.bootstrap import Linear
from hilum.statistics.metrics import discrimination
from hilum.statistics.metrics._validation import ratios

COVERAGE, ERROR, MEAN_RISK = "coverage", "error_of_calls", "mean_risk"
SENSITIVITY, SPECIFICITY = "sensitivity_of_calls", "specificity_of_calls"
AT_TARGET = "coverage_at_target"
NO_CALL = "no image got a call"
_CLASSES = {
    SENSITIVITY: (discrimination.sensitivity, "no positive image got a call"),
    SPECIFICITY: (discrimination.specificity, "no negative image got a call"),
}


def of_subgroup(cell: estimate.Subgroup, settings: Evaluate) -> Iterator[Measure]:
    """Yield what is measured of a subgroup's calls; of a part as a whole also the curve's figures.

    Nothing of the tune part, on which the thresholds were chosen.
    """
    if cell.part == "tune":
        return
    called = calls(cell.rows)
    yield Measure(COVERAGE, _fraction, (~np.isnan(called)).astype(float), form=_mean)
    some = bool((~np.isnan(called)).any()) or not called.size
    for name, (metric, why) in _CLASSES.items():
        of_calls = partial(metric, threshold=0.5)
        form = weighted.of_calls(discrimination.OF_COUNTS[metric.__name__])
        yield Measure(name, of_calls, called if some else None, why if some else NO_CALL, form=form)
    wrong = weighted.of_calls(_wrong)
    yield Measure(ERROR, _error, called if some else None, NO_CALL, form=wrong)
    if cell.by != estimate.ALL:
        return
    order = np.column_stack([certainty(cell.rows), errors(cell.rows)])
    if order.size and np.isnan(order).any():
        why = "no threshold was chosen"
        yield from (Measure(name, _mean_risk, None, why) for name in (AT_TARGET, MEAN_RISK))
        return
    target = settings.target_error
    reached = partial(weighted.coverage_within, target=target)
    yield Measure(AT_TARGET, partial(_at_target, target), order, form=_of_curve(reached))
    yield Measure(MEAN_RISK, _mean_risk, order, form=_of_curve(weighted.mean_risk))


def calls(rows: pl.DataFrame) -> np.ndarray:
    """Return 1.0 or 0.0 where an image gets a call, nan where it gets none, (rows,)."""
    return np.where((rows["no_call"] == "").to_numpy(), rows["called"].to_numpy(), NAN)


def errors(rows: pl.DataFrame) -> np.ndarray:
    """Return 1.0 where the threshold calls an image wrongly, inside or outside; nan without one."""
    called = rows["called"].to_numpy()
    return np.where(np.isnan(called), NAN, called != rows["state"].to_numpy())


def certainty(rows: pl.DataFrame) -> np.ndarray:
    """Return how certain each call is, for an order; nan without a threshold."""
    inside = (rows["no_call"] == "").to_numpy()
    far = np.nan_to_num(rows["percentile"].to_numpy(), nan=100.0)
    return np.where(inside, rows["margin"].to_numpy(), -1.0 - far)


def _mean(truth: np.ndarray, values: np.ndarray, patient: np.ndarray, patients: int) -> Linear:
    return weighted.mean(values, patient, patients)


def _wrong(counts: discrimination.Confusion) -> np.ndarray:
    wrong = counts.false_positive + counts.false_negative
    return ratios(wrong, wrong + counts.true_positive + counts.true_negative)


def _of_curve(form: weighted.Form) -> weighted.Form:
    """Return a form of certainty and error as one of truth and values, which are these two."""
    return lambda truth, order, patient, patients: form(order[:, 0], order[:, 1], patient, patients)


def _fraction(truth: np.ndarray, values: np.ndarray) -> float:
    return float(values.mean()) if values.size else NAN


def _error(truth: np.ndarray, called: np.ndarray) -> float:
    return float((truth != called).mean()) if called.size else NAN


def _at_target(target: float, truth: np.ndarray, order: np.ndarray) -> float:
    return selective.coverage_at_risk(order[:, 0], order[:, 1], target)


def _mean_risk(truth: np.ndarray, order: np.ndarray) -> float:
    return selective.mean_risk(order[:, 0], order[:, 1])
