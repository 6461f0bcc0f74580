"""Deal patients into folds, so that every finding can be trained on outside each of them.

A table is one of `hilum.pipeline.split`: image_id, patient_id, group, source and more; what is
dealt is its groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from hilum.annotations.vocabulary import State
from hilum.config import ALL, Split
from hilum.dataset.manifest import Manifest
from hilum.pipeline.division import (
    CROSS_VALIDATED,
    FEWEST_PATIENTS,
    TUNE,
    Division,
    assign_parts,
    by_group,
    patients,
    too_few_patients,
)


def candidates(
    counted: pl.DataFrame, finding: str, also: Sequence[str], rare: Mapping[str, str]
) -> list[str]:
    """Return the concepts to train on, the leading one first; [] if the named `finding` is rare.

    They are those that [classify] names as `finding` and `also`; where it names none, all that are
    not too `rare`. `counted`: as `hilum.pipeline.division.patients` gives it.
    """
    rarer_state = pl.min_horizontal("present", "absent")
    by_size = counted.sort(rarer_state, "concept", descending=[True, False])["concept"]
    trainable = [concept for concept in by_size if concept not in rare]
    named = trainable[:1] if finding == "auto" else [finding]
    if not named or named[0] not in trainable:
        return []
    every = tuple(also) == (ALL,) or (finding == "auto" and not also)
    others = trainable if every else [concept for concept in also if concept in trainable]
    return list(dict.fromkeys([*named, *others]))


def cross_validated(
    manifest: Manifest,
    table: pl.DataFrame,
    settings: Split,
    wish: Division,
    concepts: list[str],
    kept: pl.DataFrame | None,
) -> tuple[pl.DataFrame, Division] | None:
    """Deal folds outside each of which every one of `concepts` can be trained on.

    A concept of which that cannot be had is left out; None where it is the leading one, or where
    the patients are too few. Without a concept, folds are for the lungs alone, and only where the
    recipe asks for them. `kept`: an earlier table, whose patients stay in their folds.
    """
    rare, seed, count = dict(wish.too_rare), settings.seed, wish.folds
    if table["group"].n_unique() < FEWEST_PATIENTS or (not concepts and settings.folds < 2):
        return None
    if concepts and too_few_patients(manifest, table, concepts):
        return None
    while True:
        dealt = deal_folds(manifest, table, concepts, count, seed, _kept(table, kept, count))
        lost = set()
        for number in range(count):
            of_fold = fold_table(manifest, dealt, concepts, number, seed)
            lost |= set(untrainable(manifest, of_fold, concepts))
        if not lost:
            break
        if concepts[0] in lost:
            return None
        why = f"in one of {count} folds no patient of either state would be left to train on"
        rare |= dict.fromkeys(sorted(lost), why)
        concepts = [concept for concept in concepts if concept not in lost]
    leading = concepts[0] if concepts else wish.finding
    states = manifest.states(leading or "").select("image_id", "state")
    dealt = dealt.drop("state").join(states, on="image_id", how="left", maintain_order="left")
    made = {"mode": CROSS_VALIDATED, "finding": leading, "concepts": tuple(concepts)}
    return dealt, replace(wish, too_rare=rare, **made)


def fold_count(table: pl.DataFrame) -> int:
    """Return how many folds an earlier table has; 0 of a single split."""
    folds = table["fold"].drop_nulls() if "fold" in table.columns else pl.Series([], dtype=pl.Int64)
    return int(folds.to_numpy().max(initial=-1)) + 1


def _kept(table: pl.DataFrame, kept: pl.DataFrame | None, folds: int) -> dict[str, str]:
    """Return the folds by group that an earlier table with as many folds settles.

    Groups whose patients stood in several are dealt anew.
    """
    if kept is None or fold_count(kept) != folds:
        return {}
    of_patient = kept.select("patient_id", "fold").unique()
    groups = table.join(of_patient, on="patient_id").group_by("group").agg(pl.col("fold").unique())
    return {group: str(fold[0]) for group, fold in groups.iter_rows() if len(fold) == 1}


def deal_folds(
    manifest: Manifest,
    table: pl.DataFrame,
    concepts: Sequence[str],
    count: int,
    seed: int,
    kept: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Add the column `fold`, 0 to count - 1, by group, spreading each finding over the folds.

    `kept`: folds by group that stay as they are.
    """
    dealt = assign_parts(
        _stratified(manifest, table, concepts),
        kept or {},
        {str(number): 1 / count for number in range(count)},
        seed,
    )
    return table.with_columns(fold=dealt.cast(pl.Int64))


def fold_table(
    manifest: Manifest, table: pl.DataFrame, concepts: Sequence[str], number: int, seed: int
) -> pl.DataFrame:
    """Add the column `part` of one fold's own split; it depends on no label of the fold itself."""
    others = table.filter(pl.col("fold") != number)
    parts = [pl.DataFrame(schema={"group": pl.String, "part": pl.String})]
    stratified = _by_group(_stratified(manifest, others, concepts))
    for _, stratum in stratified.group_by("state", maintain_order=True):
        # Each stratum by itself: of three patients with a finding tune gets one.
        dealt = assign_parts(stratum, {}, {"train": 1 - TUNE, "tune": TUNE}, seed)
        parts.append(stratum.select("group", dealt))
    part = by_group(table, pl.concat(parts).unique())
    return table.with_columns(part.fill_null("test"))


def untrainable(manifest: Manifest, table: pl.DataFrame, concepts: Sequence[str]) -> list[str]:
    """Return those of `concepts` of which a fold's train part has not both states."""
    counted = patients(manifest, table.filter(pl.col("part") == "train"))
    trainable = set(counted.filter(pl.min_horizontal("present", "absent") > 0)["concept"])
    return [concept for concept in concepts if concept not in trainable]


def _by_group(table: pl.DataFrame) -> pl.DataFrame:
    """Give every image the highest `state` of its group."""
    return table.with_columns(pl.col("state").max().over("group")).sort(
        "state", "group", "image_id"
    )


def _stratified(manifest: Manifest, table: pl.DataFrame, concepts: Sequence[str]) -> pl.DataFrame:
    """Give every image as `state` the rarest of `concepts` that it has: 0 none, rarer is higher."""
    counted = (
        patients(manifest, table)
        .filter(pl.col("concept").is_in(list(concepts)))
        .sort("present", "concept", descending=[True, False])
    )
    order = {concept: rank for rank, concept in enumerate(counted["concept"], start=1)}
    present = manifest.labels.filter(
        (pl.col("state") == State.PRESENT) & pl.col("concept").is_in(list(order))
    )
    rank = (
        present.select(
            "image_id", state=pl.col("concept").replace_strict(order, return_dtype=pl.Int8)
        )
        .group_by("image_id")
        .agg(pl.col("state").max())
    )
    return (
        table.drop("state")
        .join(rank, on="image_id", how="left", maintain_order="left")
        .with_columns(pl.col("state").fill_null(0))
    )
