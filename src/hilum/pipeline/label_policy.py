"""Turn label states into training targets, by policies that the recipe names and the run counts.

Targets are float32 (images, concepts) in the manifest's order: 1 present, 0 absent, between them
a softened label, nan not trained on. Present and absent are never changed. An uncertain label
is, by `uncertain`, left out ("ignore"), absent ("zeros"), present ("ones"), or SOFT ("soft");
the first three as in CheXpert (Irvin et al. 2019, arXiv:1901.07031), the last after Pham et al.
2019 (arXiv:1911.06475), who draw a present label smoothed at random between 0.55 and 0.85: here
it is the middle of that, so that the same run gives the same model.

A finding that is not mentioned is, by `unmentioned`, left out ("ignore") or absent ("zeros"),
the latter only in data sets that state the finding of some image: one that never does did not
annotate it. So data sets with different label lists can be trained on together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import LABEL_NAMES, State
from hilum.config import ALL, Classify
from hilum.dataset.manifest import Manifest
from hilum.errors import NotFound

SOFT = 0.7  # the middle of 0.55 to 0.85, see above
VALUES: dict[str, float | None] = {"ignore": None, "zeros": 0.0, "ones": 1.0, "soft": SOFT}


@dataclass(frozen=True)
class Targets:
    """Training targets of some images and concepts."""

    image_ids: pl.Series
    concepts: tuple[str, ...]
    values: np.ndarray  # float32 (images, concepts)
    states: pl.DataFrame  # image_id and, by the name of each concept, its state

    def report(self) -> dict[str, str]:
        """Say by concept how many images of each state became what."""
        return {
            concept: _counted(self.states[concept], self.values[:, column])
            for column, concept in enumerate(self.concepts)
        }

    def of(self, image_ids: pl.Series) -> Targets:
        """Return the rows of these images, in the targets' order."""
        chosen = self.image_ids.is_in(image_ids.implode())
        return Targets(
            self.image_ids.filter(chosen),
            self.concepts,
            self.values[chosen.to_numpy()],
            self.states.filter(chosen),
        )

    def only(self, concepts: Sequence[str]) -> Targets:
        """Return the columns of these concepts."""
        columns = [self.concepts.index(concept) for concept in concepts]
        return Targets(
            self.image_ids,
            tuple(concepts),
            self.values[:, columns],
            self.states.select("image_id", *concepts),
        )

    def learnable(self) -> tuple[str, ...]:
        """Return the concepts with some target above one half and some below."""
        return tuple(
            concept
            for concept, values in zip(self.concepts, self.values.T, strict=True)
            if np.any(values > 0.5) and np.any(values < 0.5)
        )


def targets(
    manifest: Manifest,
    concepts: Sequence[str],
    *,
    uncertain: str = "ignore",
    unmentioned: str = "ignore",
) -> Targets:
    """Return the targets of all images; by default of known labels alone, as in figures."""
    states, columns = manifest.table.select("image_id"), []
    for concept in concepts:
        rows = manifest.states(concept)
        stated = pl.col("state").is_not_null().any().over("dataset")
        value = (
            pl.when(pl.col("state") >= State.ABSENT)
            .then(pl.col("state").cast(pl.Float32))
            .when(pl.col("state") == State.UNCERTAIN)
            .then(pl.lit(VALUES[uncertain], pl.Float32))
            .when(stated)
            .then(pl.lit(VALUES[unmentioned], pl.Float32))
        )
        columns.append(rows.select(value.fill_null(float("nan")))["state"].to_numpy())
        states = states.with_columns(rows["state"].alias(concept))
    values = np.stack(columns, 1) if columns else np.empty((states.height, 0), np.float32)
    return Targets(states["image_id"], tuple(concepts), values, states)


def wanted(manifest: Manifest, leading: str, settings: Classify) -> tuple[str, ...]:
    """Return the leading concept and those that the recipe names beside it, each once.

    Raises `NotFound` for one that labels no image.
    """
    labelled = sorted(manifest.labels["concept"].unique())
    also = labelled if settings.other_findings == (ALL,) else settings.other_findings
    for concept in also:
        if concept not in labelled:
            raise NotFound.named("finding with labels here", concept, labelled)
    return tuple(dict.fromkeys([leading, *also]))


def _counted(states: pl.Series, values: np.ndarray) -> str:
    parts = []
    for state, word in LABEL_NAMES.items():
        rows = (
            states.is_null() if state is None else (states == state).fill_null(False)
        ).to_numpy()
        for value in np.unique(values[rows]):  # nan is one value
            images = int((rows & ((values == value) | (np.isnan(value) & np.isnan(values)))).sum())
            parts.append(f"{images} {word}" + _became(state, float(value)))
    return ", ".join(parts) or "no image"


def _became(state: State | None, value: float) -> str:
    if np.isnan(value):
        return " left out"
    return "" if value == state else f" trained on as {value:g}"
