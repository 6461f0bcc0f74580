"""Sources and repetition: licences, methods in words, the recipe, digests of every step."""

from __future__ import annotations

from dataclasses import dataclass

from hilum import __version__
from hilum.config import PRETRAINED, LungCrop, Recipe
from hilum.plugins import Card
from hilum.privacy import run_release
from hilum.reporting.context import Context
from hilum.storage import JsonObject

TITLE, ORDER = "Sources and repetition", 70
VERBATIM = ("cards", "recipe", "digests")  # they hold no text of the data
STEPS = ("ingest", "cache", "audit", "split", "segment", "crop", "train", "predict", "evaluate")


@dataclass(frozen=True)
class Repeat:
    """What the chapter shows; digests are step, file and digest."""

    cards: list[Card]
    methods: list[tuple[str, str]]
    version: str
    recipe: str
    digests: list[tuple[str, str, str]]


def section(context: Context) -> Repeat:
    """Describe where the data come from and how to make the run again."""
    run, recipe = context.run, context.recipe
    return Repeat(
        cards=context.cards,
        methods=_methods(recipe, run.summary("segment"), cross_validated=bool(context.folds)),
        version=__version__,
        recipe=run_release.placeless(recipe).to_toml(),
        digests=[
            (step, name, digest)
            for step in (*STEPS, *context.optional)
            for name, digest in run.made(step).items()
        ],
    )


def _methods(
    recipe: Recipe, segmenting: JsonObject, *, cross_validated: bool
) -> list[tuple[str, str]]:
    pixels, size = recipe.pixels, recipe.pixels.size
    train, tune = "the training part", "the tune part"
    if cross_validated:
        train, tune = "each fold's training part", "the fold's tune part"
    window = "in the range of the file"
    if pixels.normalisation == "percentiles":
        window = "stretched from the 0.5th to the 99.5th percentile"
    return [
        (
            "Pixels",
            f"each file decoded once, letterboxed to {size} × {size} pixels, bright is dense, "
            f"{window}",
        ),
        ("Lungs", _segmentation(recipe, segmenting)),
        ("Region", _region(recipe.crop)),
        (
            "Finding",
            f"{recipe.classify.model} on the regions of {train} with a known label",
        ),
        (
            "Anomaly",
            f"{recipe.anomaly.model}, fitted on the regions of {train} without the finding only",
        ),
        (
            "Threshold",
            f"largest sensitivity + specificity − 1 (Youden) on {tune}, then fixed",
        ),
        (
            "Calibration",
            f"temperature with a bias, and isotonic regression, on {tune}, then fixed",
        ),
        (
            "Intervals",
            f"percentile bootstrap, {recipe.evaluate.bootstrap:,} resamples of whole patients "
            "(clustered where the audit joined them); of AUROC DeLong's too, Obuchowski's where "
            "patients have several images",
        ),
    ]


def _region(cut: LungCrop) -> str:
    black = ", black outside the lungs" if cut.masked else ""
    size = f"{cut.size} × {cut.size} pixels{black}"
    if cut.area == "whole":
        return f"the whole image, {size}"
    of = "both lungs" if cut.area == "lungs" else f"the {cut.area}"
    return (
        f"the box of {of} and {cut.margin:.0%} of its sides around it, {size}; where a mask's "
        f"quality is below {cut.min_mask_quality:g}, the training part's typical box"
    )


def _segmentation(recipe: Recipe, summary: JsonObject) -> str:
    """Say how lungs were segmented; `summary` is that of the step `segment`."""
    if summary.get("model") == PRETRAINED:
        reason = summary["reason"]
        return f"the model that comes with Hilum, not trained in this run: {reason}"
    if "reason" in summary:
        return str(summary["reason"])
    return (
        f"{recipe.segment.model}, trained on the training part's masks; lungs of training images "
        f"out of fold ({recipe.segment.folds} folds)"
    )
