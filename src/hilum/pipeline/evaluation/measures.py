"""List what is measured of one subgroup's scores, at the threshold and calibration chosen on tune.

A metric's name says what it was measured with: `sensitivity` at the threshold chosen on tune,
`sensitivity_reoptimised` at the one that is best on the very rows measured (optimistic; it shows
how much a new threshold could gain at most); `ppv` at the rows' own prevalence,
`ppv_at_prevalence` at that of the recipe; `brier_temperature` of probabilities calibrated on tune,
`brier_uncalibrated` of the score taken as a probability. `threshold` and `threshold_reoptimised`
are the thresholds themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import State
from hilum.config import Evaluate
from hilum.pipeline.evaluation import estimate
from hilum.pipeline.evaluation.estimate import NAN
from hilum.statistics import weighted
from hilum.statistics.bootstrap import Counted, Linear
from hilum.statistics.calibration import Fitted
from hilum.statistics.metrics import calibration as calibrated
from hilum.statistics.metrics import discrimination

REOPTIMISED, AT_PREVALENCE, WITHIN_FOLDS = "_reoptimised", "_at_prevalence", "auroc_within_folds"
KINDS = ("uncalibrated", "temperature", "isotonic")
OF_SUBGROUPS = ("auroc", "average_precision", "sensitivity", "specificity")
NEEDS = {
    "sensitivity": "no positive image",
    "specificity": "no negative image",
    "ppv": "nothing was called positive",
    "npv": "nothing was called negative",
}
NO_THRESHOLD = "tune holds one class only, so no threshold was chosen"
NO_PROBABILITY = "the score does not lie from 0 to 1, so it is no probability"
Metric = Callable[[np.ndarray, np.ndarray], float]


class Measure(NamedTuple):
    """A metric of truth and `values` (rows, …), by the name it has in `metrics.parquet`.

    `values` None: it cannot be measured, and `why` says why not. A row whose value is nan, as its
    fold has none, is left out, and `warning` says so.
    """

    name: str
    function: Metric
    values: np.ndarray | None
    why: str = ""
    warning: str = ""
    form: weighted.Form | None = None  # of `function`, for resamples


@dataclass(frozen=True)
class OnRows:
    """A metric of truth and `values` (rows,) or (rows, k), as a statistic of row numbers.

    Of the rows only those that have a value count.
    """

    metric: Metric
    truth: np.ndarray
    values: np.ndarray
    form: weighted.Form | None = None

    def __call__(self, rows: np.ndarray) -> float:
        """Compute the metric on those of `rows` that have a value."""
        rows = rows[self._has_value(rows)]
        return self.metric(self.truth[rows], self.values[rows])

    def weighted(self, patient_of_row: np.ndarray, patients: int) -> Linear | Counted | None:
        """Return the metric in a form of the bootstrap, see `hilum.statistics.weighted`."""
        if self.form is None:
            return None
        rows = np.flatnonzero(self._has_value(np.arange(len(self.truth))))
        return self.form(self.truth[rows], self.values[rows], patient_of_row[rows], patients)

    def _has_value(self, rows: np.ndarray) -> np.ndarray:
        missing = np.isnan(self.values[rows])
        return np.logical_not(missing if missing.ndim == 1 else missing.any(axis=1))


def threshold(fitted: Sequence[Fitted | None]) -> tuple[float, str]:
    """Return the threshold that was chosen, or nan and why there is not exactly one."""
    chosen = [one["threshold"] for one in fitted if one and one["threshold"] is not None]
    if not chosen:
        return NAN, "tune holds one class only"
    if len(fitted) == 1:
        return chosen[0], ""
    return NAN, f"each fold has its own: {min(chosen):.3g} to {max(chosen):.3g}" + (
        f", {len(fitted) - len(chosen)} have none" if len(chosen) < len(fitted) else ""
    )


def of_subgroup(
    cell: estimate.Subgroup, fitted: Sequence[Fitted | None], settings: Evaluate
) -> Iterator[Measure]:
    """Yield what is measured of a subgroup: of the whole test part everything, else less.

    Of tune, and of a part of the images, only leading figures are measured.
    """
    truth, score = truth_and_score(cell.rows)
    called = cell.rows["called"].to_numpy()
    whole = [
        Measure(name, metric, score, form=weighted.OF_METRIC[name])
        for name, metric in discrimination.METRICS.items()
    ]
    whole += _at_threshold(called, "", NO_THRESHOLD, _incomplete(cell.rows["called"]))
    if cell.by != estimate.ALL:
        yield from (measure for measure in whole if measure.name in OF_SUBGROUPS)
        return
    yield from whole
    if cell.part == "tune":
        return
    if len(fitted) > 1:
        by_fold = np.column_stack([score, cell.rows["fold"].to_numpy()])
        yield Measure(WITHIN_FOLDS, _within_folds, by_fold, form=weighted.auroc_within)
    best = discrimination.youden_threshold(truth, score)
    called_again = np.full(score.size, NAN) if np.isnan(best) else (score >= best).astype(float)
    yield from _at_threshold(called_again, REOPTIMISED, estimate.one_class(cell.rows))
    if settings.prevalence:
        yield from _at_prevalence(called, settings.prevalence)
    yield from _of_probabilities(cell.rows, fitted)


def truth_and_score(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns `state` and `score` as arrays (rows,)."""
    return rows["state"].to_numpy(), rows["score"].to_numpy()


def probabilities(rows: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return the probabilities by each of `KINDS` that there is, nan where a row has none.

    `rows`: as `classification.transfer` returns them.
    """
    score = rows["score"].to_numpy()
    made = {kind: rows[kind].to_numpy() for kind in KINDS[1:]}
    return ({"uncalibrated": score} if _are_probabilities(score) else {}) | {
        kind: values for kind, values in made.items() if not np.isnan(values).all()
    }


def _incomplete(transferred: pl.Series) -> str:
    """Warn where `transferred` is nan on some rows, as their fold chose nothing; else ""."""
    lacking = int(transferred.is_nan().sum())
    if not 0 < lacking < transferred.len():
        return ""
    return (
        f"of {transferred.len() - lacking} of {transferred.len()} images: "
        f"the other folds' tune parts were too small for it"
    )


def _none(transferred: np.ndarray) -> bool:
    """Return whether there are rows and nothing was chosen for any of them."""
    return transferred.size > 0 and bool(np.isnan(transferred).all())


def _at_threshold(
    called: np.ndarray, suffix: str, why: str, warning: str = ""
) -> Iterator[Measure]:
    for name, metric in discrimination.METRICS_AT.items():
        of_calls = partial(metric, threshold=0.5)  # of calls, which are 1.0 or 0.0
        if _none(called):
            yield Measure(name + suffix, of_calls, None, why)
        else:
            needs = NEEDS.get(name, "") if called.size else ""
            form = weighted.of_calls(discrimination.OF_COUNTS[name])
            yield Measure(name + suffix, of_calls, called, needs, warning, form)


def _at_prevalence(called: np.ndarray, prevalence: float) -> Iterator[Measure]:
    none = _none(called)
    for name, rule in discrimination.OF_COUNTS_AT.items():
        of_counts = partial(rule, prevalence)
        yield Measure(
            name + AT_PREVALENCE,
            partial(_of_calls, of_counts),
            None if none else called,
            "no threshold was chosen" if none else "",
            form=weighted.of_calls(of_counts),
        )


def _of_calls(
    of_counts: Callable[[discrimination.Confusion], np.ndarray],
    truth: np.ndarray,
    called: np.ndarray,
) -> float:
    return float(of_counts(discrimination.confusion(truth, called, 0.5)))


def _within_folds(truth: np.ndarray, values: np.ndarray) -> float:
    """Compute the AUROC over pairs of images of one fold; `values` (rows, 2): score and fold."""
    won = pairs = 0.0
    for fold in np.unique(values[:, 1]):
        rows = values[:, 1] == fold
        positives = np.count_nonzero(truth[rows] == State.PRESENT)
        if of_fold := positives * (np.count_nonzero(rows) - positives):
            won += of_fold * discrimination.auroc(truth[rows], values[rows, 0])
            pairs += of_fold
    return won / pairs if pairs else NAN


def _are_probabilities(score: np.ndarray) -> bool:
    return not score.size or bool(score.min() >= 0 and score.max() <= 1)


def _of_probabilities(rows: pl.DataFrame, fitted: Sequence[Fitted | None]) -> Iterator[Measure]:
    reason = next((one["reason"] for one in fitted if one and one["reason"]), "")
    for kind in KINDS:
        if kind == "uncalibrated":
            values, warning = rows["score"].to_numpy(), ""
            none, why = not _are_probabilities(values), NO_PROBABILITY
        else:
            values, warning = rows[kind].to_numpy(), _incomplete(rows[kind])
            none, why = _none(values), f"not calibrated on tune: {reason}"
        for name, metric in calibrated.METRICS.items():
            if kind == "isotonic" and name in ("calibration_slope", "calibration_intercept"):
                continue  # its steps at 0 and 1 have no logit
            yield Measure(
                f"{name}_{kind}",
                metric,
                None if none else values,
                why if none else "",
                warning,
                weighted.OF_METRIC[name],
            )
