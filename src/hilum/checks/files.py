"""Picture files: unreadable, without content, or there twice."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.checks._pairs import copies, pairs
from hilum.findings import Finding, Rule
from hilum.manifest import Manifest
from hilum.shelf import Card

CARD = Card(
    title="Picture files",
    caveats="Unreadable, constant and doubled pictures are certain. Copies are exact ones only: a picture that was cropped, resized or "
    "compressed again is not recognised. A picture that is empty but for a bright marker is not told from a filled one.",
)
FEW_LEVELS = 16  # of 256 or more; the flattest of real radiographs span over a hundred

UNREADABLE = Rule(
    "image-unreadable",
    "error",
    "A picture file cannot be decoded.",
    "It is left out of every step, so the set is smaller than it seems.",
    "Copy the file again from its source, or take it out of the folder.",
)
CONSTANT = Rule(
    "image-constant",
    "error",
    "Every pixel of a picture has the same value.",
    "It shows nothing, yet its label would be learnt and counted.",
    "Export the picture again from its source, or take it out of the folder.",
)
FLAT = Rule(
    "image-flat",
    "warning",
    f"All pixels of a picture lie within {FEW_LEVELS} grey levels.",
    "Stretched to full contrast it is mostly rounding and noise.",
    "Look at the picture; export it again with its full range of values.",
)
SAME_FILE = Rule(
    "duplicate-file",
    "warning",
    "Two picture files are the same, byte for byte.",
    "The picture counts twice; in two parts of a split it is tested on what was trained on.",
    "Keep one of the two. Hilum's own split keeps both in one part.",
)
SAME_PIXELS = Rule(
    "duplicate-pixels",
    "warning",
    "Two different files hold the same picture, pixel for pixel.",
    SAME_FILE.why,
    SAME_FILE.remedy,
)
RULES = (UNREADABLE, CONSTANT, FLAT, SAME_FILE, SAME_PIXELS)
DUPLICATES = (SAME_FILE.name, SAME_PIXELS.name)


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Finding]:
    pictures = manifest.table.select("image_id", "path").join(facts, on="image_id")
    yield from UNREADABLE.found(pictures.filter(pl.col("error").is_not_null()).select("image_id", message="error"))
    yield from _without_content(pictures)
    yield from _duplicates(pictures)


def _without_content(pictures: pl.DataFrame) -> Iterator[Finding]:
    levels = pl.col("maximum") - pl.col("minimum") + 1
    alike = pl.format("{}: every pixel has the value {}", "path", "minimum")
    yield from CONSTANT.found(pictures.filter(levels == 1).select("image_id", message=alike))
    few = pl.format("{}: values {} to {} of a {}-bit file", "path", "minimum", "maximum", "bits")
    yield from FLAT.found(pictures.filter((levels > 1) & (levels <= FEW_LEVELS)).select("image_id", message=few))


def _duplicates(pictures: pl.DataFrame) -> Iterator[Finding]:
    """Each copy beside the first of its kind: equal files, then equal pixels among files that differ."""
    files = pairs(copies(pictures, "file_digest"), ["file_digest"], "image_id")
    yield from SAME_FILE.found(_told(files, "are the same file, byte for byte"))
    different = pictures.sort("image_id").unique("file_digest", keep="first", maintain_order=True)
    yield from SAME_PIXELS.found(_told(pairs(copies(different), ["pixel_digest"], "image_id"), "hold the same pixels"))


def _told(found: pl.DataFrame, what: str) -> pl.DataFrame:
    message = pl.format("{} and {} {} ({}x{} pixels)", "path", "other_path", pl.lit(what), "height", "width")
    return found.select("image_id", "other_image_id", message=message)
