"""Scores of a finished run with what was chosen on its tune part, of which a step reads a few."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from hilum.pipeline.evaluation import classification
from hilum.pipeline.evaluation.classification import Calibrations


@dataclass(frozen=True)
class TransferredScores:
    """The scores `stored`, and what was `fitted` on tune parts, as `classification.transfer`."""

    stored: pl.LazyFrame
    fitted: Mapping[int, Calibrations] | Mapping[int | None, Calibrations]

    def of(self, task: str, concept: str | None = None, part: str | None = None) -> pl.DataFrame:
        """Return the rows of a task, of one concept and part of it where they are given.

        Columns as `hilum.pipeline.evaluation.classification.transfer` gives them.
        """
        wanted = {"task": task, "concept": concept, "part": part}
        kept = [pl.col(name) == value for name, value in wanted.items() if value is not None]
        return classification.transfer(self.stored.filter(*kept).collect(), self.fitted)

    def images(self, part: str) -> pl.DataFrame:
        """Return image_id and quality_flags of the images of a part, in the order of the scores."""
        of_part = self.stored.filter(pl.col("part") == part).select("image_id", "quality_flags")
        return of_part.unique("image_id", keep="first", maintain_order=True).collect()

    def each(self, part: str) -> list[tuple[str, str]]:
        """Return each task and concept of a part, in the order of the scores."""
        return classification.scored(self.stored.filter(pl.col("part") == part))
