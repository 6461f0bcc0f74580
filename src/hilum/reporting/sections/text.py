"""How figures are written, what each means, and when one is too unsure to lean on.

A figure is a row of `metrics.parquet` as a mapping: value, low, high, images, patients, positives, undefined. nan is a dash with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from hilum.statistics.bootstrap import MAX_UNDEFINED

Figure = Mapping[str, Any]
DASH = "–"
NO_INTERVAL = f"No interval: fewer than two patients, or no figure in over {MAX_UNDEFINED:.0%} of the resamples."
WIDE = 0.15  # an interval wider than this cannot tell a good model from a middling one


class Term(NamedTuple):
    name: str
    meaning: str
    undefined: str  # why there may be no value


TERMS = {
    "dice": Term(
        "Dice",
        "twice the pixels that both outlines share over the pixels of the two together; 1 is complete agreement",
        "nothing drawn and nothing found",
    ),
    "iou": Term(
        "IoU",
        "intersection over union: shared pixels over the pixels inside either outline",
        "nothing drawn and nothing found",
    ),
    "precision": Term(
        "Precision",
        "the share of the found pixels that lie inside the drawn outline",
        "nothing found",
    ),
    "recall": Term(
        "Recall", "the share of the drawn outline's pixels that were found", "nothing drawn"
    ),
    "hausdorff95_pixels": Term(
        "95 % Hausdorff, pixels",
        "95 % of each outline lies within this distance of the other, in the pixels that the row names; lower is better; an image of "
        "which the lung was missed has none, so the number of images is told where it is not all",
        "nothing drawn or nothing found",
    ),
    "average_distance_pixels": Term(
        "Surface distance, pixels",
        "the mean distance from each outline to the other (ASSD), in the pixels that the row names; lower is better",
        "nothing drawn or nothing found",
    ),
    "hausdorff95_mm": Term(
        "95 % Hausdorff, mm",
        "the same as in pixels, in millimetres: of the images whose files' spacing is known",
        "no spacing known, nothing drawn or nothing found",
    ),
    "average_distance_mm": Term(
        "Surface distance, mm",
        "the mean distance from each outline to the other in millimetres: of the images whose files' spacing is known",
        "no spacing known, nothing drawn or nothing found",
    ),
    "auroc": Term(
        "AUROC",
        "area under the ROC curve: how often a random image with the finding scores above one without it; 0.5 is chance, 1 is perfect",
        "all images are of one class",
    ),
    "auroc_within_folds": Term(
        "AUROC within folds",
        "the same, of pairs of images that the same fold's models scored: scores of different models need not be on one scale",
        "no fold has images of both classes",
    ),
    "average_precision": Term(
        "Average precision",
        "the mean precision over the precision-recall curve; chance is the prevalence",
        "all images are of one class",
    ),
    "sensitivity": Term(
        "Sensitivity",
        "the share of images with the finding that are called positive",
        "no image with the finding",
    ),
    "specificity": Term(
        "Specificity",
        "the share of images without the finding that are called negative",
        "no image without the finding",
    ),
    "ppv": Term(
        "PPV",
        "positive predictive value: the share of positive calls that are right, at this part's prevalence",
        "nothing was called positive",
    ),
    "npv": Term(
        "NPV",
        "negative predictive value: the share of negative calls that are right, at this part's prevalence",
        "nothing was called negative",
    ),
    "f1": Term(
        "F1", "the harmonic mean of sensitivity and PPV", "nothing is positive or called positive"
    ),
    "accuracy": Term(
        "Accuracy",
        "the share of images called rightly; calling all by the commoner class gives that class's share",
        "no image",
    ),
    "balanced_accuracy": Term(
        "Balanced accuracy",
        "the mean of sensitivity and specificity; 0.5 is chance",
        "all images are of one class",
    ),
    "brier": Term(
        "Brier score",
        "the mean squared distance of the probability from the truth; lower is better",
        "no probability",
    ),
    "expected_calibration_error": Term(
        "Calibration error",
        "expected calibration error: the mean distance between what was expected and what came, over bins of equally many images; lower is better, "
        "and with few images it is above 0 even for perfect probabilities",
        "no probability",
    ),
    "calibration_slope": Term(
        "Slope",
        "of the truth on the probability's logit: 1 is right, below 1 is too sure",
        "the probabilities part the classes wholly",
    ),
    "calibration_intercept": Term(
        "Intercept",
        "calibration in the large: 0 is right, below 0 the probabilities are too high",
        "all images are of one class",
    ),
}


def number(value: float | None) -> str:
    return DASH if value is None or math.isnan(value) else f"{value:.3f}"


def interval(figure: Figure, metric: str, *, reason: bool = True) -> str:
    """`0.912 (0.871 to 0.945)`, or what there is of it and why not more; without the `reason` for no interval where a table gives it once for all."""
    if math.isnan(figure["value"]):
        return f"{DASH} ({figure.get('why') or TERMS[metric].undefined})"
    if math.isnan(figure["ci_low"]):
        return f"{number(figure['value'])} (no interval{f': {_no_interval(figure)}' if reason else ''})"
    return f"{number(figure['value'])} ({number(figure['ci_low'])} to {number(figure['ci_high'])})"


def mean(figure: Figure, metric: str, *, of_all: bool) -> str:
    """The figure with its interval, and how many images it is the mean of where that is not all."""
    told = interval(figure, metric)
    if of_all or not figure["images"]:
        return told
    return f"{told.removesuffix(')')}; {plural(figure['images'], 'image')})"


def _no_interval(figure: Figure) -> str:
    return (
        figure.get("reason") or "fewer than two patients"
        if figure["patients"] < 2
        else f"undefined in over {MAX_UNDEFINED:.0%} of the resamples"
    )


def doubts(figures: Mapping[str, Figure]) -> list[str]:
    """Sentences on those of one part's figures, by metric, whose interval is too wide to lean on or missing."""
    told = []
    wide = {
        metric: row for metric, row in figures.items() if row["ci_high"] - row["ci_low"] > WIDE
    }  # never where a bound is nan
    if wide:
        pairs = [
            f"{_named(metric)} of {row['ci_low']:.2f} from one of {row['ci_high']:.2f}"
            for metric, row in wide.items()
        ]
        told.append(
            f"{plural(next(iter(wide.values()))['patients'], 'patient')} cannot tell {', nor '.join(pairs)}."
        )
    if "auroc" in figures and figures["auroc"]["ci_low"] <= 0.5 <= figures["auroc"]["ci_high"]:
        told.append("chance, an AUROC of 0.5, lies within the interval.")
    for metric, row in figures.items():
        if math.isnan(row["ci_low"]) and not math.isnan(row["value"]):
            told.append(
                f"how sure {_named(metric)} of {number(row['value'])} is cannot be said: {_no_interval(row)}."
            )
    return told


def _named(metric: str) -> str:
    name = TERMS[metric].name
    return (
        f"an {name}"
        if name[0] in "AEIOU"
        else f"a {name.lower() if name[1:].islower() and metric != 'dice' else name}"
    )


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def listed(items: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def cut(text: str | None, most: int = 90) -> str:
    return text if text and len(text) <= most else f"{text[:most].rstrip()}…" if text else ""
