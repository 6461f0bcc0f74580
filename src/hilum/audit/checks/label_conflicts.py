"""Check labels against the reading of the same image, against its annotations, against one another,
and against the label of an exact copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from hilum.annotations import lung_masks
from hilum.annotations.vocabulary import LOCAL, State, ancestors, name_of
from hilum.audit.checks._pairs import copies, pairs, with_facts
from hilum.audit.issues import Issue, Rule
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card

CARD = Card(
    title="Labels",
    caveats="Contradictions between labels, annotations and copies are certain, but not which of "
    "the two is wrong. A reading is only searched for English words: it counts as normal where it "
    "states nothing else, and as naming a finding where the word is outside clauses that negate or "
    "question it. Read it before changing a label.",
)
AGAINST_READING = Rule(
    "label-contradicts-reading",
    "warning",
    "A finding is labelled present while the reading is normal, or absent while the reading names "
    "it.",
    "One of the two is wrong, and a model is trained on the label and evaluated with it.",
    "Read the reading and review the image; correct the label, or leave the image out, and inform "
    "the maintainers of the data set.",
    correction="leave out",
)
COPIES_DIFFER = Rule(
    "duplicate-labels",
    "error",
    "A finding is labelled present in an image and absent in an exact copy of it.",
    "No model can be right on both, and figures depend on which of the two is counted.",
    "Find out which label is right and correct the other, or take both images out.",
    correction="leave out",
    corrects_both=True,
)
AGAINST_TREE = Rule(
    "label-hierarchy",
    "warning",
    "A finding is labelled present and a wider one that contains it absent.",
    "Whoever has the narrower finding has the wider one: a model is trained on two contradicting "
    "labels of one image.",
    "Correct the wrong one of the two labels in the source's table, or say in [terms] of "
    "hilum.toml what its word means; the wider finding is present wherever the narrower one is.",
    correction="leave out",
)
AGAINST_ANNOTATION = Rule(
    "label-contradicts-annotation",
    "warning",
    "A finding is annotated on an image that is labelled as free of it.",
    "The box or outline and the label contradict each other; a model may be trained on one of them "
    "and evaluated with the other.",
    "Review the image, and correct the label or delete the annotation.",
    correction="leave out",
)
RULES = (AGAINST_READING, AGAINST_TREE, AGAINST_ANNOTATION, COPIES_DIFFER)

# What readings call a concept, beside its name in the vocabulary.
WORDS = {"tuberculosis": r"tubercul|\b[ps]?tb\b", "effusion": r"effusions?\b"}
_NOTHING = (
    r"(?:normal|unremarkable|healthy"
    r"|no (?:\w+ ){0,3}(?:abnormalit(?:y|ies)|disease|findings?|lesions?))"
)
_PLAIN = (
    r"(?:a|an|the|is|are|and|with|within|limits?|study|film|image|chest|cxr|x-?ray|radiograph"
    r"|examination|heart|lungs?|appearances?)"
)
NORMAL = rf"(?i)^\W*(?:{_PLAIN}\W+)*{_NOTHING}(?:\W+(?:{_PLAIN}|{_NOTHING})\b)*\W*$"
# Clauses that name a finding without stating it: negated, questioned, to be ruled out, or of
# someone else.
_NOT_STATED = (
    r"(?i)(?:\b(?:no|not|without|denies|negative for|free of|rule out|r/o|query|screening for"
    r"|contact (?:with|of))\b|\?)[^.;]*?(?:[.;]|\bbut\b|$)"
    r"|[^.;]*\b(?:ruled out|excluded|unlikely)\b"
)
_FOUND = {"image_id": pl.String, "message": pl.String}
SHOWN = 100  # characters of a reading in a message


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    """Yield issues of labels that contradict something else that is known of the image."""
    yield from _against_reading(manifest)
    wider = _wider([*manifest.label_states.of, *manifest.shapes["concept"].unique()])
    yield from AGAINST_TREE.issue(_against_tree(manifest, wider))
    yield from AGAINST_ANNOTATION.issue(_against_annotation(manifest, wider))
    yield from _copies_differ(manifest, facts)


def _against_reading(manifest: Manifest) -> Iterator[Issue]:
    read = manifest.table.select("image_id", "reading").filter(pl.col("reading").is_not_null())
    if not read.height:
        return
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
    """Return each concept that occurs with each concept that is wider than it (`wider`)."""
    known = [
        concept
        for concept in sorted(set(present))
        if not concept.startswith(LOCAL) and concept not in lung_masks.REFERENCE
    ]
    pairs_ = [(concept, above) for concept in known for above in ancestors(concept)]
    return pl.DataFrame(pairs_, schema={"concept": pl.String, "wider": pl.String}, orient="row")


def _against_tree(manifest: Manifest, wider: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each image with a narrower finding that contradicts a wider one.

    The message names the first such pair and counts the others.
    """
    wider = wider.filter(pl.col("wider").is_in(list(manifest.label_states.of)))
    if wider.is_empty():
        return pl.DataFrame(schema=_FOUND)
    conflicts = manifest.query_labels(lambda labels: _contradicting(labels, wider))
    first = conflicts.group_by("image_id", maintain_order=True).agg(
        pl.all().first(), pairs=pl.len()
    )
    more = (
        pl.when(pl.col("pairs") > 1)
        .then(pl.format("; {} such pairs on this image", "pairs"))
        .otherwise(pl.lit(""))
    )
    message = pl.format(
        "{} is present ({}), but {}, which contains it, is absent ({})",
        _name(),
        "source",
        _name("wider"),
        "wider_source",
    )
    return first.select("image_id", message=message + more)


def _contradicting(labels: pl.LazyFrame, wider: pl.DataFrame) -> pl.LazyFrame:
    """Return the findings that are present while a wider one is absent, a row a pair.

    One query, so that only the labels that can conflict are ever held.
    """
    stated = labels.select("image_id", "concept", "state", "source")
    above = stated.filter(
        (pl.col("state") == State.ABSENT) & pl.col("concept").is_in(wider["wider"].implode())
    ).select("image_id", wider="concept", wider_source="source")
    below = stated.filter(
        (pl.col("state") == State.PRESENT) & pl.col("concept").is_in(wider["concept"].implode())
    ).join(wider.lazy(), on="concept")
    joined = below.join(above, on=["image_id", "wider"])
    return joined.sort("image_id", "concept", "wider")


def _against_annotation(manifest: Manifest, wider: pl.DataFrame) -> pl.DataFrame:
    """Return each finding labelled absent although it, or a narrower one, is annotated."""
    if manifest.shapes.is_empty():
        return pl.DataFrame(schema=_FOUND)
    annotated = manifest.shapes.select("image_id", "concept", annotated_in="source").unique(
        ["image_id", "concept"], keep="first", maintain_order=True
    )
    own = annotated.with_columns(wider="concept")
    above = annotated.join(wider, on="concept").select(own.columns)
    absent = manifest.query_labels(
        lambda labels: (
            labels.filter(pl.col("state") == State.ABSENT)
            .select("image_id", "source", wider="concept")
            .join(annotated.lazy(), on="image_id", how="semi")
        )
    )
    conflicts = (
        pl.concat([own, above])
        .join(absent, on=["image_id", "wider"])
        .sort("image_id", "concept", "wider")
    )
    return conflicts.select(
        "image_id",
        message=pl.format(
            "{} is annotated ({}), but {} is labelled absent ({})",
            _name(),
            "annotated_in",
            _name("wider"),
            "source",
        ),
    )


def _copies_differ(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    table = manifest.table.select("image_id", "path")
    images = with_facts(table, facts, "pixel_digest", "minimum", "maximum")
    copied = copies(images)
    if copied.is_empty():
        return
    stated = manifest.query_labels(
        lambda labels: labels.filter(pl.col("state") != State.UNCERTAIN).join(
            copied.lazy().select("image_id"), on="image_id", how="semi"
        )
    )
    found = pairs(copied.join(stated, on="image_id"), ["pixel_digest", "concept"], "state")
    message = pl.format(
        "{} is {} in {} and {} in the same image, {}",
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
