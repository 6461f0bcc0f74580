"""Parse a radiology report into statements: which finding, present, absent or uncertain, where, and
how active.

A reading is split into clauses, a clause into chunks at its links ("with", "and", commas), and each
chunk is searched for the terms of `resources/report_terms.csv` (`_terms`). What is denied or hedged
follows from the operators, first combined with one another (`_negation`), then given their scope
(`_states`); prose ("no effusion") and tables ("Effusion: no") are treated alike.

Missing is None. A finding in several places gives one statement a place. "Consistent with" asserts,
"likely" and "?" make uncertain, "h/o" makes old; what is over is absent ("resolved", "status
post"), unless it is not ("not resolved"). What does not change is present ("no increase in"); "no
other" denies nothing that is named elsewhere; an exception is present and leaves nothing normal
("normal except for"). After Chapman et al., A simple algorithm for identifying negated findings and
diseases in discharge summaries, J Biomed Inform 2001;34:301-310.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hilum.annotations.report_parser._activities import set_activities
from hilum.annotations.report_parser._chunks import (
    OPERATORS,
    SIDES,
    ZONES,
    Chunk,
    Unit,
    chunks_of,
    side_zone,
)
from hilum.annotations.report_parser._locations import set_places
from hilum.annotations.report_parser._negation import combined
from hilum.annotations.report_parser._states import set_states
from hilum.annotations.report_parser._terms import CELL_FOLLOWS, scan, terms
from hilum.annotations.vocabulary import State, name_of

__all__ = ["ACTIVITIES", "SIDES", "ZONES", "Statement", "concepts", "describe", "read"]

ACTIVITIES = ("active", "old", "stable", "improving", "worsening")

_CLAUSE_ENDS = re.compile(
    rf"[;\n]|\.{{2,}}+(?!{CELL_FOLLOWS})|(?<!\brt)(?<!\blt)(?<!\.)(?:\.(?![\d.])|(?<!\d)\.(?!\.))"
    r"|\b(?:but|although|though|however|whereas|while|nevertheless|nonetheless)\b"
    r"|,\s*(?:yet|only|just|instead)\b",
    re.IGNORECASE,
)
_LONGEST_CLAUSE = 1000  # characters; the work grows with the square of a clause's length
_LONGEST_LEADER = 64  # dots, dashes or lines in a row: more add nothing to "Pneumothorax ..... no"
_LEADER = re.compile(rf"[-–—_.…]{{{_LONGEST_LEADER},}}")
_WORDS_BESIDE_NORMAL = 2  # more words say what is normal: not the whole image


@dataclass(frozen=True)
class Statement:
    """What a reading states of one finding in one place."""

    concept: str  # id in `resources/vocabulary.csv`; "abnormality" absent is what "normal" says
    state: State
    side: str | None  # one of SIDES, the patient's
    zone: str | None  # one of ZONES; lobes and fields are both called by their height
    activity: str | None  # one of ACTIVITIES
    sentence: str  # the clause it was read from, as written


def read(text: str) -> list[Statement]:
    """Return all statements of a reading in their order, each once a clause.

    `text` is the report's words, without the lines that state sex and age.
    """
    found = [said for clause in _clauses(text) for said in _statements(clause)]
    named = {said.concept for said, _ in found if said.state != State.ABSENT}
    return [said for said, others in found if not (others and _named(said.concept, named))]


def describe(statement: Statement) -> str:
    """Return a statement in a few words, such as "possible cavity, left upper, old"."""
    words = {State.PRESENT: "", State.ABSENT: "no ", State.UNCERTAIN: "possible "}[statement.state]
    words += name_of(statement.concept).replace("_", " ").lower()
    place = " ".join(part for part in (statement.side, statement.zone) if part)
    return ", ".join(part for part in (words, place, statement.activity) if part)


def concepts() -> set[str]:
    """Return every concept that a reading may state."""
    naming = ("finding", "general", "absent")
    values = [value for kind, value in terms().values() if kind in naming]
    return {concept for value in values for concept in value.split()}


def _clauses(text: str) -> Iterator[str]:
    """Split at the ends of sentences; a clause without an end for long at a comma or space."""
    text = _LEADER.sub(lambda run: run[0][:_LONGEST_LEADER], text)
    begin = 0
    for end in [*_CLAUSE_ENDS.finditer(text), None]:
        yield from _short(text[begin : end.start() if end else None].strip())
        begin = end.end() if end else begin


def _short(clause: str) -> Iterator[str]:
    begin = 0
    while begin < len(clause):
        cut = end = begin + _LONGEST_CLAUSE
        if end < len(clause):
            cut = clause.rfind(",", begin, end) + 1 or clause.rfind(" ", begin, end) + 1 or end
        if piece := clause[begin:cut].strip():
            yield piece
        begin = cut


def _named(concept: str, named: set[str]) -> bool:
    """Say whether what "no other" denies is named elsewhere.

    "No other abnormality" is about all findings.
    """
    return concept in named or (concept == "abnormality" and bool(named))


def _statements(clause: str) -> Iterator[tuple[Statement, bool]]:
    """Yield the statements of a clause, each with whether it denies others only."""
    chunks = chunks_of(combined(scan(clause)))
    set_places(chunks)
    set_states(chunks)
    set_activities(chunks)
    found: dict[Statement, bool] = {}
    for index, chunk in enumerate(chunks):
        for unit in chunk.units:
            for said in _of_unit(unit, clause):
                found.setdefault(said, unit.others_only)
        if _is_whole(chunk, chunks[index - 1] if index else None):
            for mark in chunk.of("absent"):
                found.setdefault(
                    Statement(mark.value, State.ABSENT, None, None, None, clause), False
                )
    yield from found.items()


def _of_unit(unit: Unit, clause: str) -> Iterator[Statement]:
    denied = ("abnormality",) if unit.state == State.ABSENT else ()
    for concept in unit.concepts or denied:
        for place in unit.places or [None]:
            yield Statement(concept, unit.state, *side_zone(place), unit.activity, clause)


def _is_whole(chunk: Chunk, before: Chunk | None) -> bool:
    """Say whether "normal" in a chunk is about the whole image.

    Otherwise it is about an organ or a row of a table.
    """
    of_organ = chunk.link == "colon" and before is not None and before.of("organ", "place")
    others = chunk.units or chunk.of(*OPERATORS, "organ") or of_organ
    return not others and chunk.words <= _WORDS_BESIDE_NORMAL
