"""Saliency maps of some test images, their averages, and AUROC with parts of the image covered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import Markup

from hilum import storage
from hilum.annotations import shapes
from hilum.drawing import images
from hilum.errors import plural
from hilum.inference import saliency
from hilum.pipeline import explain
from hilum.reporting import text
from hilum.reporting.context import Context
from hilum.statistics.metrics.localisation import LEVEL

METHODS = {
    saliency.OCCLUSION: "occlusion (Zeiler and Fergus 2014): how much the logit falls where a "
    "patch is covered by a blurred one",
    saliency.ACTIVATION: "class activation map (Zhou et al. 2016), given by the model itself",
    explain.LUNG_CENTRES: "control that sees no image: the centre of a lung",
    explain.UNIFORM_IN_LUNGS: "control that sees no image: a random point in the lungs, and the "
    "box of the larger lung",
}
HEADS = {
    "inside": "Of the map in the lungs",
    "area": "Lungs, of the region",
    "gain": "Map over area",
    "pointing_game": "Pointing game",
    "box_iou": "Box IoU",
}


@dataclass(frozen=True)
class MapItem:
    """One image under each method's map; `inside` says how much of each map lies in the lungs."""

    image_id: str
    score: str
    images: list[Markup]
    inside: str


@dataclass(frozen=True)
class Gallery:
    """Images of one choice, such as the most confident mistakes."""

    name: str
    shown: list[MapItem]


@dataclass(frozen=True)
class Method:
    """The averages of one method, a cell for each of `HEADS`."""

    method: str
    meaning: str
    cells: list[str]


@dataclass(frozen=True)
class Covered:
    """AUROC of the same model with a part of the image covered."""

    shown: str
    figure: str
    images: int
    left_out: int


@dataclass(frozen=True)
class Saliency:
    """What the section shows. `annotated` images have a drawn shape of the finding on them."""

    galleries: list[Gallery]
    heads: list[str]
    figures: list[Method]
    annotated: int
    images: int
    level: str
    covered: list[Covered]


def of_context(context: Context) -> Saliency | None:
    """Describe the maps of the step `explain`; None where it was not done on what is here."""
    if not context.concept or "explain" not in context.optional:
        return None
    run, table = context.run, context.run.table("explain", explain.TABLE)
    (regions, places), wanted = explain.regions(run, context.recipe), set(table["image_id"])
    return describe(
        table,
        run.table("explain", explain.AVERAGES),
        run.table("explain", explain.COVERS),
        storage.read_array(run.file("explain", explain.MAPS)),
        {name: regions[place] for name, place in places.items() if name in wanted},
        explain.drawn_of(context.manifest, context.concept),
    )


def describe(
    table: pl.DataFrame,
    averages: pl.DataFrame,
    covered: pl.DataFrame,
    maps: np.ndarray,
    shown: Mapping[str, explain.Shown],
    annotations: Mapping[str, Sequence[shapes.Shape]],
) -> Saliency:
    """Describe maps in the rows of `table`; `annotations` are drawn shapes by image id."""
    rows = table.with_row_index("map").filter(~pl.col("method").is_in(explain.CONTROLS))
    galleries = []
    for choice in (*explain.CHOICES, explain.OTHERWISE):
        of_choice = rows.filter(pl.col("choice") == choice)
        ids = of_choice["image_id"].unique(maintain_order=True).head(explain.EACH)
        items = [
            _item(
                rows.filter(pl.col("image_id") == image_id),
                maps,
                shown[image_id],
                annotations.get(image_id, ()),
            )
            for image_id in ids
        ]
        if items:
            galleries.append(Gallery(choice.capitalize(), items))
    return Saliency(
        galleries=galleries,
        heads=list(HEADS.values()),
        figures=[
            Method(str(method), METHODS[str(method)], _cells(text.by_metric(some)))
            for (method,), some in averages.group_by("method", maintain_order=True)
        ],
        annotated=table.filter(pl.col("drawn") > 0)["image_id"].n_unique(),
        images=table["image_id"].n_unique(),
        level=f"{LEVEL:.0%}",
        covered=[
            Covered(
                row["shown"],
                text.interval(text.Figure.of(row), "auroc"),
                row["images"],
                row["left_out"],
            )
            for row in covered.iter_rows(named=True)
        ],
    )


def _cells(figures: Mapping[str, text.Figure]) -> list[str]:
    return [_cell(figures.get(metric), metric) for metric in HEADS]


def _cell(figure: text.Figure | None, metric: str) -> str:
    if figure is None:
        return text.DASH
    if not figure.images:
        return f"{text.DASH} (no value in any of {plural(figure.left_out, 'image')})"
    return text.mean(figure, metric, of_all=not figure.left_out)


def _item(
    rows: pl.DataFrame, maps: np.ndarray, shown: explain.Shown, things: Sequence[shapes.Shape]
) -> MapItem:
    """Draw a crop under each method's map, with the lungs, the map's highest part and shapes."""
    reference = shown.reference_mask(list(things)).astype(np.uint8)
    annotated = shown.from_cached.forward(reference, labels=True) > 0
    outlines = [
        images.Outline(shown.lungs, images.CYAN),
        images.Outline(annotated, "#fff", dashed=True),
    ]
    drawn, inside = [], []
    for row in rows.iter_rows(named=True):
        strength = saliency.upsample(maps[row["map"]], shown.image.shape[0])
        highest = float(strength.max())
        relative = strength / highest if highest > 0 else np.zeros_like(strength)
        description = (
            f"region of {row['image_id']} under its {row['method']} map, score {row['score']:.3g}"
        )
        top = images.Outline(relative >= LEVEL, images.ORANGE)
        heated = images.heat(shown.image, relative)
        drawn.append(images.image(heated, alt_text=description, outlines=[*outlines, top]))
        inside.append(f"{row['method']}: {text.number(row['inside'])} of it in the lungs")
    first = rows.row(0, named=True)
    return MapItem(first["image_id"], f"{first['score']:.3g}", drawn, "; ".join(inside))
