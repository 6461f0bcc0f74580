"""Tables of a data card: counts of a manifest and of its cache, as rows for the template."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from hilum import plugins
from hilum.annotations.vocabulary import State, ancestors, name_of
from hilum.dataset.manifest import DROPPED, MASK_COLUMNS, PARTS, SEXES, Manifest
from hilum.pipeline.cache import Cache
from hilum.reporting.card.facts import Facts, count
from hilum.reporting.card.markdown import one_line
from hilum.reporting.text import shortened

AGES = (0, 1, 5, 18, 40, 65, 80)  # years at which the bands begin
NONE = "No finding present"
NOT_STATED = "not stated"
NOT_KNOWN = "not given"
FOLDERS = 12  # shown within one folder of the tree
MESSAGE = 600  # characters of it
Rows = list[list[Any]]


def glance(manifest: Manifest, facts: Facts) -> Rows:
    """Return the data set in a few lines, in the order of published cards of medical images."""
    each = manifest.table.group_by("patient_id").len()["len"]
    several = int((each > 1).sum())
    of_a_patient = "1"
    if several:
        of_a_patient = (
            f"median {each.median():g}, at most {each.max()}; {several:,} patients have several"
        )
    return [
        ["Dimensions", "2D"],
        ["Modality", _stated(manifest, "modality") or "radiograph; which kind is not stated"],
        ["Task", "; ".join(_tasks(manifest, facts)) or "none stated: images alone"],
        ["Anatomical area", _stated(manifest, "body_part") or "chest"],
        ["Anatomical structures", "right lung, left lung" if facts["masks"] else "none outlined"],
        ["Findings", facts.get("findings", 0)],
        ["Classes", facts.get("classes")],
        ["Images", facts["images"]],
        ["Patients", facts["patients"]],
        ["Images of a patient", of_a_patient],
        ["File formats", facts.get("formats")],
    ]


def _stated(manifest: Manifest, column: str) -> str:
    """Return the values that images state, as `DX (40), CR (2), not stated (3)`."""
    counts = (
        manifest.table[column]
        .drop_nulls()
        .value_counts()
        .sort("count", column, descending=[True, False])
    )
    words = [f"{value} ({images:,})" for value, images in counts.iter_rows()]
    missing = manifest.table[column].null_count()
    if words and missing:
        words.append(f"{NOT_STATED} ({missing:,})")
    return ", ".join(words)


def _tasks(manifest: Manifest, facts: Facts) -> Iterator[str]:
    if facts.get("findings"):
        present = manifest.labels.filter(pl.col("state") == State.PRESENT)
        wider = {concept for found in present["concept"].unique() for concept in ancestors(found)}
        specific = present.filter(~pl.col("concept").is_in(wider)).group_by("image_id").len()
        kind = "no image has several findings"
        if (specific["len"] > 1).any():
            kind = "an image may have several findings"
        elif count(facts, "classes") <= 2:
            kind = "two classes"
        yield f"classification ({kind})"
    if facts["masks"]:
        yield "segmentation of the lungs"
    if facts.get("shapes"):
        yield "detection (findings are annotated on some images)"


def findings(manifest: Manifest, facts: Facts) -> Rows:
    """Return a row for each finding.

    Name, images present, absent, uncertain and not mentioned, patients with it.
    """
    with_patient = manifest.labels.filter(pl.col("state") == State.PRESENT).join(
        manifest.table.select("image_id", "patient_id"), on="image_id"
    )
    patients = dict(
        with_patient.group_by("concept").agg(pl.col("patient_id").n_unique()).iter_rows()
    )
    rows = []
    for concept in _concepts(manifest):
        counts = [
            count(facts, f"concept.{concept}.{state}")
            for state in ("present", "absent", "uncertain")
        ]
        rows.append(
            [
                name_of(concept),
                *counts,
                count(facts, "images") - sum(counts),
                patients.get(concept, 0),
            ]
        )
    return rows + ([[NONE, facts["no_finding"], None, None, None, None]] if rows else [])


def across(manifest: Manifest, facts: Facts, kind: str) -> tuple[list[str], Rows]:
    """Return head and rows of images with each finding, a column for each scope of a kind.

    `kind` is "part" or "source"; no rows where there is nothing to compare.
    """
    given = manifest.table["given_part" if kind == "part" else "source"].drop_nulls().unique()
    scopes = [part for part in PARTS if part in given] if kind == "part" else sorted(given)
    if not scopes or (kind == "source" and len(scopes) == 1):
        return [], []
    names = {name_of(concept): f"concept.{concept}.present" for concept in _concepts(manifest)} | (
        {NONE: "no_finding"} if "no_finding" in facts else {}
    )
    names |= {"Images": "images", "Patients": "patients"} | (
        {"Images with a lung mask": "masks"} if facts["masks"] else {}
    )
    rows = [
        [words, *(facts[f"{kind}.{scope}.{name}"] for scope in scopes)]
        for words, name in names.items()
    ]
    outside = manifest.table["given_part"].null_count() if kind == "part" else 0
    return ["", *scopes, "in all"], [
        [*row, facts[name]] for row, name in zip(rows, names.values(), strict=True)
    ] + ([["Images in no part", *[None] * len(scopes), outside]] if outside else [])


def people(manifest: Manifest) -> Rows:
    """Return images and patients by sex, age band and view."""
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


def files(manifest: Manifest, cached: Cache, facts: Facts) -> Rows:
    """Return sizes, bits and spacing of the image files."""
    table = manifest.table
    rows: Rows = [
        [f"Size, {word} (width × height)", facts.get(f"size.{key}")]
        for key, word in (("min", "smallest"), ("median", "median"), ("max", "largest"))
    ]
    rows += [
        ["Bits of a value, as stored", facts.get("bits")],
        ["Bits of a value, as used", facts.get("bits_used")],
    ]
    rows.append(["Images that could not be read", cached.index.height - cached.readable.height])
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


def masks(manifest: Manifest, cached: Cache, facts: Facts) -> Rows:
    """Return images with and without a mask, by kind of mask file; no rows where there is none."""
    if not facts["masks"]:
        return []
    both, right, left = (pl.col(column).is_not_null() for column in MASK_COLUMNS)
    kinds = {
        "Both lungs in one mask file (sides assigned by their position)": both,
        "Right and left lung in files of their own": ~both & right & left,
    }
    kinds["One lung alone"] = ~both & (right ^ left)
    rows = [
        ["Images with a lung mask", facts["masks"]],
        ["Images without", count(facts, "images") - count(facts, "masks")],
    ]
    rows += [
        [words, images]
        for words, which in kinds.items()
        if (images := manifest.table.filter(which).height)
    ]
    drawn = count(facts, "masks") - manifest.table.filter(both | right | left).height
    rows += [["Lungs drawn as shapes, no mask file", drawn]] if drawn else []
    index = cached.index
    rows += [["Outlined lungs, right and left counted separately", facts.get("lungs")]]
    rows += [["Masks that do not fit their image or cannot be read", index["mask_error"].count()]]
    return [
        *rows,
        [
            "Masks with other values than inside and outside",
            index.filter(pl.col("mask_value_count") > 2).height,
        ],
    ]


def issues(found: pl.DataFrame) -> Rows:
    """Return a row for each rule: severity, rule, count, its meaning, first message, remedy."""
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
            shortened(one_line(rows["message"][0]), MESSAGE),
            rules[rule].remedy,
        ]
        for (severity, rule), rows in found.group_by("severity", "rule", maintain_order=True)
    ]


def left_out(manifest: Manifest) -> int:
    """Count the remarks on files that were left out."""
    return manifest.remarks.filter(pl.col("rule") == DROPPED).height


def tree(root: Path, name: str = ".", shown: Callable[[str], str] = str) -> list[str]:
    """Return folders down to the second level with the files in and below each, by ending.

    The first one is called `name`, the others by what `shown` makes of their names.
    """
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
        f"{number:,} {ending}"
        for ending, number in sorted(counts[place].items(), key=lambda item: (-item[1], item[0]))
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
