"""A run as the report reads it: tables, settings and data cards, once for all sections."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

import polars as pl

from hilum import plugins
from hilum.annotations.vocabulary import name_of
from hilum.config import Recipe
from hilum.dataset.manifest import PARTS, Manifest
from hilum.inference import lung_crop
from hilum.pipeline import cache, crop, division, evaluate, explain, shortcuts
from hilum.pipeline._training import TRAINING
from hilum.pipeline.division import Division
from hilum.pipeline.evaluate import ALL
from hilum.pipeline.evaluation.transferred_scores import TransferredScores
from hilum.plugins import Card
from hilum.privacy import run_release
from hilum.privacy.release import PassedOn
from hilum.reporting import text
from hilum.run_folder import Run
from hilum.statistics.calibration import Fitted

NAMELESS = "no-patients"  # remark of a data set in which nothing names the patients
MADE_UP = "made-up"  # remark of a folder of synthetic images
OPTIONAL: dict[str, ModuleType] = {"shortcuts": shortcuts, "explain": explain}


@dataclass(frozen=True)
class LungCrops:
    """How many crops fall back for want of reliable lungs, and what the crops are of.

    `whole` images are used uncropped, `typical` ones are cropped to the training part's typical
    box; `all_whole` where no image is cropped, `requested` where the recipe says so.
    """

    whole: int
    typical: int
    all_whole: bool
    requested: bool


@dataclass(frozen=True)
class Context:
    """A run whose steps up to `evaluate` are done, as the report's sections read it.

    `table` is split.parquet; of a cross-validated run with every image in the test part, since each
    is tested once, by the models of its fold. `concept` is the finding that models are trained on,
    the leading one of several; None: no model was trained.
    """

    run: Run
    recipe: Recipe
    manifest: Manifest
    cached: cache.Cache
    table: pl.DataFrame
    metrics: pl.DataFrame
    cards: list[Card]
    concept: str | None
    division: Division

    @classmethod
    def of(cls, run: Run, recipe: Recipe) -> Context:
        """Read a run. Raises `NotFound` where a step has not been done."""
        manifest, divided = run.manifest(), Division.of(run)
        table = run.table("split", "split.parquet")
        if division.folds(run):
            table = table.with_columns(part=pl.lit("test"))
        names = manifest.table["dataset"].unique().sort()
        return cls(
            run,
            recipe,
            manifest,
            cache.opened(run, recipe),
            table,
            run.table("evaluate", evaluate.METRICS),
            [plugins.load("readers", name).CARD for name in names],
            divided.trained,
            divided,
        )

    @property
    def parts(self) -> list[str]:
        """Names of the parts that hold an image."""
        return [part for part in PARTS if self.part(part).height]

    def part(self, name: str) -> pl.DataFrame:
        """Return the rows of `table` in one part."""
        return self.table.filter(pl.col("part") == name)

    def figures(self, task: str, source: str = ALL) -> dict[str, text.Figure]:
        """Return the test part's figures of a task by metric; of scores, the leading finding's."""
        rows = self.metrics.filter(
            (pl.col("task") == task) & (pl.col("part") == "test") & (pl.col("source") == source)
        )
        found: dict[str, text.Figure] = {}
        for row in rows.iter_rows(named=True):
            if row.get("concept", self.concept) in (self.concept, "", None):
                found.setdefault(row["metric"], text.Figure.of(row))
        return found

    @property
    def finding(self) -> str | None:
        """Name of `concept` for a reader."""
        return name_of(self.concept) if self.concept else None

    @property
    def confidence(self) -> str:
        """Confidence of all intervals, as `95%`."""
        return f"{self.recipe.evaluate.confidence * 100:g}%"

    @property
    def made_up(self) -> bool:
        """Whether the images are synthetic."""
        return MADE_UP in self.manifest.remarks["rule"]

    @property
    def nameless(self) -> bool:
        """Whether nothing in the data names the patients."""
        return NAMELESS in self.manifest.remarks["rule"]

    @cached_property
    def split(self) -> pl.DataFrame:
        """split.parquet as it is stored."""
        return self.run.table("split", "split.parquet")

    @cached_property
    def folds(self) -> list[Run]:
        """The folds of a cross-validated run; else none."""
        return division.folds(self.run)

    @cached_property
    def passed(self) -> PassedOn:
        """The manifest under the names that may leave the run's folder."""
        return run_release.of_run(self.run, self.recipe.share, self.manifest)

    @cached_property
    def scores(self) -> TransferredScores:
        """Scores with the calls and probabilities that tuning gives them."""
        return evaluate.transferred_scores(self.run)

    @cached_property
    def calibration(self) -> dict[str, dict[str, Fitted]]:
        """Thresholds and calibration by task and concept, as evaluate wrote them to JSON."""
        return self.run.json("evaluate", evaluate.CALIBRATION)

    @cached_property
    def optional(self) -> tuple[str, ...]:
        """Names of the steps of `OPTIONAL` that were done on what is here now."""
        return done_on_this(self.run, self.recipe)

    @cached_property
    def untrained(self) -> bool:
        """Whether no model was trained at all, so that the report is a short one."""
        return not any(
            one.table(step, f"{step}/{TRAINING}").height
            for one in self.folds or [self.run]
            for step in ("segment", "train")
        )

    def crops_of(self, image_ids: pl.Series) -> crop.Crops:
        """Return the lung crops of some image ids."""
        return crop.Crops.shown(self.run, self.recipe.crop.size, image_ids)

    @cached_property
    def crops(self) -> LungCrops:
        """How many lung crops fall back to a typical box or to the whole image."""
        index = self.run.table("crop", crop.INDEX)
        whole, typical = (
            int((index["cut"] == how).sum()) for how in (lung_crop.WHOLE, lung_crop.BOX)
        )
        requested = bool((index["cut"] == lung_crop.REQUESTED).any())
        return LungCrops(whole, typical, bool(index["whole"].all()), requested)


def done_on_this(run: Run, recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the steps of `OPTIONAL` that are done and not outdated."""
    return tuple(
        name
        for name, step in OPTIONAL.items()
        if run.done(name) and run.finished(name, step.made_from(run, recipe))
    )
