"""Lung regions with a finding or without for bench/anomaly.py and bench/patchcore.py: read once, cut along lungs that the shipped model finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hilum import quality, shipped, store
from hilum.recipe import Pixels, Region
from hilum.steps import cache, ingest, region

SETS = {"shenzhen": ("shenzhen", "tuberculosis"), "montgomery": ("montgomery", "tuberculosis"), "kermany": ("kermany-224", "pneumonia")}
"""of each set its folder and what is abnormal in it"""

CONTENTS = ("box", "masked", "whole")  # the lungs' box; the same, black outside the lungs; the whole letterboxed picture
CACHED, REGION = 256, 224  # pixels


@dataclass(frozen=True)
class Regions:
    """Pictures of which it is known whether the finding is there: images uint8 (n, REGION, REGION), and of each its patient, set, state, part."""

    images: np.ndarray
    patients: np.ndarray
    sources: np.ndarray
    ill: np.ndarray  # bool
    parts: np.ndarray  # train, tune or test where the set comes with parts, else ""

    def __add__(self, other: Regions) -> Regions:
        return self.over(lambda name: np.concatenate([getattr(self, name), getattr(other, name)]))

    def at(self, rows: np.ndarray) -> Regions:
        return self.over(lambda name: getattr(self, name)[rows])

    def over(self, made) -> Regions:
        return Regions(*(made(name) for name in self.__dataclass_fields__))


def read(data: Path, name: str, content: str, work: Path, *, most: int = 0) -> Regions:
    """One set. `most` of each part and state are taken, evenly spread; 0: all."""
    folder, concept = SETS[name]
    manifest = ingest.ingest(data / folder)
    table = manifest.table.join(manifest.states(concept).select("image_id", "state"), on="image_id").filter(pl.col("state") >= 0)
    table = table.with_columns(pl.col("given_part").fill_null("")).sort("image_id")
    if most:
        groups = table.partition_by("given_part", "state", maintain_order=True)
        table = pl.concat([one[:: max(1, -(-one.height // most))] for one in groups]).sort("image_id")
    pictures = cache.fill(manifest.only(table["image_id"]), Pixels(size=CACHED), work / f"cache-{name}")
    table = table.join(pictures.readable.select("image_id", "height", "width"), on="image_id").sort("image_id")
    images = pictures.images[pictures.rows(table["image_id"])]
    sizes = list(table.select("height", "width").iter_rows())
    labels, trusted = found(images, sizes, work / f"lungs-{name}-{store.digest(table['image_id'].to_list())[:8]}.npz")
    settings = Region(size=REGION, masked=content == "masked")
    if content == "whole":  # a mask that is not believed, and no typical box
        trusted = np.zeros(len(trusted))
    # what is cut away where a mask is doubted depends on no label, and on believed masks of the set alone
    boxes = ((crop, size) for mask, told, size in zip(labels, trusted, sizes, strict=True) if (crop := region.box(mask, settings, told)))
    typical = region.mean_box(boxes)
    cuts = [
        region.cut(image, mask, settings, quality=told, typical=typical, size=size).image
        for image, mask, told, size in zip(images, labels, trusted, sizes, strict=True)
    ]
    told = (np.array(table[column].to_list()) for column in ("patient_id", "state", "given_part"))
    patients, states, parts = told
    return Regions(np.stack(cuts), patients, np.full(len(cuts), name), states == 1, parts)


def found(images: np.ndarray, sizes: list[tuple[int, int]], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Lungs uint8 (n, CACHED, CACHED) and their quality (n,), by the shipped model; kept at `path`."""
    if not path.exists():
        model = shipped.lungs()
        told = [quality.find(model, image, size) for image, size in zip(images, sizes, strict=True)]
        with store.replacing(path) as beside, open(beside, "wb") as stream:
            np.savez_compressed(stream, labels=np.stack([one.labels for one in told]), quality=np.array([one.quality for one in told]))
    with np.load(path) as kept:
        return kept["labels"], kept["quality"]
