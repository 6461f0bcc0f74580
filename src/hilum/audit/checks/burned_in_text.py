"""Text in pictures, and people in headers: what DICOM headers tell, and how much is written where the cache was asked to read it.

No finding holds what is written, nor a name or number of the patient's: findings are passed on.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card

CARD = Card(
    title="Text in the pictures",
    source="DICOM PS3.3 C.7.6.1.1.6, C.7.6.1.1.7, C.8.6.1, C.7.1.1; RapidOCR for what is written in the pictures",
    caveats="Headers are taken at their word: many pictures with text do not say so, and whether a name or number in a header is a person's is "
    "guessed from its form, and only where the header says that it was not taken out. What is written in the pictures themselves is read only "
    "with `ocr = true` in a recipe's [pixels] and Hilum's extra [ocr]; faint, turned or handwritten text is missed. That nothing was found is no "
    "proof that no patient is named.",
)
WORDS, LETTERS = 3, 5  # from which it is more than a side marker
MOST = 0.5  # of a source's pictures, above which captures are told of the source in place of each picture

BURNT_IN = Rule(
    "text-burned-in",
    "warning",
    "The header says that text which identifies the patient is burnt into the picture.",
    "A name in the pixels goes wherever the picture goes, into the report's examples too, and a model may learn the text.",
    "Look at the picture; black out the text in a copy, or take the picture out of the folder, before you pass anything on.",
)
RECOGNIZABLE = Rule(
    "features-recognizable",
    "warning",
    "The header says that the patient can be recognized by what the picture shows.",
    "Without its header the picture still tells who it is.",
    "Look at the picture; crop it to the chest in a copy, or take it out of the folder, before you pass anything on.",
)
LIKELY = Rule(
    "text-likely",
    "info",
    "A picture was captured from a screen, a document or another picture.",
    "Such pictures often carry names, dates or measurements in their pixels, and grey values that are no longer the detector's.",
    "Look at a few; have the text read with `ocr = true` under [pixels], or use the original pictures.",
)
IDENTITY = Rule(
    "identity-in-header",
    "warning",
    "The header says that the patient's identity was not removed, and holds what looks like a person's name or number.",
    "Who gets the file gets the name.",
    "De-identify the files (DICOM PS3.15 annex E) before you copy or pass them on.",
)
SEEN = Rule(
    "text-seen",
    "warning",
    "More is written in a picture than on a side marker.",
    "It may name the patient, and a model may learn what is written in place of what is shown.",
    "Look at the picture; black out the text in a copy if it names somebody or goes with a finding.",
)
RULES = (BURNT_IN, RECOGNIZABLE, LIKELY, IDENTITY, SEEN)
_TOLD = (
    (BURNT_IN, "burnt in", "Burned In Annotation (0028,0301) is YES"),
    (RECOGNIZABLE, "recognizable", "Recognizable Visual Features (0028,0302) is YES"),
    (
        IDENTITY,
        "identity",
        "Patient Identity Removed (0012,0062) is NO, and Patient's Name or Patient ID looks like a person's",
    ),
)


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    pictures = (
        manifest.table.select("image_id", "path", "source")
        .join(facts, on="image_id")
        .filter(pl.col("error").is_null())
    )
    said = pictures.with_columns(pl.col("header_text").fill_null("").str.split(","))
    for rule, word, message in _TOLD:
        yield from rule.issue(
            said.filter(pl.col("header_text").list.contains(word)).select(
                "image_id", message=pl.format("{}: " + message, "path")
            )
        )
    yield from _captures(said)
    much = pictures.filter((pl.col("text_words") >= WORDS) | (pl.col("text_longest") >= LETTERS))
    percent = (100 * pl.col("text_share")).round(1)
    message = pl.format(
        "{}: {} word(s) beside side markers, the longest of {} letters, cover {} % of the picture",
        "path",
        "text_words",
        "text_longest",
        percent,
    )
    yield from SEEN.issue(much.select("image_id", message=message))


def _captures(said: pl.DataFrame) -> Iterator[Issue]:
    marked = said.with_columns(captured=pl.col("header_text").list.contains("capture"))
    counted = marked.with_columns(
        share=pl.col("captured").mean().over("source"), all=pl.len().over("source")
    )
    captured = counted.filter("captured")
    common = (pl.col("share") > MOST) & (pl.col("all") > 1)
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
        sets.select(message=pl.format("{} of {} pictures of {}: " + words, "len", "all", "source"))
    )
