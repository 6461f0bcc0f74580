"""Probabilities of a scored stage: how far they can be taken at their word, before and after calibration on the tune part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from hilum.drawing import charts
from hilum.pipeline.evaluation.estimate import ALL
from hilum.pipeline.evaluation.measures import KINDS, probabilities
from hilum.reporting.sections import text
from hilum.statistics.metrics import calibration

NAMES = {
    "uncalibrated": "score as it is",
    "temperature": "temperature and bias",
    "isotonic": "isotonic",
}
LOOKS = {
    "uncalibrated": {"colour": 1, "faint": True},
    "temperature": {"colour": 0},
    "isotonic": {"colour": 0, "faint": True},
}


def section(
    test: pl.DataFrame, of_concept: pl.DataFrame, fitted: Mapping[str, Any]
) -> dict[str, Any]:
    """`test`: state, score and what was carried over to it, of the test part; `of_concept`: the figures of one stage and finding; `fitted`: what tune gave."""
    whole = of_concept.filter((pl.col("part") == "test") & (pl.col("by") == ALL))
    of = {row["metric"]: row for row in whole.iter_rows(named=True)}
    rows = [
        {
            "name": NAMES[kind],
            "cells": [_cell(of.get(f"{metric}_{kind}"), metric) for metric in calibration.METRICS],
        }
        for kind in KINDS
    ]
    made = probabilities(test)
    return {
        "rows": [row for row, kind in zip(rows, KINDS, strict=True) if kind in made],
        "heads": [text.TERMS[metric].name for metric in calibration.METRICS],
        "terms": [text.TERMS[metric] for metric in calibration.METRICS],
        "reason": fitted["reason"],
        "tune_images": fitted["tune_images"],
        "tune_positives": fitted["tune_positives"],
        "temperature": None if fitted["temperature"] is None else f"{fitted['temperature']:.3g}",
        "bias": None if fitted["bias"] is None else f"{fitted['bias']:+.3g}",
        "diagram": _diagram(test["state"].to_numpy(), made),
    }


def _cell(figure: Mapping[str, Any] | None, metric: str) -> str:
    return text.interval(figure, metric) if figure else text.DASH


def _diagram(truth: np.ndarray, made: Mapping[str, np.ndarray]) -> Markup | None:
    """The reliability diagram; None where there is no probability to draw."""
    if not made or not truth.size:
        return None
    lines = [charts.Line("perfect", (0, 1), (0, 1), colour=2, dashed=True)]
    points = []
    for kind, probability in made.items():
        there = ~np.isnan(probability)
        bins = calibration.reliability(truth[there], probability[there])
        lines.append(
            charts.Line(
                f"{NAMES[kind]}, {bins.rows.size} bin{'s' * (bins.rows.size != 1)}",
                bins.expected,
                bins.observed,
                **LOOKS[kind],
            )
        )
        if kind != "isotonic":  # of the temperature's colour
            points += [
                (x, y, LOOKS[kind]["colour"])
                for x, y in zip(bins.expected, bins.observed, strict=True)
            ]
    told = f"Reliability diagram of the test part: the share of positive images over the mean probability of bins. {'; '.join(line.name for line in lines[1:])}."
    return charts.unit_square(
        lines[::-1],
        x="Mean probability of a bin",
        y="Share of positive images in it",
        alt_text=told,
        dots=points,
    )
