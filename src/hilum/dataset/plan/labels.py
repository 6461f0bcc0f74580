"""Settle what the words of labels mean: which are findings, which say that there is none, and which say nothing.

A word means what hilum.toml says, else what the lexicon says. A word that neither knows is a finding of the user's own only where
another word of the same column or folder says that it is the healthy one; else it is asked about, for it may be the healthy one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hilum.dataset.plan import lexicon
from hilum.dataset.plan.evidence import LIKELY, Evidence, shown
from hilum.dataset.plan.lexicon import (
    ABSENT,
    FINDING,
    MISSING,
    NORMAL,
    UNCERTAIN,
    UNUSABLE,
    Meaning,
)
from hilum.dataset.plan.settings import Settings

SEPARATORS = ("|", ";", ",", "/", "+", "&")
LITERAL = "[]"  # the separator of cells such as "['atelectasis', 'effusion']"


@dataclass(frozen=True)
class Vocabulary:
    """The words of one source of labels (a column, or a level of folders) with their meaning."""

    source: str
    meanings: Mapping[str, Meaning]
    separator: str | None = None

    @property
    def concepts(self) -> tuple[str, ...]:
        """Return every finding that the source's words are about."""
        return tuple(dict.fromkeys(it.concept for it in self.meanings.values() if it.concept))

    def words(self, cell: str) -> list[str]:
        """Split a cell into its words."""
        return split(cell, self.separator, self.meanings)


def split(cell: str, separator: str | None, whole: Iterable[str] = ()) -> list[str]:
    """Split a cell at a separator; a cell that is itself a word of `whole` is left in one piece."""
    if separator is None or cell in whole:
        return [cell]
    if separator == LITERAL and (quoted := re.findall(r"'([^']*)'|\"([^\"]*)\"", cell)):
        return [first or second for first, second in quoted]
    if separator == LITERAL:
        return [
            word.strip().strip("'\"").strip()
            for word in re.split(r"[,;|]", cell.strip().strip("[]()"))
            if word.strip(" '\"")
        ] or [""]
    return [word for part in cell.split(separator) if (word := part.strip())] or [""]


def known(word: str, settings: Settings) -> Meaning | None:
    """Return a word's meaning by hilum.toml, else by the lexicon."""
    if word in settings.terms:
        kind, _, concept = settings.terms[word].rpartition(" ")
        return Meaning({"no": ABSENT, "uncertain": UNCERTAIN}.get(kind, FINDING), concept)
    for kind, words in (
        (NORMAL, settings.normal),
        (MISSING, settings.unlabelled),
        (UNUSABLE, settings.drop),
    ):
        if word in words or word.casefold() in map(str.casefold, words):
            return Meaning(kind)
    return lexicon.meaning(word)


def _is_one_word(cell: str, cells: Counter[str], settings: Settings) -> bool:
    """Tell whether a whole cell is a known word ("Nodule/Mass").

    One with a sign that only separates is not, nor one whose pieces stand alone in other cells or say more ("COVID-19/Pneumonia").
    """
    if cell in settings.terms or cell in (*settings.normal, *settings.unlabelled, *settings.drop):
        return True
    meaning = known(cell, settings)
    if meaning is None or re.search(r"[|;\[\]]|\S,", cell):
        return False
    pieces = [piece.strip() for piece in re.split(r"[/+&]", cell)]
    said = [known(piece, settings) for piece in pieces]
    more = all(said) and meaning.concept in {it.concept for it in said if it}
    return len(pieces) == 1 or not (more or all(piece in cells for piece in pieces))


def find_separator(cells: Counter[str], settings: Settings) -> str | None:
    """Return what separates several words in a cell: the sign whose pieces are known words, or stand alone in other cells."""
    if settings.separator:
        return settings.separator
    unsplit = [cell for cell in cells if not _is_one_word(cell, cells, settings)]
    if any(re.fullmatch(r"\[.*\]", cell.strip()) for cell in cells) and all(
        re.fullmatch(r"\[.*\]|", cell.strip()) for cell in unsplit
    ):
        return LITERAL
    for sign in SEPARATORS:
        with_sign = [cell for cell in unsplit if sign in cell.strip(sign)]
        if not with_sign:
            continue
        pieces = Counter(piece for cell in with_sign for piece in set(split(cell, sign)))
        sure = sum(
            known(piece, settings) is not None or piece in cells or number > 1
            for piece, number in pieces.items()
        )
        if sure >= 0.7 * len(pieces) and any(known(piece, settings) for piece in pieces):
            return sign
    return None


def settle(
    source: str, cells: Counter[str], settings: Settings, evidence: Evidence, *, what: str
) -> Vocabulary | None:
    """Return the meanings of a source's words; where these stay unsettled the evidence gets a question and None is returned.

    `what` names the words' place in messages: "column 'label' of labels.csv", "folders".
    """
    separator = find_separator(cells, settings)
    whole = [cell for cell in cells if _is_one_word(cell, cells, settings)]
    words = Counter()
    for cell, number in cells.items():
        for word in split(cell, separator, whole):
            words[word] += number
    meanings = {word: known(word, settings) for word in words}
    strange = [word for word, meaning in meanings.items() if meaning is None]
    healthy = [
        word for word, meaning in meanings.items() if meaning and meaning.kind in (NORMAL, ABSENT)
    ]
    if strange and (
        not healthy
        or any(map(lexicon.holds_known_word, strange))
        or any(word.strip().lstrip("+-").replace(".", "").isdigit() for word in strange)
    ):
        _ask(what, words, meanings, strange, healthy, separator, settings, evidence)
        return None
    for word in strange:
        meanings[word] = Meaning(FINDING, lexicon.local(word))
    if strange:
        evidence.decide(
            "finding of your own",
            shown(strange),
            f"words of {what}, where '{healthy[0]}' is the healthy one",
            LIKELY,
        )
    settled = {word: meaning for word, meaning in meanings.items() if meaning}
    if not any(meaning.kind in (FINDING, ABSENT, NORMAL) for meaning in settled.values()):
        return None
    return Vocabulary(source, settled, separator)


def _ask(
    what: str,
    words: Counter[str],
    meanings: Mapping[str, Meaning | None],
    strange: Sequence[str],
    healthy: Sequence[str],
    separator: str | None,
    settings: Settings,
    evidence: Evidence,
) -> None:
    """Ask what unknown words mean, with lines that take the first for the healthy one where no known word is."""
    order = sorted(strange, key=lambda word: (word not in ("0", "0.0"), word))
    normal = [] if healthy else order[:1]
    others = [word for word in order if word not in normal]
    counted = ", ".join(f"'{word}' ({words[word]})" for word in order[:8]) + (
        f" and {len(order) - 8} more" if len(order) > 8 else ""
    )
    known_words = [
        f"'{word}'" for word, meaning in meanings.items() if meaning and meaning.kind != MISSING
    ]
    text = f"{what}: what {counted} mean{'s' * (len(order) == 1)} is not known" + (
        f" (known: {shown(known_words)})" if known_words else ""
    )
    answer: dict[str, object] = {}
    if normal:
        text += "; which of them is the healthy state?"
        answer["normal"] = normal
    if others:
        answer["terms"] = {word: _proposed(word, what) for word in others}
    evidence.ask(
        text,
        answer,
        normal="the words that say that there is no finding; correct them if another word is the healthy one",
        terms='every other word: a concept such as "pneumonia", or "local:…" for one of your own; leave out with drop = ["word"]',
    )


def _proposed(word: str, what: str) -> str:
    """Return the concept to propose for a word; a bare number is named after its column."""
    if any(letter.isalpha() for letter in word):
        return lexicon.local(word)
    column = re.search(r"'([^']+)'", what)
    return f"{lexicon.local(column[1] if column else 'class')}-{word.strip('+-')}".replace(
        "--", "-"
    )
