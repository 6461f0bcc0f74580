"""Decide which images are frontal chest radiographs by what the data state; others enter no split.

An image is excluded by a stated view that is not frontal (LATERAL, OBLIQUE, DECUBITUS, LORDOTIC), a
stated body part that is recognised and is not the chest, or a stated modality that is recognised
and is not radiography. What is not stated, or in words that are not recognised, excludes nothing.

`include` lists values that exclude nothing, as `[split] include` of a recipe does: any of `terms()`
in any case, or "all".
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache

import polars as pl

from hilum.annotations import acquisition

ALL = "all"  # in `include`: every image
RADIOGRAPHY = ("CR", "DX", "RG", "XR")  # modalities of radiographs
NEUTRAL = ("OT", "SC", "HC")  # other, secondary capture, hard copy: any modality may be behind them
COLUMNS = ("view", "body_part", "modality")  # of a manifest's table


def excluding_values(
    view: str | None, body_part: str | None, modality: str | None
) -> dict[str, str]:
    """Return the stated values that exclude an image, each with words for a person.

    For example {"LATERAL": "lateral view", "HAND": "body part HAND", "CT": "modality CT"}.
    """
    found = {}
    if view is not None and view not in acquisition.FRONTAL_VIEWS:
        found[view] = f"{view.lower()} view"
    if body_part in acquisition.body_parts() and not acquisition.shows_chest(body_part or ""):
        found[body_part] = f"body part {body_part}"
    if modality in acquisition.modalities() and modality not in (*RADIOGRAPHY, *NEUTRAL):
        found[modality] = f"modality {modality}"
    return found


def reason(
    view: str | None, body_part: str | None, modality: str | None, include: Collection[str] = ()
) -> str | None:
    """Return why an image is excluded ("lateral view, modality CT"); None where it is not."""
    wanted = {value.upper() for value in include}
    if ALL.upper() in wanted:
        return None
    values = excluding_values(view, body_part, modality)
    return (
        ", ".join(words for value, words in values.items() if value.upper() not in wanted) or None
    )


def reasons(table: pl.DataFrame, include: Collection[str] = ()) -> pl.Series:
    """Return `reason` of each row of a manifest's table, in its order: String, null: included."""
    kinds = _kinds(table)
    unstated: dict[str, str | None] = dict.fromkeys(COLUMNS)
    stated = [reason(**unstated | row, include=include) for row in kinds.iter_rows(named=True)]
    if not any(stated):
        return pl.Series("reason", [None], pl.String).new_from_index(0, table.height)
    found = kinds.with_columns(reason=pl.Series(stated, dtype=pl.String))
    rows, on = table.select(kinds.columns), kinds.columns
    return rows.join(found, on=on, how="left", nulls_equal=True, maintain_order="left")["reason"]


def _kinds(table: pl.DataFrame) -> pl.DataFrame:
    """Return the different rows of those `COLUMNS` that are stated: a few, of any table."""
    stated = [one for one in COLUMNS if table[one].null_count() < table.height]
    return table.select(stated).unique()


def counts(found: pl.Series) -> dict[str, int]:
    """Return how many images each reason excludes, the most frequent first."""
    counted = found.drop_nulls().value_counts()
    return dict(counted.sort("count", "reason", descending=[True, False]).iter_rows())


def include_setting(table: pl.DataFrame) -> str:
    """Return the line of a recipe by which no image of the table is excluded.

    For example `include = ["HAND", "LATERAL"]`.
    """
    kinds = table.select(COLUMNS).unique().iter_rows()
    values = sorted({value for row in kinds for value in excluding_values(*row)})
    return f"include = {json.dumps(values)}"


def unstated(table: pl.DataFrame) -> Mapping[str, int]:
    """Return how many images lack their view, body part or modality where other images state it."""
    missing = {column.replace("_", " "): table[column].null_count() for column in COLUMNS}
    return {column: count for column, count in missing.items() if 0 < count < table.height}


@cache
def terms() -> tuple[str, ...]:
    """Return every value that `include` may list."""
    views = [view for view in acquisition.VIEWS if view not in acquisition.FRONTAL_VIEWS]
    parts = [part for part in acquisition.body_parts() if not acquisition.shows_chest(part)]
    others = acquisition.modalities() - {*RADIOGRAPHY, *NEUTRAL}
    return (*views, *sorted(parts), *sorted(others))


def unknown_terms(include: Collection[str]) -> list[str]:
    """Return the entries of `include` that are neither in `terms()` nor "all"."""
    known = {value.upper() for value in (*terms(), ALL)}
    return [value for value in include if value.upper() not in known]
