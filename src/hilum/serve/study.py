"""A study: what one desk shows, read from a run's folder.

A run need not be finished: after the steps ingest and cache its images can be seen, judged and
corrected; scores, predicted masks and figures are there where their steps are. Nothing of the run's
files is changed; what readers state goes to the journal in `annotations/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import STATE_NAMES
from hilum.audit import checks
from hilum.audit.issues import FOUND, Rule
from hilum.config import Recipe
from hilum.dataset import mask_files
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.errors import NotFound
from hilum.pipeline import audit, cache, evaluate, predict, reference_masks, segment
from hilum.pipeline.division import Division
from hilum.pipeline.evaluation import classification
from hilum.pipeline.reference_masks import ImageRow
from hilum.revisions.changes import issue_key
from hilum.run_folder import Run
from hilum.serve.replies import Json

SCORED = {
    "image_id": pl.String,
    "task": pl.String,
    "concept": pl.String,
    "part": pl.String,
    "fold": pl.Int64,
    "score": pl.Float64,
    "called": pl.Float64,
    "no_call": pl.String,
    "quality_flags": pl.String,
    "percentile": pl.Float64,
}
NO_CALL = -1  # beside 1 (present) and 0 (absent) among calls


@dataclass(frozen=True)
class Study:
    """A run as a desk shows it. An image is known by its row in the manifest's table."""

    run: Run
    recipe: Recipe
    manifest: Manifest
    cached: Cache

    @classmethod
    def of(cls, run: Run) -> Study:
        """Open a run. Raises `NotFound` with the command where its images are not cached yet."""
        recipe = run.recipe()
        return cls(run, recipe, run.manifest(), cache.opened(run, recipe))

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.run.folder.resolve().name

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each image, by image id."""
        return {image_id: row for row, image_id in enumerate(self.manifest.table["image_id"])}

    def image_id(self, row: int) -> str:
        """Return the id of the image in a row. Raises `NotFound` for a row that is not there."""
        table = self.manifest.table
        if not 0 <= row < table.height:
            raise NotFound(
                f"there is no image {row}: the study has images 0 to {table.height - 1}; "
                "open one from the worklist"
            )
        return str(table["image_id"][row])

    def image_row(self, row: int) -> ImageRow:
        """Return a row of the manifest's table with `drawn`, as reference masks are read by."""
        image_id = self.image_id(row)
        (image,) = reference_masks.images(self.manifest.only([image_id]))
        return image

    @cached_property
    def meanings(self) -> mask_files.Meanings:
        """What the values of mask files stand for, as the cache was filled with."""
        return reference_masks.stored_meanings(self.manifest, self.cached.folder)

    @cached_property
    def concepts(self) -> tuple[str, ...]:
        """The findings that labels or scores are of, the leading one first, then by name."""
        named = set(self.manifest.labels["concept"].unique()) | set(self.scores["concept"].unique())
        return tuple(sorted(named, key=lambda one: (one != self.finding, one)))

    @cached_property
    def finding(self) -> str | None:
        """The leading finding, None where no label has both states or nothing is split."""
        return Division.of(self.run).finding if self.run.done("split") else None

    @cached_property
    def split(self) -> pl.DataFrame | None:
        """split.parquet; None where the set is not split yet."""
        return self.run.table("split", "split.parquet") if self.run.done("split") else None

    @cached_property
    def parts(self) -> Mapping[str, str]:
        """The part of each image in the split, by image id.

        Of a cross-validated run it is test: each image is scored once, as a test image.
        """
        if self.split is None:
            return {}
        if Division.of(self.run).cross_validated:
            return dict.fromkeys(self.split["image_id"], "test")
        return dict(self.split.select("image_id", "part").iter_rows())

    @cached_property
    def scores(self) -> pl.DataFrame:
        """Scores of the run's models with their calls (`SCORED`); no row where there are none."""
        if not self.run.done("predict"):
            return pl.DataFrame(schema=SCORED)
        scores = self.run.table("predict", predict.SCORES)
        if self.run.done("evaluate"):
            scores = evaluate.transferred(self.run, scores)
        missing = {name: kind for name, kind in SCORED.items() if name not in scores.columns}
        found = scores.with_columns(
            pl.lit(float("nan") if kind == pl.Float64 else None, kind).alias(name)
            for name, kind in missing.items()
        )
        return found.select(list(SCORED))

    @cached_property
    def calls(self) -> pl.DataFrame:
        """image_id, concept, score, called and call (1, 0 or NO_CALL) of each score of a finding."""
        call = (
            pl.when((pl.col("no_call") != "") | pl.col("called").is_nan())
            .then(NO_CALL)
            .otherwise("called")
        )
        return self.scores.filter(pl.col("task") == "finding").select(
            "image_id", "concept", "score", "called", call=call.cast(pl.Int8)
        )

    @cached_property
    def found(self) -> segment.Masks | None:
        """The lungs that the run's models predicted; None where they were not yet."""
        if not self.run.done("segment"):
            return None
        return segment.Masks.of(self.run, self.recipe.pixels.size)

    @cached_property
    def quality(self) -> pl.DataFrame:
        """image_id and the estimated quality of its predicted lungs."""
        if not self.run.done("segment"):
            return pl.DataFrame(schema={"image_id": pl.String, "quality": pl.Float64})
        return segment.index(self.run).select("image_id", "quality").unique("image_id")

    @cached_property
    def issues(self) -> pl.DataFrame:
        """The audit's issues, worst first, with `number`, `row` and `other_row`."""
        found = [
            self.run.table(step, file)
            for step, file in (("audit", audit.ISSUES), ("segment", segment.ISSUES))
            if self.run.done(step)
        ]
        table = pl.concat([pl.DataFrame(schema=FOUND), *found], how="diagonal").select(list(FOUND))
        rows = self.manifest.table.select("image_id").with_row_index("row")
        others = rows.rename({"image_id": "other_image_id", "row": "other_row"})
        return (
            table.with_row_index("number")
            .join(rows, on="image_id", how="left", maintain_order="left")
            .join(others, on="other_image_id", how="left", maintain_order="left")
        )

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of each issue, by its key in the journal."""
        named = self.issues.select("rule", "image_id", "other_image_id", "number").iter_rows()
        return {issue_key(*about): number for *about, number in named}

    @cached_property
    def rules(self) -> Mapping[str, Rule]:
        """Every rule of an audit, by name."""
        return {**checks.rules(), segment.UNRELIABLE.name: segment.UNRELIABLE}

    @cached_property
    def has_reference(self) -> np.ndarray:
        """Whether each image has a reference mask that can be used, bool (images,)."""
        index = self.cached.index
        usable = (
            index["error"].is_null()
            & index["mask_error"].is_null()
            & ((index["right_pixels"].fill_null(0) + index["left_pixels"].fill_null(0)) > 0)
        )
        return usable.to_numpy()

    def stated(self, image_id: str, concept: str) -> list[dict[str, Json]]:
        """Return what the data state of a finding of an image, its state as a word."""
        labels = self.manifest.labels
        of = labels.filter((labels["image_id"] == image_id) & (labels["concept"] == concept))
        words = pl.col("state").replace_strict(STATE_NAMES, return_dtype=pl.String)
        return of.with_columns(words).drop("image_id", "concept").to_dicts()

    @cached_property
    def flags(self) -> Mapping[str, str]:
        """The suspected faults of each image, comma separated, by image id."""
        if not self.run.done("audit"):
            return {}
        features = self.run.table("audit", audit.ORIENTATION).drop_nulls()
        return predict.quality_flags(features, features["image_id"])

    @cached_property
    def fitted(self) -> Mapping[int | None, classification.Calibrations]:
        """What was chosen on tune parts, by fold; None is the key of a single split."""
        if not self.run.done("evaluate"):
            return {}
        if Division.of(self.run).cross_validated:
            of_folds = self.run.json("evaluate", evaluate.OF_FOLDS)
            return {int(number): of for number, of in of_folds.items()}
        return {None: self.run.json("evaluate", evaluate.CALIBRATION)}

    def threshold(self, task: str, concept: str, fold: int | None) -> float | None:
        """Return the threshold that a score is called by; None where none was chosen."""
        chosen = self.fitted.get(fold, {}).get(task, {}).get(concept)
        return chosen["threshold"] if chosen else None

    def of_patient(self, image_id: str) -> Sequence[int]:
        """Return the rows of the other images of the same patient."""
        table = self.manifest.table.select("image_id", "patient_id").with_row_index("row")
        patient = table.filter(pl.col("image_id") == image_id)["patient_id"]
        others = table.filter(
            (pl.col("patient_id") == patient[0]) & (pl.col("image_id") != image_id)
        )
        return others["row"].to_list()

    def file_place(self, row: int) -> tuple[Path, Path | None]:
        """Return the file of an image, and the `root` to read it with."""
        self.image_id(row)
        return self.manifest.located(self.manifest.table["path"][row])
