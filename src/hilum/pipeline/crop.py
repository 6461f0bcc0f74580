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

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from hilum import storage
from hilum.config import Recipe
from hilum.imaging.image_stack import Checksums, ImageStack
from hilum.inference import lung_crop
from hilum.pipeline import cache, division, segment
from hilum.pipeline._training import digests
from hilum.pipeline.step import Inputs, StepResult
from hilum.progress import Progress
from hilum.run_folder import Run
from hilum.storage import integrity

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
    nothing = np.zeros((cached.size, cached.size), np.uint8)
    index = []
    with storage.writing(run / IMAGES) as stream:
        for row, (image_id, place, *size) in enumerate(facts.iter_rows()):
            at, quality = of.get(image_id, (None, 0.0))
            labels = nothing if at is None else masks[at]
            region = lung_crop.cut(
                cached.images[place],
                labels,
                recipe.crop,
                quality=quality,
                typical=typical,
                size=tuple(size),
            )
            stream.write(region.image.tobytes())
            crop = region.crop
            index.append(
                [
                    image_id,
                    row,
                    *(crop.top, crop.left, crop.bottom, crop.right),
                    region.how in (lung_crop.WHOLE, lung_crop.REQUESTED),
                    region.how,
                    integrity.checksum(region.image),
                ]
            )
            progress(row + 1, facts.height)
    table = pl.DataFrame(index, schema=COLUMNS, orient="row")
    storage.write_table(run / INDEX, table)
    storage.write_json(run / TYPICAL, typical)
    counts = {
        f"{how} in place of unreliable or missing lungs": int((table["cut"] == how).sum())
        for how in lung_crop.FLAGGED
    }
    return StepResult(digests(run, [IMAGES, INDEX, TYPICAL]), {"regions": table.height, **counts})


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
