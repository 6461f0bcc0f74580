"""What the pictures show: not the frontal, upright chest with bright bones that labels and models speak of, or hardly anything.

Limits were set beside 1,400 real radiographs of four sets; the worst of each is told with its limit.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.annotations import eligibility
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.inference import orientation
from hilum.plugins import Card

CARD = Card(
    title="What the pictures show",
    caveats="Inverted and turned pictures are found nearly always. Left and right are told by the heart alone: situs inversus looks like a "
    "mirrored picture, a shrunken lung may pull the heart across, and many a picture does not tell. Lateral views and other parts of the body "
    "were learnt from drawings, so some pass, or are called inverted or turned. What is found here is to be looked at; nothing is turned or "
    "left out. bench/posture.py measures it.",
)
BLACK_SHARE, WHITE_SHARE = (
    0.27,
    0.13,
)  # at the ends of the range; at most 0.23 and 0.10 in real radiographs
LEAST_SPREAD = 70  # levels of 256 that hold the middle 90 % of pixels; 114
FEW_LEVELS = (
    17,
    64,
)  # between the smallest and the largest value of the file; fewer are image-flat
BORDER_SHARE = 0.65  # 0.61, in pictures that were padded to a square twice
EIGHT_BITS = 255

INVERTED = Rule(
    "image-inverted",
    "warning",
    "A picture looks inverted: bones dark, air bright.",
    "Models learn that bright is dense; on an inverted picture their answers mean nothing.",
    "Look at the picture. Invert the file, or correct the photometric interpretation of the DICOM file it came from, and run again.",
)
TURNED = Rule(
    "image-turned",
    "warning",
    "A picture looks turned by a quarter turn, or stands upside down.",
    "Lungs are looked for upright, and sides and zones come out wrong.",
    "Look at the picture and turn the file back; an orientation tag that a converter dropped is the usual cause.",
)
MIRRORED = Rule(
    "image-mirrored",
    "warning",
    "The heart seems to lie on the wrong side: left and right of a picture may be exchanged.",
    "Right and left of masks, readings and findings would be exchanged; a mirrored copy also hides that two pictures are one.",
    "Look for a side marker, whose letters show it at once. Mirror the file back, unless the patient has situs inversus or a shift of the heart.",
)
STRANGE = Rule(
    "image-not-frontal-chest",
    "warning",
    "A picture does not look like a frontal radiograph of a chest.",
    "A lateral view, another part of the body or a page of text is learnt from and scored as if it were a chest.",
    "Look at the picture, and take it out of the folder unless it is a frontal chest after all.",
)
EMPTY = Rule(
    "image-empty",
    "error",
    "Nearly all pixels of a picture have one value.",
    "It shows nothing but perhaps a marker, yet its label would be learnt and counted.",
    "Export the picture again from its source, or take it out of the folder.",
)
CLIPPED = Rule(
    "image-clipped",
    "warning",
    "A large share of a picture is wholly black or wholly white.",
    "What was there is lost: the window was too narrow when the picture was exported, or most of it lies outside the beam.",
    "Export the picture again with a window that holds all of the chest.",
)
LOW_CONTRAST = Rule(
    "image-low-contrast",
    "warning",
    "A picture has few grey levels, or nearly all of it lies within few.",
    "Stretched to full contrast it shows steps and noise in place of fine structure.",
    "Export the picture again with its full range of values; look for something bright in it that stretches the range.",
)
BORDER = Rule(
    "image-border",
    "warning",
    f"More than {BORDER_SHARE:.0%} of a picture is a flat border.",
    "The chest is left with few pixels, and a model may learn the border of a source in place of the chest.",
    "Crop the picture to the exposed field before it is resized.",
)
RANGE = Rule(
    "image-range",
    "warning",
    "A file of 16 bits holds the values of one of 8 bits.",
    "Its finer grey levels were lost on the way, and programs that divide by 65,535 see a black picture.",
    "Export the picture again from its source with all its bits; Hilum itself reads it by the range that it has.",
)
RULES = (INVERTED, TURNED, MIRRORED, STRANGE, EMPTY, CLIPPED, LOW_CONTRAST, BORDER, RANGE)


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    pictures = (
        manifest.table.select("image_id", "path", *eligibility.COLUMNS)
        .join(facts, on="image_id")
        .filter(pl.col("error").is_null())
    )
    levels = pl.col("maximum") - pl.col("minimum") + 1
    yield from _range(pictures)
    few = pl.format("{}: values {} to {} of a {}-bit file", "path", "minimum", "maximum", "bits")
    yield from LOW_CONTRAST.issue(
        pictures.filter(levels.is_between(*FEW_LEVELS)).select("image_id", message=few)
    )
    if orientation.DISTANCE in facts.columns:  # the pictures were looked at
        seen = pictures.filter(levels >= FEW_LEVELS[0])
        yield from _posture(seen)
        yield from _tones(
            seen.filter((levels > FEW_LEVELS[1]) & (pl.col("flat") < orientation.EMPTY_FRACTION))
        )


def _range(pictures: pl.DataFrame) -> Iterator[Issue]:
    narrow = pictures.filter(
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


def _tones(shown: pl.DataFrame) -> Iterator[Issue]:
    ends = shown.with_columns(ends=pl.col("black") + pl.col("white"))
    clipped = ends.filter((pl.col("black") >= BLACK_SHARE) | (pl.col("white") >= WHITE_SHARE))
    yield from CLIPPED.issue(
        _told(clipped, "{} of the picture is black or white throughout", "ends")
    )
    dull = shown.filter(pl.col("spread") <= LEAST_SPREAD)
    message = pl.format(
        "{}: 90 % of its pixels lie within {} of 256 levels",
        "path",
        pl.col("spread").cast(pl.Int64),
    )
    yield from LOW_CONTRAST.issue(dull.select("image_id", message=message))
    yield from BORDER.issue(
        _told(
            shown.filter(pl.col("border") >= BORDER_SHARE),
            "{} of the picture is a flat border",
            "border",
        )
    )


def _posture(seen: pl.DataFrame) -> Iterator[Issue]:
    """Images stated not to be frontal chest radiographs are judged for being empty only: the network knows no others."""
    rules = {
        orientation.EMPTY: EMPTY,
        orientation.INVERTED: INVERTED,
        orientation.ROTATED: TURNED,
        orientation.MIRRORED: MIRRORED,
        orientation.OUT_OF_DISTRIBUTION: STRANGE,
    }
    stated = seen.select("image_id", "path", "view").with_columns(eligibility.reasons(seen))
    rows = [
        (rules[doubt.fault], image_id, f"{path}: looks {doubt.words}{_though(view, doubt)}")
        for (image_id, path, view, reason), doubts in zip(
            stated.iter_rows(), orientation.quality_flags(seen), strict=True
        )
        for doubt in doubts
        if reason is None or doubt.fault == orientation.EMPTY
    ]
    for rule in rules.values():
        table = [(image_id, message) for broken, image_id, message in rows if broken is rule]
        yield from rule.issue(pl.DataFrame(table, schema=["image_id", "message"], orient="row"))


def _though(view: str | None, doubt: orientation.QualityFlag) -> str:
    return (
        f", though it is stated to be {view}"
        if view and doubt.fault == orientation.OUT_OF_DISTRIBUTION
        else ""
    )


def _told(rows: pl.DataFrame, words: str, share: str) -> pl.DataFrame:
    percent = pl.format("{} %", (100 * pl.col(share)).round().cast(pl.Int64))
    return rows.select("image_id", message=pl.format("{}: " + words, "path", percent))
