"""Tokenise a clause of a report into marks: the terms of `resources/report_terms.csv`, and cells.

A row of the table of terms is `words` (alternatives between bars), `kind` and `value`. The longest
run of whole words wins, so "pseudonodule" is no nodule. Kinds:

    finding     concept ids; adjacent findings form a noun phrase ("calcified granuloma")
    general     "disease": a statement only where it is denied ("no active disease")
    absent      "normal": nothing found, unless it is an organ's; the value is the concept denied
    negation    scope forward: "no", "without"; value other: denies further ones only ("no other"),
                cannot: inability ("cannot", "difficult to"), past: "status post", over: "no
                longer", whose scope is backward too
    denial      either way; value over: "resolved", absent, excluded: "ruled out"
    hedge       either way; value chance: "likely", suggest: "suspicious for", excluded: "rule out",
                whether: "unclear if" (about the predicate)
    certainty   "certain", "sure": significant only where it is denied
    non         denies the next finding only
    change      "change": significant only where it is denied
    course      "old", "improving": the next finding, else the one before
    course_of   the same of all findings of a list: "improvement in"
    degree      may be between two operators: "significant", "yet"; value wholly: "completely"
    than        ends the scope of "no other"
    laboratory  "smear": an answer behind it is not about the image
    place       side and zone; filler, preposition: what may be inside a place or before it
    link        between chunks; verb, organ, ignore: words that end a list, or a match

A cell of a table is an `answer`, whose value is the name of a `State`, empty for "not assessed":
"Effusion: no", "Cavity - none", "Mass (+)", "Effusion? No", "Edema: N Scar: Y", "[x] scar".
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources
from itertools import product

from hilum.annotations.vocabulary import State

_CORRECTED_LENGTH = 8  # shorter words are too close to one another to guess a misspelt one
_TOKEN = re.compile(r"\w+(?:'\w+)?|[,:()?&+=|]|—|(?<!\S)[-–]+(?!\S)")
_EQUAL = {"=": ":", "—": ":", "-": ":", "–": ":", "--": ":", "|": ","}  # punctuation of one meaning

_ANSWERS = {
    State.ABSENT.name: r"no|none|nil|n|negative|neg|absent|not present|false|0|[-–]",
    State.PRESENT.name: r"yes|y|positive|pos|present|true|1|\+{1,4}",
    State.UNCERTAIN.name: r"possible|possibly|probable|probably|likely|maybe|suspected|questionable"
    r"|equivocal|indeterminate|uncertain|unclear|\?|\+/-|±",
    "": r"n/?a|unknown|not (?:applicable|assess(?:ed|able)|evalua(?:ted|ble)|examined|recorded"
    r"|reported)",
}
_CHECKBOXES = (
    (re.compile(r"\[\s*\]|[☐□]"), ": no ", " (no) "),
    (re.compile(r"\[\s*[xX✓✔]\s*\]|[☑☒✓✔■]"), ": ", " (yes) "),
)
_CELL = f"({'|'.join(_ANSWERS.values())})(?!\\w)"
_BARE_CELL = r"(no|none|nil|yes|negative|[-+–])(?!\w)"  # what is an answer even behind a mere space
_END = r"(?=\s*(?:[.,;|)]|$))"
CELL_FOLLOWS = rf"\s*{_CELL}{_END}"
_NEXT_ROW = rf"(?=\s+[^\W\d_][^.,;:=|?]{{0,60}}[:=|?]\s*{_CELL})"  # "Edema: N Scar: Y"
_LEADER = r"\s*(?:\.{2,}|…|_{2,})\s*"  # "Pneumothorax ....... no"
_DASH = r"\s*[-–—]+\s+|\s+[-–—]+\s*"
_ANSWER = re.compile(
    rf"\s*\(\s*(?![01]){_CELL}\s*\)"
    rf"|(?:\s*[:=|?]\s*|\s{{2,}}|{_LEADER}|{_DASH}){_CELL}(?:{_END}|{_NEXT_ROW})"
    rf"|\s{_BARE_CELL}{_END}",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Mark:
    """A term, answer or word of a clause."""

    kind: str  # of the table, "answer", or "word"
    value: str
    at: int  # its number in the clause
    words: str = ""  # as written in the clause, in lower case
    denied: bool = False  # of a course: stable, for its change is denied ("no increase in")


@cache
def terms() -> dict[tuple[str, ...], tuple[str, str]]:
    """Read the table of terms: from words, with alternatives expanded, to kind and value."""
    file = resources.files("hilum").joinpath("resources/report_terms.csv")
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    found = {}
    for row in rows:
        slots = [slot.split("|") for slot in row["words"].split()]
        found.update(dict.fromkeys(product(*slots), (row["kind"], row["value"])))
    return found


def scan(clause: str) -> list[Mark]:
    """Find the answers and, between them, the longest terms; what is in no term is a word."""
    clause = _boxes_as_words(re.sub(r"\s{2,}|\t", "  ", clause.replace("’", "'")))
    marks: list[Mark] = []
    begin = 0
    for found in _ANSWER.finditer(clause):
        marks += _terms_in(clause[begin : found.start()])
        cell = next(filter(None, found.groups()))
        marks.append(Mark("answer", _state_of(cell.lower()), 0, cell))
        begin = found.end()
    return numbered([*marks, *_terms_in(clause[begin:])])


def _boxes_as_words(clause: str) -> str:
    """Replace check boxes by words, before their names ("[x] cavity") or behind them."""
    first = any(box.match(clause.lstrip()) for box, _, _ in _CHECKBOXES)
    for box, before, behind in _CHECKBOXES:
        clause = box.sub(before if first else behind, clause)
    return clause


def numbered(marks: list[Mark]) -> list[Mark]:
    """Return marks with their numbers in the clause."""
    return [replace(mark, at=at) for at, mark in enumerate(marks)]


@cache
def _state_of(cell: str) -> str:
    return next(state for state, words in _ANSWERS.items() if re.fullmatch(words, cell))


def _terms_in(text: str) -> Iterator[Mark]:
    words = [_spelt(_EQUAL.get(word, word.lower())) for word in _TOKEN.findall(text)]
    known, at = terms(), 0
    while at < len(words):
        lengths = range(min(_longest(), len(words) - at), 0, -1)
        length = next((n for n in lengths if tuple(words[at : at + n]) in known), 0)
        run = words[at : at + (length or 1)]
        kind, value = known[tuple(run)] if length else ("word", words[at])
        yield Mark(kind, value, 0, " ".join(run))
        at += len(run)


@cache
def _longest() -> int:
    return max(map(len, terms()))


@cache
def _long_words() -> dict[str, bool]:
    """Return the words long enough to be corrected, and whether they name findings."""
    found: dict[str, bool] = {}
    for words, (kind, _) in terms().items():
        long = (word for word in words if len(word) >= _CORRECTED_LENGTH)
        found.update((word, kind == "finding" or found.get(word, False)) for word in long)
    return found


@lru_cache(1 << 16)  # bounded: an untrusted text may hold any number of words
def _spelt(word: str) -> str:
    """Correct a long word that differs from a finding's name by one edit.

    An insertion, deletion, substitution or exchange of adjacent letters.
    """
    if len(word) < _CORRECTED_LENGTH - 1 or word in _long_words():
        return word
    findings = (known for known, finding in _long_words().items() if finding)
    return next((known for known in findings if _one_letter_off(word, known)), word)


def _one_letter_off(a: str, b: str) -> bool:
    if len(a) > len(b):
        a, b = b, a
    if len(b) - len(a) > 1 or a == b:
        return False
    pairs = enumerate(zip(a, b, strict=False))
    first = next((index for index, (x, y) in pairs if x != y), len(a))
    if len(a) < len(b):
        return a[first:] == b[first + 1 :]
    exchanged = a[first:] == b[first + 1 : first + 2] + b[first : first + 1] + b[first + 2 :]
    return a[first + 1 :] == b[first + 1 :] or exchanged
