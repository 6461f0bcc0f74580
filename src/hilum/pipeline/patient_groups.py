"""Group patients whom the audit found to have the same image: a group goes to one part as a
whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from hilum.dataset.manifest import Manifest
from hilum.dataset.patients import connected_components


def grouped(
    manifest: Manifest, finding: str | None, same: Sequence[tuple[str, str]]
) -> pl.DataFrame:
    """Return the table of `hilum.pipeline.split` without part and fold.

    `same`: pairs of image ids that show the same image, whose patients become one group.
    """
    table = manifest.table.select(
        "image_id", "patient_id", "source", state=manifest.label_states.column(finding or "")
    )
    if not same:
        return table.with_columns(group="patient_id")
    group = connected_components(table["patient_id"].unique(), _patient_pairs(table, same))
    return table.with_columns(
        pl.col("patient_id").replace_strict(group, return_dtype=pl.String).alias("group")
    )


def _patient_pairs(
    table: pl.DataFrame, same: Sequence[tuple[str, str]]
) -> Iterable[tuple[str, str]]:
    named = pl.Series([image for pair in same for image in pair], dtype=pl.String)
    patient = dict(
        table.filter(pl.col("image_id").is_in(named.implode()))
        .select("image_id", "patient_id")
        .iter_rows()
    )
    return ((patient[first], patient[second]) for first, second in same)


def pairs_between(
    kept: Manifest, manifest: Manifest, same: Sequence[tuple[str, str]]
) -> Sequence[tuple[str, str]]:
    """Return pairs of kept images that join the patients whom `same` joins.

    `same`: pairs of any images of `manifest`, so that patients are joined through images left
    out too.
    """
    if kept is manifest:
        return same
    joined = connected_components(
        manifest.table["patient_id"].unique(), _patient_pairs(manifest.table, same)
    )
    first_of: dict[str, str] = {}
    pairs = []
    for image_id, patient in kept.table.select("image_id", "patient_id").iter_rows():
        pairs.append((first_of.setdefault(joined[patient], image_id), image_id))
    return pairs
