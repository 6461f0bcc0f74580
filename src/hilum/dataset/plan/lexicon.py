"""Meaning of words of folders, file names, columns and cells, by `resources/reading_words.toml`.

Words are compared by `key`, without accents, case, separators and CamelCase. A word that the
lexicon does not list is unknown: nothing here guesses what it means.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypedDict

from hilum.annotations.vocabulary import LOCAL, SEX_NAMES, STATE_NAMES, concept_for, concepts

NORMAL, FINDING, ABSENT, UNCERTAIN = "normal", "finding", "absent", "uncertain"
MISSING, UNUSABLE = "missing", "unusable"
ABNORMALITY = "abnormality"
PARTS = ("train", "tune", "test")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SIGNED = re.compile(r"(.*[^\W_])\s*\(?([+-])\)?")
_PLAIN = str.maketrans({"ß": "ss", "ø": "o", "ł": "l", "Ł": "L", "Ø": "O", "æ": "ae", "œ": "oe"})


@dataclass(frozen=True)
class Meaning:
    """The meaning of a word of labels: `kind`, NORMAL … UNUSABLE, and `concept`, its finding."""

    kind: str
    concept: str | None = None


@cache
def spaced(word: str) -> str:
    """Reduce a word to lower-case ASCII letters and digits with single spaces between its parts."""
    plain = unicodedata.normalize("NFKD", _CAMEL.sub(" ", word.translate(_PLAIN)))
    kept = "".join(letter for letter in plain if not unicodedata.combining(letter)).casefold()
    return re.sub(r"[\W_]+", " ", kept).strip()


def key(word: str) -> str:
    """Return the form in which words are compared: `spaced` without its spaces."""
    return spaced(word).replace(" ", "")


@cache
def _sections() -> dict[str, Any]:
    text = (
        resources.files("hilum")
        .joinpath("resources/reading_words.toml")
        .read_text(encoding="utf-8")
    )
    return tomllib.loads(text)


@cache
def words(section: str, name: str) -> frozenset[str]:
    """Return the keys of all words under `[section] name`."""
    return frozenset(key(word) for word in _sections()[section][name])


def among(word: str, section: str, *names: str) -> bool:
    """Return whether the lexicon lists a word under one of `names` of a section."""
    return any(key(word) in words(section, name) for name in names)


@cache
def _concepts() -> dict[str, str]:
    listed = {
        key(word): concept for concept, spelt in _sections()["terms"].items() for word in spelt
    }
    names = {
        key(word): concept.id
        for concept in reversed(concepts().values())
        for word in (concept.name, concept.id)
    }
    return {**listed, **names}


@cache
def concept_of(word: str) -> str | None:
    """Return the id of the concept that a word names, or None for an unknown word."""
    return _concepts().get(key(word))


def local(word: str) -> str:
    """Return the concept id for a word: of the vocabulary where it has the word, else local."""
    found = concept_of(word) or concept_for(word)
    if found != LOCAL:
        return found
    return f"{LOCAL}{re.sub(r'[^0-9a-z]+', '-', ascii(word)).strip('-') or 'finding'}"


@cache
def meaning(word: str) -> Meaning | None:
    """Return the meaning of a word of labels: a class folder, a cell or a piece of it.

    Compositions are understood, too: "no pneumonia", "COVID_neg", "TB patients", "suspected
    tuberculosis". None: the word is unknown.
    """
    if signed := _SIGNED.fullmatch(word.strip()):  # "TB+", "COVID (-)"
        found = meaning(signed[1])
        kind = FINDING if signed[2] == "+" else ABSENT
        return _stated(kind, found.concept) if found and found.kind == FINDING else None
    compact = key(word)
    if "?" in word and compact:
        found = meaning(word.replace("?", " "))
        return _stated(UNCERTAIN, found.concept) if found and found.kind == FINDING else found
    if compact in words("labels", "missing") or not compact:
        return Meaning(MISSING)
    if concept := _concepts().get(compact):
        return Meaning(FINDING, concept)
    for kind in (NORMAL, UNCERTAIN, UNUSABLE):
        if compact in words("labels", kind):
            return Meaning(kind)
    if compact in words("labels", "abnormal"):
        return Meaning(FINDING, ABNORMALITY)
    return _composed(tuple(_tokens(word)))


def holds_known_word(word: str) -> bool:
    """Return whether an unknown word contains a known one or a negation.

    What such a composition means must not be guessed.
    """
    parts = _tokens(word)
    if len(parts) < 2:
        return False
    meanings = [meaning(part) for part in parts]
    return any(it and it.kind != MISSING for it in meanings) or any(
        part in words("labels", "negators") for part in parts
    )


def _tokens(word: str) -> list[str]:
    return spaced(word).split()


def _composed(tokens: tuple[str, ...]) -> Meaning | None:
    """Return the meaning of a composition, by stripping negators, affirmers, hedges and fillers."""
    kind = FINDING
    peelers = (
        (ABSENT, "negators"),
        (FINDING, "affirmers"),
        (UNCERTAIN, "hedges"),
        (None, "fillers"),
    )
    while len(tokens) > 1:
        for end in (0, -1):
            said = next(
                (name for name, group in peelers if tokens[end] in words("labels", group)), ""
            )
            if said != "":
                kind = said or kind
                tokens = tokens[1:] if end == 0 else tokens[:-1]
                break
        else:
            ends = [end for end in (0, -1) if tokens[end].isdigit()]  # "1_Normal", "Normal 2"
            if not ends:
                return None
            tokens = tokens[1:] if ends[0] == 0 else tokens[:-1]
        found = meaning(" ".join(tokens)) if tokens else None
        if found and found.kind == FINDING:
            return _stated(kind, found.concept)
        if found and found.kind == NORMAL and kind == FINDING:
            return found
        if found and found.kind == NORMAL and kind == ABSENT:
            return Meaning(FINDING, ABNORMALITY)
    return None


def _stated(kind: str, concept: str | None) -> Meaning:
    """Return a meaning; the absence of "abnormality" is the normal state."""
    if kind == ABSENT and concept == ABNORMALITY:
        return Meaning(NORMAL)
    return Meaning(kind, concept)


class PublishedTable(TypedDict):
    """A published table, known by its columns, whose `column` is of a finding it does not name."""

    title: str
    columns: list[str]
    column: str
    finding: str


def published(columns: Iterable[str]) -> list[PublishedTable]:
    """Return the published tables all of whose columns are among `columns`."""
    held = set(columns)
    return [known for known in _sections()["published"] if held.issuperset(known["columns"])]


@cache
def state_of(cell: str) -> int | None:
    """Return 1, 0 or -1 for a cell that means present, absent or uncertain, else None."""
    plain = cell.strip().casefold()
    for state, name in STATE_NAMES.items():
        if plain in _sections()["states"][name]:
            return int(state)
    return None


@cache
def part_of(word: str) -> str | None:
    """Return train, tune or test for a word that names a part of a split, else None."""
    compact = key(word)
    return next((part for part in PARTS if compact in words("folders", f"part_{part}")), None)


@cache
def sex_of(word: str) -> str | None:
    """Return female, male or other for a word or letter, else None."""
    compact = key(word)
    return next((sex for sex in SEX_NAMES.values() if compact in words("sex", sex)), None)


@cache
def column_roles(name: str) -> tuple[str, ...]:
    """Return the roles that a column of this name may have, the likeliest first."""
    compact = key(name)
    found = tuple(role for role in _sections()["columns"] if compact in words("columns", role))
    if found or "dicom" not in spaced(name).split():
        return found
    return column_roles(" ".join(part for part in spaced(name).split() if part != "dicom"))
