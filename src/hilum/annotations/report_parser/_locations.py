"""Assign each finding its places, side and zone: those beside it and those of its list."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from hilum.annotations.report_parser._chunks import SIDES, Chunk, Unit, both_places, side_zone
from hilum.annotations.report_parser._terms import Mark

_PAUSES = ("comma", "colon")


def set_places(chunks: Sequence[Chunk]) -> None:
    """Set `places` of the units of a clause."""
    waiting: list[Mark] = []  # places named before any finding
    last: Unit | None = None
    for index, chunk in enumerate(chunks):
        for place, unit in _with_units(chunk):
            if unit:
                _add_place(unit, place)
            elif last is None:
                waiting.append(place)
            elif chunk.link not in _PAUSES or not chunk.of("word", "ignore"):
                last.places.append(_with_side(place, last.places))
        if chunk.units and waiting:
            first = chunk.units[0]
            first.places = waiting + [_with_side(place, waiting) for place in first.places]
            waiting = []
        if chunk.units and not chunk.of("place") and last:
            _carry_forward(chunk, last)
        if last and chunk.closing and chunks[index - 1].units and not last.places:
            last.places = list(chunk.units[-1].places)
        last = chunk.units[-1] if chunk.units else last


def _with_units(chunk: Chunk) -> Iterator[tuple[Mark, Unit | None]]:
    """Yield each place of a chunk with its finding.

    Behind a preposition the finding before it, else the one after it, where there is one.
    """
    before, ahead, behind = None, deque(chunk.units), False
    for mark in chunk.marks:
        while ahead and ahead[0].at < mark.at:
            before, behind = ahead.popleft(), False
        if mark.kind == "preposition":
            behind = True
        elif mark.kind == "place":
            after = ahead[0] if ahead else None
            yield mark, (before or after) if behind else (after or before)
            behind = False


def _add_place(unit: Unit, place: Mark) -> None:
    """Add a place, or the rest of the last one: "apical scar on the left" has one."""
    last = unit.places[-1].value.split() if unit.places else []
    own = place.value.split()
    halves = len(last) == len(own) == 1 and (last[0] in SIDES) != (own[0] in SIDES)
    both = both_places(last, own) if halves else None
    if both:
        unit.places = [*unit.places[:-1], Mark("place", both, place.at)]
    else:
        unit.places = [*unit.places, place]


def _carry_forward(chunk: Chunk, last: Unit) -> None:
    """Give a finding without a place that of the finding before.

    For a finding that comes "with" another one, or that follows the first item of a list.
    """
    shared = chunk.link in ("and", "or") and chunk.bare
    listed = shared and all(place.at < last.at for place in last.places)
    if chunk.link == "with" or listed:
        chunk.units[0].places = list(last.places)


def _with_side(place: Mark, others: Sequence[Mark]) -> Mark:
    """Complete a place by the side of the last one: "middle" after "right upper" is right."""
    side, _ = side_zone(place)
    known = next((side_zone(other)[0] for other in reversed(others)), None)
    return place if side or not known else Mark("place", f"{known} {place.value}", place.at)
