"""Select the images that a split deals out, and say which are left out and how to have them back.

Left out is what the data state to be no frontal chest radiograph (`hilum.eligibility`), unless `[split] include`
names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import polars as pl

from hilum import eligibility
from hilum.errors import NotFound, TooFew
from hilum.manifest import Manifest
from hilum.recipe import Data, Recipe

LEFT_OUT = "left out, no frontal chest radiographs"  # in the summary: counts by reason
NOT_STATED = "dealt out though not stated"  # and counts by field


@dataclass(frozen=True)
class Selection:
    """`kept` are the images to deal out, `left` the rows of the table that are not, with `reason`."""

    kept: Manifest
    left: pl.DataFrame
    data: Data

    def summary(self) -> dict[str, Any]:
        """Return counts for a person: images left out by reason, and of the others those that do not state a field."""
        told: dict[str, Any] = {}
        if self.left.height:
            told[LEFT_OUT] = eligibility.counts(self.left["reason"])
        if unstated := eligibility.unstated(self.kept.table):
            told[NOT_STATED] = dict(unstated)
        return told

    def remedy(self) -> str:
        """Return what was left out, and the recipe that deals it out all the same."""
        counts = eligibility.counts(self.left["reason"])
        said = ", ".join(f"{reason} ({count:,})" for reason, count in counts.items())
        setting = eligibility.setting_for(self.left)
        also = f"also = {json.dumps(self.data.also)}\n" if self.data.also else ""
        return (
            f"Left out as no frontal chest radiographs: {said}. To deal them out as well, add the last line "
            f"to the [split] of your recipe, or run this one:\n"
            f"[data]\nfolder = {json.dumps(self.data.folder)}\n{also}[split]\n{setting}"
        )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Add the remedy to an error of the block that the images left out may have caused."""
        try:
            yield
        except (TooFew, NotFound) as error:
            if not self.left.height:
                raise
            raise type(error)(f"{error}\n{self.remedy()}") from error


def select(manifest: Manifest, recipe: Recipe) -> Selection:
    """Raise `TooFew` where the data state of every image that it is no frontal chest radiograph."""
    found = manifest.table.with_columns(reason=eligibility.reasons(manifest.table, recipe.split.include))
    left, kept = found.filter(pl.col("reason").is_not_null()), eligibility.dealt_out(manifest, recipe.split.include)
    selection = Selection(kept, left, recipe.data)
    if left.height and not kept.table.height:
        raise TooFew(f"none of the {left.height:,} images can be dealt out. {selection.remedy()}")
    return selection
