"""The head of the report: the leading test figures in plain words, and what they do not show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from hilum.annotations.vocabulary import State, name_of
from hilum.errors import plural
from hilum.pipeline.evaluate import ALL, BOTH, FILE
from hilum.pipeline.evaluation.estimate import MACRO, MICRO
from hilum.reporting import text
from hilum.reporting.context import Context
from hilum.statistics.calibration import Fitted

LEADING = (("lungs", "dice"), ("finding", "auroc"), ("anomaly", "auroc"))
CHECKED = {  # figures of which a wide interval is pointed out
    "lungs": ("dice",),
    "finding": ("auroc", "sensitivity", "specificity"),
    "anomaly": ("auroc", "sensitivity", "specificity"),
}
TITLES = {"lungs": "Lung outlines", "finding": "Finding", "anomaly": "Anomaly"}
RESEARCH = "This is research: neither the models nor the figures are for clinical use."


@dataclass(frozen=True)
class Headline:
    """One leading figure, and what it says in plain words."""

    title: str
    figure: str
    words: str


def leading(metrics: pl.DataFrame, concept: str | None, size: int) -> list[Headline]:
    """Return the first figure of each task that has one, and the mean over several findings.

    `size` is the side of the cached images in pixels, at which the lungs are measured.
    """
    figures = _of_test_part(metrics, concept)
    headlines = []
    for task, metric in LEADING:
        figure = figures.get((task, metric))
        if figure and not math.isnan(figure.value):
            of = f": {name_of(concept or '').lower()}" if task == "finding" else ""
            at = f" at {size} pixels" if task == "lungs" else ""
            title = f"{TITLES[task]}{of}, {text.TERMS[metric].name}{at}"
            words = _in_words(task, figure, concept)
            if task == "lungs":
                words += _in_file(metrics)
            headlines.append(Headline(title, text.interval(figure, metric), words))
    return [*headlines, *_macro(metrics)]


def _in_file(metrics: pl.DataFrame) -> str:
    """Return the mean Dice in the pixels of the files, where it was measured; else ""."""
    rows = metrics.filter(
        (pl.col("part") == "test")
        & (pl.col("source") == ALL)
        & (pl.col("side") == BOTH)
        & (pl.col("grid") == FILE)
        & (pl.col("metric") == "dice")
    )
    figures = map(text.Figure.of, rows.iter_rows(named=True))
    return "".join(
        f" In the file's own pixels: {text.interval(figure, 'dice')}, on "
        f"{plural(figure.images, 'test image')}."
        for figure in figures
    )


def _macro(metrics: pl.DataFrame) -> Iterator[Headline]:
    """Yield the mean AUROC over the findings of a run with several; else nothing."""
    areas = metrics.filter(
        (pl.col("task") == "finding")
        & (pl.col("part") == "test")
        & (pl.col("by") == ALL)
        & (pl.col("metric") == "auroc")
    )
    findings = areas.filter(~pl.col("concept").is_in([MACRO, MICRO])).height
    for row in areas.filter(pl.col("concept") == MACRO).iter_rows(named=True):
        figure = text.Figure.of(row)
        words = (
            f"Mean over {findings} findings on test images of "
            f"{plural(figure.patients, 'patient')}; the chapter “Finding” lists each of them."
        )
        yield Headline("All findings, macro AUROC", text.interval(figure, "auroc"), words)


def _of_test_part(metrics: pl.DataFrame, concept: str | None) -> dict[tuple[str, str], text.Figure]:
    """Return figures of the whole test part by task and metric; of scores, those of `concept`."""
    whole = metrics.filter(
        (pl.col("part") == "test")
        & (pl.col("source") == ALL)
        & pl.col("side").is_in([BOTH, ""])
        & pl.col("concept").is_in(["", concept or ""])
        & (pl.col("grid") != FILE)
    )
    return {
        (row["task"], row["metric"]): text.Figure.of(row) for row in whole.iter_rows(named=True)
    }


def _in_words(task: str, figure: text.Figure, concept: str | None) -> str:
    patients = plural(figure.patients, "patient")
    held = f"{plural(figure.images, 'test image')} of {patients}"
    if task == "lungs":
        return (
            f"Mean agreement of the segmented lungs with the reference masks on {held}; "
            "1 is complete agreement."
        )
    name = name_of(concept or "").lower()
    score = "the anomaly score, trained on normal images alone,"
    if task == "finding":
        score = "the finding's score"
    between = ""
    if not math.isnan(figure.ci_low):
        between = f" (between {100 * figure.ci_low:.0f} and {100 * figure.ci_high:.0f})"
    return (
        f"Of one image with {name} and one without, {score} ranks the one with it higher "
        f"{100 * figure.value:.0f} times in 100{between}. "
        f"{held}, {figure.positives:,} with {name}."
    )


def limits(context: Context) -> list[str]:
    """Return what a reader must not take the figures for, a sentence or two each."""
    test, folds = context.part("test"), len(context.folds)
    sources = text.listed(test["source"].unique().sort().to_list())
    sentences = [
        f"The test part is {plural(test.height, 'image')} of "
        f"{plural(test['group'].n_unique(), 'patient')} from the same data as the training "
        f"part ({sources}). Other hospitals, machines and patients are not in it; measure there "
        "before you rely on any figure.",
    ]
    if folds:
        sentences.append(
            f"The {folds} folds measure {folds} sets of models, each trained on a part of the "
            "images, and not the final models. Intervals resample patients, not trainings, and "
            "the folds' training parts overlap: they are somewhat too narrow."
        )
    if context.nameless:
        sentences.append(
            "Nothing in the data names the patients: if a person has several images, they may be "
            "in training and test at once, and the figures are too good."
        )
    if context.concept:
        sentences += _of_labels(context, test)
    if not context.nameless:  # else the card's caveats repeat the sentence above
        sentences += [card.caveats for card in context.cards if card.caveats]
    return [*sentences, *_cautions(context), RESEARCH]


def _of_labels(context: Context, test: pl.DataFrame) -> Iterator[str]:
    concept = context.concept or ""
    known = test.filter(pl.col("state") >= State.ABSENT)
    positives = int((known["state"] == State.PRESENT).sum())
    prevalence = f"{positives / known.height:.0%}" if known.height else text.DASH
    yield (
        "The truth is the label that the data state; where a label is wrong, so is the figure. "
        f"{name_of(concept)} is present in {prevalence} of the test images with a known label: "
        "PPV and NPV hold at that prevalence only."
    )
    fitted = context.calibration.get("finding", {}).get(concept)
    yield _probability(fitted, pooled=bool(context.folds))


def _probability(fitted: Fitted | None, *, pooled: bool) -> str:
    """Return what scores mean; `fitted` is one finding's calibration, `pooled` over all folds."""
    if not fitted:
        return "A score is a score, not a probability: nothing here is calibrated."
    if fitted["temperature"] is None:
        where = "pooled scores" if pooled else "tune part"
        return (
            "A score is a score, not a probability: nothing here is calibrated "
            f"({where}: {fitted['reason']})."
        )
    prevalence = f"{fitted['tune_positives'] / fitted['tune_images']:.0%}"
    images = plural(fitted["tune_images"], "out-of-fold image" if pooled else "tune image")
    return (
        "A score is a score, not a probability. Calibrated probabilities were fitted on "
        f"{images}, {prevalence} of them positive, and hold at that prevalence only."
    )


def _cautions(context: Context) -> list[str]:
    """Return a sentence for each task whose leading figures are too uncertain to rely on."""
    found = _of_test_part(context.metrics, context.concept)
    sentences = []
    for task, names in CHECKED.items():
        figures = {metric: found[task, metric] for metric in names if (task, metric) in found}
        sentences += [f"{TITLES[task]}: {caution}" for caution in text.cautions(figures)]
    return sentences
