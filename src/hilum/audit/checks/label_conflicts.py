"""Labels: against the reading of the same picture, against what is drawn on it, against one another, and against the label of an exact copy."""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from hilum.annotations import lung_masks
from hilum.annotations.vocabulary import LOCAL, State, ancestors, name_of
from hilum.audit.checks._pairs import copies, pairs
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card

CARD = Card(
    title="Labels",
    caveats="Contradictions between labels, drawings and copies are certain; which of the two is wrong they do not tell. A reading is only searched for words, in English: it counts as normal where it says nothing "
    "else, and as naming a finding where the word stands outside a negated, doubted or asked-for clause. Read it before changing a label.",
)
AGAINST_READING = Rule(
    "label-contradicts-reading",
    "warning",
    "A finding is labelled present while the reading is normal, or absent while the reading names it.",
    "One of the two is wrong, and a model learns and is measured by the label.",
    "Read the reading and look at the picture; correct the label, or leave the picture out, and tell the set's keepers.",
    correction="leave out",
)
COPIES_DIFFER = Rule(
    "duplicate-labels",
    "error",
    "A finding is labelled present in a picture and absent in an exact copy of it.",
    "No model can be right on both, and figures depend on which of the two is counted.",
    "Find out which label is right and correct the other, or take both pictures out.",
    correction="leave out",
    corrects_both=True,
)
AGAINST_TREE = Rule(
    "label-hierarchy",
    "warning",
    "A finding is labelled present and a wider one that contains it absent.",
    "Whoever has the narrower finding has the wider one: a model is taught two things about one picture.",
    "Correct the wrong one of the two labels; Hilum's roll-up would make the wider finding present.",
    correction="leave out",
)
AGAINST_DRAWING = Rule(
    "label-contradicts-annotation",
    "warning",
    "A finding is drawn on a picture that is labelled as free of it.",
    "The box or outline and the label contradict each other; one of them is learnt from, the other measured by.",
    "Look at the picture, and correct the label or take the drawing out.",
    correction="leave out",
)
RULES = (AGAINST_READING, AGAINST_TREE, AGAINST_DRAWING, COPIES_DIFFER)

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


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    yield from _against_reading(manifest)
    wider = _wider([*manifest.labels["concept"].unique(), *manifest.shapes["concept"].unique()])
    yield from AGAINST_TREE.issue(_against_tree(manifest, wider))
    yield from AGAINST_DRAWING.issue(_against_drawing(manifest, wider))
    yield from _copies_differ(manifest, facts)


def _against_reading(manifest: Manifest) -> Iterator[Issue]:
    read = manifest.table.select("image_id", "reading").filter(pl.col("reading").is_not_null())
    own = pl.col("words").is_null()  # a label that quotes the reading was read from it
    labels = manifest.labels.join(read, on="image_id").filter(
        own & ~pl.col("concept").str.starts_with(LOCAL)
    )
    present = labels.filter(
        (pl.col("state") == State.PRESENT) & pl.col("reading").str.contains(NORMAL)
    )
    stated = pl.col("reading").str.replace_all(_NOT_STATED, " ")
    absent = labels.filter(pl.col("state") == State.ABSENT).group_by("concept")
    named = [rows.filter(stated.str.contains(_words(concept))) for (concept,), rows in absent]
    words = (
        pl.when(pl.col("reading").str.len_chars() > SHOWN)
        .then(pl.col("reading").str.head(SHOWN) + "…")
        .otherwise("reading")
    )
    message = pl.format(
        "{} is {} ({}), but the reading says '{}'", _name(), _state(), "source", words
    )
    for rows in (present, *named):
        yield from AGAINST_READING.issue(rows.select("image_id", message=message))


def _words(concept: str) -> str:
    own = rf"\b{re.escape(name_of(concept))}\b"
    return "(?i)" + "|".join([own, *([WORDS[concept]] if concept in WORDS else [])])


def _wider(present: list[str]) -> pl.DataFrame:
    """concept and each that is wider than it (`wider`), for those that occur."""
    known = [
        concept
        for concept in sorted(set(present))
        if not concept.startswith(LOCAL) and concept not in lung_masks.REFERENCE
    ]
    pairs_ = [(concept, above) for concept in known for above in ancestors(concept)]
    return pl.DataFrame(pairs_, schema={"concept": pl.String, "wider": pl.String}, orient="row")


def _against_tree(manifest: Manifest, wider: pl.DataFrame) -> pl.DataFrame:
    """One row an image: the first of its narrower findings that contradict a wider one, and how many do."""
    labels = manifest.labels.select("image_id", "concept", "state", "source")
    wider = wider.join(
        labels.select("concept").unique(), left_on="wider", right_on="concept", how="semi"
    )
    above = labels.filter(pl.col("state") == State.ABSENT).select(
        "image_id", wider="concept", wider_source="source"
    )
    above = above.join(wider.select("wider").unique(), on="wider", how="semi")
    below = labels.filter(pl.col("state") == State.PRESENT).join(wider, on="concept")
    torn = below.join(above, on=["image_id", "wider"]).sort("image_id", "concept", "wider")
    first = torn.group_by("image_id", maintain_order=True).agg(pl.all().first(), pairs=pl.len())
    more = (
        pl.when(pl.col("pairs") > 1)
        .then(pl.format("; {} such pairs on this image", "pairs"))
        .otherwise(pl.lit(""))
    )
    told = pl.format(
        "{} is present ({}), but {}, which contains it, is absent ({})",
        _name(),
        "source",
        _name("wider"),
        "wider_source",
    )
    return first.select("image_id", message=told + more)


def _against_drawing(manifest: Manifest, wider: pl.DataFrame) -> pl.DataFrame:
    """One row an image and finding that is labelled absent although it, or a narrower one, is drawn."""
    drawn = manifest.shapes.select("image_id", "concept", drawn_in="source").unique(
        ["image_id", "concept"], keep="first", maintain_order=True
    )
    own = drawn.with_columns(wider="concept")
    above = drawn.join(wider, on="concept").select(own.columns)
    absent = manifest.labels.filter(pl.col("state") == State.ABSENT).select(
        "image_id", "source", wider="concept"
    )
    torn = (
        pl.concat([own, above])
        .join(absent, on=["image_id", "wider"])
        .sort("image_id", "concept", "wider")
    )
    return torn.select(
        "image_id",
        message=pl.format(
            "{} is drawn ({}), but {} is labelled absent ({})",
            _name(),
            "drawn_in",
            _name("wider"),
            "source",
        ),
    )


def _copies_differ(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    pictures = manifest.table.select("image_id", "path").join(facts, on="image_id")
    stated = manifest.labels.filter(pl.col("state") != State.UNCERTAIN)
    found = pairs(
        copies(pictures).join(stated, on="image_id"), ["pixel_digest", "concept"], "state"
    )
    message = pl.format(
        "{} is {} in {} and {} in the same picture, {}",
        _name(),
        _state(),
        "path",
        _state("other_"),
        "other_path",
    )
    yield from COPIES_DIFFER.issue(found.select("image_id", "other_image_id", message=message))


def _name(column: str = "concept") -> pl.Expr:
    return pl.col(column).map_elements(lambda concept: name_of(concept).lower(), pl.String)


def _state(prefix: str = "") -> pl.Expr:
    return (
        pl.when(pl.col(f"{prefix}state") == State.PRESENT)
        .then(pl.lit("present"))
        .otherwise(pl.lit("absent"))
    )
