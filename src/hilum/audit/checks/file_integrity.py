"""Check image files: unreadable, without content, wrong extension, colour, or unlike the others of
their source.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.audit.checks._pairs import with_facts
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card

CARD = Card(
    title="Image files",
    caveats="Unreadable and constant images and wrong extensions are certain. An image that is "
    "empty except for a bright marker is not distinguished from a filled one. A size or depth "
    "unlike the others of its source is a question: it may be another device, or a thumbnail.",
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
SMALL, LONGEST = 1 / 3, 2.5  # of the source's median shorter side; longer over shorter side
USUAL = 0.98  # fraction of a source's images, of which there are at least `ENOUGH`
ENOUGH = 50  # one of 50 is the smallest group that 1 - USUAL can call unusual
FEW_LEVELS = 16  # of 256 or more; the flattest of real radiographs span over a hundred

UNREADABLE = Rule(
    "image-unreadable",
    "error",
    "An image file cannot be decoded.",
    "It is left out of every step, so the data set is smaller than it seems.",
    "Copy the file again from its source, or take it out of the folder.",
    correction="leave out",
)
CONSTANT = Rule(
    "image-constant",
    "error",
    "Every pixel of an image has the same value.",
    "It shows nothing, yet a model would be trained on its label, and evaluated with it.",
    "Export the image again from its source, or take it out of the folder.",
    correction="leave out",
)
FLAT = Rule(
    "image-flat",
    "warning",
    f"All pixels of an image are within {FEW_LEVELS} grey levels.",
    "Stretched to full contrast it is mostly rounding and noise.",
    "Review the image; export it again with its full range of values.",
    correction="leave out",
)
ENDING = Rule(
    "file-extension",
    "warning",
    "The extension of a file's name is that of another file format.",
    "Hilum reads it by its content; programs that go by the name fail on it or misread it.",
    "Rename the file, and what refers to it.",
)
COLOUR = Rule(
    "image-colour",
    "warning",
    "The channels of an image differ: it has colour.",
    "A radiograph has none: it may be a photograph, a screenshot or an image with drawings on it, "
    "and its grey values are a guess.",
    "Review the image; export it again in grey from its source, or take it out of the folder.",
    correction="leave out",
)
SIZE = Rule(
    "image-size",
    "info",
    "An image is less than a third of the usual size of its source, or more than "
    f"{LONGEST} times as long as wide.",
    "It may be a thumbnail, a strip or a part of an image; enlarged, it shows little.",
    "Review the image; replace it by the original, or take it out of the folder.",
    correction="leave out",
)
DEPTH = Rule(
    "image-depth",
    "info",
    f"An image has another number of bits than {USUAL:.0%} of its source.",
    "It was exported in another way than the others, which a model can learn in place of the "
    "finding.",
    "Export all images of a source in one way.",
    correction="leave out",
)
_MEASURED = ("error", "kind", "colour", "bits", "minimum", "maximum", "height", "width")
RULES = (UNREADABLE, CONSTANT, FLAT, ENDING, COLOUR, SIZE, DEPTH)


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    """Yield issues of each file's content, name and form."""
    table = manifest.table.select("image_id", "path", "source")
    images = with_facts(table, facts, *_MEASURED)
    yield from UNREADABLE.issue(
        images.filter(pl.col("error").is_not_null()).select("image_id", message="error")
    )
    yield from _without_content(images)
    yield from _of_another_kind(images)
    yield from _unlike_their_source(images.drop_nulls("height"))


def _without_content(images: pl.DataFrame) -> Iterator[Issue]:
    levels = pl.col("maximum") - pl.col("minimum") + 1
    alike = pl.format("{}: every pixel has the value {}", "path", "minimum")
    yield from CONSTANT.issue(images.filter(levels == 1).select("image_id", message=alike))
    few = pl.format("{}: values {} to {} of a {}-bit file", "path", "minimum", "maximum", "bits")
    yield from FLAT.issue(
        images.filter((levels > 1) & (levels <= FEW_LEVELS)).select("image_id", message=few)
    )


def _of_another_kind(images: pl.DataFrame) -> Iterator[Issue]:
    ending = pl.col("path").str.slice(-max(map(len, KINDS)))
    named = images.with_columns(ending=ending)
    # Many files have few endings: each is judged once.
    lower = pl.col("ending").str.to_lowercase()
    another = pl.any_horizontal(
        lower.str.ends_with(one) & (pl.col("kind") != kind) for one, kind in KINDS.items()
    )
    judged = named.select("ending", "kind").unique().filter(another)
    wrong = named.join(judged, on=["ending", "kind"], how="semi", maintain_order="left")
    yield from ENDING.issue(
        wrong.select("image_id", message=pl.format("{}: holds a {} image", "path", "kind"))
    )
    colour = images.filter("colour")
    yield from COLOUR.issue(
        colour.select("image_id", message=pl.format("{}: its channels differ", "path"))
    )


def _unlike_their_source(images: pl.DataFrame) -> Iterator[Issue]:
    shorter, longer = pl.min_horizontal("height", "width"), pl.max_horizontal("height", "width")
    odd = images.filter(
        (shorter < SMALL * shorter.median().over("source")) | (longer > LONGEST * shorter)
    )
    yield from SIZE.issue(
        odd.select(
            "image_id",
            message=pl.format("{}: {}x{} pixels (height x width)", "path", "height", "width"),
        )
    )
    count = pl.len().over("source")
    fraction = pl.len().over("source", "bits") / count
    rare = images.filter((count >= ENOUGH) & (fraction <= 1 - USUAL))
    yield from DEPTH.issue(
        rare.select("image_id", message=pl.format("{}: {} bits", "path", "bits"))
    )
