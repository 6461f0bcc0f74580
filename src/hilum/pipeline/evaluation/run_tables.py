"""What the figures of a run are computed from: people, thresholds of a tune part, and lungs."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from hilum.config import Recipe
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.imaging.image_stack import ImageStack
from hilum.pipeline import cache, predict, segment
from hilum.pipeline.evaluation import classification, file_grid
from hilum.pipeline.evaluation.estimate import banded
from hilum.pipeline.evaluation.segmentation import file_spacing, overlaps
from hilum.pipeline.truth import truths
from hilum.run_folder import Run


def unseen(run: Run, table: pl.DataFrame) -> pl.DataFrame:
    """Return the split's rows without patients that a pretrained lung model was trained on.

    The model cannot be measured on these.
    """
    seen = table.join(segment.seen(run), on="image_id", how="semi").select("group").unique()
    return table.join(seen, on="group", how="anti", maintain_order="left")


def people(
    manifest: Manifest, table: pl.DataFrame, images: pl.Series | None = None
) -> pl.DataFrame:
    """Return image_id, group, source, sex, age (its band) and view of the split's images.

    With `images` only of those of these ids.
    """
    if images is not None:
        table = table.filter(pl.col("image_id").is_in(images.implode()))
    traits = manifest.table.select("image_id", "sex", "age_years", "view")
    return banded(
        table.select("image_id", "group", "source").join(
            traits, on="image_id", maintain_order="left"
        )
    )


def fitted_on_tune(run: Run, manifest: Manifest) -> classification.Calibrations:
    """Fit thresholds and calibrations on the tune part of a run, or of a fold."""
    scores = run.table("predict", predict.SCORES)
    tune = classification.known(
        scores.filter(pl.col("part") == "tune"),
        people(manifest, run.table("split", "split.parquet")),
        truths(manifest, scores["concept"].unique(), scores["image_id"]),
    )
    return classification.fits(tune, classification.scored(scores.lazy()))


class RunLungs(NamedTuple):
    """Predicted lungs of a run, or of one fold, and the images that they are measured on."""

    table: pl.DataFrame
    index: pl.DataFrame
    masks: ImageStack
    cached: Cache
    manifest: Manifest

    @classmethod
    def of(cls, run: Run, recipe: Recipe, manifest: Manifest) -> RunLungs:
        """Open those of a run, or of a fold, whose test part alone is pooled."""
        table = unseen(run, run.table("split", "split.parquet"))
        if run.parent is not None:
            table = table.filter(pl.col("part") == "test")
        masks = segment.found_masks(run, recipe.pixels.size)
        index = run.table("segment", segment.INDEX)
        return cls(table, index, masks, cache.opened(run, recipe), manifest)

    @property
    def spacing(self) -> dict[str, tuple[float, float]]:
        """Millimetres between rows and columns of each file, by image id."""
        return file_spacing(self.manifest.table, self.cached.index)

    def in_cache(self) -> pl.DataFrame:
        """Measure in the cached pixels."""
        known = self.cached.known_masks
        return overlaps(self.table, self.cached, self.index, self.masks, self.spacing, known)

    def in_files(self) -> file_grid.InFilePixels:
        """Measure in the pixels of the files."""
        row_of = dict(self.index.select("image_id", "row").iter_rows())
        return file_grid.overlaps(
            self.table, self.cached, self.manifest, row_of, self.masks, self.spacing
        )
