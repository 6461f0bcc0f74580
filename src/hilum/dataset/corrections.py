"""Corrections files: what to leave out of a data set or to correct in it when it is read.

    [[correction]]
    image_id = "kaggle_masks/CHNCXR_0001_0"
    action = "leave out"
    rule = "image-constant"                        # rule of the audit behind it; optional
    why = "CXR_png/CHNCXR_0001_0.png: every …"     # for people; optional

The actions are those of `ACTIONS`; one on a pair names the second image as `other`. Files of the
data are never changed: corrections apply to the table, each leaves a remark there, and without the
file everything is as before. The order of entries makes no difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from hilum.annotations import lung_masks
from hilum.dataset.manifest import DROPPED, MASK_COLUMNS, REMARK_COLUMNS, Manifest
from hilum.dataset.patients import connected_components
from hilum.errors import BadData, NotFound, unknown
from hilum.safety import untrusted_files

ACTIONS = {
    "leave out": "the image is not part of the data",
    "keep one of pair": "the image is not part of the data, because `other` shows the same",
    "leave out mask": "the image stands without a lung mask",
    "exchange mask sides": "the right lung's mask is that of the left lung, and the reverse",
    "same patient as": "the image's patient and that of `other` are one",
}
OF_PAIRS = ("keep one of pair", "same patient as")
GONE = ("leave out", "keep one of pair")
KEYS = ("image_id", "action", "other", "rule", "why")
CORRECTED = "corrected"  # rule of the remark on a corrected image that stays in the table


@dataclass(frozen=True)
class Correction:
    """One entry of a corrections file; `other` is set for the actions of `OF_PAIRS`."""

    image_id: str
    action: str
    other: str | None = None
    rule: str | None = None
    why: str | None = None


def read(path: Path) -> list[Correction]:
    """Read the entries of a file. Raises `NotFound`, or `BadData` with all faults of its form."""
    try:
        stated = untrusted_files.read_toml(path)
    except NotFound:
        raise NotFound(
            f"no corrections at {path}; `hilum propose-fixes` writes such a file, and [data] "
            "corrections in the recipe names it"
        ) from None
    entries = stated.pop("correction", [])
    faults = [unknown("key", key, ["correction"]) for key in stated]
    if not isinstance(entries, list):
        raise BadData(
            f"{path}: expected entries that begin with [[correction]], got a single one; "
            "write the brackets twice"
        )
    faults += [
        f"entry {number}: {fault}"
        for number, entry in enumerate(entries, 1)
        for fault in _faults(entry)
    ]
    if faults:
        raise BadData.listing(str(path), faults)
    return [Correction(**entry) for entry in entries]


def _faults(entry: Any) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f"expected keys and values, got {entry!r}"]
    faults = [unknown("key", key, KEYS) for key in entry if key not in KEYS]
    faults += [
        f"{key} must be text, got {value!r}"
        for key, value in entry.items()
        if key in KEYS and not isinstance(value, str)
    ]
    faults += [f"{key} is missing" for key in ("image_id", "action") if key not in entry]
    action = entry.get("action")
    if isinstance(action, str) and action not in ACTIONS:
        faults.append(unknown("action", action, ACTIONS))
    if action in OF_PAIRS and "other" not in entry:
        faults.append(f"'{action}' needs the second image: other = \"…\"")
    return faults


def apply(manifest: Manifest, corrections: Sequence[Correction], name: str) -> Manifest:
    """Return the manifest with every correction made, and a remark on each.

    `name` is that of the file in the remarks. Raises `BadData` with every image that is not in the
    table, and every pair of which no image would stay.
    """
    _refuse_impossible(manifest, corrections, name)
    path = dict(manifest.table.select("image_id", "path").iter_rows())
    rows = [_remark(path[one.image_id], one, name) for one in _in_order(corrections)]
    remarks = pl.DataFrame(rows, schema=REMARK_COLUMNS, orient="row")
    for action, make in _MADE.items():
        chosen = [one for one in _in_order(corrections) if one.action == action]
        if chosen:
            manifest = make(manifest, chosen)
    gone = [one.image_id for one in corrections if one.action in GONE]
    kept = manifest.only(manifest.table.filter(~pl.col("image_id").is_in(gone))["image_id"])
    corrected = replace(
        kept, remarks=pl.concat([manifest.remarks, remarks]).sort("path", "rule", "message")
    )
    corrected.check()
    return corrected


def counts(corrections: Sequence[Correction]) -> dict[str, int]:
    """Count distinct entries by action, in the order of `ACTIONS`."""
    found = Counter(one.action for one in _in_order(corrections))
    return {action: found[action] for action in ACTIONS if found[action]}


def _in_order(corrections: Sequence[Correction]) -> list[Correction]:
    distinct = {
        (one.action, one.image_id, one.other if one.action in OF_PAIRS else None): one
        for one in reversed(corrections)
    }
    return [distinct[key] for key in sorted(distinct, key=str)]


def _refuse_impossible(manifest: Manifest, corrections: Sequence[Correction], name: str) -> None:
    known = set(manifest.table["image_id"])
    named = {
        image_id
        for one in corrections
        for image_id in (one.image_id, one.other)
        if image_id is not None
    }
    faults = [_nearest(image_id, known) for image_id in sorted(named - known)]
    gone = {one.image_id for one in corrections if one.action in GONE}
    for one in _in_order(corrections):
        if one.action in OF_PAIRS and one.other == one.image_id:
            faults.append(
                f"{one.image_id}: '{one.action}' names the image itself as other; "
                "name the second one"
            )
        elif one.action == "keep one of pair" and one.other in gone:
            faults.append(
                f"{one.image_id} is left out because {one.other} is kept, but that is left out "
                "too; keep one of the two"
            )
    if faults:
        raise BadData.listing(f"{name} does not fit the data in {manifest.root}", faults)


def _nearest(image_id: str, known: set[str]) -> str:
    """Return the message of `unknown` without the known names, of which there may be 100,000."""
    message = unknown("image", image_id, known).partition(" Known:")[0]
    return (
        f"{message} ({len(known)} images are known; issues.parquet and manifest.parquet name them)"
    )


def _remark(path: str, one: Correction, name: str) -> tuple[str, str, str, str]:
    reason = one.rule or one.why or "no reason given"
    if one.action in GONE:
        return path, "info", DROPPED, f"left out by {name}: {reason}"
    other = f" {one.other}" if one.action in OF_PAIRS else ""
    return path, "info", CORRECTED, f"{one.action}{other}, by {name}: {reason}"


def _without_masks(manifest: Manifest, chosen: Sequence[Correction]) -> Manifest:
    images = [one.image_id for one in chosen]
    cells = [
        pl.when(~pl.col("image_id").is_in(images)).then(column).alias(column)
        for column in MASK_COLUMNS
    ]
    drawn = pl.col("image_id").is_in(images) & pl.col("concept").is_in(list(lung_masks.REFERENCE))
    return replace(
        manifest, table=manifest.table.with_columns(cells), shapes=manifest.shapes.filter(~drawn)
    )


def _sides_exchanged(manifest: Manifest, chosen: Sequence[Correction]) -> Manifest:
    wrong = pl.col("image_id").is_in([one.image_id for one in chosen])
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


def _joined(manifest: Manifest, chosen: Sequence[Correction]) -> Manifest:
    """Return the manifest in which patients who are one person have the smallest of their names."""
    patient: dict[str, str] = dict(manifest.table.select("image_id", "patient_id").iter_rows())
    pairs = [(patient[one.image_id], patient[one.other or one.image_id]) for one in chosen]
    names = connected_components(patient.values(), pairs)
    table = manifest.table.with_columns(pl.col("patient_id").replace(names))
    return replace(manifest, table=table)


_MADE: dict[str, Callable[[Manifest, Sequence[Correction]], Manifest]] = {
    "leave out mask": _without_masks,
    "exchange mask sides": _sides_exchanged,
    "same patient as": _joined,
}
