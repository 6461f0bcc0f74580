"""Shortcuts and where the model looks: what probes tell from parts of the pictures, and maps of some test images. Both only where they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from hilum.annotations import shapes
from hilum.annotations.vocabulary import name_of
from hilum.drawing import images
from hilum.inference import saliency
from hilum.pipeline import explain, shortcuts, shown_region
from hilum.reporting.sections import text
from hilum.statistics.metrics.localisation import LEVEL

FACTS = ("source", "sex", "age")
METHODS = {
    saliency.OCCLUSION: "occlusion (Zeiler and Fergus 2014): how much the logit falls where a patch is covered by a blurred one",
    saliency.ACTIVATION: "class activation map (Zhou et al. 2016), given by the model itself",
    explain.LUNG_CENTRES: "control that sees no picture: the middle of a lung",
    explain.UNIFORM_IN_LUNGS: "control that sees no picture: a random point in the lungs, and the box of the larger lung",
}
HEADS = {
    "inside": "Of the map in the lungs",
    "area": "Lungs, of the region",
    "gain": "Share over area",
    "pointing_game": "Pointing game",
    "box_iou": "Box IoU",
}


def probes(table: pl.DataFrame, seen: str) -> dict[str, Any]:
    """The figures of probes, a row a question; `seen` is which of `probe.VIEWS` the models are shown."""
    rows = []
    for (target, within), of in table.filter(pl.col("reason") == "").group_by(
        "target", "within", maintain_order=True
    ):
        cells = {row["view"]: row for row in of.iter_rows(named=True)}
        rows.append(
            {
                "target": target if target in FACTS else name_of(target),
                "within": _within(within),
                "classes": of["classes"][0],
                "cells": [
                    _figure(cells[view]) if view in cells else text.DASH for view in shortcuts.VIEWS
                ],
                "chance": f"{of['shuffled_most'].max():.2f}",
            }
        )
    unasked = (
        table.filter(pl.col("reason") != "")
        .select("target", "within", "reason")
        .unique(maintain_order=True)
    )
    return {
        "heads": [
            shortcuts.WORDS[view].removeprefix("the ").capitalize()
            + (" (shown to models)" if view == seen else "")
            for view in shortcuts.VIEWS
        ],
        "rows": rows,
        "seen": shortcuts.WORDS[seen],
        "unasked": [
            f"{target if target in FACTS else name_of(target)}{_within(within)}: {why}"
            for target, within, why in unasked.iter_rows()
        ],
        "warnings": shortcuts.warnings(table),
    }


def _figure(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.2f} ({row['ci_low']:.2f}–{row['ci_high']:.2f})"


def _within(within: str) -> str:
    return "" if within == shortcuts.ALL else f" within {within}"


def looks(
    table: pl.DataFrame,
    figures: pl.DataFrame,
    without: pl.DataFrame,
    maps: np.ndarray,
    shown: Mapping[str, shown_region.Shown],
    things: Mapping[str, Sequence[shapes.Shape]],
) -> dict[str, Any]:
    """Galleries by choice of what was looked at, the averages, and what is told with parts covered; `maps` are in the rows of `table`, `things` are what is drawn by image."""
    rows = table.with_row_index("map").filter(~pl.col("method").is_in(explain.CONTROLS))
    galleries = []
    for choice in (*explain.CHOICES, explain.OTHERWISE):
        ids = (
            rows.filter(pl.col("choice") == choice)["image_id"]
            .unique(maintain_order=True)
            .head(explain.EACH)
        )
        items = [
            _item(
                rows.filter(pl.col("image_id") == image_id),
                maps,
                shown[image_id],
                things.get(image_id, ()),
            )
            for image_id in ids
        ]
        galleries += [{"name": choice.capitalize(), "shown": items}] if items else []
    return {
        "galleries": galleries,
        "heads": list(HEADS.values()),
        "figures": [
            {"method": method, "meaning": METHODS[method], "cells": _cells(of)}
            for (method,), of in figures.group_by("method", maintain_order=True)
        ],
        "drawn": table.filter(pl.col("drawn") > 0)["image_id"].n_unique(),
        "images": table["image_id"].n_unique(),
        "level": f"{LEVEL:.0%}",
        "covered": [
            {
                "shown": row["shown"],
                "figure": text.interval(row, "auroc"),
                "images": row["images"],
                "left_out": row["left_out"],
            }
            for row in without.iter_rows(named=True)
        ],
    }


def _cells(of: pl.DataFrame) -> list[str]:
    figures = {row["metric"]: row for row in of.iter_rows(named=True)}
    return [_cell(figures.get(metric), metric) for metric in HEADS]


def _cell(figure: dict[str, Any] | None, metric: str) -> str:
    if figure is None:
        return text.DASH
    if not figure["images"]:
        return f"{text.DASH} (no value in any of {text.plural(figure['left_out'], 'image')})"
    return text.mean(figure, metric, of_all=not figure["left_out"])


def _item(
    rows: pl.DataFrame, maps: np.ndarray, shown: shown_region.Shown, things: Sequence[shapes.Shape]
) -> dict[str, Any]:
    """The region under each method's map, with the outline of the lungs, of the map's highest part, and of what is drawn."""
    first = rows.row(0, named=True)
    drawn = (
        shown.from_cached.forward(shown.reference_mask(list(things)).astype(np.uint8), labels=True)
        > 0
    )
    lines = [images.Outline(shown.lungs, images.CYAN), images.Outline(drawn, "#fff", dashed=True)]
    seen = []
    for row in rows.iter_rows(named=True):
        strength = saliency.upsample(maps[row["map"]], shown.image.shape[0])
        highest = float(strength.max())
        share = strength / highest if highest > 0 else np.zeros_like(strength)
        told = (
            f"region of {row['image_id']} under its {row['method']} map, score {row['score']:.3g}"
        )
        outline = images.Outline(share >= LEVEL, images.ORANGE)
        seen.append(
            images.image(images.heat(shown.image, share), alt_text=told, outlines=[*lines, outline])
        )
    inside = "; ".join(
        f"{row['method']}: {text.number(row['inside'])} of it in the lungs"
        for row in rows.iter_rows(named=True)
    )
    return {
        "image_id": first["image_id"],
        "score": f"{first['score']:.3g}",
        "pictures": seen,
        "inside": inside,
    }
