"""Statements of tables, folders and names on findings, settled to one state per image and finding.

A word for a finding states it. "Normal" denies all findings of the same column or folders. A
finding that is not among the named ones is absent by silence (rule "not listed"). Statements that
contradict one another make the finding uncertain, and are reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hilum.annotations.vocabulary import State, ancestors
from hilum.dataset.manifest import Label
from hilum.dataset.plan.labels import Vocabulary
from hilum.dataset.plan.lexicon import ABSENT, FINDING, NORMAL, UNCERTAIN, UNUSABLE

NOT_LISTED, CONTRADICTION, READERS = "not listed", "contradiction", "readers disagree"
DEVICES = ("support_device",)  # not abnormalities, so "no finding" does not deny them
_STATES = {FINDING: State.PRESENT, ABSENT: State.ABSENT, UNCERTAIN: State.UNCERTAIN}


@dataclass(frozen=True, slots=True)
class Statement:
    """The state of one finding of one image by one source; `implied` where by silence alone."""

    concept: str
    state: State
    term: str
    source: str
    rule: str
    reader: str = ""
    implied: bool = False


def of_words(
    vocabulary: Vocabulary, words: Sequence[str], source: str, rule: str, reader: str = ""
) -> tuple[list[Statement], str | None]:
    """Return what the words of one cell or folder state, and a message on a contradiction or None.

    Where the words name findings and "normal" at once, the findings are kept.
    """
    said: list[Statement] = []
    meanings = [(word, vocabulary.meanings[word]) for word in words if word in vocabulary.meanings]
    for word, meaning in meanings:
        concept = meaning.concept
        if not concept and len(vocabulary.concepts) == 1:
            concept = vocabulary.concepts[0]  # "negative" in a column about one finding
        if concept and meaning.kind in _STATES:
            said.append(Statement(concept, _STATES[meaning.kind], word, source, rule, reader))
    named = [it.term for it in said if it.state == State.PRESENT]
    free = next((word for word, meaning in meanings if meaning.kind == NORMAL), None)
    if free is not None and named:
        return said, (
            f"{source} says '{free}' and names {', '.join(named)}: the named finding is kept"
        )
    if free is not None:
        given = {it.concept for it in said}
        said += [
            Statement(concept, State.ABSENT, free, source, NOT_LISTED, reader)
            for concept in vocabulary.concepts
            if concept not in given and concept not in DEVICES
        ]
    return said, None


def implied(
    vocabulary: Vocabulary, said: Sequence[Statement], words: Iterable[str]
) -> list[Statement]:
    """Return as absent the findings of a vocabulary that a labelled image's words do not name.

    Ancestors of a present finding are not absent.
    """
    kinds = {vocabulary.meanings[word].kind for word in words if word in vocabulary.meanings}
    if not kinds & {FINDING, NORMAL, ABSENT} or not said:
        return []
    given = {it.concept for it in said}
    wider = {above for it in said if it.state == State.PRESENT for above in ancestors(it.concept)}
    first = said[0]
    return [
        Statement(
            concept,
            State.ABSENT,
            _term(vocabulary, concept),
            first.source,
            NOT_LISTED,
            first.reader,
            True,
        )
        for concept in vocabulary.concepts
        if concept not in given | wider and concept not in DEVICES
    ]


def _term(vocabulary: Vocabulary, concept: str) -> str:
    return next(word for word, meaning in vocabulary.meanings.items() if meaning.concept == concept)


def unusable(vocabulary: Vocabulary, words: Iterable[str]) -> list[str]:
    """Return the words that state nothing of findings, such as "bad quality"."""
    return [
        word
        for word in words
        if (meaning := vocabulary.meanings.get(word)) and meaning.kind == UNUSABLE
    ]


def settle(statements: Iterable[Statement]) -> tuple[tuple[Label, ...], list[str]]:
    """Return one label per finding, and a message for each contradiction."""
    by_concept: dict[str, list[Statement]] = defaultdict(list)
    for statement in statements:
        by_concept[statement.concept].append(statement)
    present = {
        above
        for concept, said in by_concept.items()
        if any(it.state == State.PRESENT for it in said)
        for above in ancestors(concept)
    }
    labels, conflicts = [], []
    for concept, said in by_concept.items():
        explicit = [it for it in said if not it.implied]
        counted = said if any(it.reader for it in explicit) else explicit or said
        if concept in present:  # by a narrower finding, so that silence denies nothing
            counted = [it for it in counted if not it.implied]
        if not counted:
            continue
        labels.append(_label(concept, counted, conflicts))
    return tuple(labels), conflicts


def _label(concept: str, said: Sequence[Statement], conflicts: list[str]) -> Label:
    states = {it.state for it in said}
    first = next((it for it in said if not it.implied), said[0])
    if len(states) == 1:
        return Label(first.term, first.state, first.source, first.rule, concept=concept)
    readers = len({it.reader for it in said}) > 1
    source = "; ".join(dict.fromkeys(it.source for it in said))
    if not readers:
        both = " and ".join(sorted(state.name.lower() for state in states))
        conflicts.append(f"{source}: '{first.term}' is both {both}: taken as uncertain")
    return Label(
        first.term, State.UNCERTAIN, source, READERS if readers else CONTRADICTION, concept=concept
    )


def of_state(
    state: int | None, concept: str, term: str, source: str, reader: str = ""
) -> list[Statement]:
    """Return the statement of a cell of a column of one finding; none where its state is None."""
    if state is None:
        return []
    return [Statement(concept, State(state), term, source, "column", reader)]
