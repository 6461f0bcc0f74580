"""Provenance of labels: a ledger of their sources, a crosswalk of two sets, effects of a remapping.

A cell of the label table is one image and one concept. The ledger counts cells by concept, state,
the source's own term and the rule that made them; `cells` lists those of one image with the
sentence they were read from. A crosswalk compares the terms of two manifests by concept. A change
of mapping is tried in memory; nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from hilum.annotations.vocabulary import LOCAL, STATE_NAMES, State, ancestors, concepts
from hilum.dataset.manifest import Manifest
from hilum.errors import BadRecipe, NotFound

LEDGER = ("concept", "term", "rule")


def ledger(manifest: Manifest) -> pl.DataFrame:
    """Return counts of images by state, one row per concept, term and rule, with an example source.

    Columns: concept, term, rule, present, absent, uncertain, not mentioned, example.
    """
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
    """Return the labels of one image with source and rule. Raises `NotFound` with a near name."""
    if image not in manifest.table["image_id"]:
        raise NotFound.named("image", image, manifest.table["image_id"])
    return manifest.labels.filter(pl.col("image_id") == image).drop("image_id")


def crosswalk(first: Manifest, second: Manifest) -> pl.DataFrame:
    """Return the terms and present images of two sets, one row per concept of either.

    A concept that only one set labels is not absent in the other: `wider` is the nearest ancestor
    that the other set labels, by which the two may be compared, or null.
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
    wider: list[str | None] = []
    for row in joined.iter_rows(named=True):
        # The side that lacks the concept: 0, the first, or 1, the second; or neither.
        lacking = [
            at for at, side in enumerate(("first", "second")) if row[f"{side} terms"] is None
        ]
        concepts_there = known[lacking[0]] if lacking else set()
        wider.append(next((up for up in _above(row["concept"]) if up in concepts_there), None))
    return joined.with_columns(wider=pl.Series(wider, dtype=pl.String))


def remapped(manifest: Manifest, changes: Mapping[str, str]) -> pl.DataFrame:
    """Return the effect of mapping terms to other concepts, `changes` being concept by term.

    One row per concept and state whose number of images differs, with `before` and `after`. Where
    an image then has two labels of one concept, present wins over uncertain, and uncertain over
    absent. Raises `NotFound` for a term without labels, `BadRecipe` for an unknown concept.
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
