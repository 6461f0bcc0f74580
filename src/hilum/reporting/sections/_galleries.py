"""Test images to examine: those called wrongly with the most extreme scores, and anomaly maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import Markup

from hilum.annotations.vocabulary import LABEL_NAMES, State
from hilum.drawing import images
from hilum.pipeline.cache import Cache
from hilum.pipeline.crop import Crops
from hilum.reporting.text import shortened

SHOWN = 4  # images of a gallery

CropsOf = Callable[[pl.Series], Crops]  # the lung crops of some image ids


@dataclass(frozen=True)
class Mistake:
    """A wrongly called image with the crop that the model saw, and its reading."""

    image_id: str
    image: Markup
    score: str
    reading: str


@dataclass(frozen=True)
class Mistakes:
    """The most extreme mistakes of one kind, and how many there are of it."""

    name: str
    count: int
    shown: list[Mistake]


@dataclass(frozen=True)
class AnomalyMap:
    """A lung crop, alone and under its anomaly map."""

    image_id: str
    plain: Markup
    image: Markup
    score: str
    state: str


@dataclass(frozen=True)
class MapGallery:
    """Anomaly maps of one choice of images."""

    name: str
    shown: list[AnomalyMap]


@dataclass(frozen=True)
class AnomalyMaps:
    """Galleries on one colour scale, from `low` to `high` in the map's own units."""

    low: str
    high: str
    galleries: list[MapGallery]


def mistakes(
    rows: pl.DataFrame, cached: Cache, crops_of: CropsOf, readings: Mapping[str, str | None]
) -> list[Mistakes]:
    """Return the wrongly called test images of either kind, the most extreme scores first.

    None without a threshold. `rows` are scores with calls, `readings` are by image id.
    """
    test = rows.filter((pl.col("part") == "test") & pl.col("called").is_not_nan())
    if not test.height:
        return []
    kinds = (
        ("Absent, but scored highest", State.ABSENT, 1, True),
        ("Present, but scored lowest", State.PRESENT, 0, False),
    )
    galleries = []
    for name, state, called, descending in kinds:
        wrong = test.filter((pl.col("state") == state) & (pl.col("called") == called))
        worst = wrong.sort("score", "image_id", descending=[descending, False]).head(SHOWN)
        shown = [
            _mistake(image_id, f"{score:.3g}", cached, crops_of(worst["image_id"]), readings)
            for image_id, score in worst.select("image_id", "score").iter_rows()
        ]
        galleries.append(Mistakes(name, wrong.height, shown))
    return galleries


def _mistake(
    image_id: str, score: str, cached: Cache, crops: Crops, readings: Mapping[str, str | None]
) -> Mistake:
    cut = crops.index.row(by_predicate=pl.col("image_id") == image_id, named=True)
    drawn = images.image(
        cached.images[cached.rows([image_id])[0]],
        alt_text=f"radiograph {image_id}, score {score}",
        box=images.Box(cut["top"], cut["left"], cut["bottom"], cut["right"]),
    )
    return Mistake(image_id, drawn, score, shortened(readings[image_id]))


def anomaly_maps(
    scores: pl.DataFrame, table: pl.DataFrame, maps: np.ndarray, crops_of: CropsOf
) -> AnomalyMaps:
    """Lay anomaly maps over the crops of the highest test scores, and of normal middling ones.

    `maps` float16 (rows, side, side) are in the order of `scores`, those of anomalies. One colour
    scale for all: from the median to the 99.9th percentile of the test part's map values, since the
    maximum of thousands of values is an outlier that would leave all others dark.
    """
    rows = scores.with_row_index("map").filter(pl.col("part") == "test")
    rows = rows.join(table.select("image_id", "state"), on="image_id", maintain_order="left")
    low, high = np.percentile(maps[rows["map"].to_numpy()].astype(np.float32), (50, 99.9))
    normal = rows.filter(pl.col("state") == State.ABSENT).sort("score", "image_id")
    middle = max((normal.height - SHOWN) // 2, 0)
    chosen = {
        "Highest scores of the test part": rows.sort(
            "score", "image_id", descending=[True, False]
        ).head(SHOWN),
        "Normal images of middling score": normal.slice(middle, SHOWN),
    }
    scale = float(max(high - low, 1e-6))
    galleries = []
    for name, some in chosen.items():
        shown = [
            _overlay(
                image_id,
                f"{score:.3g}",
                LABEL_NAMES[state],
                (maps[place].astype(np.float32) - low) / scale,
                crops_of(some["image_id"]),
            )
            for image_id, score, state, place in some.select(
                "image_id", "score", "state", "map"
            ).iter_rows()
        ]
        if shown:
            galleries.append(MapGallery(name, shown))
    return AnomalyMaps(f"{low:.3g}", f"{high:.3g}", galleries)


def _overlay(
    image_id: str, score: str, state: str, strength: np.ndarray, crops: Crops
) -> AnomalyMap:
    crop = crops.images[crops.rows(pl.Series([image_id]))[0]]
    description = f"lung crop of {image_id} under its anomaly map, score {score}"
    return AnomalyMap(
        image_id=image_id,
        plain=images.image(crop, alt_text=f"lung crop of {image_id}"),
        image=images.image(images.heat(crop, strength), alt_text=description),
        score=score,
        state=state,
    )
