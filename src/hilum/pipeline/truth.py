"""Join scores with the labels that the manifest states: the ground truth of every figure.

There is one way from a label to a figure: the manifest's label state of an image and concept
(`Manifest.states`). Images whose finding is not known to be present or absent take no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from hilum.annotations.vocabulary import State
from hilum.dataset.manifest import Manifest

SCHEMA = {"image_id": pl.String, "state": pl.Int8, "concept": pl.String}


def truths(
    manifest: Manifest, concepts: Iterable[str], images: pl.Series | None = None
) -> pl.DataFrame:
    """Return the label state of every image and each of `concepts`, as `SCHEMA`.

    `state` is null where the finding is not mentioned. With `images` only those of these ids: of
    a million images a tenth may be scored.
    """
    states = [
        of.select("image_id", "state", concept=pl.lit(concept))
        for concept, of in _by_concept(manifest, sorted(set(concepts)), images)
    ]
    return pl.concat(states) if states else pl.DataFrame(schema=SCHEMA)


def by_image(manifest: Manifest, concepts: Iterable[str], images: pl.Series) -> pl.DataFrame:
    """Return image_id of these images, and a column of states (int8) for each of `concepts`.

    They are in the manifest's order. It has what `truths` has, in a byte a state.
    """
    image_id = manifest.table["image_id"]
    wanted = image_id.is_in(images.implode())
    states = {
        concept: manifest.label_states.column(concept).filter(wanted)
        for concept in sorted(set(concepts))
    }
    return pl.DataFrame({"image_id": image_id.filter(wanted), **states})


def _by_concept(
    manifest: Manifest, concepts: Iterable[str], images: pl.Series | None
) -> Iterator[tuple[str, pl.DataFrame]]:
    wanted = None if images is None else pl.DataFrame({"image_id": images.unique()})
    for concept in concepts:
        of = manifest.states(concept)
        yield concept, of if wanted is None else of.join(wanted, on="image_id", how="semi")


def known(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep the rows whose `state` is present or absent."""
    return rows.filter(pl.col("state") >= State.ABSENT)


def with_known_state(scores: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    """Add `state` to rows of scores, and keep those whose finding is known to be present or absent.

    `states`: as `truths` returns them.
    """
    return known(scores.join(states, on=["image_id", "concept"], maintain_order="left"))
