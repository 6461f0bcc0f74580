"""Region: both lungs or one cut out of every picture, or the whole picture where the recipe asks for it; reversible to the file's own pixels.

    crop/images.u8       uint8 (n, size, size): the box of the lungs, or of one, with a margin, or the whole picture, letterboxed
    crop/index.parquet   image_id, row, top, left, bottom, right (of the box, in the cached picture), whole (it is the whole picture), cut
    crop/typical.json    the mean box of the training part's believed lungs, in shares of the picture; {} where too few are believed

An image that is in no part has no region. A mask is believed where its quality is at least that of the recipe and it is not tiny. Elsewhere the region is the typical box, and without
one the whole picture; `cut` says which of CUTS it is. A region whose mask is not believed is not blackened outside it either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.config import Recipe
from hilum.imaging.image_stack import Checksums, ImageStack
from hilum.inference import lung_crop
from hilum.pipeline import cache, division, segment
from hilum.pipeline._training import digests
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


# ------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    return {
        "segment": run.made("segment"),
        "split": run.made("split"),
        "cache": run.made("cache"),
        "crop": recipe.section("crop"),
        "version": VERSION,
    }


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    pictures = cache.opened(run, recipe)
    found = run.table("segment", segment.INDEX)
    of = {
        image_id: (row, told)
        for image_id, row, told in found.select("image_id", "row", "quality").iter_rows()
    }
    masks = segment.found_masks(run, pictures.size)
    dealt = run.table("split", "split.parquet")
    facts = pictures.readable.join(dealt, on="image_id", how="semi", maintain_order="left").select(
        "image_id", "row", "height", "width"
    )
    typical = _typical(run, recipe, facts, of, masks)
    nothing = np.zeros((pictures.size, pictures.size), np.uint8)
    index = []
    with storage.writing(run / IMAGES) as stream:
        for row, (image_id, place, *size) in enumerate(facts.iter_rows()):
            at, told = of.get(image_id, (None, 0.0))
            labels = nothing if at is None else masks[at]
            region = lung_crop.cut(
                pictures.images[place],
                labels,
                recipe.crop,
                quality=told,
                typical=typical,
                size=tuple(size),
            )
            stream.write(region.image.tobytes())
            crop = region.crop
            index.append(
                [
                    image_id,
                    row,
                    crop.top,
                    crop.left,
                    crop.bottom,
                    crop.right,
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
        f"{how} in place of doubtful or missing lungs": int((table["cut"] == how).sum())
        for how in lung_crop.FLAGGED
    }
    return digests(run, [IMAGES, INDEX, TYPICAL]), {"regions": table.height, **counts}


def _typical(
    run: Run,
    recipe: Recipe,
    facts: pl.DataFrame,
    of: Mapping[str, tuple[int, float]],
    masks: np.ndarray,
) -> dict[str, float]:
    """Of the training part alone: tune and test must not decide how they are cut."""
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
        return image_ids.replace_strict(
            dict(zip(self.index["image_id"], self.index["row"], strict=True)), return_dtype=pl.Int64
        ).to_numpy()
