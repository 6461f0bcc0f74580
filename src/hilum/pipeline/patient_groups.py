"""Group patients whom the audit found to have the same image: a group goes to one part as a
whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from hilum.dataset.manifest import Manifest


def grouped(
    manifest: Manifest, finding: str | None, same: Sequence[tuple[str, str]]
) -> pl.DataFrame:
    """Return the table of `hilum.pipeline.split` without part and fold.

    `same`: pairs of image ids that show the same image, whose patients become one group.
    """
    states = manifest.states(finding or "")
    table = manifest.table.select("image_id", "patient_id", "source").with_columns(
        state=states["state"]
    )
    group = _clusters(table["patient_id"].unique(), _patient_pairs(table, same))
    return table.with_columns(
        pl.col("patient_id").replace_strict(group, return_dtype=pl.String).alias("group")
    )


def _patient_pairs(
    table: pl.DataFrame, same: Sequence[tuple[str, str]]
) -> Iterable[tuple[str, str]]:
    patient = dict(zip(table["image_id"], table["patient_id"], strict=True))
    return ((patient[first], patient[second]) for first, second in same)


def _clusters(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the alphabetically first name of each name's cluster, once `pairs` are joined."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        """Follow the links to the cluster's name, shortening them on the way."""
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for pair in pairs:
        first, second = sorted(map(root, pair))
        parent[second] = first
    return {name: root(name) for name in parent}


def pairs_between(
    kept: Manifest, manifest: Manifest, same: Sequence[tuple[str, str]]
) -> Sequence[tuple[str, str]]:
    """Return pairs of kept images that join the patients whom `same` joins.

    `same`: pairs of any images of `manifest`, so that patients are joined through images left
    out too.
    """
    if kept is manifest:
        return same
    joined = _clusters(manifest.table["patient_id"].unique(), _patient_pairs(manifest.table, same))
    first_of: dict[str, str] = {}
    pairs = []
    for image_id, patient in kept.table.select("image_id", "patient_id").iter_rows():
        pairs.append((first_of.setdefault(joined[patient], image_id), image_id))
    return pairs
