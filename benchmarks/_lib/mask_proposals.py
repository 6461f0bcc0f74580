"""Propose lung masks for films of a source by a network that has not seen it, and list them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from benchmarks._lib.lung_films import AIR as AIR_SOURCES
from benchmarks._lib.lung_films import Films
from hilum.annotations import lung_masks
from hilum.annotations.lung_masks import AIR, FULL
from hilum.inference import lung_finder, next_to_draw
from hilum.inference.next_to_draw import Mix
from hilum.inference.onnx_model import LUNG_OUTPUTS
from hilum.statistics.bootstrap import Interval, bootstrap_many
from hilum.statistics.metrics.overlap import dice

GOOD = 0.95  # masks with a lower Dice need work
FIRST = (10, 20, 40)


def proposed(model, films: Films, rows: np.ndarray) -> list[dict[str, object]]:
    """Return of each film its patient, the Dice and the estimated quality of the proposal, and
    the disagreement of both protocols, by a network that has the output of both.
    """
    found = []
    for row in rows:
        image, size = films.images[row], tuple(films.sizes[row].tolist())
        protocol = AIR if films.sources[row] in AIR_SOURCES else FULL
        lungs = lung_finder.segment_lungs(model, image, size, protocol)
        likely = model(image)
        air, full = (
            lung_masks.from_probabilities(likely[LUNG_OUTPUTS[one]]) > 0 for one in (AIR, FULL)
        )
        truth = films.masks[row] > 0
        found.append(
            {
                "row": int(row),
                "patient": str(films.patients[row]),
                "dice": float(dice(truth, lungs.labels > 0)),
                "quality": lungs.quality,
                "disagreement": 1 - float(dice(air, full)) if air.any() or full.any() else 0.0,
            }
        )
    return found


def ranks(
    table: pl.DataFrame, features: np.ndarray, mix: Mix, estimate: str = "quality"
) -> np.ndarray:
    """Return the place of each row in the order, from 0.

    `estimate` is the uncertainty: "quality", "disagreement" or "both".
    """
    apart = pl.col("disagreement")
    candidates = table.select(
        pl.col("row").cast(pl.String).alias("image_id"),
        (1 - apart).alias("quality") if estimate == "disagreement" else pl.col("quality"),
        *([apart] if estimate == "both" else []),
    )
    ordered = next_to_draw.order(candidates, features, limit=table.height, mix=mix)
    place = dict(ordered.select("image_id", "rank").iter_rows())
    return np.array([place[image_id] - 1 for image_id in candidates["image_id"]])


def needing_work(table: pl.DataFrame, place: np.ndarray) -> list[Interval]:
    """Return how many of the `FIRST` masks of an order have a Dice below `GOOD`.

    With intervals over patients, each film at its place in the order of all.
    """
    bad = (table["dice"] < GOOD).to_numpy()

    def among(count: int):
        def statistic(rows: np.ndarray) -> float:
            first = rows[np.argsort(place[rows], kind="stable")][:count]
            return float(bad[first].sum())

        return statistic

    return bootstrap_many([among(count) for count in FIRST], table["patient"].to_numpy())


def by_chance(table: pl.DataFrame) -> Sequence[float]:
    """Return how many of `FIRST` masks in random order are expected to have a Dice below `GOOD`."""
    fraction = float((table["dice"] < GOOD).mean())
    return [count * fraction for count in FIRST]
