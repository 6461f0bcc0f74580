"""Tell which images are not frontal chest radiographs, as the data themselves state it, and so take no part in a split.

What speaks against an image is its stated view (LATERAL, OBLIQUE, DECUBITUS, LORDOTIC), its stated body part where
that is recognised and is not the chest, and its stated modality where that is recognised and is not radiography.
Nothing speaks against an image of which these are not stated, or stated in words that are not recognised.

`include` names values that are wanted all the same, as `[split] include` of a recipe does: any of `terms()` in any
case, or "all".
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache

import polars as pl

from hilum import acquisition
from hilum.manifest import Manifest

ALL = "all"  # in `include`: every image
RADIOGRAPHY = ("CR", "DX", "RG", "XR")  # modalities of radiographs
NEUTRAL = ("OT", "SC", "HC")  # other, secondary capture, hard copy: they do not say what was acquired
COLUMNS = ("view", "body_part", "modality")  # of a manifest's table


def objections(view: str | None, body_part: str | None, modality: str | None) -> dict[str, str]:
    """Return the stated values that speak against a frontal chest radiograph, each with words for a person.

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
    """Return why one image is left out ("lateral view, modality CT"), or None where nothing speaks against it."""
    wanted = {value.upper() for value in include}
    if ALL.upper() in wanted:
        return None
    left = [words for value, words in objections(view, body_part, modality).items() if value.upper() not in wanted]
    return ", ".join(left) or None


def reasons(table: pl.DataFrame, include: Collection[str] = ()) -> pl.Series:
    """Return `reason` of each row of a manifest's table, in its order: String, null where nothing speaks against it."""
    kinds = table.select(COLUMNS).unique()  # a few, also of a hundred thousand images
    said = [reason(*row, include) for row in kinds.iter_rows()]
    found = kinds.with_columns(reason=pl.Series(said, dtype=pl.String))
    joined = table.select(COLUMNS).join(found, on=COLUMNS, how="left", nulls_equal=True, maintain_order="left")
    return joined["reason"]


def dealt_out(manifest: Manifest, include: Collection[str] = ()) -> Manifest:
    """Return the manifest without the images that are left out; itself where none is."""
    kept = manifest.table.filter(reasons(manifest.table, include).is_null())
    return manifest if kept.height == manifest.table.height else manifest.only(kept["image_id"])


def counts(found: pl.Series) -> dict[str, int]:
    """Return how many images each reason leaves out, the most frequent first."""
    ordered = found.drop_nulls().value_counts().sort("count", "reason", descending=[True, False])
    return dict(ordered.iter_rows())


def setting_for(table: pl.DataFrame) -> str:
    """Return the line of a recipe that includes every image of the table: `include = ["HAND", "LATERAL"]`."""
    kinds = table.select(COLUMNS).unique().iter_rows()
    values = sorted({value for row in kinds for value in objections(*row)})
    return f"include = {json.dumps(values)}"


def unstated(table: pl.DataFrame) -> Mapping[str, int]:
    """Return how many images do not state their view, body part and modality, of those that any image states."""
    missing = {column.replace("_", " "): table[column].null_count() for column in COLUMNS}
    return {column: count for column, count in missing.items() if 0 < count < table.height}


@cache
def terms() -> tuple[str, ...]:
    """Return every value that `include` may name."""
    views = [view for view in acquisition.VIEWS if view not in acquisition.FRONTAL_VIEWS]
    parts = [part for part in acquisition.body_parts() if not acquisition.shows_chest(part)]
    others = acquisition.modalities() - {*RADIOGRAPHY, *NEUTRAL}
    return (*views, *sorted(parts), *sorted(others))


def unknown_terms(include: Collection[str]) -> list[str]:
    """Return what `include` names that nothing is called."""
    known = {value.upper() for value in (*terms(), ALL)}
    return [value for value in include if value.upper() not in known]
