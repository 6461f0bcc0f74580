"""Measure the pointing game and box IoU of saliency maps on the boxes of NIH ChestX-ray14, beside
controls that see no image.

    python -m benchmarks.accuracy.explanations --data ../shared/data --work work --model
    RUN/train/finding.onnx
    python -m benchmarks.accuracy.explanations --data ../shared/data --work work --model
    shipped/tb.onnx --boxes infiltration nodule mass pneumonia

Any finding model that Hilum exported. Of each image with a box the lungs are found by the model
that comes with Hilum, the region is cut as the model's contract says, and the map is laid back onto
the cached image. A model is held against the boxes of its own findings where there are some, else
against those of --boxes, by its first finding. Controls: the centre of a lung, a random point in
the lungs, and the same model's map of the next image, which says how much of the agreement comes
from where lungs usually lie.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import polars as pl

from benchmarks._lib.results import machine, record
from hilum.annotations import shapes
from hilum.config import Evaluate, LungCrop, Pixels
from hilum.inference import lung_crop, lung_finder, pretrained
from hilum.inference.onnx_model import InputContract, OnnxModel
from hilum.pipeline import cache, explain, explanation_figures, ingest, shown_region
from hilum.statistics.metrics.localisation import LEVEL

LUNG_FINDINGS = (
    "atelectasis",
    "effusion",
    "infiltration",
    "mass",
    "nodule",
    "pneumonia",
    "pneumothorax",
)  # all but the heart's
ANOTHER = "of the next image"
SCHEMA = {
    "image_id": pl.String,
    "group": pl.String,
    "method": pl.String,
    **dict.fromkeys(explanation_figures.AVERAGED, pl.Float64),
    "drawn": pl.Int64,
}


def boxed(
    data: Path, work: Path, wanted: tuple[str, ...]
) -> Iterator[tuple[str, str, Any, tuple[int, int], list[shapes.Shape]]]:
    """Yield image, patient, cached image, its file's size and what is drawn of the
    wanted findings.
    """
    manifest = ingest.ingest(data / "nih-sample")
    things: dict[str, list[shapes.Shape]] = {}
    for concept in wanted:
        for image_id, drawn in explain.drawn_of(manifest, concept).items():
            things.setdefault(image_id, []).extend(drawn)
    cached = cache.fill(manifest.only(list(things)), Pixels(), work / "cache-nih")
    rows = cached.readable.join(
        manifest.table.select("image_id", "patient_id"), on="image_id"
    ).sort("image_id")
    for image_id, patient, row, *size in rows.select(
        "image_id", "patient_id", "row", "height", "width"
    ).iter_rows():
        yield image_id, patient, cached.images[row], tuple(size), things[image_id]


def shown(
    radiograph: Any, size: tuple[int, int], contract: InputContract, masked: bool
) -> shown_region.Shown:
    labels = lung_finder.segment_lungs(pretrained.lung_model(), radiograph, size).labels
    if contract.area == "whole":
        cut = lung_crop.cut(
            radiograph, labels * 0, LungCrop(size=contract.size), size=size
        )  # no lungs: the whole image
    else:
        cut = lung_crop.cut(
            radiograph, labels, LungCrop(size=contract.size, masked=masked), size=size
        )
    return shown_region.Shown(cut.image, labels, cut.crop, size)


def measured(
    model: OnnxModel, wanted: tuple[str, ...], arguments: argparse.Namespace
) -> pl.DataFrame:
    """Return the columns of SCHEMA, one row an image and method. A model of several findings is
    evaluated each one's boxes by that finding.
    """
    own = [concept for concept in model.contract.concepts if concept in wanted]
    rows = []
    for requested, boxes in [(concept, (concept,)) for concept in own] or [
        (model.contract.concepts[0], wanted)
    ]:
        at = explain.column(model.contract, requested)
        radiographs = [
            (*about, shown(radiograph, size, model.contract, arguments.masked), things)
            for *about, radiograph, size, things in boxed(arguments.data, arguments.work, boxes)
        ]
        maps = [list(explain.attributed(model, at, one, things)) for *_, one, things in radiographs]
        for number, (image_id, patient, one, things) in enumerate(radiographs):
            about, drawn = {"image_id": image_id, "group": patient}, one.reference_mask(things)
            rows += [
                {**about, "method": method, **reported} for method, reported, _ in maps[number]
            ]
            if len(radiographs) > 1:
                others = [
                    (method, found) for method, _, found in maps[number - 1] if found is not None
                ]
                rows += [
                    {
                        **about,
                        "method": f"{method} {ANOTHER}",
                        **explain.agreement(one.in_cached(found), drawn),
                    }
                    for method, found in others
                ]
        print(f"{requested}: {len(radiographs)} images", flush=True)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder that holds nih-sample/"
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="where the cache is kept until the next run"
    )
    parser.add_argument(
        "--model", type=Path, required=True, nargs="+", help="finding models that Hilum exported"
    )
    parser.add_argument(
        "--boxes", nargs="+", default=list(LUNG_FINDINGS), help="findings whose boxes count"
    )
    parser.add_argument(
        "--masked",
        action="store_true",
        help="regions are black outside the lungs, as the model's recipe had it",
    )
    parser.add_argument(
        "--no-record",
        action="store_true",
        help="print only, and leave the page of results as it is",
    )
    arguments = parser.parse_args()
    for path in arguments.model:
        model = OnnxModel(path)
        rows = measured(model, tuple(arguments.boxes), arguments)
        figures = explanation_figures.lines(explanation_figures.averages(rows, Evaluate()))
        cells = [
            list(figures.columns),
            ["---"] * figures.width,
            *([cell or "–" for cell in row] for row in figures.iter_rows()),
        ]
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        print("\n".join(lines), flush=True)
        command = (
            f"python -m benchmarks.accuracy.explanations --data {arguments.data} --work WORK"
            f" --model {path.name} --boxes"
            f" {' '.join(arguments.boxes)}{' --masked' * arguments.masked}"
        )
        note = (
            f"A model of {', '.join(model.contract.concepts)}; means over images, 95 % intervals"
            f" over patients. The found box is around the largest part at {LEVEL:.0%} of the map's"
            f" highest. {rows['image_id'].n_unique()} images with boxes are few: a difference"
            " inside the intervals is none."
        )
        if not arguments.no_record:
            record(
                f"Where it features: {path.stem} of {', '.join(model.contract.concepts)}",
                "\n".join([f"`{command}` on {machine('numpy', 'onnxruntime')}.", note, "", *lines]),
            )


if __name__ == "__main__":
    main()
