"""Summarise saliency maps over images, and measure what covering the lungs costs a model.

Both are figures with intervals over patients: means of the maps' measures by method (`FIGURES`),
and the AUROC of the same model on the same images as it was shown the regions, with the lungs
covered by the mean grey level around them, and with all else covered (`COVERED`). A model that
recognises the finding without the lungs has learned something other than the finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import State
from hilum.config import Evaluate
from hilum.imaging.geometry import Letterbox
from hilum.inference import saliency
from hilum.inference.onnx_model import OnnxModel
from hilum.pipeline import _shortcut_probes
from hilum.pipeline.shown_region import Shown
from hilum.statistics import bootstrap
from hilum.statistics.metrics import discrimination

NAN = float("nan")
AS_SHOWN, WITHOUT, ALONE = "as shown", "lungs covered", "all but the lungs covered"
COVERED = {
    "shown": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n_undefined": pl.Int64,
    "images": pl.Int64,
    "patients": pl.Int64,
    "positives": pl.Int64,
    "left_out": pl.Int64,
}
AVERAGED = ("inside", "area", "gain", "pointing_game", "box_iou")
FIGURES = {
    "method": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n_undefined": pl.Int64,
    "images": pl.Int64,
    "patients": pl.Int64,
    "left_out": pl.Int64,
}


def occlusion_variants(shown: Shown) -> dict[str, np.ndarray]:
    """Return the region as it is, without the lungs and with them alone.

    Covered pixels get the mean grey level of the rest; the border of the letterbox stays.
    """
    inside = Letterbox(shown.crop.target, shown.image.shape[0]).inside()
    lung, wide = (mask[inside] for mask in (shown.lungs, _shortcut_probes.rimmed(shown.lungs)))
    made = {name: shown.image.copy() for name in (AS_SHOWN, WITHOUT, ALONE)}
    made[WITHOUT][inside][wide] = (
        round(float(shown.image[inside][~wide].mean())) if not wide.all() else 0
    )
    made[ALONE][inside][~lung] = round(float(shown.image[inside][lung].mean()))
    return made


def logits_covered(model: OnnxModel, at: int, shown: Shown) -> list[float]:
    """Return the logits of AS_SHOWN, WITHOUT and ALONE; none where no lungs are in the region.

    `at`: column of the finding among the model's outputs.
    """
    if not shown.lungs.any():
        return []
    made = np.stack(list(occlusion_variants(shown).values()))
    return saliency.logits(model, made, at).tolist()


def covered(
    found: Mapping[str, Sequence[float]], rows: pl.DataFrame, settings: Evaluate
) -> pl.DataFrame:
    """Return the AUROC of a model with parts of its regions covered, as COVERED.

    `found`: `logits_covered` by image id. `rows`: image_id, group and state (1 or 0); those without
    lungs in their region are counted in `left_out`.
    """
    requested = rows.height
    rows = rows.filter(
        pl.Series([bool(found[image_id]) for image_id in rows["image_id"]], dtype=pl.Boolean)
    )
    each = [found[image_id] for image_id in rows["image_id"]]
    scores = dict(zip((AS_SHOWN, WITHOUT, ALONE), zip(*each, strict=True), strict=bool(each)))
    truth = rows["state"].to_numpy()
    about = {
        "images": rows.height,
        "patients": rows["group"].n_unique(),
        "positives": int((rows["state"] == State.PRESENT).sum()),
        "left_out": requested - rows.height,
    }
    measured = []
    for name, logits in scores.items():
        values = np.array(logits)
        interval = bootstrap.bootstrap_patients(
            lambda some, values=values: discrimination.auroc(truth[some], values[some]),
            rows["group"].to_list(),
            resamples=settings.bootstrap,
            confidence=settings.confidence,
            seed=settings.seed,
        )
        measured.append({"shown": name, **about, **interval._asdict()})
    return pl.DataFrame(measured, schema=COVERED, orient="row")


def averages(maps: pl.DataFrame, settings: Evaluate) -> pl.DataFrame:
    """Compute the mean of each method over the images in which a figure is defined.

    `images` counts these; `left_out` counts the images in which it is undefined, as where no
    lung was found. An image without an outline of the finding has no figure of it, and counts in
    neither.
    """
    rows = []
    for (method,), of in maps.group_by("method", maintain_order=True):
        for metric in AVERAGED:
            measured = of.drop_nulls(metric)
            defined = measured.filter(pl.col(metric).is_not_nan())
            if not measured.height:
                continue
            values = defined[metric].to_numpy()
            found = bootstrap.bootstrap_patients(
                lambda at, values=values: float(values[at].mean()) if at.size else NAN,
                defined["group"].to_list(),
                resamples=settings.bootstrap,
                confidence=settings.confidence,
                seed=settings.seed,
            )
            held = {"images": defined.height, "patients": defined["group"].n_unique()}
            left_out = measured.height - defined.height
            about = {"method": method, "metric": metric, **held, "left_out": left_out}
            rows.append({**about, **found._asdict()})
    return pl.DataFrame(rows, schema=FIGURES, orient="row")


def lines(figures: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each method, with its figures as text."""
    rows = []
    shown = ("value", "ci_low", "ci_high", "images", "left_out")
    for (method,), of in figures.group_by("method", maintain_order=True):
        cells = {
            metric: _cell(*figure) for metric, *figure in of.select("metric", *shown).iter_rows()
        }
        rows.append({"method": method, **{metric: cells.get(metric) for metric in AVERAGED}})
    return pl.DataFrame(rows)


def _cell(value: float, low: float, high: float, images: int, left_out: int) -> str:
    count = f"{images} of {images + left_out} images" if left_out else f"{images} images"
    return f"{value:.2f} ({low:.2f}-{high:.2f}, {count})" if images else f"– ({count})"
