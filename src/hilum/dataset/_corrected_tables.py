"""What each action of a corrections file changes in a manifest's tables.

Images are named by their ids, which are in the table; `hilum.dataset.corrections` checks that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import polars as pl

from hilum.annotations import lung_masks
from hilum.dataset.manifest import LABEL_COLUMNS, MASK_COLUMNS, Manifest
from hilum.dataset.patients import connected_components

_OF_FINDING = ("side", "zone", "activity")


def without_masks(manifest: Manifest, images: Collection[str]) -> Manifest:
    """Return the manifest without the lung masks of these images, files and drawn ones."""
    cells = [
        pl.when(~pl.col("image_id").is_in(images)).then(column).alias(column)
        for column in MASK_COLUMNS
    ]
    drawn = pl.col("image_id").is_in(images) & pl.col("concept").is_in(list(lung_masks.REFERENCE))
    return replace(
        manifest, table=manifest.table.with_columns(cells), shapes=manifest.shapes.filter(~drawn)
    )


def with_sides_exchanged(manifest: Manifest, images: Collection[str]) -> Manifest:
    """Return the manifest in which right and left lung masks of these images are exchanged."""
    wrong = pl.col("image_id").is_in(images)
    right, left = "right_lung_mask", "left_lung_mask"
    cells = [
        pl.when(wrong).then(two).otherwise(one).alias(one)
        for one, two in ((right, left), (left, right))
    ]
    concept = (
        pl.when(wrong)
        .then(pl.col("concept").replace({"right_lung": "left_lung", "left_lung": "right_lung"}))
        .otherwise("concept")
    )
    return replace(
        manifest,
        table=manifest.table.with_columns(cells),
        shapes=manifest.shapes.with_columns(concept=concept),
    )


def of_patients(manifest: Manifest, names: Mapping[str, str]) -> Manifest:
    """Return the manifest with patients by image id, named within their data sets."""
    named = pl.col("image_id").replace_strict(names, default=None, return_dtype=pl.String)
    stated = pl.format("{}/{}", "dataset", named)
    patients = pl.when(named.is_not_null()).then(stated).otherwise("patient_id")
    return replace(manifest, table=manifest.table.with_columns(patient_id=patients))


def with_patients_joined(manifest: Manifest, pairs: Iterable[tuple[str, str]]) -> Manifest:
    """Return the manifest in which the patients of each pair of images are one person.

    It has the smallest of their names.
    """
    patient: dict[str, str] = dict(manifest.table.select("image_id", "patient_id").iter_rows())
    joined = [(patient[one], patient[other]) for one, other in pairs]
    names = connected_components(patient.values(), joined)
    table = manifest.table.with_columns(pl.col("patient_id").replace(names))
    return replace(manifest, table=table)


def labelled(manifest: Manifest, cells: pl.DataFrame, rule: str) -> Manifest:
    """Return the manifest with labels set, by `rule`; a null state leaves no row.

    `cells`: image_id, concept, state, source. Side, zone and activity stay where the finding was
    not absent and is not.
    """
    key = ["image_id", "concept"]
    before = manifest.labels.select(*key, "term", *_OF_FINDING, was=pl.col("state"))
    kept = ((pl.col("state") != 0) & (pl.col("was") != 0)).fill_null(False)
    labels = (
        cells.drop_nulls("state")
        .join(before, on=key, how="left")
        .with_columns(
            pl.col("term").fill_null(pl.col("concept")),
            *(pl.when(kept).then(column).alias(column) for column in _OF_FINDING),
            rule=pl.lit(rule),
            words=pl.lit(None, pl.String),
        )
    )
    others = manifest.labels.join(cells, on=key, how="anti")
    made = pl.concat([others, labels.select(list(LABEL_COLUMNS))]).sort(key)
    return replace(manifest, labels=made)


def rotated(manifest: Manifest, degrees: Mapping[str, int]) -> Manifest:
    """Return the manifest with rotations by image id.

    By a quarter turn rows become columns, so stated sizes and spacings change places.
    """
    lying = [image_id for image_id, angle in degrees.items() if angle % 180]
    sideways = pl.col("image_id").is_in(lying)
    exchanged = [
        pl.when(sideways).then(two).otherwise(one).alias(one)
        for pair in (("stated_height", "stated_width"), ("row_spacing_mm", "column_spacing_mm"))
        for one, two in (pair, pair[::-1])
    ]
    manifest = replace(manifest, table=manifest.table.with_columns(exchanged))
    return displayed(manifest, "rotated", degrees)


def displayed(manifest: Manifest, column: str, values: Mapping[str, bool | int]) -> Manifest:
    """Return the manifest with values of one of the columns `DISPLAY` by image id."""
    kind = manifest.table.schema[column]
    given = pl.col("image_id").replace_strict(values, default=None, return_dtype=kind)
    cells = pl.coalesce(given, column).alias(column)
    return replace(manifest, table=manifest.table.with_columns(cells))
