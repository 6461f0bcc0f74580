"""Select the images that may enter a split, and say which are excluded and how to include them.

Images that the data state not to be frontal chest radiographs are excluded
(`hilum.annotations.eligibility`), unless `[split] include` lists their view, body part or modality.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from hilum.annotations import eligibility
from hilum.config import Data, Recipe
from hilum.dataset.manifest import Manifest
from hilum.errors import NotFound, TooFew
from hilum.pipeline.step import Summary

EXCLUDED = "excluded, not frontal chest radiographs"  # in the summary: counts by reason
NOT_STATED = "included though not stated"  # in the summary: counts by field


@dataclass(frozen=True)
class Selection:
    """Images that may enter the split, and rows of the table that may not, with `reason`."""

    included: Manifest
    excluded: pl.DataFrame
    data: Data

    def summary(self) -> Summary:
        """Count excluded images by reason, and included ones that do not state a field."""
        counts: Summary = {}
        if self.excluded.height:
            counts[EXCLUDED] = eligibility.counts(self.excluded["reason"])
        if unstated := eligibility.unstated(self.included.table):
            counts[NOT_STATED] = dict(unstated)
        return counts

    def remedy(self) -> str:
        """Say what is excluded, with a recipe that includes it."""
        counts = eligibility.counts(self.excluded["reason"])
        said = ", ".join(f"{reason} ({count:,})" for reason, count in counts.items())
        also = f"also = {json.dumps(self.data.also)}\n" if self.data.also else ""
        return (
            f"Excluded, as they are stated not to be frontal chest radiographs: {said}. To include "
            f"them, add the last line to the [split] of your recipe, or run this one:\n"
            f"[data]\nfolder = {json.dumps(self.data.folder)}\n{also}"
            f"[split]\n{eligibility.include_setting(self.excluded)}"
        )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Add the remedy to an error of the block that the exclusions may have caused."""
        try:
            yield
        except (TooFew, NotFound) as error:
            if not self.excluded.height:
                raise
            raise type(error)(f"{error}\n{self.remedy()}") from error


def select(manifest: Manifest, recipe: Recipe) -> Selection:
    """Select the images of `manifest`. Raises `TooFew` where every image is excluded."""
    include, table = recipe.split.include, manifest.table
    excluded = table.with_columns(eligibility.reasons(table, include)).drop_nulls("reason")
    selection = Selection(manifest.eligible(include), excluded, recipe.data)
    if excluded.height and not selection.included.table.height:
        raise TooFew(f"no image of {excluded.height:,} may enter the split. {selection.remedy()}")
    return selection
