"""Crop: cut both lungs or one out of every image, or keep it whole, reversibly.

    crop/images.u8       uint8 (n, size, size): the box of the lungs, or of one, with a margin, or
                         the whole image, letterboxed
    crop/index.parquet   image_id, row, top, left, bottom, right (of the box, in the cached image),
                         whole (whether it is the whole image), cut
    crop/typical.json    the mean box of the training part's reliable masks, in fractions of the
                         image; {} where too few are reliable

An image that is in no part has no region. A mask is reliable where its quality is at least that
of the recipe and it is not tiny. Elsewhere the region is the typical box, and without one the
whole image; `cut` says which of `lung_crop.CUTS` it is. A region whose mask is unreliable is not
blackened outside the mask either. Regions map back to the pixels of the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from hilum import storage
from hilum.config import LungCrop, Recipe
from hilum.imaging.geometry import Size
from hilum.imaging.image_stack import AsUint8, Checksums, ImageStack
from hilum.inference import lung_crop
from hilum.pipeline import _sharded, cache, division, segment
from hilum.pipeline._sharded import Rows
from hilum.pipeline._training import digests
from hilum.pipeline.step import Inputs, StepResult
from hilum.progress import Progress
from hilum.run_folder import Run
from hilum.storage import flushing

VERSION = 5
IMAGES, INDEX, TYPICAL = "crop/images.u8", "crop/index.parquet", "crop/typical.json"
COLUMNS = (
    dict.fromkeys(("image_id",), pl.String)
    | dict.fromkeys(("row", *lung_crop.SIDES), pl.Int64)
    | {"whole": pl.Boolean, "cut": pl.String, "crc32": pl.Int64}
)


# ---------------------------------------------------------------------------------------- the step


def made_from(run: Run, recipe: Recipe) -> Inputs:
    """Return the digests of masks, split and cache, and the settings."""
    return {
        "segment": run.made("segment"),
        "split": run.made("split"),
        "cache": run.made("cache"),
        "crop": recipe.section("crop"),
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> StepResult:
    """Crop every image that is in the split."""
    cached = cache.opened(run, recipe)
    found = run.table("segment", segment.INDEX)
    of = {
        image_id: (row, quality)
        for image_id, row, quality in found.select("image_id", "row", "quality").iter_rows()
    }
    masks = segment.found_masks(run, cached.size)
    dealt = run.table("split", "split.parquet")
    facts = cached.readable.join(dealt, on="image_id", how="semi", maintain_order="left").select(
        "image_id", "row", "height", "width"
    )
    typical = _typical(run, recipe, facts, of, masks)
    items = {
        image_id: _Place(row, place, tuple(size), *of.get(image_id, (None, 0.0)))
        for row, (image_id, place, *size) in enumerate(facts.iter_rows())
    }
    rows = Rows(run / IMAGES, recipe.crop.size)
    # The digest of the images takes as long as their way to the disk.
    with flushing.beside():
        regions = _sharded.results(
            run / "crop",
            _Cropping(cached.images, masks, recipe.crop, typical, rows),
            items,
            progress,
            made_from=made_from(run, recipe),
            rows=rows,
        )
        named = zip(items, regions, strict=True)
        table = pl.DataFrame(
            [{"image_id": name, **json.loads(one)} for name, one in named], schema=COLUMNS
        )
        storage.write_table(run / INDEX, table)
        storage.write_json(run / TYPICAL, typical)
        made = digests(run, [IMAGES, INDEX, TYPICAL])
    counts = {
        f"{how} in place of unreliable or missing lungs": int((table["cut"] == how).sum())
        for how in lung_crop.FLAGGED
    }
    return StepResult(made, {"regions": table.height, **counts})


class _Place(NamedTuple):
    """An image: row of its region, row in the cache, (height, width) of its file, row and quality
    of its mask.
    """

    row: int
    cached: int
    size: Size
    mask: int | None
    quality: float


@dataclass(frozen=True)
class _Cropping:
    """Crops one image, writes the region, and gives its row of the index as JSON."""

    images: ImageStack | AsUint8
    masks: ImageStack
    settings: LungCrop
    typical: Mapping[str, float]
    rows: Rows

    def __call__(self, place: _Place) -> bytes:
        image = self.images[place.cached]
        region = lung_crop.cut(
            image,
            np.zeros(image.shape, np.uint8) if place.mask is None else self.masks[place.mask],
            self.settings,
            quality=place.quality,
            typical=self.typical,
            size=place.size,
        )
        row = {
            "row": place.row,
            **{side: getattr(region.crop, side) for side in lung_crop.SIDES},
            "whole": region.how in (lung_crop.WHOLE, lung_crop.REQUESTED),
            "cut": region.how,
            "crc32": self.rows.write(place.row, region.image),
        }
        return storage.as_json(row).encode()


def _typical(
    run: Run,
    recipe: Recipe,
    facts: pl.DataFrame,
    of: Mapping[str, tuple[int, float]],
    masks: ImageStack,
) -> dict[str, float]:
    """Return the typical box, of the training part alone.

    Tune and test must not influence how they are cropped.
    """
    training = run.table("split", "split.parquet").filter(pl.col("part") == "train")["image_id"]
    boxes = []
    for image_id, _, *size in facts.filter(
        pl.col("image_id").is_in(training.implode())
    ).iter_rows():
        if image_id in of and (
            crop := lung_crop.box(masks[of[image_id][0]], recipe.crop, of[image_id][1])
        ):
            boxes.append((crop, tuple(size)))
    return lung_crop.typical_box(boxes)


@dataclass(frozen=True)
class Crops:
    """A run's regions."""

    images: np.ndarray | ImageStack  # uint8 (n, size, size)
    index: pl.DataFrame

    @classmethod
    def of(cls, run: Run, size: int) -> Crops:
        """Open the regions of a run, or of a fold."""
        index = run.table("crop", INDEX)
        sums = Checksums.of(index["row"], index["crc32"], run.remedy)
        return cls(ImageStack(run / IMAGES, size, checksums=sums), index)

    @classmethod
    def shown(cls, run: Run, size: int, image_ids: pl.Series) -> Crops:
        """Return the regions that the models were shown which scored these images.

        In a cross-validated run they are those of each image's own fold.
        """
        folds = division.folds(run)
        if not folds:
            return cls.of(run, size)
        fold_of = dict(run.table("split", "split.parquet").select("image_id", "fold").iter_rows())
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
        """Return the rows of `images`, int64, in the order of `image_ids`."""
        return image_ids.replace_strict(
            dict(zip(self.index["image_id"], self.index["row"], strict=True)), return_dtype=pl.Int64
        ).to_numpy()
