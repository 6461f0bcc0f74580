"""The tables of a data card: counts of a manifest and of its cache, each a list of rows for the template."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from hilum import plugins
from hilum.annotations.vocabulary import State, ancestors, name_of
from hilum.dataset.manifest import DROPPED, PARTS, SEXES, Manifest
from hilum.pipeline.cache import Cache
from hilum.reporting.card.facts import Value
from hilum.reporting.card.markdown import one_line
from hilum.reporting.sections.text import cut

AGES = (0, 1, 5, 18, 40, 65, 80)  # years at which the bands begin
NONE = "No finding present"
NOT_STATED = "not stated"
NOT_KNOWN = "not given"
FOLDERS = 12  # shown within one folder of the tree
MESSAGE = 600  # characters of it
Rows = list[list[Any]]


def glance(manifest: Manifest, told: Mapping[str, Value]) -> Rows:
    """The data set in a few lines, in the order that cards of this field have them."""
    each = manifest.table.group_by("patient_id").len()["len"]
    several = (
        f"median {each.median():g}, at most {each.max()}; {(each > 1).sum():,} patients have several"
        if each.max() > 1
        else "1"
    )
    return [
        ["Dimensions", "2D"],
        ["Modality", _stated(manifest, "modality") or "radiograph; which kind is not stated"],
        ["Task", "; ".join(_tasks(manifest, told)) or "none stated: pictures alone"],
        ["Anatomical area", _stated(manifest, "body_part") or "chest"],
        ["Anatomical structures", "right lung, left lung" if told["masks"] else "none outlined"],
        ["Findings", told.get("findings", 0)],
        ["Classes", told.get("classes")],
        ["Images", told["images"]],
        ["Patients", told["patients"]],
        ["Images of a patient", several],
        ["File formats", told.get("formats")],
    ]


def _stated(manifest: Manifest, column: str) -> str:
    """Return the values that images state, the most frequent first: `DX (40), CR (2), not stated (3)`."""
    counts = (
        manifest.table[column]
        .drop_nulls()
        .value_counts()
        .sort("count", column, descending=[True, False])
    )
    told = [f"{value} ({count:,})" for value, count in counts.iter_rows()]
    missing = manifest.table[column].null_count()
    return ", ".join([*told, *([f"{NOT_STATED} ({missing:,})"] if missing else [])]) if told else ""


def _tasks(manifest: Manifest, told: Mapping[str, Value]) -> Iterator[str]:
    if told.get("findings"):
        present = manifest.labels.filter(pl.col("state") == State.PRESENT)
        wider = {concept for found in present["concept"].unique() for concept in ancestors(found)}
        most = (
            present.filter(~pl.col("concept").is_in(wider)).group_by("image_id").len()["len"].max()
        )
        kind = (
            "an image may have several findings"
            if (most or 0) > 1
            else "two classes"
            if told["classes"] <= 2
            else "no image has several findings"
        )
        yield f"classification ({kind})"
    if told["masks"]:
        yield "segmentation of the lungs"
    if told.get("shapes"):
        yield "detection (findings are drawn on some images)"


def findings(manifest: Manifest, told: Mapping[str, Value]) -> Rows:
    """Images by state of each finding: name, present, absent, uncertain, not mentioned, patients with it."""
    with_patient = manifest.labels.filter(pl.col("state") == State.PRESENT).join(
        manifest.table.select("image_id", "patient_id"), on="image_id"
    )
    patients = dict(
        with_patient.group_by("concept").agg(pl.col("patient_id").n_unique()).iter_rows()
    )
    rows = []
    for concept in _concepts(manifest):
        counts = [
            told[f"concept.{concept}.{state}"] for state in ("present", "absent", "uncertain")
        ]
        rows.append(
            [name_of(concept), *counts, told["images"] - sum(counts), patients.get(concept, 0)]
        )
    return rows + ([[NONE, told["no_finding"], None, None, None, None]] if rows else [])


def across(manifest: Manifest, told: Mapping[str, Value], kind: str) -> tuple[list[str], Rows]:
    """Head and rows of images with each finding in each scope of a kind ("part" or "source"); no rows where there is none to compare."""
    given = manifest.table["given_part" if kind == "part" else "source"].drop_nulls().unique()
    scopes = [part for part in PARTS if part in given] if kind == "part" else sorted(given)
    if not scopes or (kind == "source" and len(scopes) == 1):
        return [], []
    names = {name_of(concept): f"concept.{concept}.present" for concept in _concepts(manifest)} | (
        {NONE: "no_finding"} if "no_finding" in told else {}
    )
    names |= {"Images": "images", "Patients": "patients"} | (
        {"Images with a lung mask": "masks"} if told["masks"] else {}
    )
    rows = [
        [words, *(told[f"{kind}.{scope}.{name}"] for scope in scopes)]
        for words, name in names.items()
    ]
    outside = manifest.table["given_part"].null_count() if kind == "part" else 0
    return ["", *scopes, "in all"], [
        [*row, told[name]] for row, name in zip(rows, names.values(), strict=True)
    ] + ([["Images in no part", *[None] * len(scopes), outside]] if outside else [])


def people(manifest: Manifest) -> Rows:
    """Images and patients by sex, age band and view."""
    bands = [
        f"{low} to {high - 1} years" if high - low > 1 else f"under {high}"
        for low, high in zip(AGES, AGES[1:], strict=False)
    ] + [f"{AGES[-1]} years and over"]
    begun = [
        pl.when(pl.col("age_years") >= low).then(pl.lit(band))
        for low, band in zip(AGES, bands, strict=True)
    ]
    table = manifest.table.with_columns(age=pl.coalesce(*reversed(begun)))
    rows = []
    for what, column, order in (
        ("Sex", "sex", SEXES),
        ("Age", "age", bands),
        ("View", "view", ()),
    ):
        counts = {
            value: [images, patients]
            for value, images, patients in table.group_by(column)
            .agg(pl.len(), pl.col("patient_id").n_unique())
            .iter_rows()
        }
        missing = counts.pop(None, None)
        for value in [value for value in order if value in counts] + sorted(
            counts.keys() - set(order)
        ):
            rows.append([what, value, *counts[value]])
        rows += [[what, NOT_KNOWN, *missing]] if missing else []
    return rows


def files(manifest: Manifest, cached: Cache, told: Mapping[str, Value]) -> Rows:
    table = manifest.table
    rows: Rows = [
        [f"Size, {word} (width × height)", told.get(f"size.{key}")]
        for key, word in (("min", "smallest"), ("median", "median"), ("max", "largest"))
    ]
    rows += [
        ["Bits of a value, as stored", told.get("bits")],
        ["Bits of a value, as used", told.get("bits_used")],
    ]
    rows.append(["Pictures that could not be read", cached.index.height - cached.readable.height])
    stated = table.filter(
        pl.col("stated_width").is_not_null() & pl.col("stated_height").is_not_null()
    ).select("stated_width", "stated_height")
    if stated.height:
        rows.append(
            [
                "Size that the source states, median (width × height)",
                [int(value + 0.5) for value in stated.median().row(0)],
            ]
        )
    spacing = table["row_spacing_mm"].drop_nulls()
    if len(spacing):
        rows.append(
            [
                "Distance between rows that the source states, mm",
                f"{spacing.min():g} to {spacing.max():g}, median {spacing.median():g}",
            ]
        )
    return rows


def masks(manifest: Manifest, cached: Cache, told: Mapping[str, Value]) -> Rows:
    """Images with and without a mask, the masks' sides, and which cannot be used; no rows where there is no mask at all."""
    if not told["masks"]:
        return []
    both, right, left = (
        pl.col(column).is_not_null()
        for column in ("lung_mask", "right_lung_mask", "left_lung_mask")
    )
    kinds = {
        "Both lungs in one mask file (sides told apart by where they lie)": both,
        "Right and left lung in files of their own": ~both & right & left,
    }
    kinds["One lung alone"] = ~both & (right ^ left)
    rows = [
        ["Images with a lung mask", told["masks"]],
        ["Images without", told["images"] - told["masks"]],
    ]
    rows += [
        [words, count]
        for words, which in kinds.items()
        if (count := manifest.table.filter(which).height)
    ]
    drawn = told["masks"] - manifest.table.filter(both | right | left).height
    rows += [["Lungs drawn as objects, no mask file", drawn]] if drawn else []
    index = cached.index
    rows += [["Outlined lungs, right and left counted apart", told.get("lungs")]]
    rows += [["Masks that do not fit their picture or cannot be read", index["mask_error"].count()]]
    return [
        *rows,
        [
            "Masks with other values than inside and outside",
            index.filter(pl.col("mask_value_count") > 2).height,
        ],
    ]


def faults(found: pl.DataFrame) -> Rows:
    """What the audit found, by rule: severity, rule, count, what it means, first message, remedy."""
    rules = {
        rule.name: rule
        for name in plugins.names("checks")
        for rule in plugins.load("checks", name).RULES
    }
    return [
        [
            severity,
            rule,
            rows.height,
            rules[rule].what,
            cut(one_line(rows["message"][0]), MESSAGE),
            rules[rule].remedy,
        ]
        for (severity, rule), rows in found.group_by("severity", "rule", maintain_order=True)
    ]


def left_out(manifest: Manifest) -> int:
    return manifest.remarks.filter(pl.col("rule") == DROPPED).height


def tree(root: Path, name: str = ".", shown: Callable[[str], str] = str) -> list[str]:
    """Folders down to the second level with the number of files in and below each, by ending; the first one goes by `name`,
    the others as `shown` has them."""
    counts: dict[tuple[str, ...], Counter[str]] = {(): Counter()}
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        place = Path(folder).relative_to(root).parts[:2]
        seen = Counter(
            Path(name).suffix.lower() or "without ending"
            for name in names
            if not name.startswith(".")
        )
        for depth in range(len(place) + 1):
            counts.setdefault(place[:depth], Counter()).update(seen)
    return list(_branches(counts, (), name, shown))


def _branches(
    counts: Mapping[tuple[str, ...], Counter[str]],
    place: tuple[str, ...],
    name: str,
    shown: Callable[[str], str],
) -> Iterator[str]:
    indent = "  " * len(place)
    held = ", ".join(
        f"{count:,} {ending}"
        for ending, count in sorted(counts[place].items(), key=lambda item: (-item[1], item[0]))
    )
    yield f"{indent}{name}/  {held or 'empty'}"
    inner = sorted(
        other for other in counts if len(other) == len(place) + 1 and other[: len(place)] == place
    )
    for other in inner[:FOLDERS]:
        yield from _branches(counts, other, shown(other[-1]), shown)
    if len(inner) > FOLDERS:
        yield f"{indent}  … and {len(inner) - FOLDERS:,} more folders"


def _concepts(manifest: Manifest) -> list[str]:
    return sorted(
        manifest.labels["concept"].unique(), key=lambda concept: (name_of(concept), concept)
    )
