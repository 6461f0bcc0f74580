"""Check for copies of images: the same file, the same pixels, or the same image, processed."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.audit.checks._pairs import with_facts
from hilum.audit.duplicates import near_duplicates
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.plugins import Card

CARD = Card(
    title="Duplicate images",
    caveats="Equal files and equal pixels are certain. A processed copy is reported when two "
    "images, registered onto each other, agree in fine detail, as no two exposures do. Size, "
    "proportions, brightness, contrast, compression, inversion, mirroring, borders, markers, "
    "rotations of up to 5 degrees and crops of up to a tenth of each side do not hide it. Missed "
    "are larger rotations and crops, quarter turns, warped images, mirrored or inverted images "
    "that were also strongly changed, and parts of an image. "
    "benchmarks/speed/duplicates.py measures it.",
)
SAME_FILE = Rule(
    "duplicate-file",
    "warning",
    "Two image files are the same, byte for byte.",
    "The image counts twice; in two parts of a split, a model is tested on what it was trained on.",
    "Keep one of the two. Hilum's own split keeps both in one part.",
    correction="keep one of pair",
    same_image=True,
)
SAME_PIXELS = Rule(
    "duplicate-pixels",
    "warning",
    "Two different files hold the same image, pixel for pixel.",
    SAME_FILE.rationale,
    SAME_FILE.remedy,
    correction="keep one of pair",
    same_image=True,
)
PROCESSED = Rule(
    "duplicate-processed",
    "warning",
    "Two files show the same exposure, one of them processed: resized, compressed again, inverted, "
    "mirrored, cropped or rotated.",
    SAME_FILE.rationale,
    "Review both and keep the one nearer to the source. Hilum's own split keeps both in one part.",
    correction="keep one of pair",
    same_image=True,
)
ALIKE = Rule(
    "duplicate-suspected",
    "info",
    "Two images agree nearly as well as copies do: one exposure, changed considerably, or two of "
    "one patient taken moments apart.",
    "Either way they show one patient, and should be in one part of a split.",
    "Review both. If their patients have different names, correct one of these.",
    correction="keep one of pair",
)
RULES = (SAME_FILE, SAME_PIXELS, PROCESSED, ALIKE)
_MESSAGES = {  # by the kind of a pair
    near_duplicates.SAME_FILE: (
        SAME_FILE,
        pl.format(
            "{} and {} are the same file, byte for byte ({}x{} pixels)",
            "path",
            "other_path",
            "height",
            "width",
        ),
    ),
    near_duplicates.SAME_PIXELS: (
        SAME_PIXELS,
        pl.format(
            "{} and {} hold the same pixels ({}x{} pixels)", "path", "other_path", "height", "width"
        ),
    ),
    near_duplicates.PROCESSED: (
        PROCESSED,
        pl.format(
            "{} and {} show the same image, {} (agreement {})",
            "path",
            "other_path",
            "how",
            pl.col("agreement").round(2),
        ),
    ),
    near_duplicates.ALIKE: (
        ALIKE,
        pl.format(
            "{} and {} may show the same image, {} (agreement {})",
            "path",
            "other_path",
            "how",
            pl.col("agreement").round(2),
        ),
    ),
}


def check(manifest: Manifest, facts: pl.DataFrame, cache: Cache | None = None) -> Iterator[Issue]:
    """Yield an issue for each copy; without a cache only for equal files and pixels."""
    paths = manifest.table.select("image_id", "path")
    images = with_facts(paths, facts, *near_duplicates.NEEDED[1:])
    found = near_duplicates.within(images, cache).join(
        images.select("image_id", "path", "height", "width"), on="image_id", maintain_order="left"
    )
    found = found.join(
        paths.select(other_image_id="image_id", other_path="path"),
        on="other_image_id",
        maintain_order="left",
    )
    for kind, (rule, message) in _MESSAGES.items():
        yield from rule.issue(
            found.filter(pl.col("kind") == kind).select(
                "image_id", "other_image_id", message=message
            )
        )
