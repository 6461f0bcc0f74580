"""Split the marks of a clause into chunks at its links, and group the findings of each.

"nodules in the left apex, old scars and no effusion" has three chunks. A finding and its neighbours
are one unit ("calcified granuloma"), which has one state, one activity and its places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hilum.annotations.report_parser._terms import Mark
from hilum.annotations.vocabulary import State

SIDES = ("right", "left", "bilateral")
ZONES = ("upper", "middle", "lower", "apex", "hilum")
LIST_LINKS = ("comma", "and", "or")

OPERATORS = ("negation", "denial", "hedge")
_NAMING = ("finding", "general")
_INSIDE_PLACES = ("filler", "preposition")  # "apex of the left lung" is one place
_ENDS_LISTS = (*OPERATORS, "place", "course", "course_of", "absent", "organ", "verb")
_WORDS_IN_LISTS = 2  # a list item is a finding and at most so many words without meaning here


@dataclass
class Unit:
    """Adjacent findings, and what is determined about them."""

    concepts: tuple[str, ...]
    at: int
    state: State = State.PRESENT
    places: list[Mark] = field(default_factory=list)
    activity: str | None = None
    others_only: bool = False  # denied by "no other": findings named before are not meant


@dataclass
class Chunk:
    """A part of a clause between two links."""

    link: str  # how it hangs on the chunk before: "", a link's value, "answer" or "answered"
    marks: list[Mark]
    units: list[Unit] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Mark]:
        """Return the marks of some kinds."""
        return [mark for mark in self.marks if mark.kind in kinds]

    def only(self, *kinds: str) -> bool:
        """Say whether all marks are of some kinds."""
        return all(mark.kind in kinds for mark in self.marks)

    @property
    def words(self) -> int:
        """The number of words without meaning here."""
        return len(self.of("word", "laboratory"))

    @property
    def bare(self) -> bool:
        """Whether it is a mere item of a list: what is stated of the item before applies to it."""
        return bool(self.units) and not self.of(*_ENDS_LISTS) and self.words <= _WORDS_IN_LISTS

    @property
    def closing(self) -> bool:
        """Whether it ends a list with the place of all: "scars" or "cavities in the left apex"."""
        ends = [
            mark
            for mark in self.of(*_ENDS_LISTS)
            if mark.kind != "place" or not self.units or mark.at < self.units[-1].at
        ]
        return bool(self.units and self.of("place")) and not ends and self.link in ("and", "or")


def chunks_of(marks: Sequence[Mark]) -> list[Chunk]:
    """Split at links and answers; each answer is a chunk of its own."""
    chunks = list(_cut(marks))
    for chunk in chunks:
        chunk.marks = _joined_places(chunk.marks)
        chunk.units = _units(chunk.marks)
    for before, after in reversed(list(zip(chunks, chunks[1:], strict=False))):
        listed = before.link == "comma" and before.bare
        if listed and after.link in ("and", "or") and after.bare:
            before.link = after.link  # "nodules, cavities and scars": the comma is an "and"
    _drop_headings(chunks)
    return chunks


def _cut(marks: Sequence[Mark]) -> Iterator[Chunk]:
    chunk = Chunk("", [])
    for mark in marks:
        if mark.kind == "answer":
            if chunk.marks:
                yield chunk
            yield Chunk("answer", [mark])
            chunk = Chunk("answered", [])
        elif mark.kind != "link":
            chunk.marks.append(mark)
        elif chunk.marks:
            yield chunk
            chunk = Chunk(mark.value, [])
        elif mark.value != "comma":
            chunk.link = mark.value
    yield chunk


def _drop_headings(chunks: Sequence[Chunk]) -> None:
    """Remove the finding of a row's name that its cell is about: "Effusion: no effusion"."""
    named: set[str] = set()
    for chunk, after in reversed(list(zip(chunks, [*chunks[1:], None], strict=True))):
        concepts = {concept for unit in chunk.units for concept in unit.concepts}
        heading = after is not None and after.link == "colon" and chunk.words <= _WORDS_IN_LISTS
        if heading and concepts and named >= concepts and not chunk.of(*OPERATORS):
            chunk.units = []
        named |= concepts


def _units(marks: Sequence[Mark]) -> list[Unit]:
    units: list[Unit] = []
    before = ""  # kind of the mark before
    for mark in marks:
        own = tuple(mark.value.split()) if mark.kind == "finding" else ()
        if mark.kind in _NAMING and before in _NAMING:
            units[-1].concepts += own
        elif mark.kind in _NAMING:
            units.append(Unit(own, mark.at, State.ABSENT if before == "non" else State.PRESENT))
        # "non-calcified granuloma" denies the first only
        before = "denied" if before == "non" else mark.kind
    return units


def _joined_places(marks: Sequence[Mark]) -> list[Mark]:
    """Join adjacent places that do not contradict: "left" "upper" field."""
    joined: list[Mark] = []
    for mark in marks:
        behind = range(len(joined) - 1, -1, -1)
        last = next((index for index in behind if joined[index].kind not in _INSIDE_PLACES), None)
        if mark.kind == "place" and last is not None and joined[last].kind == "place":
            both = both_places(joined[last].value.split(), mark.value.split())
            if both:
                joined[last:] = [Mark("place", both, joined[last].at)]
                continue
        joined.append(mark)
    return joined


def both_places(one: Sequence[str], other: Sequence[str]) -> str | None:
    """Return two places as one; None where they contradict.

    An apex and a hilum are more specific than the height of their lobe.
    """
    parts = [*one, *other]
    sides = {part for part in parts if part in SIDES}
    zones = {part for part in parts if part in ZONES}
    zones = zones & {"apex", "hilum"} or zones
    return " ".join([*sides, *zones]) if len(sides) <= 1 and len(zones) <= 1 else None


def side_zone(place: Mark | None) -> tuple[str | None, str | None]:
    """Return side and zone of a place, each None where it is not stated."""
    parts = place.value.split() if place else []
    side = next((part for part in parts if part in SIDES), None)
    return side, next((part for part in parts if part in ZONES), None)


def unit_before(chunk: Chunk, mark: Mark) -> Unit | None:
    """Return the last unit of a chunk before a mark."""
    return next((unit for unit in reversed(chunk.units) if unit.at < mark.at), None)


def units_after(chunk: Chunk, mark: Mark) -> list[Unit]:
    """Return the units of a chunk behind a mark."""
    return [unit for unit in chunk.units if unit.at > mark.at]
