"""Picture files: unreadable, without content, under a wrong ending, in colour, or unlike the others of their source."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card

CARD = Card(
    title="Picture files",
    caveats="Unreadable and constant pictures and wrong endings are certain. A picture that is empty but for a bright marker is not told "
    "from a filled one. A size or depth unlike the others of its source is a question: it may be another device, or a thumbnail.",
)
KINDS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
}
SMALL, LONGEST = 1 / 3, 2.5
USUAL = 0.98  # of a source's pictures, of which there are at least `ENOUGH`
ENOUGH = 50
FEW_LEVELS = 16  # of 256 or more; the flattest of real radiographs span over a hundred

UNREADABLE = Rule(
    "image-unreadable",
    "error",
    "A picture file cannot be decoded.",
    "It is left out of every step, so the set is smaller than it seems.",
    "Copy the file again from its source, or take it out of the folder.",
    correction="leave out",
)
CONSTANT = Rule(
    "image-constant",
    "error",
    "Every pixel of a picture has the same value.",
    "It shows nothing, yet its label would be learnt and counted.",
    "Export the picture again from its source, or take it out of the folder.",
    correction="leave out",
)
FLAT = Rule(
    "image-flat",
    "warning",
    f"All pixels of a picture lie within {FEW_LEVELS} grey levels.",
    "Stretched to full contrast it is mostly rounding and noise.",
    "Look at the picture; export it again with its full range of values.",
    correction="leave out",
)
ENDING = Rule(
    "file-extension",
    "warning",
    "A file's name ends as another kind of picture's.",
    "Hilum reads it by its content; programs that go by the name fail on it or read it wrongly.",
    "Rename the file, and what refers to it.",
)
COLOUR = Rule(
    "image-colour",
    "warning",
    "A picture's channels differ: it holds colour.",
    "A radiograph has none: it may be a photograph, a screenshot or a picture that was drawn on, and its grey is a guess.",
    "Look at the picture; export it again in grey from its source, or take it out of the folder.",
    correction="leave out",
)
SIZE = Rule(
    "image-size",
    "info",
    f"A picture is less than a third of the usual size of its source, or more than {LONGEST} times as long as wide.",
    "It may be a thumbnail, a strip or a part of a picture; enlarged, it shows little.",
    "Look at the picture; copy the original in its place, or take it out of the folder.",
    correction="leave out",
)
DEPTH = Rule(
    "image-depth",
    "info",
    f"A picture has another number of bits than {USUAL:.0%} of its source.",
    "It came another way than the others, which a model can learn in place of the finding.",
    "Export all pictures of a source in one way.",
    correction="leave out",
)
RULES = (UNREADABLE, CONSTANT, FLAT, ENDING, COLOUR, SIZE, DEPTH)


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    pictures = manifest.table.select("image_id", "path", "source").join(facts, on="image_id")
    yield from UNREADABLE.issue(
        pictures.filter(pl.col("error").is_not_null()).select("image_id", message="error")
    )
    yield from _without_content(pictures)
    yield from _of_another_kind(pictures)
    yield from _unlike_their_source(pictures.drop_nulls("height"))


def _without_content(pictures: pl.DataFrame) -> Iterator[Issue]:
    levels = pl.col("maximum") - pl.col("minimum") + 1
    alike = pl.format("{}: every pixel has the value {}", "path", "minimum")
    yield from CONSTANT.issue(pictures.filter(levels == 1).select("image_id", message=alike))
    few = pl.format("{}: values {} to {} of a {}-bit file", "path", "minimum", "maximum", "bits")
    yield from FLAT.issue(
        pictures.filter((levels > 1) & (levels <= FEW_LEVELS)).select("image_id", message=few)
    )


def _of_another_kind(pictures: pl.DataFrame) -> Iterator[Issue]:
    ending = pl.col("path").str.extract(r"(\.[^./]+)$").str.to_lowercase()
    told = ending.replace_strict(KINDS, default=None, return_dtype=pl.String)
    wrong = pictures.filter(told != pl.col("kind"))
    yield from ENDING.issue(
        wrong.select("image_id", message=pl.format("{}: holds a {} picture", "path", "kind"))
    )
    colour = pictures.filter("colour")
    yield from COLOUR.issue(
        colour.select("image_id", message=pl.format("{}: its channels differ", "path"))
    )


def _unlike_their_source(pictures: pl.DataFrame) -> Iterator[Issue]:
    shorter, longer = pl.min_horizontal("height", "width"), pl.max_horizontal("height", "width")
    odd = pictures.filter(
        (shorter < SMALL * shorter.median().over("source")) | (longer > LONGEST * shorter)
    )
    yield from SIZE.issue(
        odd.select(
            "image_id",
            message=pl.format("{}: {}x{} pixels (height x width)", "path", "height", "width"),
        )
    )
    share, count = (
        pl.len().over("source", "bits") / pl.len().over("source"),
        pl.len().over("source"),
    )
    rare = pictures.filter((count >= ENOUGH) & (share <= 1 - USUAL))
    yield from DEPTH.issue(
        rare.select("image_id", message=pl.format("{}: {} bits", "path", "bits"))
    )
