"""Labels: against the reading of the same picture, and against the label of an exact copy."""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from hilum.checks._pairs import copies, pairs
from hilum.findings import Finding, Rule
from hilum.manifest import Manifest
from hilum.shelf import Card
from hilum.vocabulary import LOCAL, State, name_of

CARD = Card(
    title="Labels",
    caveats="Contradictory copies are certain. A reading is only searched for words, in English: it counts as normal where it says nothing "
    "else, and as naming a finding where the word stands outside a negated, doubted or asked-for clause. Read it before changing a label.",
)
AGAINST_READING = Rule(
    "label-against-reading",
    "warning",
    "A finding is labelled present while the reading is normal, or absent while the reading names it.",
    "One of the two is wrong, and a model learns and is measured by the label.",
    "Read the reading and look at the picture; correct the label, or leave the picture out, and tell the set's keepers.",
)
COPIES_DIFFER = Rule(
    "duplicate-labels",
    "error",
    "A finding is labelled present in a picture and absent in an exact copy of it.",
    "No model can be right on both, and figures depend on which of the two is counted.",
    "Find out which label is right and correct the other, or take both pictures out.",
)
RULES = (AGAINST_READING, COPIES_DIFFER)

# What readings call a concept, beside its name in the vocabulary.
WORDS = {"tuberculosis": r"tubercul|\b[ps]?tb\b", "effusion": r"effusions?\b"}
_NOTHING = r"(?:normal|unremarkable|healthy|no (?:\w+ ){0,3}(?:abnormalit(?:y|ies)|disease|findings?|lesions?))"
_PLAIN = r"(?:a|an|the|is|are|and|with|within|limits?|study|film|image|chest|cxr|x-?ray|radiograph|examination|heart|lungs?|appearances?)"
NORMAL = rf"(?i)^\W*(?:{_PLAIN}\W+)*{_NOTHING}(?:\W+(?:{_PLAIN}|{_NOTHING})\b)*\W*$"
# Clauses that name a finding without stating it: negated, doubted, asked for, or someone else's.
_NOT_STATED = (
    r"(?i)(?:\b(?:no|not|without|denies|negative for|free of|rule out|r/o|query|screening for|contact (?:with|of))\b|\?)[^.;]*?(?:[.;]|\bbut\b|$)"
    r"|[^.;]*\b(?:ruled out|excluded|unlikely)\b"
)
SHOWN = 100  # characters of a reading in a message


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Finding]:
    yield from _against_reading(manifest)
    yield from _copies_differ(manifest, facts)


def _against_reading(manifest: Manifest) -> Iterator[Finding]:
    read = manifest.table.select("image_id", "reading").filter(pl.col("reading").is_not_null())
    labels = manifest.labels.join(read, on="image_id").filter(~pl.col("concept").str.starts_with(LOCAL))
    present = labels.filter((pl.col("state") == State.PRESENT) & pl.col("reading").str.contains(NORMAL))
    stated = pl.col("reading").str.replace_all(_NOT_STATED, " ")
    absent = labels.filter(pl.col("state") == State.ABSENT).group_by("concept")
    named = [rows.filter(stated.str.contains(_words(concept))) for (concept,), rows in absent]
    words = pl.when(pl.col("reading").str.len_chars() > SHOWN).then(pl.col("reading").str.head(SHOWN) + "…").otherwise("reading")
    message = pl.format("{} is {} ({}), but the reading says '{}'", _name(), _state(), "source", words)
    for rows in (present, *named):
        yield from AGAINST_READING.found(rows.select("image_id", message=message))


def _words(concept: str) -> str:
    own = rf"\b{re.escape(name_of(concept))}\b"
    return "(?i)" + "|".join([own, *([WORDS[concept]] if concept in WORDS else [])])


def _copies_differ(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Finding]:
    pictures = manifest.table.select("image_id", "path").join(facts, on="image_id")
    stated = manifest.labels.filter(pl.col("state") != State.UNCERTAIN)
    found = pairs(copies(pictures).join(stated, on="image_id"), ["pixel_digest", "concept"], "state")
    message = pl.format("{} is {} in {} and {} in the same picture, {}", _name(), _state(), "path", _state("other_"), "other_path")
    yield from COPIES_DIFFER.found(found.select("image_id", "other_image_id", message=message))


def _name() -> pl.Expr:
    return pl.col("concept").map_elements(lambda concept: name_of(concept).lower(), pl.String)


def _state(prefix: str = "") -> pl.Expr:
    return pl.when(pl.col(f"{prefix}state") == State.PRESENT).then(pl.lit("present")).otherwise(pl.lit("absent"))
