"""Determine of each finding whether it is present, absent or uncertain: the scope of operators."""

from __future__ import annotations

from collections.abc import Sequence

from hilum.annotations.report_parser._chunks import (
    LIST_LINKS,
    Chunk,
    Unit,
    unit_before,
    units_after,
)
from hilum.annotations.report_parser._terms import Mark
from hilum.annotations.vocabulary import State

_OPERATORS = (
    ("hedge", State.UNCERTAIN),
    ("denial", State.ABSENT),
    ("negation", State.ABSENT),
)
_WORDS = ("word", "preposition")
_IN_ANSWERED_ROWS = ("place", "filler", "preposition", "verb")


def set_states(chunks: Sequence[Chunk]) -> None:
    """Set `state` of the units of a clause from its operators, answers and exceptions."""
    for kind, state in _OPERATORS:
        for index, chunk in enumerate(chunks):
            for mark in chunk.of(kind):
                for unit in _reached(chunks, index, mark):
                    unit.state = state
                    unit.others_only = kind == "negation" and mark.value == "other"
                    if kind == "negation" and mark.value == "past":
                        unit.activity = "old"
    _hedge_denials(chunks)
    _set_answers(chunks)
    for before, after in zip(chunks, chunks[1:], strict=False):
        alternatives = after.link == "or" and before.units and after.units
        if alternatives and not any(mark.denied for mark in before.marks):
            for unit in (before.units[-1], after.units[0]):
                present = unit.state == State.PRESENT
                unit.state = State.UNCERTAIN if present else unit.state
    _set_exceptions(chunks)


def _hedge_denials(chunks: Sequence[Chunk]) -> None:
    """Make uncertain what a chunk denies and hedges: "absence of effusion is not certain"."""
    for index, chunk in enumerate(chunks):
        for mark in chunk.of("hedge"):
            if mark.value not in ("chance", "whether"):
                continue
            ahead, own = reached_forward(chunks, index, mark), unit_before(chunk, mark)
            if not ahead and own is not None:
                own.state = State.UNCERTAIN
            for unit in ahead if mark.value == "whether" else ():
                unit.state = State.UNCERTAIN if unit.state == State.ABSENT else unit.state


def _reached(chunks: Sequence[Chunk], index: int, mark: Mark) -> list[Unit]:
    reached = reached_forward(chunks, index, mark)
    if reached:
        return _predicate(chunks[index], reached) if mark.value == "whether" else reached
    in_cell = chunks[index].link == "colon" and not chunks[index].units  # "Effusion: no evidence"
    either_way = mark.kind != "negation" or mark.value == "over"
    return _backward(chunks, index, mark) if either_way or in_cell else []


def _predicate(chunk: Chunk, reached: list[Unit]) -> list[Unit]:
    """Return the findings that "whether" makes uncertain.

    Whether "the opacity is a mass" leaves the mass open, not the opacity.
    """
    verbs = [mark.at for mark in chunk.of("verb") if reached[0].at < mark.at]
    return [unit for unit in reached if not verbs or unit.at > verbs[0]] or reached


def reached_forward(chunks: Sequence[Chunk], index: int, mark: Mark) -> list[Unit]:
    """Return the findings behind a mark.

    Those of its chunk and of the list that continues from there, or those that it leads to.
    """
    reached = units_after(chunks[index], mark)
    behind = index + 1
    named = any(unit.concepts for unit in chunks[index].units)
    if behind < len(chunks) and not named:
        # "findings probably consistent with", "No evidence of: nodule or mass"
        link = chunks[behind].link
        if link == "infer" or (link == "colon" and not chunks[index].units):
            reached += chunks[behind].units
            behind += 1
    while reached and behind < len(chunks) and chunks[behind].link in LIST_LINKS:
        if not (chunks[behind].bare or chunks[behind].closing):
            break
        reached += chunks[behind].units
        behind += 1
    return reached


def _backward(chunks: Sequence[Chunk], index: int, mark: Mark) -> list[Unit]:
    """Return the findings before a mark.

    The last of its chunk with the list that leads to it; a chunk of the mark alone is about the one
    before.
    """
    own = unit_before(chunks[index], mark)
    if own is not None:
        return [own, *_list_before(chunks, index)]
    in_cell = chunks[index].link in ("colon", "with")  # "effusion with interval resolution"
    alone = chunks[index].only(mark.kind, "verb", "filler", *(_WORDS if in_cell else ()))
    if index and not chunks[index].units and alone and chunks[index - 1].units:
        return [chunks[index - 1].units[-1], *_list_before(chunks, index - 1)]
    return []


def _list_before(chunks: Sequence[Chunk], index: int) -> list[Unit]:
    """Return the findings of the items that lead by "and" or "or" to the chunk."""
    found: list[Unit] = []
    while index and chunks[index].link in ("and", "or") and chunks[index - 1].bare:
        index -= 1
        found += chunks[index].units
    return found


def _set_answers(chunks: Sequence[Chunk]) -> None:
    for index, chunk in enumerate(chunks):
        for unit in _row_of(chunks, index) if chunk.link == "answer" else ():
            answer = chunk.marks[0].value
            if not answer:
                unit.state, unit.concepts = State.PRESENT, ()  # "not assessed": nothing is stated
            elif answer != State.PRESENT.name:
                denied = answer == unit.state.name == "ABSENT"  # "Absence of effusion: no"
                unit.state = State.PRESENT if denied else State[answer]


def _row_of(chunks: Sequence[Chunk], index: int) -> list[Unit]:
    """Return the findings that an answer is about: those that the row's name ends with."""
    row = index - 1
    while row and not chunks[row].units and chunks[row].only(*_IN_ANSWERED_ROWS):
        row -= 1  # "Pneumothorax: there is none", "Effusion (left): no"
    if not chunks[row].units or chunks[row].of("laboratory"):
        return []
    found = [chunks[row].units[-1], *_list_before(chunks, row)]
    while row and chunks[row].link == "comma" and chunks[row].bare and chunks[row - 1].bare:
        row -= 1  # "Effusion, pneumothorax: none"
        found += chunks[row].units
    return found


def _set_exceptions(chunks: Sequence[Chunk]) -> None:
    """Make "no effusion except on the left" present, and "normal except" not normal."""
    exceptions = [index for index, chunk in enumerate(chunks) if chunk.link == "except"]
    for chunk in chunks if exceptions else ():
        chunk.marks = [mark for mark in chunk.marks if mark.kind != "absent"]
        for unit in chunk.units:
            others = unit.others_only or set(unit.concepts) <= {"abnormality"}
            if unit.state == State.ABSENT and others:
                unit.state, unit.concepts = State.PRESENT, ()
    for index in exceptions:
        named = any(later.units for later in chunks[index:])
        for unit in [] if named or not index else chunks[index - 1].units:
            unit.state = State.PRESENT
