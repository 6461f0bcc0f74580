"""What the head of the report says of calls: how many images get one, and what they are worth.

The figures of the test part are of the hospitals that the models were trained on. Beside them
stands what the models are worth at a hospital that was left out, or that this was not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import polars as pl

from hilum.annotations.vocabulary import name_of
from hilum.pipeline import left_out
from hilum.pipeline.evaluation import selective_measures as measured
from hilum.pipeline.evaluation.estimate import ALL
from hilum.reporting import text
from hilum.reporting.context import Context
from hilum.reporting.text import Figure

NOT_MEASURED = "not measured"


def figures(metrics: pl.DataFrame, part: str, concept: str) -> dict[str, Figure]:
    """Return the figures of the finding's scores in a whole part, by metric."""
    rows = metrics.filter(
        (pl.col("task") == "finding")
        & (pl.col("part") == part)
        & (pl.col("by") == ALL)
        & (pl.col("concept") == concept)
    )
    return text.by_metric(rows)


def headlines(context: Context) -> Iterator[tuple[str, str, str]]:
    """Yield title, figure and words of each; none where no finding was trained on."""
    if not context.concept:
        return
    inside = figures(context.metrics, "test", context.concept)
    if measured.COVERAGE not in inside:
        return
    name = name_of(context.concept).lower()
    yield (
        f"Calls of {name}, in the test part",
        f"{inside[measured.COVERAGE].value:.0%} of the images get one",
        _of_calls(inside),
    )
    elsewhere = figures(context.metrics, left_out.PART, context.concept)
    if elsewhere:
        yield (
            f"Calls of {name}, at a source left out",
            f"{elsewhere[measured.COVERAGE].value:.0%} of the images get one",
            f"Of models trained without the source. {_of_calls(elsewhere)} AUROC of all scores "
            f"{text.interval(elsewhere['auroc'], 'auroc')}. {not_left_out(context)}".rstrip(),
        )
        return
    yield f"Calls of {name}, at other hospitals", NOT_MEASURED, why_not_measured(context)


def _of_calls(of: dict[str, Figure]) -> str:
    """Say sensitivity, specificity and error of the calls, each with its interval."""
    parts = [
        f"{text.TERMS[metric].name.lower()} {text.interval(of[metric], metric)}"
        for metric in (measured.SENSITIVITY, measured.SPECIFICITY, measured.ERROR)
        if metric in of and not math.isnan(of[metric].value)
    ]
    if not parts:
        return "No image got a call."
    listed = ", ".join(parts)
    return f"{listed[0].upper()}{listed[1:]}."


def not_left_out(context: Context) -> str:
    """Say which sources were to be left out and could not be, and why; "" where there is none."""
    skipped = left_out.plan(context.run, context.recipe).skipped
    reasons = "; ".join(f"{source}: {why}" for source, why in skipped.items())
    return f"Not left out: {reasons}." if reasons else ""


def why_not_measured(context: Context) -> str:
    """Say how it could be measured with what is here, or elsewhere."""
    figures_here = "The other figures on this page are of the same hospitals as the training."
    if why := not_left_out(context):
        return f"{figures_here} {why} `hilum cross-evaluate` with another set can measure it."
    if context.table["source"].n_unique() > 1:
        return f'{figures_here} Set leave_out = "source" under [evaluate] to measure it.'
    return (
        f"{figures_here} With a second source in the recipe, or with `hilum cross-evaluate`, it "
        f"can be measured."
    )
