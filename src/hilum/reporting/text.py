"""Figures as text: value with interval, the meaning of each metric, cautions on wide intervals.

nan is written as a dash with its reason, never as a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import polars as pl

from hilum.errors import plural
from hilum.statistics.bootstrap import MAX_UNDEFINED

NAN = float("nan")
DASH = "–"
ONE_PATIENT = "fewer than two patients"
NO_INTERVAL = (
    f"No interval: {ONE_PATIENT}, or the figure is undefined in over {MAX_UNDEFINED:.0%} of the "
    "resamples."
)
# An interval wider than this spans the difference between a good and a middling model.
WIDE = 0.15


@dataclass(frozen=True)
class Figure:
    """One estimate of a metric with its interval; nan where value or bound is undefined.

    Fields are columns of metrics.parquet (`hilum.pipeline.evaluation.estimate`). `positives` and
    `missed` are 0 where they do not apply.
    """

    value: float = NAN
    ci_low: float = NAN
    ci_high: float = NAN
    patients: int = 0
    images: int = 0
    positives: int = 0
    missed: int = 0
    left_out: int = 0
    delong_low: float = NAN
    delong_high: float = NAN
    reason: str = ""
    warning: str = ""

    @classmethod
    def of(cls, row: Mapping[str, object]) -> Figure:
        """Read one from a row of a table; columns that are missing or null take the default."""
        names = {one.name for one in fields(cls)}
        return replace(
            cls(),
            **{name: value for name, value in row.items() if name in names and value is not None},
        )


def by_metric(rows: pl.DataFrame) -> dict[str, Figure]:
    """Return the figures of `rows` by their column `metric`; of equal names the last."""
    return {row["metric"]: Figure.of(row) for row in rows.iter_rows(named=True)}


class Term(NamedTuple):
    """A metric's name for a reader, its meaning, and why it may have no value."""

    name: str
    meaning: str
    undefined: str


_ONE_CLASS = "all images are of one class"
_NEITHER = "no reference mask and no segmented lung"
TERMS = {
    "dice": Term(
        "Dice",
        "twice the pixels inside both outlines over the sum of the pixels inside each; 1 is "
        "complete agreement",
        _NEITHER,
    ),
    "iou": Term(
        "IoU",
        "intersection over union: pixels inside both outlines over pixels inside either",
        _NEITHER,
    ),
    "precision": Term(
        "Precision",
        "the fraction of the segmented pixels that lie inside the reference mask",
        "nothing segmented",
    ),
    "recall": Term(
        "Recall",
        "the fraction of the reference mask's pixels that were segmented",
        "no reference mask",
    ),
    "hausdorff95_pixels": Term(
        "95 % Hausdorff, pixels",
        "95 % of each outline lies within this distance of the other, in pixels of the cached "
        "image; lower is better; an image in which the lung was missed has none, so the number of "
        "images is given where it is not all",
        "no reference mask or nothing segmented",
    ),
    "average_distance_pixels": Term(
        "Surface distance, pixels",
        "the mean distance from each outline to the other (ASSD), in pixels of the cached image; "
        "lower is better",
        "no reference mask or nothing segmented",
    ),
    "hausdorff95_mm": Term(
        "95 % Hausdorff, mm",
        "the same as in pixels, in millimetres, of the images whose files state their spacing",
        "no spacing known, no reference mask or nothing segmented",
    ),
    "average_distance_mm": Term(
        "Surface distance, mm",
        "the mean distance from each outline to the other in millimetres, of the images whose "
        "files state their spacing",
        "no spacing known, no reference mask or nothing segmented",
    ),
    "auroc": Term(
        "AUROC",
        "area under the ROC curve: how often a random image with the finding scores above one "
        "without it; 0.5 is chance, 1 is perfect",
        _ONE_CLASS,
    ),
    "auroc_within_folds": Term(
        "AUROC within folds",
        "the same, over pairs of images that the same fold's models scored: scores of different "
        "models need not be on one scale",
        "no fold has images of both classes",
    ),
    "average_precision": Term(
        "Average precision",
        "the mean precision over the precision-recall curve; chance is the prevalence",
        _ONE_CLASS,
    ),
    "sensitivity": Term(
        "Sensitivity",
        "the fraction of images with the finding that are called positive",
        "no image with the finding",
    ),
    "specificity": Term(
        "Specificity",
        "the fraction of images without the finding that are called negative",
        "no image without the finding",
    ),
    "coverage": Term(
        "Coverage",
        "the fraction of images that get a call; the others lie outside the model's domain",
        "no image",
    ),
    "sensitivity_of_calls": Term(
        "Sensitivity of calls",
        "the fraction of called images with the finding that are called positive",
        "no image with the finding got a call",
    ),
    "specificity_of_calls": Term(
        "Specificity of calls",
        "the fraction of called images without the finding that are called negative",
        "no image without the finding got a call",
    ),
    "error_of_calls": Term(
        "Error of calls", "the fraction of called images that are called wrongly", "no call"
    ),
    "coverage_at_target": Term(
        "Coverage at the target error",
        "the largest fraction of images that can be called, the most certain first, with at most "
        "the target fraction of wrong calls",
        "no threshold",
    ),
    "mean_risk": Term(
        "Mean risk",
        "the area under the risk-coverage curve: the mean fraction of wrong calls over all "
        "coverages; lower is better",
        "no threshold",
    ),
    "ppv": Term(
        "PPV",
        "positive predictive value: the fraction of positive calls that are correct, at this "
        "part's prevalence",
        "nothing was called positive",
    ),
    "npv": Term(
        "NPV",
        "negative predictive value: the fraction of negative calls that are correct, at this "
        "part's prevalence",
        "nothing was called negative",
    ),
    "f1": Term(
        "F1", "the harmonic mean of sensitivity and PPV", "nothing is positive or called positive"
    ),
    "accuracy": Term(
        "Accuracy",
        "the fraction of images called correctly; calling all by the commoner class gives that "
        "class's fraction",
        "no image",
    ),
    "balanced_accuracy": Term(
        "Balanced accuracy", "the mean of sensitivity and specificity; 0.5 is chance", _ONE_CLASS
    ),
    "brier": Term(
        "Brier score",
        "the mean squared difference of probability and truth; lower is better",
        "no probability",
    ),
    "expected_calibration_error": Term(
        "Calibration error",
        "expected calibration error: the mean difference of predicted and observed frequency over "
        "bins of equally many images; lower is better, and with few images it is above 0 even for "
        "perfect probabilities",
        "no probability",
    ),
    "calibration_slope": Term(
        "Slope",
        "of the truth on the probability's logit: 1 is right, below 1 is overconfident",
        "the probabilities separate the classes completely",
    ),
    "calibration_intercept": Term(
        "Intercept",
        "calibration in the large: 0 is right, below 0 the probabilities are too high",
        _ONE_CLASS,
    ),
}


def number(value: float | None) -> str:
    """Return three decimals, or a dash for nan and None."""
    return DASH if value is None or math.isnan(value) else f"{value:.3f}"


def interval(figure: Figure, metric: str, *, reason: bool = True) -> str:
    """Return `0.912 (0.871 to 0.945)`, or the part of it that is defined and why not more.

    `reason=False` leaves out why there is no interval, where a table states it once for all rows.
    """
    if math.isnan(figure.value):
        return f"{DASH} ({figure.reason or TERMS[metric].undefined})"
    if math.isnan(figure.ci_low):
        why = f": {_no_interval(figure)}" if reason else ""
        return f"{number(figure.value)} (no interval{why})"
    return f"{number(figure.value)} ({number(figure.ci_low)} to {number(figure.ci_high)})"


def mean(figure: Figure, metric: str, *, of_all: bool) -> str:
    """Return the figure with its interval, and the number of images unless it is `of_all`."""
    written = interval(figure, metric)
    if of_all or not figure.images:
        return written
    return f"{written.removesuffix(')')}; {plural(figure.images, 'image')})"


def _no_interval(figure: Figure) -> str:
    if figure.reason or figure.patients < 2:
        return figure.reason or ONE_PATIENT
    return f"undefined in over {MAX_UNDEFINED:.0%} of the resamples"


def cautions(figures: Mapping[str, Figure]) -> list[str]:
    """Return a sentence for each way in which one part's figures, by metric, are too uncertain."""
    sentences = []
    # Comparison with nan is false, so a figure without an interval is not wide.
    wide = {metric: one for metric, one in figures.items() if one.ci_high - one.ci_low > WIDE}
    if wide:
        pairs = [
            f"{_named(metric)} of {one.ci_low:.2f} from one of {one.ci_high:.2f}"
            for metric, one in wide.items()
        ]
        patients = plural(next(iter(wide.values())).patients, "patient")
        sentences.append(f"{patients} cannot distinguish {', nor '.join(pairs)}.")
    if "auroc" in figures and figures["auroc"].ci_low <= 0.5 <= figures["auroc"].ci_high:
        sentences.append("chance, an AUROC of 0.5, lies within the interval.")
    sentences += [
        f"the uncertainty of {_named(metric)} of {number(one.value)} is not known: "
        f"{_no_interval(one)}."
        for metric, one in figures.items()
        if math.isnan(one.ci_low) and not math.isnan(one.value)
    ]
    return sentences


def _named(metric: str) -> str:
    name = TERMS[metric].name
    if name[0] in "AEIOU":
        return f"an {name}"
    # Dice is a person's name, PPV an abbreviation: both keep their capitals.
    is_word = name[1:].islower() and metric != "dice"
    return f"a {name.lower() if is_word else name}"


def listed(items: Sequence[str]) -> str:
    """Return `a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def shortened(text: str | None, most: int = 90) -> str:
    """Return at most `most` characters of a text, with an ellipsis where it was longer."""
    if not text:
        return ""
    return text if len(text) <= most else f"{text[:most].rstrip()}…"
