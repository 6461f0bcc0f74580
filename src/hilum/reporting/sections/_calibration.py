"""Probabilities of a scored task before and after calibration on the tune part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import Markup

from hilum.drawing import charts
from hilum.errors import plural
from hilum.pipeline.evaluation.estimate import ALL
from hilum.pipeline.evaluation.measures import KINDS, probabilities
from hilum.reporting import text
from hilum.statistics.calibration import Fitted
from hilum.statistics.metrics import calibration

NAMES = {
    "uncalibrated": "score as it is",
    "temperature": "temperature and bias",
    "isotonic": "isotonic",
}
# The isotonic curve shares the temperature's colour and is faint: both are calibrated.
COLOURS = {"uncalibrated": 1, "temperature": 0, "isotonic": 0}
FAINT = ("uncalibrated", "isotonic")


@dataclass(frozen=True)
class Row:
    """One kind of probability, a cell for each calibration metric."""

    name: str
    cells: list[str]


@dataclass(frozen=True)
class Calibration:
    """What the section shows; `reason` says why a calibration could not be fitted, or is empty."""

    rows: list[Row]
    heads: list[str]
    terms: list[text.Term]
    reason: str
    tune_images: int
    tune_positives: int
    temperature: str | None
    bias: str | None
    diagram: Markup | None


def describe(test: pl.DataFrame, of_concept: pl.DataFrame, fitted: Fitted) -> Calibration:
    """Describe the probabilities of one task and finding.

    `test` has state, score and probabilities of the test part, `of_concept` the figures, `fitted`
    the calibration as `hilum.statistics.calibration.to_json` writes it.
    """
    whole = of_concept.filter((pl.col("part") == "test") & (pl.col("by") == ALL))
    figures = text.by_metric(whole)
    made = probabilities(test)
    rows = [
        Row(
            NAMES[kind],
            [_cell(figures.get(f"{metric}_{kind}"), metric) for metric in calibration.METRICS],
        )
        for kind in KINDS
        if kind in made
    ]
    temperature, bias = fitted["temperature"], fitted["bias"]
    return Calibration(
        rows=rows,
        heads=[text.TERMS[metric].name for metric in calibration.METRICS],
        terms=[text.TERMS[metric] for metric in calibration.METRICS],
        reason=fitted["reason"],
        tune_images=fitted["tune_images"],
        tune_positives=fitted["tune_positives"],
        temperature=None if temperature is None else f"{temperature:.3g}",
        bias=None if bias is None else f"{bias:+.3g}",
        diagram=_diagram(test["state"].to_numpy(), made),
    )


def _cell(figure: text.Figure | None, metric: str) -> str:
    return text.interval(figure, metric) if figure else text.DASH


def _diagram(truth: np.ndarray, made: Mapping[str, np.ndarray]) -> Markup | None:
    """Draw the reliability diagram; None where there is no probability."""
    if not made or not truth.size:
        return None
    lines = [charts.Line("perfect", (0, 1), (0, 1), colour=2, dashed=True)]
    points: list[tuple[float, float, int]] = []
    for kind, probability in made.items():
        known, colour = ~np.isnan(probability), COLOURS[kind]
        bins = calibration.reliability(truth[known], probability[known])
        expected, observed = bins.expected.tolist(), bins.observed.tolist()
        name = f"{NAMES[kind]}, {plural(bins.rows.size, 'bin')}"
        lines.append(charts.Line(name, expected, observed, colour=colour, faint=kind in FAINT))
        # Dots in the temperature's colour would hide which curve they belong to.
        if kind != "isotonic":
            points += [(x, y, colour) for x, y in zip(expected, observed, strict=True)]
    described = "; ".join(line.name for line in lines[1:])
    return charts.unit_square(
        lines[::-1],
        x="Mean probability of a bin",
        y="Fraction of positive images in it",
        alt_text="Reliability diagram of the test part: the fraction of positive images over the "
        "mean "
        f"probability of bins. {described}.",
        dots=points,
    )
