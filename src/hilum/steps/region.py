"""Region: the lungs cut out of every picture, reversible to the file's own pixels.

    region/images.u8       uint8 (n, size, size): the box of both lungs with a margin, letterboxed
    region/index.parquet   image_id, row, top, left, bottom, right (of the box, in the cached picture), whole (no lungs to cut out)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from hilum import store
from hilum.radiograph import Chain, Crop, Letterbox, Size
from hilum.recipe import Recipe, Region
from hilum.run import Run
from hilum.steps import Progress, cache, segment
from hilum.steps._training import digests

VERSION = 1
LEAST_LUNG = 0.02  # of the picture: less found lung is not believed, and the region is the whole picture
IMAGES, INDEX = "region/images.u8", "region/index.parquet"
COLUMNS = {name: pl.Int64 for name in ("row", "top", "left", "bottom", "right")}


@dataclass(frozen=True)
class Cut:
    """A region: uint8 (size, size), and the way back from it to the cached picture."""

    image: np.ndarray
    crop: Crop
    whole: bool

    def to_file(self, size: Size) -> Chain:
        """The geometry from a file of (height, width) `size` to this region."""
        return Chain((Letterbox(size, self.crop.source[0]), self.crop, Letterbox(self.crop.target, self.image.shape[0])))


def cut(image: np.ndarray, labels: np.ndarray, settings: Region) -> Cut:
    """The region of one cached picture uint8 (s, s) whose lungs are `labels`."""
    crop = _box(labels, settings.margin)
    whole = crop is None
    crop = crop or Crop(image.shape, 0, 0, *image.shape)
    if settings.masked and not whole:
        reach = max(1, round(settings.margin * 0.25 * min(crop.target)))  # a rim, so that the pleura stays in the picture
        inside = cv2.dilate((labels > 0).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
        image = image * inside
    return Cut(Letterbox(crop.target, settings.size).forward(crop.forward(image)), crop, whole)


def _box(labels: np.ndarray, margin: float) -> Crop | None:
    """The lungs' bounding box grown by `margin` of its sides, within the picture; None where too little lung was found."""
    if (labels > 0).mean() < LEAST_LUNG:
        return None
    ends = []
    for axis in (0, 1):
        covered = np.flatnonzero((labels > 0).any(axis=1 - axis))
        first, last = int(covered[0]), int(covered[-1]) + 1
        more = round(margin * (last - first))
        ends.append((max(0, first - more), min(labels.shape[axis], last + more)))
    (top, bottom), (left, right) = ends
    return Crop(labels.shape, top, left, bottom, right)


# ------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    return {"segment": run.made("segment"), "cache": run.made("cache"), "region": recipe.section("region"), "version": VERSION}


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    pictures = cache.opened(run, recipe)
    found = store.read_table(run / segment.INDEX)
    row_of = dict(zip(found["image_id"], found["row"], strict=True))
    masks = store.map_pictures(run / segment.MASKS, pictures.size)
    nothing = np.zeros((pictures.size, pictures.size), np.uint8)
    index = []
    with store.replacing(run / IMAGES) as beside, open(beside, "wb") as stream:
        for row, (image_id, place) in enumerate(pictures.readable.select("image_id", "row").iter_rows()):
            labels = masks[row_of[image_id]] if image_id in row_of else nothing
            region = cut(pictures.images[place], labels, recipe.region)
            stream.write(region.image.tobytes())
            crop = region.crop
            index.append([image_id, row, crop.top, crop.left, crop.bottom, crop.right, region.whole])
            progress(row + 1, pictures.readable.height)
    table = pl.DataFrame(index, schema={"image_id": pl.String, **COLUMNS, "whole": pl.Boolean}, orient="row")
    store.write_table(run / INDEX, table)
    return digests(run, [IMAGES, INDEX]), {"regions": table.height, "whole pictures, for want of lungs": int(table["whole"].sum())}


@dataclass(frozen=True)
class Regions:
    """A run's regions."""

    images: np.ndarray  # uint8 (n, size, size)
    index: pl.DataFrame

    @classmethod
    def of(cls, folder: Path, size: int) -> Regions:
        return cls(store.map_pictures(folder / IMAGES, size), store.read_table(folder / INDEX))

    def rows(self, image_ids: pl.Series) -> np.ndarray:
        return image_ids.replace_strict(dict(zip(self.index["image_id"], self.index["row"], strict=True)), return_dtype=pl.Int64).to_numpy()
