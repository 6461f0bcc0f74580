"""Region: both lungs or one cut out of every picture, or the whole picture where the recipe asks for it; reversible to the file's own pixels.

    region/images.u8       uint8 (n, size, size): the box of the lungs, or of one, with a margin, or the whole picture, letterboxed
    region/index.parquet   image_id, row, top, left, bottom, right (of the box, in the cached picture), whole (it is the whole picture), cut
    region/typical.json    the mean box of the training part's believed lungs, in shares of the picture; {} where too few are believed

An image that is in no part has no region. A mask is believed where its quality is at least that of the recipe and it is not tiny. Elsewhere the region is the typical box, and without
one the whole picture; `cut` says which of CUTS it is. A region whose mask is not believed is not blackened outside it either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import polars as pl

from hilum import division, integrity, lungs, store
from hilum.radiograph import Chain, Crop, Letterbox, Size
from hilum.recipe import Recipe, Region
from hilum.run import Run
from hilum.stack import Checksums, Stack
from hilum.steps import Progress, cache, segment
from hilum.steps._training import digests

VERSION = 5
LEAST_LUNG = 0.02  # of the picture: less found lung is not believed, and the region is the whole picture
FEWEST = 8  # believed masks that a typical box is made of
IMAGES, INDEX, TYPICAL = "region/images.u8", "region/index.parquet", "region/typical.json"
LUNGS, BOX, WHOLE, ASKED = CUTS = ("lungs", "typical box", "whole picture", "whole picture as asked for")
ONE_LUNG = {f"{name} lung": side for name, side in lungs.SIDES.items()}  # by [region] content
DOUBTED = (BOX, WHOLE)  # in place of lungs that were not found or not believed
SIDES = ("top", "left", "bottom", "right")
Box = Mapping[str, float]
COLUMNS = dict.fromkeys(("image_id",), pl.String) | dict.fromkeys(("row", *SIDES), pl.Int64) | {"whole": pl.Boolean, "cut": pl.String, "crc32": pl.Int64}


@dataclass(frozen=True)
class Cut:
    """A region: uint8 (size, size), and the way back from it to the cached picture. `how` is one of CUTS."""

    image: np.ndarray
    crop: Crop
    how: str

    def to_file(self, size: Size) -> Chain:
        """The geometry from a file of (height, width) `size` to this region."""
        return Chain((Letterbox(size, self.crop.source[0]), self.crop, Letterbox(self.crop.target, self.image.shape[0])))


def cut(image: np.ndarray, labels: np.ndarray, settings: Region, *, quality: float = 1.0, typical: Box | None = None, size: Size = (1, 1)) -> Cut:
    """The region of one cached picture uint8 (s, s), of a file of (height, width) `size`, whose lungs are `labels`, of that quality."""
    found = box(labels, settings, quality)
    crop, how = _cut(found, settings, typical, Letterbox(size, image.shape[0]))
    if settings.masked and found:
        reach = max(1, round(settings.margin * 0.25 * min(crop.target)))  # a rim, so that the pleura stays in the picture
        inside = cv2.dilate((wanted(labels, settings) > 0).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
        image = image * inside
    return Cut(Letterbox(crop.target, settings.size).forward(crop.forward(image)), crop, how)


def _cut(found: Crop | None, settings: Region, typical: Box | None, letterbox: Letterbox) -> tuple[Crop, str]:
    """The crop and why it is that, of the box of believed lungs."""
    whole = Crop(letterbox.target, 0, 0, *letterbox.target)
    if settings.content == "whole":
        return whole, WHOLE if settings.masked and not found else ASKED
    if found:
        return found, LUNGS
    return (_placed(typical, letterbox), BOX) if typical else (whole, WHOLE)


def wanted(labels: np.ndarray, settings: Region) -> np.ndarray:
    """Those of the labels that the region is to hold."""
    side = ONE_LUNG.get(settings.content)
    return labels if side is None else np.where(labels == side, labels, 0).astype(labels.dtype)


def box(labels: np.ndarray, settings: Region, quality: float) -> Crop | None:
    """The bounding box of the lungs that are wanted, grown by a margin; None where the mask is not believed."""
    return _box(wanted(labels, settings), settings.margin) if quality >= settings.least_quality else None


def mean_box(boxes: Iterable[tuple[Crop, Size]]) -> dict[str, float]:
    """The typical box of boxes in cached pictures and the (height, width) of their files, in shares of the picture; {} of too few."""
    shares = []
    for crop, size in boxes:
        letterbox = Letterbox(size, crop.source[0])
        (top, left), (height, width) = letterbox.corner, letterbox.inner
        shares.append(((crop.top - top) / height, (crop.left - left) / width, (crop.bottom - top) / height, (crop.right - left) / width))
    return dict(zip(SIDES, np.clip(np.mean(shares, axis=0), 0, 1).round(4).tolist(), strict=True)) if len(shares) >= FEWEST else {}


def _placed(typical: Box, letterbox: Letterbox) -> Crop:
    (top, left), (height, width) = letterbox.corner, letterbox.inner
    first = top + round(typical["top"] * height), left + round(typical["left"] * width)
    last = top + round(typical["bottom"] * height), left + round(typical["right"] * width)
    return Crop(letterbox.target, *first, max(last[0], first[0] + 1), max(last[1], first[1] + 1))


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
    return {"segment": run.made("segment"), "split": run.made("split"), "cache": run.made("cache"), "region": recipe.section("region"), "version": VERSION}


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    pictures = cache.opened(run, recipe)
    found = run.table("segment", segment.INDEX)
    of = {image_id: (row, told) for image_id, row, told in found.select("image_id", "row", "quality").iter_rows()}
    masks = segment.found_masks(run, pictures.size)
    dealt = run.table("split", "split.parquet")
    facts = pictures.readable.join(dealt, on="image_id", how="semi", maintain_order="left").select("image_id", "row", "height", "width")
    typical = _typical(run, recipe, facts, of, masks)
    nothing = np.zeros((pictures.size, pictures.size), np.uint8)
    index = []
    with store.writing(run / IMAGES) as stream:
        for row, (image_id, place, *size) in enumerate(facts.iter_rows()):
            at, told = of.get(image_id, (None, 0.0))
            labels = nothing if at is None else masks[at]
            region = cut(pictures.images[place], labels, recipe.region, quality=told, typical=typical, size=tuple(size))
            stream.write(region.image.tobytes())
            crop = region.crop
            index.append([image_id, row, crop.top, crop.left, crop.bottom, crop.right, region.how in (WHOLE, ASKED), region.how, integrity.checksum(region.image)])
            progress(row + 1, facts.height)
    table = pl.DataFrame(index, schema=COLUMNS, orient="row")
    store.write_table(run / INDEX, table)
    store.write_json(run / TYPICAL, typical)
    counts = {f"{how} in place of doubtful or missing lungs": int((table["cut"] == how).sum()) for how in DOUBTED}
    return digests(run, [IMAGES, INDEX, TYPICAL]), {"regions": table.height, **counts}


def _typical(run: Run, recipe: Recipe, facts: pl.DataFrame, of: Mapping[str, tuple[int, float]], masks: np.ndarray) -> dict[str, float]:
    """Of the training part alone: tune and test must not decide how they are cut."""
    training = run.table("split", "split.parquet").filter(pl.col("part") == "train")["image_id"]
    boxes = []
    for image_id, _, *size in facts.filter(pl.col("image_id").is_in(training.implode())).iter_rows():
        if image_id in of and (crop := box(masks[of[image_id][0]], recipe.region, of[image_id][1])):
            boxes.append((crop, tuple(size)))
    return mean_box(boxes)


@dataclass(frozen=True)
class Regions:
    """A run's regions."""

    images: np.ndarray | Stack  # uint8 (n, size, size)
    index: pl.DataFrame

    @classmethod
    def of(cls, run: Run, size: int) -> Regions:
        index = run.table("region", INDEX)
        sums = Checksums.of(index["row"], index["crc32"], run.remedy)
        return cls(Stack(run / IMAGES, size, checksums=sums), index)

    @classmethod
    def shown(cls, run: Run, size: int, image_ids: pl.Series) -> Regions:
        """Return the regions that the models were shown which scored these images.

        In a cross-validated run they are those of each image's own fold.
        """
        folds = division.folds(run)
        if not folds:
            return cls.of(run, size)
        fold_of = dict(
            run.table("split", "split.parquet").select("image_id", "fold").iter_rows()
        )
        each = [cls.of(fold, size) for fold in folds]
        images, index = [np.zeros((0, size, size), np.uint8)], []
        for place, image_id in enumerate(image_ids.unique(maintain_order=True)):
            mine = each[fold_of[image_id]]
            images.append(mine.images[mine.rows(pl.Series([image_id]))])
            index.append(
                mine.index.filter(pl.col("image_id") == image_id).with_columns(
                    row=pl.lit(place, pl.Int64)
                )
            )
        return cls(np.concatenate(images), pl.concat([pl.DataFrame(schema=COLUMNS), *index]))

    def rows(self, image_ids: pl.Series) -> np.ndarray:
        return image_ids.replace_strict(dict(zip(self.index["image_id"], self.index["row"], strict=True)), return_dtype=pl.Int64).to_numpy()
