"""The head of the page: the leading test figures in plain words, and what they do not show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from hilum.annotations.vocabulary import State, name_of
from hilum.pipeline.evaluate import ALL, BOTH, FILE
from hilum.pipeline.evaluation.estimate import MACRO, MICRO
from hilum.plugins import Card
from hilum.reporting.sections import text

LEADING = (("lungs", "dice"), ("finding", "auroc"), ("anomaly", "auroc"))
DOUBTED = {
    "lungs": ("dice",),
    "finding": ("auroc", "sensitivity", "specificity"),
    "anomaly": ("auroc", "sensitivity", "specificity"),
}
TITLES = {"lungs": "Lung outlines", "finding": "Finding", "anomaly": "Anomaly"}


def leading(metrics: pl.DataFrame, concept: str | None, size: int) -> list[dict[str, Any]]:
    """Return the first figure of each task that has one; `size`: side of the cached images."""
    rows = _test(metrics, concept)
    told = []
    for stage, metric in LEADING:
        row = rows.get((stage, metric))
        if row and not math.isnan(row["value"]):
            of = f": {name_of(concept or '').lower()}" if stage == "finding" else ""
            at = f" at {size} pixels" if stage == "lungs" else ""
            title = f"{TITLES[stage]}{of}, {text.TERMS[metric].name}{at}"
            words = _plain(stage, row, concept)
            if stage == "lungs":
                words += _in_file(metrics)
            told.append(
                {
                    "title": title,
                    "figure": text.interval(row, metric),
                    "words": words,
                }
            )
    return told + _macro(metrics)


def _in_file(metrics: pl.DataFrame) -> str:
    """Give the mean Dice in the pixels of the files, where it was measured; else ""."""
    rows = metrics.filter(
        (pl.col("part") == "test")
        & (pl.col("source") == ALL)
        & (pl.col("side") == BOTH)
        & (pl.col("grid") == FILE)
        & (pl.col("metric") == "dice")
    )
    return "".join(
        f" In the file's own pixels: {text.interval(row, 'dice')}, on "
        f"{text.plural(row['images'], 'test image')}."
        for row in rows.iter_rows(named=True)
    )


def _macro(metrics: pl.DataFrame) -> list[dict[str, Any]]:
    """Tell the mean AUROC over the findings of a run with several; else nothing."""
    areas = metrics.filter(
        (pl.col("task") == "finding")
        & (pl.col("part") == "test")
        & (pl.col("by") == ALL)
        & (pl.col("metric") == "auroc")
    )
    findings = areas.filter(~pl.col("concept").is_in([MACRO, MICRO])).height
    told = []
    for row in areas.filter(pl.col("concept") == MACRO).iter_rows(named=True):
        held = text.plural(row["patients"], "patient")
        said = (
            f"Mean over {findings} findings on test images of {held}; chapter 5 has each of them."
        )
        title = "All findings, macro AUROC"
        told.append({"title": title, "figure": text.interval(row, "auroc"), "words": said})
    return told


def _test(metrics: pl.DataFrame, concept: str | None) -> dict[tuple[str, str], dict[str, Any]]:
    """Figures of the test part as a whole by stage and metric: of lungs, and of scores for the leading finding."""
    whole = metrics.filter(
        (pl.col("part") == "test")
        & (pl.col("source") == ALL)
        & pl.col("side").is_in([BOTH, ""])
        & (pl.col("grid") != FILE)
        & pl.col("concept").is_in(["", concept or ""])
    )
    return {(row["task"], row["metric"]): row for row in whole.iter_rows(named=True)}


def _plain(stage: str, row: dict[str, Any], concept: str | None) -> str:
    held = (
        f"{text.plural(row['images'], 'test image')} of {text.plural(row['patients'], 'patient')}"
    )
    if stage == "lungs":
        return f"Mean agreement of the found lungs with the drawn ones on {held}; 1 is complete agreement."
    name = name_of(concept or "").lower()
    score = (
        "the finding's score"
        if stage == "finding"
        else "the anomaly score, learnt from normal images alone,"
    )
    times = f"{100 * row['value']:.0f} times in 100"
    between = (
        ""
        if math.isnan(row["ci_low"])
        else f" (between {100 * row['ci_low']:.0f} and {100 * row['ci_high']:.0f})"
    )
    return f"Of one image with {name} and one without, {score} puts the one with it higher {times}{between}. {held}, {row['positives']:,} with {name}."


def limits(
    metrics: pl.DataFrame,
    table: pl.DataFrame,
    cards: list[Card],
    concept: str | None,
    fitted: Mapping[str, Any],
    *,
    nameless: bool,
    folds: int = 0,
) -> list[str]:
    """What a reader must not take the figures for. `fitted`: what was chosen on the tune part, or of a cross-validated run in `folds` on the
    pooled scores, by stage and concept."""
    test = table.filter(pl.col("part") == "test")
    sources = text.listed(test["source"].unique().sort().to_list())
    told = [
        f"The test part is {text.plural(test.height, 'image')} of {text.plural(test['group'].n_unique(), 'patient')} from the same data as the training "
        f"part ({sources}). Other hospitals, machines and patients are not in it; measure there before you rely on any figure.",
    ]
    if folds:
        told.append(
            f"The {folds} folds measure {folds} sets of models, each trained on a part of the images, and not the final models. Intervals resample patients, not "
            f"trainings, and the folds' training parts overlap: they are somewhat too narrow."
        )
    if nameless:  # the card's caveats say the same
        told.append(
            "Nothing in the data names the patients: if a person has several images, they may stand in training and test at once, "
            "and the figures are too good."
        )
    if concept:
        known = test.filter(pl.col("state") >= State.ABSENT)
        share = f"{(known['state'] == State.PRESENT).mean():.0%}" if known.height else text.DASH
        told += [
            f"The truth is the label that the data state; where a label is wrong, so is the figure. {name_of(concept)} is present in {share} of the test "
            f"images with a known label: PPV and NPV hold at that share only.",
            _probability(fitted.get("finding", {}).get(concept), pooled=folds > 0),
        ]
    told += [card.caveats for card in cards if card.caveats and not nameless]
    told += doubts(metrics, concept)
    return [*told, "This is research: neither the models nor the figures are for clinical use."]


def _probability(fitted: Mapping[str, Any] | None, pooled: bool) -> str:
    """`pooled`: the calibration is fitted on the scores of all folds."""
    if not fitted or fitted["temperature"] is None:
        why = (
            f" ({'pooled scores' if pooled else 'tune part'}: {fitted['reason']})" if fitted else ""
        )
        return f"A score is a score, not a probability: nothing here is calibrated{why}."
    share, images = (
        f"{fitted['tune_positives'] / fitted['tune_images']:.0%}",
        text.plural(fitted["tune_images"], "out-of-fold image" if pooled else "tune image"),
    )
    return f"A score is a score, not a probability. Calibrated probabilities were fitted on {images}, {share} of them positive, and hold at that share only."


def doubts(metrics: pl.DataFrame, concept: str | None) -> list[str]:
    """A sentence for each stage of whose leading figures some are too unsure to lean on."""
    rows = _test(metrics, concept)
    told = []
    for stage, names in DOUBTED.items():
        figures = {metric: rows[stage, metric] for metric in names if (stage, metric) in rows}
        told += [f"{TITLES[stage]}: {doubt}" for doubt in text.doubts(figures)]
    return told
