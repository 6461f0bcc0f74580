"""Meaning of the words of labels: findings, their absence, no finding at all, or no statement.

hilum.toml takes precedence over the lexicon. An unknown word is a finding of the user's own only
where another word of the same column or folders names the normal state. Otherwise a question is
added, since the unknown word may be the normal one.
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
from hilum.dataset.plan.settings import Settings, Value

SEPARATORS = ("|", ";", ",", "/", "+", "&")
LITERAL = "[]"  # the separator of cells such as "['atelectasis', 'effusion']"
MOST_PIECES = 0.7  # fraction of the pieces of split cells that must be words


@dataclass(frozen=True)
class Vocabulary:
    """The words of one source of labels (a column, folders or file names) with their meaning.

    `separator` stands between several words in a cell; None where each cell is one word.
    """

    source: str
    meanings: Mapping[str, Meaning]
    separator: str | None = None

    @property
    def concepts(self) -> tuple[str, ...]:
        """Return every concept that the words name, in the order of the words."""
        return tuple(dict.fromkeys(it.concept for it in self.meanings.values() if it.concept))

    def words(self, cell: str) -> list[str]:
        """Split a cell into its words."""
        return split(cell, self.separator, self.meanings)


def split(cell: str, separator: str | None, whole: Iterable[str] = ()) -> list[str]:
    """Split a cell at a separator; a cell that is one of `whole` stays in one piece."""
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
    """Return the meaning of a word by hilum.toml, else by the lexicon; None where unknown."""
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
    """Return whether a whole cell is one known word, such as "Nodule/Mass".

    A cell with a sign that only separates is none. Nor is one whose pieces stand alone in other
    cells, or name more than the whole ("COVID-19/Pneumonia").
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
    """Return the separator of several words in a cell, `LITERAL` for lists, None for none.

    At least `MOST_PIECES` of the pieces must be known words or occur in other cells.
    """
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
        if sure >= MOST_PIECES * len(pieces) and any(known(piece, settings) for piece in pieces):
            return sign
    return None


def settle(
    source: str, cells: Counter[str], settings: Settings, evidence: Evidence, *, what: str
) -> Vocabulary | None:
    """Return the meanings of the words of one source; None where open or without any finding.

    Open questions are added to the evidence. `what` names the source in messages: "column 'label'
    of labels.csv", "the folders".
    """
    separator = find_separator(cells, settings)
    whole = [cell for cell in cells if _is_one_word(cell, cells, settings)]
    words: Counter[str] = Counter()
    for cell, number in cells.items():
        for word in split(cell, separator, whole):
            words[word] += number
    meanings = {word: known(word, settings) for word in words}
    unknown = [word for word, meaning in meanings.items() if meaning is None]
    normal = [
        word for word, meaning in meanings.items() if meaning and meaning.kind in (NORMAL, ABSENT)
    ]
    if unknown and (
        not normal
        or any(map(lexicon.holds_known_word, unknown))
        or any(word.strip().lstrip("+-").replace(".", "").isdigit() for word in unknown)
    ):
        _ask(what, words, meanings, unknown, is_normal_known=bool(normal), evidence=evidence)
        return None
    for word in unknown:
        meanings[word] = Meaning(FINDING, lexicon.local(word))
    if unknown:
        evidence.decide(
            "finding of your own",
            shown(unknown),
            f"words of {what}, where '{normal[0]}' is the healthy one",
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
    unknown: Sequence[str],
    *,
    is_normal_known: bool,
    evidence: Evidence,
) -> None:
    """Add a question on unknown words, with an answer that proposes the first as normal if needed.

    "0" is the first, as the usual code of the normal state.
    """
    order = sorted(unknown, key=lambda word: (word not in ("0", "0.0"), word))
    normal = [] if is_normal_known else order[:1]
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
    answer: dict[str, Value] = {}
    if normal:
        text += "; which of them is the healthy state?"
        answer["normal"] = normal
    if others:
        answer["terms"] = {word: _proposed(word, what) for word in others}
    evidence.ask(
        text,
        answer,
        normal="the words that say that there is no finding; correct them if another word is the "
        "healthy one",
        terms='every other word: a concept such as "pneumonia", or "local:…" for one of your own; '
        'leave out with drop = ["word"]',
    )


def _proposed(word: str, what: str) -> str:
    """Return the concept to propose for a word; for a bare number, one with its column's name."""
    if any(letter.isalpha() for letter in word):
        return lexicon.local(word)
    column = re.search(r"'([^']+)'", what)
    name = lexicon.local(column[1] if column else "class")
    return f"{name}-{word.strip('+-')}".replace("--", "-")
