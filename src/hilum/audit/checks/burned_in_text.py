"""Check for text in images and identities in headers.

DICOM headers state both; how much is written in the pixels is known only where the cache was filled
with text recognition. No issue quotes the text, nor the patient's name or number, because issues
are passed on.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.audit.checks._pairs import with_facts
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card

CARD = Card(
    title="Burned-in text and identities",
    source="DICOM PS3.3 C.7.6.1.1.6, C.7.6.1.1.7, C.8.6.1, C.7.1.1; RapidOCR for text in pixels",
    caveats="Headers are trusted: many images with text do not declare it. Whether a name or "
    "number in a header is a person's is guessed from its form, and only where the header states "
    "that identity was not removed. Text in the pixels is recognised only with `ocr = true` under "
    "[pixels] of a recipe and Hilum's extra [ocr]; faint, rotated or handwritten text is missed. "
    "The absence of issues does not prove that no patient is named.",
)
WORDS, LETTERS = 3, 5  # from which the text is more than a side marker
MOST = 0.5  # fraction of a source above which captures are one issue of the source, not one each

BURNED_IN = Rule(
    "text-burned-in",
    "warning",
    "The header states that text which identifies the patient is burned into the image.",
    "A name in the pixels goes wherever the image goes, including the report's examples, and a "
    "model may learn the text.",
    "Review the image; black out the text in a copy, or take the image out of the folder, before "
    "you pass anything on.",
)
RECOGNIZABLE = Rule(
    "features-recognizable",
    "warning",
    "The header states that the patient can be recognized from the image.",
    "Even without its header the image reveals who the patient is.",
    "Review the image; crop it to the chest in a copy, or take it out of the folder, before you "
    "pass anything on.",
)
LIKELY = Rule(
    "text-likely",
    "info",
    "An image was captured from a screen, a document or another image.",
    "Such images often have names, dates or measurements in their pixels, and grey values that are "
    "no longer the detector's.",
    "Review a few; have the text recognised with `ocr = true` under [pixels], or use the original "
    "images.",
)
IDENTITY = Rule(
    "identity-in-header",
    "warning",
    "The header states that the patient's identity was not removed, and has what appears to be a "
    "person's name or number.",
    "Whoever receives the file receives the name.",
    "De-identify the files (DICOM PS3.15 annex E) before you copy or pass them on.",
)
SEEN = Rule(
    "text-seen",
    "warning",
    "An image has more text than a side marker.",
    "It may name the patient, and a model may learn the text in place of the anatomy.",
    "Review the image; black out the text in a copy if it names somebody or correlates with a "
    "finding.",
)
RULES = (BURNED_IN, RECOGNIZABLE, LIKELY, IDENTITY, SEEN)
_IN_HEADER = (  # rule, word in the column header_text, message
    (BURNED_IN, "burnt in", "Burned In Annotation (0028,0301) is YES"),
    (RECOGNIZABLE, "recognizable", "Recognizable Visual Features (0028,0302) is YES"),
    (
        IDENTITY,
        "identity",
        "Patient Identity Removed (0012,0062) is NO, and Patient's Name or Patient ID appears to "
        "be a person's",
    ),
)


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    """Yield issues of what headers state, and of recognised text."""
    table = manifest.table.select("image_id", "path", "source")
    images = with_facts(
        table, facts, "error", "header_text", "text_words", "text_longest", "text_fraction"
    ).filter(pl.col("error").is_null())
    stated = images.with_columns(pl.col("header_text").fill_null("").str.split(","))
    for rule, word, message in _IN_HEADER:
        yield from rule.issue(
            stated.filter(pl.col("header_text").list.contains(word)).select(
                "image_id", message=pl.format("{}: " + message, "path")
            )
        )
    yield from _captures(stated)
    much = images.filter((pl.col("text_words") >= WORDS) | (pl.col("text_longest") >= LETTERS))
    percent = (100 * pl.col("text_fraction")).round(1)
    message = pl.format(
        "{}: {} word(s) beside side markers, the longest of {} letters, cover {} % of the image",
        "path",
        "text_words",
        "text_longest",
        percent,
    )
    yield from SEEN.issue(much.select("image_id", message=message))


def _captures(stated: pl.DataFrame) -> Iterator[Issue]:
    marked = stated.with_columns(captured=pl.col("header_text").list.contains("capture"))
    counted = marked.with_columns(
        fraction=pl.col("captured").mean().over("source"), all=pl.len().over("source")
    )
    captured = counted.filter("captured")
    common = (pl.col("fraction") > MOST) & (pl.col("all") > 1)
    words = "a secondary capture, by its SOP class, Conversion Type or Image Type"
    yield from LIKELY.issue(
        captured.filter(~common).select("image_id", message=pl.format("{}: " + words, "path"))
    )
    sets = (
        captured.filter(common)
        .group_by("source")
        .agg(pl.len(), pl.col("all").first())
        .sort("source")
    )
    yield from LIKELY.issue(
        sets.select(message=pl.format("{} of {} images of {}: " + words, "len", "all", "source"))
    )
