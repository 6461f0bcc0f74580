"""A study: what one desk shows, read from a run's folder.

A run need not be finished: after the steps ingest and cache its images can be seen, judged and
corrected; scores, predicted masks and figures are there where their steps are. Nothing of the run's
files is changed; what readers state goes to the journal in `annotations/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from hilum.imaging.files.pose import Display
from hilum.imaging.image_stack import ImageStack
from hilum.pipeline import audit, cache, division, evaluate, predict, reference_masks, segment
from hilum.pipeline.division import Division
from hilum.pipeline.evaluation import classification
from hilum.pipeline.reference_masks import ImageRow
from hilum.revisions.changes import split_issue_key
from hilum.run_folder import Run
from hilum.serve import slim
from hilum.serve.model_jobs import ImagePlace
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
# Columns of the cache's index that a desk needs.
KEPT = (
    *("image_id", "row", "error", "kind", "height", "width", "mask_error", "mask_ignored"),
    *("right_pixels", "left_pixels", "image_crc32", "mask_crc32"),
)
_ISSUE = ("rule", "image_id", "other_image_id")  # by which an issue is known
NO_CALL = -1  # beside 1 (present) and 0 (absent) among calls


@dataclass(frozen=True)
class FoundMasks:
    """Predicted lungs by the row of their image: one stack, or that of each fold."""

    stacks: Sequence[ImageStack]
    stack: np.ndarray  # int64 (images,): which stack, -1 without a predicted mask
    place: np.ndarray  # int64 (images,): row in it
    quality: np.ndarray  # float64 (images,): estimated Dice, nan without

    @classmethod
    def of(cls, study: Study) -> FoundMasks:
        """Open the masks of a run, or where it has folds those of each image's own fold."""
        run, size = study.run, study.recipe.pixels.size
        runs = division.folds(run) or [run]
        index = segment.index(run)
        if "fold" not in index.columns:
            index = index.with_columns(fold=pl.lit(0, pl.Int64))
        images = study.manifest.table.select("image_id")
        found = images.join(
            index.select("image_id", "row", "fold", "quality").unique("image_id"),
            on="image_id",
            how="left",
            maintain_order="left",
        )
        return cls(
            [segment.found_masks(one, size) for one in runs],
            found["fold"].fill_null(-1).to_numpy(),
            found["row"].fill_null(0).to_numpy(),
            found["quality"].fill_null(np.nan).to_numpy(),
        )

    def get(self, row: int) -> np.ndarray | None:
        """Return the labels of an image, uint8 (size, size); None where there are none."""
        stack = int(self.stack[row])
        return None if stack < 0 else self.stacks[stack][int(self.place[row])]


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
        cached = cache.opened(run, recipe)
        # Digests and signatures of 100,000 files would take more memory than everything else.
        index = slim.table(cached.index.select(KEPT))
        return cls(run, recipe, slim.manifest(run.manifest()), replace(cached, index=index))

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.run.folder.resolve().name

    def row(self, image_id: str | None) -> int | None:
        """Return the row of an image, by the order of the ids; None where it is not there."""
        ids = self.manifest.table["image_id"]
        if image_id is None:
            return None
        row = int(ids.search_sorted(image_id))
        return row if row < len(ids) and ids[row] == image_id else None

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
        (image,) = reference_masks.images(self.of_images([image_id]))
        return image

    def of_images(self, image_ids: list[str]) -> Manifest:
        """Return the manifest of some images."""
        return slim.some(self.manifest, image_ids)

    @cached_property
    def meanings(self) -> mask_files.Meanings:
        """What the values of mask files stand for, as the cache was filled with."""
        return reference_masks.stored_meanings(self.manifest, self.cached.folder)

    @cached_property
    def concepts(self) -> tuple[str, ...]:
        """The findings that labels or scores are of, the leading one first, then by name."""
        named = {*self.manifest.labels["concept"].unique(), *self.scores()["concept"].unique()}
        return tuple(sorted(named, key=lambda one: (one != self.finding, one)))

    @cached_property
    def finding(self) -> str | None:
        """The leading finding, None where no label has both states or nothing is split."""
        return Division.of(self.run).finding if self.run.done("split") else None

    @property
    def split(self) -> pl.DataFrame | None:
        """split.parquet; None where the set is not split yet."""
        return self.run.table("split", "split.parquet") if self.run.done("split") else None

    @property
    def parts(self) -> pl.DataFrame:
        """image_id and part of each image in the split.

        Of a cross-validated run it is test: each image is scored once, as a test image.
        """
        if self.split is None:
            return pl.DataFrame(schema={"image_id": pl.String, "part": pl.String})
        parts = self.split.select("image_id", "part")
        if Division.of(self.run).cross_validated:
            return parts.with_columns(part=pl.lit("test"))
        return parts

    @property
    def has_scores(self) -> bool:
        """Whether the run's models have scored its images."""
        return self.run.done("predict")

    def scores(self, image_id: str | None = None) -> pl.DataFrame:
        """Return scores of the run's models with their calls, `SCORED`; of one image or of all."""
        if not self.has_scores:
            return pl.DataFrame(schema=SCORED)
        scores = self.run.table("predict", predict.SCORES)
        if image_id is not None:
            scores = scores.filter(pl.col("image_id") == image_id)
        if self.run.done("evaluate"):
            scores = evaluate.transferred(self.run, scores)
        missing = {name: kind for name, kind in SCORED.items() if name not in scores.columns}
        found = scores.with_columns(
            pl.lit(float("nan") if kind == pl.Float64 else None, kind).alias(name)
            for name, kind in missing.items()
        )
        return found.select(list(SCORED))

    def calls(self) -> pl.DataFrame:
        """Return image_id, concept, score, called and call (1, 0 or NO_CALL) of findings' scores."""
        call = (
            pl.when((pl.col("no_call") != "") | pl.col("called").is_nan())
            .then(NO_CALL)
            .otherwise("called")
        )
        return (
            self.scores()
            .filter(pl.col("task") == "finding")
            .select("image_id", "concept", "score", "called", call=call.cast(pl.Int8))
        )

    @cached_property
    def found(self) -> FoundMasks | None:
        """The lungs that the run's models predicted; None where they were not yet."""
        return FoundMasks.of(self) if self.run.done("segment") else None

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
            table.drop("remedy")
            .with_columns(pl.col("rule", "severity").cast(pl.Categorical))
            .with_row_index("number")
            .join(rows, on="image_id", how="left", maintain_order="left")
            .join(others, on="other_image_id", how="left", maintain_order="left")
        )

    def numbers(self, keys: Sequence[str]) -> list[int]:
        """Return the numbers of issues by their keys in the journal, as far as they are there."""
        about = [split_issue_key(key) for key in keys]
        wanted = pl.DataFrame(about, schema=dict.fromkeys(_ISSUE, pl.String), orient="row")
        issues = self.issues.select(pl.col("rule").cast(pl.String), *_ISSUE[1:], "number")
        found = issues.join(wanted, on=_ISSUE, how="semi", nulls_equal=True)
        return found["number"].to_list()

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

    @property
    def flags(self) -> pl.DataFrame:
        """image_id and the suspected faults of each image that has any, comma separated."""
        schema = {"image_id": pl.String, "flags": pl.String}
        if not self.run.done("audit"):
            return pl.DataFrame(schema=schema)
        features = self.run.table("audit", audit.ORIENTATION).drop_nulls()
        found = predict.quality_flags(features, features["image_id"])
        return pl.DataFrame([one for one in found.items() if one[1]], schema=schema, orient="row")

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

    def place(self, row: int) -> ImagePlace:
        """Return where an image is and how it is displayed, for the process of the models."""
        path, root = self.file_place(row)
        return ImagePlace(path, root, Display.of(self.manifest.table.row(row, named=True)))
