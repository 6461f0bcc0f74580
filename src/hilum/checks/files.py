"""Picture files: unreadable, or without content."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.findings import Finding, Rule
from hilum.manifest import Manifest
from hilum.shelf import Card

CARD = Card(
    title="Picture files",
    caveats="Unreadable and constant pictures are certain. A picture that is empty but for a bright marker is not told from a filled one.",
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
RULES = (UNREADABLE, CONSTANT, FLAT)


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Finding]:
    pictures = manifest.table.select("image_id", "path").join(facts, on="image_id")
    yield from UNREADABLE.found(pictures.filter(pl.col("error").is_not_null()).select("image_id", message="error"))
    yield from _without_content(pictures)


def _without_content(pictures: pl.DataFrame) -> Iterator[Finding]:
    levels = pl.col("maximum") - pl.col("minimum") + 1
    alike = pl.format("{}: every pixel has the value {}", "path", "minimum")
    yield from CONSTANT.found(pictures.filter(levels == 1).select("image_id", message=alike))
    few = pl.format("{}: values {} to {} of a {}-bit file", "path", "minimum", "maximum", "bits")
    yield from FLAT.found(pictures.filter((levels > 1) & (levels <= FEW_LEVELS)).select("image_id", message=few))
