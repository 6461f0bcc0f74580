"""Lung outlines: figures by side and source, their spread over the images, how training went, and the worst, median and best of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from hilum.annotations import lung_masks
from hilum.drawing import charts, images
from hilum.inference import lung_finder
from hilum.pipeline import segment
from hilum.pipeline.cache import Cache
from hilum.pipeline.evaluate import ALL, BOTH, CACHED, DISTANCES, FILE
from hilum.reporting.sections import text
from hilum.run_folder import Run
from hilum.statistics.metrics import overlap

WORST, MEDIAN, BEST = 4, 2, 2
SIDES = {BOTH: "both lungs", "right": "right lung", "left": "left lung"}


def section(
    run: Run, metrics: pl.DataFrame, per_image: pl.DataFrame, cached: Cache, left_out: int = 0
) -> dict[str, Any]:
    """`missing` says why there is nothing else. `left_out`: test images that the model may have learnt from, which are not measured."""
    of_lungs = metrics.filter((pl.col("task") == "lungs") & (pl.col("part") == "test"))
    told, in_file = (of_lungs.filter(pl.col("grid") == grid) for grid in (CACHED, FILE))
    at = f"at {cached.size} pixels"
    if not told.height:
        return {"missing": _why_nothing(run, left_out)}
    known = set(told["metric"])  # millimetres are there only where some image's spacing is known
    shown = [metric for metric in (*overlap.METRICS, *DISTANCES) if metric in known]
    rows = [
        _row(
            f"{SIDES[side]}, {at}",
            told.filter((pl.col("source") == ALL) & (pl.col("side") == side)),
            shown,
        )
        for side in SIDES
    ]
    sources = (
        told.filter((pl.col("source") != ALL) & (pl.col("side") == BOTH))["source"].unique().sort()
    )
    rows += [
        _row(
            f"both, {source}, {at}",
            told.filter((pl.col("source") == source) & (pl.col("side") == BOTH)),
            shown,
        )
        for source in sources
    ]
    rows += [
        _row(
            f"{SIDES[side]}, in the file's own pixels",
            in_file.filter((pl.col("source") == ALL) & (pl.col("side") == side)),
            shown,
        )
        for side in SIDES
        if in_file.height
    ]
    whole = per_image.filter((pl.col("part") == "test") & (pl.col("side") == BOTH)).sort(
        "dice", "image_id", nulls_last=True
    )
    return {
        "rows": rows,
        "terms": [text.TERMS[metric] for metric in shown],
        "learning": _learning(run.table("segment", segment.EPOCHS)),
        "spread": _spread(per_image.filter(pl.col("part") == "test")),
        "galleries": _galleries(run, whole.filter(pl.col("dice").is_not_nan()), cached),
        "colours": {"drawn": images.ORANGE, "found": images.CYAN},
        "left_out": left_out,
        "doubtful": _doubtful(run, whole),
        "apart": whole.filter(pl.col("dice") == 0).height,
        "means": list(means(told.filter(pl.col("source") == ALL))),
    }


def _doubtful(run: Run, measured: pl.DataFrame) -> dict[str, Any]:
    """How many of the measured masks are told to be doubtful without a look at the drawn ones, and the mean Dice of these and of the others."""
    told = measured.join(
        run.table("segment", segment.INDEX).select("image_id", "quality"), on="image_id"
    ).filter(pl.col("dice").is_not_nan())
    doubtful = told.filter(pl.col("quality") < lung_finder.GOOD)
    good = told.filter(pl.col("quality") >= lung_finder.GOOD)
    means = {
        name: text.number(rows["dice"].mean())
        for name, rows in (("dice", doubtful), ("dice_of_others", good))
    }
    return {"count": doubtful.height, "below": lung_finder.GOOD, **means}


def _why_nothing(run: Run, left_out: int) -> str:
    if left_out:
        return f"The lung model that comes with Hilum has learnt from {text.plural(left_out, 'test image')} or their patients, so it is not measured here."
    if not run.table("segment", segment.INDEX).height:
        return run.summary("segment")["reason"]
    return "No image of the test part has a lung mask, so found lungs cannot be compared with drawn ones."


def _row(name: str, rows: pl.DataFrame, shown: list[str]) -> dict[str, Any]:
    of = {row["metric"]: row for row in rows.iter_rows(named=True)}
    cells = [_cell(of.get(metric), metric) for metric in shown]
    most = max(of.values(), key=lambda row: row["images"])
    return {"name": name, "images": most["images"], "patients": most["patients"], "cells": cells}


def _cell(figure: dict[str, Any] | None, metric: str) -> str:
    return text.mean(figure, metric, of_all=not figure["warning"]) if figure else text.DASH


def means(rows: pl.DataFrame) -> Iterator[str]:
    """Sentences on means that leave images out, a side and a reason each, and on lungs that were missed."""
    for side, name in SIDES.items():
        of = rows.filter(pl.col("side") == side)
        for (warning,), alike in of.filter(pl.col("warning") != "").group_by(
            "warning", maintain_order=True
        ):
            names = text.listed([text.TERMS[metric].name for metric in alike["metric"]])
            yield f"{name.capitalize()}: {names}: {warning}."
        if missed := of["missed"].max():
            yield f"{name.capitalize()}: missed in {text.plural(missed, 'image')}, whose Dice is 0."


def _spread(rows: pl.DataFrame) -> Any:
    values = {
        name: rows.filter((pl.col("side") == side) & pl.col("dice").is_not_nan())["dice"].to_numpy()
        for side, name in SIDES.items()
    }
    values = {name: dice for name, dice in values.items() if dice.size}
    if not values:
        return None
    told = "; ".join(
        f"{name}, {text.plural(dice.size, 'image')}: median {np.median(dice):.3f}, from {dice.min():.3f} to {dice.max():.3f}"
        for name, dice in values.items()
    )
    return charts.histograms(
        values,
        x="Dice of an image",
        y="Images",
        alt_text=f"Histograms of Dice over the test images. {told}.",
    )


def _learning(epochs: pl.DataFrame) -> Any:
    """Dice of the tune pictures as each training went on; None where none was watched."""
    looked = epochs.drop_nulls("tune")
    if not looked.height:
        return None
    longest, best = (
        int(looked["batches"].max()),
        looked.group_by("model").agg(pl.col("tune").max()).sort("model"),
    )
    lines = [
        charts.Line(
            model,
            (rows["batches"] / longest).to_list(),
            rows["tune"].to_list(),
            faint=model != segment.WHOLE,
        )
        for (model,), rows in looked.sort("model", "batches", descending=[True, False]).group_by(
            "model", maintain_order=True
        )
    ]
    told = "; ".join(f"{model}: best {text.number(tune)}" for model, tune in best.iter_rows())
    return charts.unit_square(
        lines,
        x=f"Share of {longest} batches",
        y="Dice, tune part",
        alt_text=f"Dice of the tune pictures while training. {told}.",
    )


def _galleries(run: Run, ranked: pl.DataFrame, cached: Cache) -> list[dict[str, Any]]:
    """The worst, median and best overlays; an image stands in one of them only."""
    middle = max((ranked.height - MEDIAN) // 2, 0)
    chosen = {
        "Worst": range(min(WORST, ranked.height)),
        "Median": range(middle, middle + MEDIAN),
        "Best": range(ranked.height - BEST, ranked.height),
    }
    masks = segment.Masks.of(run, cached.size)
    galleries, seen = [], set()
    for name, numbers in chosen.items():
        fresh = [number for number in numbers if 0 <= number < ranked.height and number not in seen]
        seen.update(fresh)
        rows = [ranked.row(number, named=True) for number in fresh]
        shown = [_overlay(row, cached, masks[row["image_id"]]) for row in rows]
        if shown:
            galleries.append({"name": name, "shown": shown})
    return galleries


def _overlay(row: dict[str, Any], cached: Cache, found: np.ndarray) -> dict[str, Any]:
    place = cached.rows([row["image_id"]])[0]
    drawn = cached.masks[place]
    outlines = [images.Outline(drawn == side, images.ORANGE) for side in lung_masks.SIDES.values()]
    outlines += [
        images.Outline(found == side, images.CYAN, dashed=True)
        for side in lung_masks.SIDES.values()
    ]
    dice = text.number(row["dice"])
    told = f"radiograph {row['image_id']} with drawn and found lung outlines, Dice {dice}"
    return {
        "image_id": row["image_id"],
        "picture": images.image(cached.images[place], alt_text=told, outlines=outlines),
        "dice": dice,
    }
