"""A finished run as one of several that are compared: as a model, and as a data set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from hilum.annotations.vocabulary import State
from hilum.config import Recipe
from hilum.pipeline import cache, predict
from hilum.pipeline.division import Division
from hilum.run_folder import Run
from hilum.runs.dataset_overlap import AuditedDataset

SCORES = {"image_id": pl.String, "task": pl.String, "concept": pl.String, "score": pl.Float64}


@dataclass(frozen=True)
class FinishedRun:
    """A run whose steps up to evaluate are done, under a name that is unique among several."""

    name: str
    run: Run

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that the run was made with."""
        return self.run.recipe()

    @cached_property
    def pixels(self) -> cache.Cache:
        """The cached images."""
        return cache.opened(self.run, self.run.recipe())

    @cached_property
    def data(self) -> AuditedDataset:
        """The data set, as overlaps with others are found in it."""
        return AuditedDataset(
            self.name, self.run.manifest(), self.pixels.index, self.pixels, self.run
        )

    @cached_property
    def split(self) -> pl.DataFrame:
        """split.parquet."""
        return self.run.table("split", "split.parquet")

    @property
    def held(self) -> pl.DataFrame:
        """The image_id of every image that the models were trained or tuned on."""
        return self.split.filter(pl.col("part") != "test").select("image_id")

    @property
    def finding(self) -> str | None:
        """The finding that models are trained on, the leading one of several."""
        return Division.of(self.run).trained

    @cached_property
    def cross_validated(self) -> bool:
        """Whether the run's own scores are those of several folds' models."""
        return Division.of(self.run).cross_validated

    @cached_property
    def scores(self) -> pl.DataFrame:
        """Its models' scores of its own tune and test part, with the columns `SCORES`."""
        return self.run.table("predict", predict.SCORES).select(list(SCORES))

    def truth(self, concept: str) -> pl.DataFrame:
        """Return image_id, group, part and state (0 or 1) of images with a known label."""
        states = self.data.manifest.states(concept).select("image_id", "state")
        return (
            self.split.select("image_id", "group", "part")
            .join(states, on="image_id", maintain_order="left")
            .filter(pl.col("state") >= State.ABSENT)
        )
