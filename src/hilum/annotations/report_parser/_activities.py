"""Assign findings their activity: active, old, stable, improving or worsening."""

from __future__ import annotations

from collections.abc import Sequence

from hilum.annotations.report_parser._chunks import (
    LIST_LINKS,
    Chunk,
    Unit,
    unit_before,
    units_after,
)
from hilum.annotations.report_parser._states import reached_forward
from hilum.annotations.report_parser._terms import Mark


def set_activities(chunks: Sequence[Chunk]) -> None:
    """Set `activity` of the units of a clause, from the words of kinds course and course_of."""
    later = []
    for index, chunk in enumerate(chunks):
        # The nearest word counts: "stable old scar" is old
        for mark in reversed(chunk.of("course", "course_of")):
            reached = _reached(chunks, index, mark)
            if not reached and mark.kind == "course":
                later.append((index, mark))
            for unit in reached:
                unit.activity = unit.activity or mark.value
    for index, mark in later:
        for unit in _nearby(chunks, index, mark):
            unit.activity = unit.activity or mark.value


def _reached(chunks: Sequence[Chunk], index: int, mark: Mark) -> list[Unit]:
    reached = units_after(chunks[index], mark)
    if not reached:
        return []
    if mark.kind == "course_of":
        return reached + _rest_of_list(chunks, index)
    # "old scar, effusion": the scar only
    comma = index + 1 < len(chunks) and chunks[index + 1].link == "comma"
    return [reached[0], *([] if comma else reached_forward(chunks, index, mark)[len(reached) :])]


def _nearby(chunks: Sequence[Chunk], index: int, mark: Mark) -> list[Unit]:
    """Return the finding before the mark.

    Without one in its chunk, those of the chunk before, else the first of the chunk behind.
    """
    own = unit_before(chunks[index], mark)
    if own is not None or chunks[index].units:
        return [own] if own is not None else []
    earlier = next((chunk.units for chunk in reversed(chunks[:index]) if chunk.units), [])
    following = chunks[index + 1].units[:1] if index + 1 < len(chunks) else []
    return earlier or following


def _rest_of_list(chunks: Sequence[Chunk], index: int) -> list[Unit]:
    """Return the findings of the list that begins in a chunk, with places of their own or none."""
    reached: list[Unit] = []
    for chunk in chunks[index + 1 :]:
        ends = chunk.of("course", "course_of", "verb")
        if chunk.link not in LIST_LINKS or not chunk.units or ends:
            break
        reached += chunk.units
    return reached
