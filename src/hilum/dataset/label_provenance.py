"""Labels: the ledger of where each one came from, the crosswalk between two sets, and what a change of mapping would change.

A cell of the label table is one image and one concept. The ledger counts cells by concept, state, the source's own term and the rule
that made them; `cells` gives single ones with the sentence they were read from. A crosswalk sets the terms of two manifests side by
side by concept. A change of mapping is tried on the table in memory; nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from hilum.annotations.vocabulary import LOCAL, STATE_NAMES, State, ancestors, concepts
from hilum.dataset.manifest import Manifest
from hilum.errors import BadRecipe, NotFound

LEDGER = ("concept", "term", "rule")


def ledger(manifest: Manifest) -> pl.DataFrame:
    """One row a concept, term and rule: images present, absent, uncertain and not mentioned, and an example of the source."""
    counts = [(pl.col("state") == state).sum().alias(word) for state, word in STATE_NAMES.items()]
    rows = (
        manifest.labels.group_by(LEDGER).agg(*counts, example=pl.col("source").first()).sort(LEDGER)
    )
    mentioned = dict(
        manifest.labels.group_by("concept").agg(pl.col("image_id").n_unique()).iter_rows()
    )
    silent = pl.col("concept").replace_strict(
        {concept: manifest.table.height - count for concept, count in mentioned.items()},
        return_dtype=pl.Int64,
    )
    return rows.with_columns(silent.alias("not mentioned")).select(
        *LEDGER, *STATE_NAMES.values(), "not mentioned", "example"
    )


def cells(manifest: Manifest, image: str) -> pl.DataFrame:
    """Every label of one image, with where and how it was read. Raises `NotFound` with the nearest image."""
    if image not in manifest.table["image_id"]:
        raise NotFound.named("image", image, manifest.table["image_id"])
    return manifest.labels.filter(pl.col("image_id") == image).drop("image_id")


def crosswalk(first: Manifest, second: Manifest) -> pl.DataFrame:
    """One row a concept of either: the terms and the images present in each, and the nearest wider concept that the other one labels.

    A concept that only one of two sets labels is not absent in the other; `wider` says what they may be compared by.
    """
    sides = [
        manifest.labels.group_by("concept").agg(
            pl.col("term").unique().sort().str.join(", ").alias(f"{side} terms"),
            (pl.col("state") == 1).sum().alias(f"{side} present"),
        )
        for side, manifest in (("first", first), ("second", second))
    ]
    joined = sides[0].join(sides[1], on="concept", how="full", coalesce=True).sort("concept")
    known = [set(side["concept"]) for side in sides]
    wider = [
        next(
            (up for up in _above(row["concept"]) if up in known[row["second terms"] is None]), None
        )
        if None in (row["first terms"], row["second terms"])
        else None
        for row in joined.iter_rows(named=True)
    ]
    return joined.with_columns(wider=pl.Series(wider, dtype=pl.String))


def remapped(manifest: Manifest, changes: Mapping[str, str]) -> pl.DataFrame:
    """What reading each term of `changes` as another concept would do: images by concept and state, before and after, where they differ.

    Where an image then has two labels of one concept, present goes before uncertain and that before absent. Raises `NotFound` for a term
    that labels nothing here, `BadRecipe` for a concept that the vocabulary does not know.
    """
    terms = manifest.labels["term"].unique()
    for term, concept in changes.items():
        if term not in terms:
            raise NotFound.named("term here", term, terms)
        if concept not in concepts() and not concept.startswith(LOCAL):
            raise BadRecipe(str(NotFound.named("concept", concept, concepts())))
    concept = pl.col("term").replace_strict(dict(changes), default=pl.col("concept"))
    strength = pl.col("state").replace_strict(
        {State.ABSENT: 0, State.UNCERTAIN: 1, State.PRESENT: 2}
    )
    after = (
        manifest.labels.with_columns(concept.alias("concept"))
        .sort(strength, descending=True, maintain_order=True)
        .unique(["image_id", "concept"], keep="first")
    )
    counted = [
        table.group_by("concept", "state").len(name)
        for name, table in (("before", manifest.labels), ("after", after))
    ]
    both = (
        counted[0]
        .join(counted[1], on=["concept", "state"], how="full", coalesce=True)
        .with_columns(pl.col("before", "after").fill_null(0))
    )
    return (
        both.filter(pl.col("before") != pl.col("after"))
        .with_columns(state=pl.col("state").replace_strict(STATE_NAMES, return_dtype=pl.String))
        .sort("concept", "state")
    )


def _above(concept: str) -> list[str]:
    return [] if concept.startswith(LOCAL) else list(ancestors(concept))
