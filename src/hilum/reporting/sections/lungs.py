"""Lung outlines: figures by side and source, their spread, the training curve, example images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import Markup

from hilum.annotations import lung_masks
from hilum.drawing import charts, images
from hilum.errors import plural
from hilum.inference import lung_finder
from hilum.pipeline import evaluate, segment
from hilum.pipeline.cache import Cache
from hilum.pipeline.evaluate import ALL, BOTH, CACHED, DISTANCES, FILE
from hilum.reporting import text
from hilum.reporting.context import Context, LungCrops
from hilum.run_folder import Run
from hilum.statistics.metrics import overlap

TITLE, ORDER = "Lung outlines", 40
WORST, MEDIAN, BEST = 4, 2, 2  # images of each that are shown
SIDES = {BOTH: "both lungs", "right": "right lung", "left": "left lung"}
NO_REFERENCE = (
    "No image of the test part has a lung mask, so segmented lungs cannot be compared with "
    "reference masks."
)


@dataclass(frozen=True)
class Row:
    """Figures of one side or source, a cell for each metric."""

    name: str
    images: int
    patients: int
    cells: list[str]


@dataclass(frozen=True)
class Flagged:
    """Measured masks whose estimated quality is `below` the limit, and both mean Dice."""

    count: int
    below: float
    dice: str
    dice_of_others: str


@dataclass(frozen=True)
class Overlay:
    """An image with its reference and its segmented outlines."""

    image_id: str
    image: Markup
    dice: str


@dataclass(frozen=True)
class Gallery:
    """The worst, the median or the best images."""

    name: str
    shown: list[Overlay]


@dataclass(frozen=True)
class Figures:
    """All figures of the test part. `disjoint` counts images without a pixel in both outlines."""

    rows: list[Row]
    terms: list[text.Term]
    means: list[str]
    spread: Markup | None
    training: Markup | None
    galleries: list[Gallery]
    flagged: Flagged
    left_out: int
    disjoint: int
    reference_colour: str = images.ORANGE
    segmented_colour: str = images.CYAN


@dataclass(frozen=True)
class Lungs:
    """What the chapter shows; `missing` is the reason where there are no figures."""

    confidence: str
    crops: LungCrops
    figures: Figures | None
    missing: str = ""


def section(context: Context) -> Lungs:
    """Describe the segmented lungs of the test part."""
    test = context.part("test")
    unseen = evaluate.unseen(context.run, context.table)
    left_out = test.height - test.join(unseen, on="image_id", how="semi").height
    per_image = context.run.table("evaluate", evaluate.OVERLAP)
    found = figures(context.run, context.metrics, per_image, context.cached, left_out)
    missing = "" if found else why_none(context.run, left_out)
    return Lungs(context.confidence, context.crops, found, missing)


def figures(
    run: Run, metrics: pl.DataFrame, per_image: pl.DataFrame, cached: Cache, left_out: int
) -> Figures | None:
    """Return the figures of the test part; None where nothing was measured.

    `left_out` counts test images that the lung model may have been trained on.
    """
    of_lungs = metrics.filter((pl.col("task") == "lungs") & (pl.col("part") == "test"))
    rows, in_file = (of_lungs.filter(pl.col("grid") == grid) for grid in (CACHED, FILE))
    if not rows.height:
        return None
    # Distances in millimetres exist only where some image's spacing is known.
    known = set(rows["metric"])
    shown = [metric for metric in (*overlap.METRICS, *DISTANCES) if metric in known]
    of_test = per_image.filter(pl.col("part") == "test")
    ranked = of_test.filter(pl.col("side") == BOTH).sort("dice", "image_id", nulls_last=True)
    return Figures(
        rows=[
            *_rows(rows, shown, f"at {cached.size} pixels"),
            *_rows(in_file, shown, "in the file's own pixels"),
        ],
        terms=[text.TERMS[metric] for metric in shown],
        means=list(means(rows.filter(pl.col("source") == ALL))),
        spread=_spread(of_test),
        training=_training_curve(run.table("segment", segment.EPOCHS)),
        galleries=_galleries(run, ranked.filter(pl.col("dice").is_not_nan()), cached),
        flagged=_flagged(run, ranked),
        left_out=left_out,
        disjoint=ranked.filter(pl.col("dice") == 0).height,
    )


def why_none(run: Run, left_out: int) -> str:
    """Return why there are no figures, as a sentence."""
    if left_out:
        return (
            "The lung model that comes with Hilum was trained on "
            f"{plural(left_out, 'test image')} or on their patients, so it is not measured "
            "here."
        )
    if not run.table("segment", segment.INDEX).height:
        reason = str(run.summary("segment")["reason"])
        return f"{reason[0].upper()}{reason[1:].removesuffix('.')}."
    return NO_REFERENCE


def _rows(rows: pl.DataFrame, shown: list[str], where: str) -> Iterator[Row]:
    """Yield a row per side and source; `where`: the grid on which the metrics were measured."""
    if not rows.height:
        return
    for side, name in SIDES.items():
        of_side = rows.filter((pl.col("source") == ALL) & (pl.col("side") == side))
        yield _row(f"{name}, {where}", of_side, shown)
    both = rows.filter((pl.col("source") != ALL) & (pl.col("side") == BOTH))
    for source in both["source"].unique().sort():
        yield _row(f"both, {source}, {where}", both.filter(pl.col("source") == source), shown)


def _row(name: str, rows: pl.DataFrame, shown: list[str]) -> Row:
    of = text.by_metric(rows)
    most = max(of.values(), key=lambda figure: figure.images)
    cells = [_cell(of.get(metric), metric) for metric in shown]
    return Row(name, most.images, most.patients, cells)


def _cell(figure: text.Figure | None, metric: str) -> str:
    return text.mean(figure, metric, of_all=not figure.warning) if figure else text.DASH


def means(rows: pl.DataFrame) -> Iterator[str]:
    """Yield sentences on means that leave images out, by side and reason, and on missed lungs."""
    for side, name in SIDES.items():
        of_side = rows.filter(pl.col("side") == side)
        warned = of_side.filter(pl.col("warning") != "")
        for (warning,), alike in warned.group_by("warning", maintain_order=True):
            names = text.listed([text.TERMS[metric].name for metric in alike["metric"]])
            yield f"{name.capitalize()}: {names}: {warning}."
        missed = max((one.missed for one in text.by_metric(of_side).values()), default=0)
        if missed:
            images_missed = plural(missed, "image")
            yield f"{name.capitalize()}: missed in {images_missed}, whose Dice is 0."


def _flagged(run: Run, measured: pl.DataFrame) -> Flagged:
    """Compare masks that are flagged without the reference masks with the others, by mean Dice."""
    quality = run.table("segment", segment.INDEX).select("image_id", "quality")
    rows = measured.join(quality, on="image_id").filter(pl.col("dice").is_not_nan())
    low = rows.filter(pl.col("quality") < lung_finder.GOOD)
    others = rows.filter(pl.col("quality") >= lung_finder.GOOD)
    return Flagged(low.height, lung_finder.GOOD, _mean_dice(low), _mean_dice(others))


def _mean_dice(rows: pl.DataFrame) -> str:
    return text.number(float(rows["dice"].to_numpy().mean()) if rows.height else None)


def _spread(rows: pl.DataFrame) -> Markup | None:
    measured = rows.filter(pl.col("dice").is_not_nan())
    values = {
        name: measured.filter(pl.col("side") == side)["dice"].to_numpy()
        for side, name in SIDES.items()
    }
    values = {name: dice for name, dice in values.items() if dice.size}
    if not values:
        return None
    described = "; ".join(
        f"{name}, {plural(dice.size, 'image')}: median {np.median(dice):.3f}, from "
        f"{dice.min():.3f} to {dice.max():.3f}"
        for name, dice in values.items()
    )
    return charts.histograms(
        values,
        x="Dice of an image",
        y="Images",
        alt_text=f"Histograms of Dice over the test images. {described}.",
    )


def _training_curve(epochs: pl.DataFrame) -> Markup | None:
    """Draw the Dice of the tune images as each training proceeded; None where none was measured."""
    measured = epochs.drop_nulls("tune")
    if not measured.height:
        return None
    longest = int(measured["batches"].to_numpy().max())
    by_model = measured.sort("model", "batches", descending=[True, False]).group_by(
        "model", maintain_order=True
    )
    lines = [
        charts.Line(
            str(model),
            (rows["batches"] / longest).to_list(),
            rows["tune"].to_list(),
            faint=model != segment.WHOLE,
        )
        for (model,), rows in by_model
    ]
    best = measured.group_by("model").agg(pl.col("tune").max()).sort("model")
    described = "; ".join(f"{model}: best {text.number(dice)}" for model, dice in best.iter_rows())
    return charts.unit_square(
        lines,
        x=f"Fraction of {longest} batches",
        y="Dice, tune part",
        alt_text=f"Dice of the tune images during training. {described}.",
    )


def _galleries(run: Run, ranked: pl.DataFrame, cached: Cache) -> list[Gallery]:
    """Return the worst, median and best overlays; an image is in one of them only."""
    middle = max((ranked.height - MEDIAN) // 2, 0)
    chosen = {
        "Worst": range(min(WORST, ranked.height)),
        "Median": range(middle, middle + MEDIAN),
        "Best": range(ranked.height - BEST, ranked.height),
    }
    masks = segment.Masks.of(run, cached.size)
    listed = ranked.select("image_id", "dice").rows()
    galleries: list[Gallery] = []
    seen: set[int] = set()
    for name, numbers in chosen.items():
        fresh = [number for number in numbers if 0 <= number < ranked.height and number not in seen]
        seen.update(fresh)
        shown = [
            _overlay(image_id, dice, cached, masks[image_id])
            for image_id, dice in (listed[number] for number in fresh)
        ]
        if shown:
            galleries.append(Gallery(name, shown))
    return galleries


def _overlay(image_id: str, dice: float, cached: Cache, segmented: np.ndarray) -> Overlay:
    place = cached.rows([image_id])[0]
    reference, sides = cached.masks[place], lung_masks.SIDES.values()
    outlines = [images.Outline(reference == side, images.ORANGE) for side in sides]
    outlines += [images.Outline(segmented == side, images.CYAN, dashed=True) for side in sides]
    value = text.number(dice)
    description = f"radiograph {image_id} with reference and segmented lung outlines, Dice {value}"
    drawn = images.image(cached.images[place], alt_text=description, outlines=outlines)
    return Overlay(image_id, drawn, value)
