"""Combine the operators of a clause that precede one another: negation, denial, hedge, change.

A negation before another operator applies to that operator and to no finding: "not resolved", "not
without effusion" and "no increase in the effusion" leave the effusion present, "not certain if" and
"cannot exclude" make it uncertain, "nothing to suggest" denies it. NegEx lists such phrases as
pseudo-negations (Chapman et al. 2001); here they follow from the kinds of the words, so that "not
yet completely cleared" needs no entry of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hilum.annotations.report_parser._terms import Mark, numbered

_BETWEEN = ("degree", "verb", "preposition")  # "no evidence of resolution", "has not yet been seen"
_NEEDS_NEGATION = ("change", "certainty", "degree", "than")  # without one, a word like any other
_NAMES = ("finding", "general", "place")
_IN_SUBJECTS = (*_BETWEEN, "word", "filler", "place", "organ", "change", "certainty")
_FARTHEST = 12  # marks between an operator and the one that it combines with
_WITHOUT = ("without", "free of", "free from", "devoid of", "clear of")
_TRENDS = ("improving", "worsening")
_DENIED_HEDGES = {  # value of the hedge: kind and value of both together
    "suggest": ("denial", ""),
    "chance": ("hedge", ""),
    "excluded": ("hedge", ""),
    "whether": ("hedge", "whether"),
}


def combined(marks: list[Mark]) -> list[Mark]:
    """Replace each operator that precedes another one by what both state together."""
    marks = _exceptions(marks)
    rest: list[Mark] = []  # what follows the current mark, the nearest last
    for at in range(len(marks) - 1, -1, -1):
        mark, before = marks[at], marks[at - 1] if at else None
        operator = mark.kind in ("negation", "hedge")
        taken = operator and (
            _take_operand(mark, before, rest)
            or _take_without(mark, rest)
            or _take_denial_of(mark, rest)
        )
        if not taken:
            rest.append(mark)
    return numbered([_plain(mark) for mark in reversed(rest)])


def _take_operand(mark: Mark, before: Mark | None, rest: list[Mark]) -> bool:
    """Combine an operator with the one it stands before, if any, in `rest`."""
    operand = next((n for n in _nearest(rest) if rest[n].kind not in _BETWEEN), None)
    if operand is None:
        return False
    beyond = rest[operand - 1] if operand else None
    together = _together(mark, rest[operand + 1 :], rest[operand], beyond, before)
    if together is not None:
        rest[operand:] = reversed(together)
    return together is not None


def _take_without(mark: Mark, rest: list[Mark]) -> bool:
    """Cancel a negation of the subject of "without": "neither lung is without fibrosis"."""
    if mark.kind != "negation" or mark.value not in ("", "over"):
        return False
    verb = False
    for n in _nearest(rest):
        verb = verb or rest[n].kind == "verb"
        if verb and rest[n].kind == "negation" and rest[n].words in _WITHOUT:
            del rest[n]
            return True
        if rest[n].kind not in _IN_SUBJECTS:
            return False
    return False


def _take_denial_of(mark: Mark, rest: list[Mark]) -> bool:
    """Cancel "resolved" in a denied clause: "no evidence that the mass has resolved"."""
    if mark.kind != "negation" or mark.value not in ("", "cannot"):
        return False
    between = [rest[n].words for n in _nearest(rest) if rest[n].kind in _BETWEEN]
    if not any(words.split()[-1] == "that" for words in between):
        return False
    for n in _nearest(rest):
        if rest[n].kind in ("link", "negation", "hedge", "answer"):
            return False
        if rest[n].kind == "denial" and rest[n].value:
            excluded = rest[n].value == "excluded" or mark.value == "cannot"
            rest[n : n + 1] = [replace(rest[n], kind="hedge", value="")] if excluded else []
            return True
    return False


def _nearest(rest: Sequence[Mark]) -> range:
    return range(len(rest) - 1, max(len(rest) - _FARTHEST, 0) - 1, -1)


def _exceptions(marks: Sequence[Mark]) -> list[Mark]:
    """Make "than" a link where "no other" or "no more" stands before it in its chunk."""
    found, only_others = [], False
    for mark in marks:
        if mark.kind == "than" and only_others:
            mark = replace(mark, kind="link", value="except")
        if mark.kind in ("link", "negation"):
            only_others = mark.kind == "negation" and mark.value == "other"
        found.append(mark)
    return found


def _together(
    mark: Mark, between: Sequence[Mark], target: Mark, beyond: Mark | None, before: Mark | None
) -> list[Mark] | None:
    """Return what an operator and its target state together; None: each applies on its own."""
    if mark.kind == "hedge":  # "probably no effusion", "effusion possibly resolved"
        own = before is not None and before.kind in _NAMES  # "pneumonia likely no effusion"
        hedged = target.kind == "denial" or (target.kind == "negation" and not own)
        return [mark] if hedged else None
    if mark.value == "past":
        return None
    if target.kind == "negation":
        return [replace(mark, kind="hedge", value="")] if mark.value == "cannot" else []
    if target.kind == "denial" and target.value == "excluded":
        return [replace(mark, kind="hedge", value="")]
    if target.kind == "denial":
        partly = target.value == "over" and any(one.value == "wholly" for one in between)
        return [replace(target, kind="course", value="improving")] if partly else []
    if target.kind == "hedge" and target.value in _DENIED_HEDGES:
        kind, value = _DENIED_HEDGES[target.value]
        return [replace(mark, kind=kind, value=value)]
    if target.kind == "certainty":
        return [replace(mark, kind="hedge", value="whether")]
    return _no_change(mark, target, beyond)


def _no_change(mark: Mark, target: Mark, beyond: Mark | None) -> list[Mark] | None:
    trend = target.kind in ("course", "course_of") and target.value in _TRENDS
    if not trend and target.kind != "change":
        return None
    if target.kind == "course" and beyond is not None and beyond.kind in _NAMES:
        # "no increased density" denies the density; "no worsening effusion" leaves it open
        presupposes = target.words.endswith("ing") or target.words == "progressive"
        return [replace(mark, kind="hedge", value=""), target] if presupposes else None
    kind = "course_of" if target.kind == "course_of" else "course"
    return [replace(target, kind=kind, value="stable", denied=True)]


def _plain(mark: Mark) -> Mark:
    return replace(mark, kind="word", value=mark.words) if mark.kind in _NEEDS_NEGATION else mark
