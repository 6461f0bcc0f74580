"""Check what images show: anything but a frontal, upright chest with bright bones, or hardly
anything.

Thresholds were set on 1,400 real radiographs of four data sets; the most extreme of these is stated
with each threshold.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.annotations import eligibility
from hilum.audit.checks._pairs import with_facts
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.inference import orientation
from hilum.plugins import Card

CARD = Card(
    title="Orientation and image quality",
    caveats="Inverted and rotated images are detected nearly always. Left and right are "
    "distinguished by the heart alone: situs inversus appears as a mirrored image, a collapsed "
    "lung may displace the heart, and many images are ambiguous. The network was trained on "
    "synthetic lateral views and other body parts, so some of these pass, or are called inverted "
    "or rotated. Issues are to be reviewed; only a correction rotates an image or leaves it out. "
    "benchmarks/accuracy/orientation.py "
    "measures it.",
)
# Fractions at the ends of the range; at most 0.23 and 0.10 in real radiographs.
BLACK_FRACTION, WHITE_FRACTION = 0.27, 0.13
LEAST_SPREAD = 70  # levels of 256 that hold the middle 90 % of pixels; 114 or more in real ones
# Levels between the smallest and the largest value of the file; fewer are image-flat.
FEW_LEVELS = 17, 64
BORDER_FRACTION = 0.65  # at most 0.61, in images that were padded to a square twice
EIGHT_BITS = 255

INVERTED = Rule(
    "image-inverted",
    "warning",
    "An image appears inverted: bones dark, air bright.",
    "Models expect dense tissue to be bright; their output on an inverted image is meaningless.",
    "Review the image. A correction inverts it here; or correct the photometric interpretation of "
    "the DICOM file it came from, and run again.",
    correction="invert",
)
ROTATED = Rule(
    "image-rotated",
    "warning",
    "An image appears rotated by a quarter turn or upside down.",
    "Lungs are searched for upright, and sides and zones come out wrong.",
    "Review the image. A correction rotates it here; the usual cause is an orientation tag that a "
    "converter dropped.",
    correction="rotate",
)
MIRRORED = Rule(
    "image-mirrored",
    "warning",
    "The heart appears on the wrong side: left and right of an image may be exchanged.",
    "Right and left of masks, readings and findings would be exchanged; a mirrored copy also hides "
    "that two images are one.",
    "Check for a side marker, whose letters show it at once. A correction mirrors it here; make "
    "none where the patient has situs inversus or a displaced heart.",
    correction="mirror",
)
NOT_A_CHEST = Rule(
    "image-not-frontal-chest",
    "warning",
    "An image does not resemble a frontal chest radiograph.",
    "A lateral view, another part of the body or a page of text is trained on and scored as if it "
    "were a chest.",
    "Review the image, and take it out of the folder unless it is a frontal chest radiograph after "
    "all.",
    correction="leave out",
)
EMPTY = Rule(
    "image-empty",
    "error",
    "Nearly all pixels of an image have one value.",
    "It shows nothing but perhaps a marker, yet a model would be trained on its label, and "
    "evaluated with it.",
    "Export the image again from its source, or take it out of the folder.",
    correction="leave out",
)
CLIPPED = Rule(
    "image-clipped",
    "warning",
    "A large fraction of an image is wholly black or wholly white.",
    "What was there is lost: the window was too narrow when the image was exported, or most of it "
    "is outside the beam.",
    "Export the image again with a window that covers the whole chest.",
    correction="leave out",
)
LOW_CONTRAST = Rule(
    "image-low-contrast",
    "warning",
    "An image has few grey levels, or nearly all of its pixels are within few.",
    "Stretched to full contrast it shows steps and noise in place of fine structure.",
    "Export the image again with its full range of values; check for something bright in it that "
    "stretches the range.",
    correction="leave out",
)
BORDER = Rule(
    "image-border",
    "warning",
    f"More than {BORDER_FRACTION:.0%} of an image is a flat border.",
    "The chest is left with few pixels, and a model may learn the border of a source in place of "
    "the chest.",
    "Crop the image to the exposed field before it is resized.",
    correction="leave out",
)
RANGE = Rule(
    "image-range",
    "warning",
    "A file of 16 bits has the values of one of 8 bits.",
    "Its finer grey levels were lost on the way, and programs that divide by 65,535 see a black "
    "image.",
    "Export the image again from its source with all its bits; Hilum itself reads it by its actual "
    "range.",
    correction="leave out",
)
_MEASURED = ("error", "bits", "minimum", "maximum")
RULES = (INVERTED, ROTATED, MIRRORED, NOT_A_CHEST, EMPTY, CLIPPED, LOW_CONTRAST, BORDER, RANGE)


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    """Yield issues of value ranges, and of orientation and grey levels where they were measured."""
    table = manifest.table.select("image_id", "path", *eligibility.COLUMNS)
    measured = [name for name in (*_MEASURED, *orientation.FEATURES) if name in facts.columns]
    images = with_facts(table, facts, *measured).filter(pl.col("error").is_null())
    levels = pl.col("maximum") - pl.col("minimum") + 1
    yield from _range(images)
    few = pl.format("{}: values {} to {} of a {}-bit file", "path", "minimum", "maximum", "bits")
    yield from LOW_CONTRAST.issue(
        images.filter(levels.is_between(*FEW_LEVELS)).select("image_id", message=few)
    )
    if orientation.DISTANCE in facts.columns:  # the images were measured
        seen = images.filter(levels >= FEW_LEVELS[0])
        yield from _orientation(seen)
        yield from _grey_levels(
            seen.filter((levels > FEW_LEVELS[1]) & (pl.col("flat") < orientation.EMPTY_FRACTION))
        )


def _range(images: pl.DataFrame) -> Iterator[Issue]:
    narrow = images.filter(
        (pl.col("bits") == 16)
        & (pl.col("maximum") <= EIGHT_BITS)
        & (pl.col("maximum") > pl.col("minimum"))
    )
    yield from RANGE.issue(
        narrow.select(
            "image_id",
            message=pl.format(
                "{}: values {} to {} in a file of 16 bits", "path", "minimum", "maximum"
            ),
        )
    )


def _grey_levels(images: pl.DataFrame) -> Iterator[Issue]:
    ends = images.with_columns(ends=pl.col("black") + pl.col("white"))
    clipped = ends.filter((pl.col("black") >= BLACK_FRACTION) | (pl.col("white") >= WHITE_FRACTION))
    yield from CLIPPED.issue(
        _fraction(clipped, "{} of the image is black or white throughout", "ends")
    )
    dull = images.filter(pl.col("spread") <= LEAST_SPREAD)
    message = pl.format(
        "{}: 90 % of its pixels lie within {} of 256 levels",
        "path",
        pl.col("spread").cast(pl.Int64),
    )
    yield from LOW_CONTRAST.issue(dull.select("image_id", message=message))
    yield from BORDER.issue(
        _fraction(
            images.filter(pl.col("border") >= BORDER_FRACTION),
            "{} of the image is a flat border",
            "border",
        )
    )


def _orientation(seen: pl.DataFrame) -> Iterator[Issue]:
    """Yield issues that the orientation network suggests.

    Images stated not to be frontal chest radiographs are only checked for being empty: the network
    was not trained on them.
    """
    rules = {
        orientation.EMPTY: EMPTY,
        orientation.INVERTED: INVERTED,
        orientation.ROTATED: ROTATED,
        orientation.MIRRORED: MIRRORED,
        orientation.OUT_OF_DISTRIBUTION: NOT_A_CHEST,
    }
    stated = seen.select("image_id", "path", "view").with_columns(eligibility.reasons(seen))
    rows = [
        (
            rules[flag.fault],
            image_id,
            f"{path}: appears {flag.words}{_though(view, flag)}",
            None if flag.upright is None else str(flag.upright),
        )
        for (image_id, path, view, reason), flags in zip(
            stated.iter_rows(), orientation.quality_flags(seen), strict=True
        )
        for flag in flags
        if reason is None or flag.fault == orientation.EMPTY
    ]
    for rule in rules.values():
        table = [about for broken, *about in rows if broken is rule]
        columns = {"image_id": pl.String, "message": pl.String, "value": pl.String}
        yield from rule.issue(pl.DataFrame(table, schema=columns, orient="row"))


def _though(view: str | None, flag: orientation.QualityFlag) -> str:
    contradicted = view and flag.fault == orientation.OUT_OF_DISTRIBUTION
    return f", though it is stated to be {view}" if contradicted else ""


def _fraction(rows: pl.DataFrame, words: str, column: str) -> pl.DataFrame:
    percent = pl.format("{} %", (100 * pl.col(column)).round().cast(pl.Int64))
    return rows.select("image_id", message=pl.format("{}: " + words, "path", percent))
