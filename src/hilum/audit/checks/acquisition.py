"""Check how images were acquired, as headers and tables state: view, body part, modality, spacing.

Images stated not to be frontal chest radiographs are in no part of a split
(`hilum.annotations.eligibility`), unless `include`, the recipe's `[split] include`, lists their
view, body part or modality.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import polars as pl

from hilum.annotations import acquisition, eligibility
from hilum.audit.checks._pairs import with_facts
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.inference import orientation
from hilum.plugins import Card

CARD = Card(
    title="View, body part, modality and pixel spacing",
    caveats="What is stated is reported with certainty; it may be wrong, because protocols fill in "
    "headers by default. An image without these statements is taken for a frontal chest "
    "radiograph. Whether an image shows what is stated is judged by a small network that was "
    "trained without real lateral views; it contradicts only where an image closely resembles a "
    "frontal chest radiograph.",
)
# Of 216 frontal radiographs of NIH and of COVID-19 articles 3 in 4 are below the first limit, and
# 95 in 100 below the second.
FRONTAL_LOG_ODDS, FRONTAL_DISTANCE = -8.0, 0.8
LIKE_CHEST = ("RIB", "STERNUM", "CLAVICLE", "SCAPULA", "SHOULDER", "SPINE", "TSPINE", "WHOLEBODY")
FIELD_MM = 80.0, 700.0  # longer side of a chest radiograph; 194 to 655 in all of NIH's
UNEQUAL = 0.01  # relative difference of row and column spacing

VIEW = Rule(
    "view-not-frontal",
    "info",
    "An image is stated to be lateral, oblique, decubitus or lordotic.",
    "It is in no part of the split, so no model is trained or measured on it, unless [split] "
    "include lists its view.",
    "Nothing, where the statement is right; else correct it in the source. "
    '[split] include = ["LATERAL"] includes lateral views.',
)
BODY_PART = Rule(
    "body-part-not-chest",
    "info",
    "An image is stated to show another part of the body.",
    "It is in no part of the split, so no model is trained or measured on it, unless [split] "
    "include lists its body part.",
    "Nothing, where the statement is right; else correct it in the source. [split] include takes "
    "the body part as the message names it.",
)
MODALITY = Rule(
    "modality-not-radiography",
    "info",
    "An image is stated to be of another modality than radiography.",
    "It is in no part of the split, so no model is trained or measured on it, unless [split] "
    "include lists its modality.",
    "Nothing, where the statement is right; else correct it in the source. [split] include takes "
    "the modality as the message names it.",
)
UNRECOGNISED = Rule(
    "acquisition-unrecognised",
    "info",
    "A stated body part or modality is not a term that is recognised.",
    "The images are taken for chest radiographs, which they may not be.",
    "Review one of them; where they are not chest radiographs, write DICOM's defined term (HAND, "
    "CT) in the source, or take the images out of the folder.",
)
AGAINST_IMAGE = Rule(
    "acquisition-contradicts-image",
    "warning",
    "An image resembles a frontal chest radiograph, but is stated to be something else.",
    "A wrong statement keeps a good image out of the split.",
    "Review the image, and correct its view, body part or modality in the source if it is wrong.",
)
NO_SPACING = Rule(
    "spacing-missing",
    "info",
    "Some images of a source state no pixel spacing.",
    "Figures in millimetres are of the other images alone.",
    "Nothing, where millimetres are not needed; else add the spacing to the table or the headers.",
)
NOT_SQUARE = Rule(
    "spacing-unequal",
    "info",
    "The spacing of rows differs from that of columns.",
    "The pixels are not square: shown as if they were, the chest is too wide or too narrow.",
    "Nothing for DICOM, which is shown with square pixels; resample other files to square pixels.",
)
IMPLAUSIBLE = Rule(
    "spacing-implausible",
    "warning",
    "By its pixel spacing an image would be far too small or too large for a chest.",
    "The spacing is in another unit, or is that of an original of which the file is a smaller "
    "copy: sizes in millimetres are wrong.",
    "Correct the spacing, state the original's size beside it, or leave it empty.",
)
RULES = (
    VIEW,
    BODY_PART,
    MODALITY,
    UNRECOGNISED,
    AGAINST_IMAGE,
    NO_SPACING,
    NOT_SQUARE,
    IMPLAUSIBLE,
)
_BY_COLUMN = {"view": VIEW, "body_part": BODY_PART, "modality": MODALITY}
_SIZES = ("row_spacing_mm", "column_spacing_mm", "stated_height", "stated_width")
_KNOWN = {"body_part": acquisition.body_parts, "modality": acquisition.modalities}


def check(
    manifest: Manifest, facts: pl.DataFrame, include: Collection[str] = ()
) -> Iterator[Issue]:
    """Yield issues of what is stated, alone and against the image, and of the pixel spacing."""
    table = manifest.table.select("image_id", "path", "source", *eligibility.COLUMNS, *_SIZES)
    excluded = eligibility.reasons(table, include)
    for column, rule in _BY_COLUMN.items():
        yield from rule.issue(_excluded_by(table, column, excluded))
    for column, known in _KNOWN.items():
        yield from UNRECOGNISED.issue(_unrecognised(table, column, known()))
    if orientation.DISTANCE in facts.columns:  # the images were measured
        yield from AGAINST_IMAGE.issue(_against_image(table, facts))
    spaced = pl.any_horizontal(pl.col("row_spacing_mm", "column_spacing_mm").is_not_null())
    yield from _spacing(
        table, with_facts(table.filter(spaced), facts, "height", "width", how="left")
    )


def _excluded_by(table: pl.DataFrame, column: str, excluded: pl.Series) -> pl.DataFrame:
    """Return images that this column excludes; a warning where they are in the split all the same.

    `excluded`: why each image of the table is in no part of it, or null.
    """
    alone = table.with_columns(
        pl.lit(None, pl.String).alias(other) for other in eligibility.COLUMNS if other != column
    )
    stated = table.with_columns(words=eligibility.reasons(alone), excluded=excluded)
    stated = stated.drop_nulls("words")
    kept = pl.col("excluded").is_null()
    return stated.select(
        "image_id",
        severity=pl.when(kept).then(pl.lit("warning")).otherwise(pl.lit("info")),
        message=pl.format(
            "{}: {}, {}",
            "path",
            "words",
            pl.when(kept)
            .then(pl.lit("included by [split] include"))
            .otherwise(pl.lit("in no part of a split")),
        ),
    )


def _unrecognised(table: pl.DataFrame, column: str, known: Collection[str]) -> pl.DataFrame:
    unknown = table.filter(pl.col(column).is_not_null() & ~pl.col(column).is_in(list(known)))
    counted = (
        unknown.group_by(column).agg(pl.len().alias("count"), pl.col("path").min()).sort(column)
    )
    name = column.replace("_", " ")
    return counted.select(
        message=pl.format("{} '{}' of {} images, such as {}", pl.lit(name), column, "count", "path")
    )


def _against_image(table: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Return images stated lateral or of a distant body part that resemble a frontal chest.

    Other views, neighbouring body parts and other modalities (the scout of a CT) may resemble one.
    """
    unlike = table.with_columns(
        view=pl.when(pl.col("view") == "LATERAL").then("view"),
        body_part=pl.when(~pl.col("body_part").is_in(LIKE_CHEST)).then("body_part"),
        modality=pl.lit(None, pl.String),
    )
    stated = table.with_columns(words=eligibility.reasons(unlike)).drop_nulls("words")
    frontal = facts.filter(
        (pl.col(orientation.OUT_OF_DISTRIBUTION) < FRONTAL_LOG_ODDS)
        & (pl.col(orientation.DISTANCE) < FRONTAL_DISTANCE)
    )
    rows = stated.join(frontal, on="image_id", how="semi", maintain_order="left")
    return rows.select(
        "image_id",
        message=pl.format(
            "{}: resembles a frontal chest radiograph, but is stated: {}", "path", "words"
        ),
    )


def _spacing(table: pl.DataFrame, spaced: pl.DataFrame) -> Iterator[Issue]:
    """Yield issues of the spacing of all images, and of those that state one."""
    row, column = pl.col("row_spacing_mm"), pl.col("column_spacing_mm")
    sources = table.group_by("source").agg(images=pl.len(), missing=row.null_count()).sort("source")
    some = sources.filter((pl.col("missing") > 0) & (pl.col("missing") < pl.col("images")))
    message = pl.format("{}: {} of {} images state no pixel spacing", "source", "missing", "images")
    yield from NO_SPACING.issue(some.select(message=message))
    unequal = spaced.filter((row - column).abs() > UNEQUAL * pl.max_horizontal(row, column))
    pair = pl.format("{} x {} mm", row, column)
    yield from NOT_SQUARE.issue(
        unequal.select("image_id", message=pl.format("{}: {}", "path", pair))
    )
    sides = (
        pl.coalesce("stated_height", "height") * row,
        pl.coalesce("stated_width", "width") * column,
    )
    long = spaced.with_columns(field=pl.max_horizontal(*sides)).filter(
        ~pl.col("field").is_between(*FIELD_MM)
    )
    field = pl.format("{}: {} make it {} mm long", "path", pair, pl.col("field").round(1))
    yield from IMPLAUSIBLE.issue(long.select("image_id", message=field))
