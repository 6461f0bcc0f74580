"""Pictures that are there twice: as the same file, with the same pixels, or as the same picture, processed."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.audit.duplicates import near_duplicates
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.plugins import Card

CARD = Card(
    title="Duplicate pictures",
    caveats="Equal files and equal pixels are certain. A processed copy is told when two pictures, laid over each other, agree in fine detail, as no two "
    "exposures do; size, proportions, brightness, contrast, compression, inversion, mirroring, borders, markers, turns of up to 5 degrees and crops of "
    "up to a tenth of each side do not hide it. Missed are stronger turns and crops, quarter turns, a picture that was warped, a mirrored or inverted one "
    "that was also strongly changed, and a part of a picture. bench/duplicates.py measures it.",
)
SAME_FILE = Rule(
    "duplicate-file",
    "warning",
    "Two picture files are the same, byte for byte.",
    "The picture counts twice; in two parts of a split it is tested on what was trained on.",
    "Keep one of the two. Hilum's own split keeps both in one part.",
    correction="keep one of pair",
    same_image=True,
)
SAME_PIXELS = Rule(
    "duplicate-pixels",
    "warning",
    "Two different files hold the same picture, pixel for pixel.",
    SAME_FILE.rationale,
    SAME_FILE.remedy,
    correction="keep one of pair",
    same_image=True,
)
PROCESSED = Rule(
    "duplicate-processed",
    "warning",
    "Two files show the same exposure, one of them processed: resized, compressed again, inverted, mirrored, cropped or turned.",
    SAME_FILE.rationale,
    "Look at both and keep the one nearer to the source. Hilum's own split keeps both in one part.",
    correction="keep one of pair",
    same_image=True,
)
ALIKE = Rule(
    "duplicate-suspected",
    "info",
    "Two pictures agree nearly as well as copies do: one exposure, changed a good deal, or two of one patient taken moments apart.",
    "Either way they show one patient, and should be in one part of a split.",
    "Look at both. If their patients have different names, correct one of these.",
    correction="keep one of pair",
)
RULES = (SAME_FILE, SAME_PIXELS, PROCESSED, ALIKE)
WORDS = {
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
            "{} and {} show the same picture, {} (agreement {})",
            "path",
            "other_path",
            "how",
            pl.col("agreement").round(2),
        ),
    ),
    near_duplicates.ALIKE: (
        ALIKE,
        pl.format(
            "{} and {} may show the same picture, {} (agreement {})",
            "path",
            "other_path",
            "how",
            pl.col("agreement").round(2),
        ),
    ),
}


def check(manifest: Manifest, facts: pl.DataFrame, cache: Cache | None = None) -> Iterator[Issue]:
    paths = manifest.table.select("image_id", "path")
    pictures = facts.join(paths, on="image_id")
    found = near_duplicates.within(pictures, cache).join(
        pictures.select("image_id", "path", "height", "width"), on="image_id", maintain_order="left"
    )
    found = found.join(
        paths.select(other_image_id="image_id", other_path="path"),
        on="other_image_id",
        maintain_order="left",
    )
    for kind, (rule, message) in WORDS.items():
        yield from rule.issue(
            found.filter(pl.col("kind") == kind).select(
                "image_id", "other_image_id", message=message
            )
        )
