"""Radiologists' words become statements: which finding, present, absent or doubted, where, and how active.

A reading is cut into clauses, a clause into chunks at its links ("with", "and", commas), and each chunk is searched for the words of
`data/reading_terms.csv`: the longest run of whole words wins, so "pseudonodule" is no nodule. A row of that table is `words` (alternatives
between bars), `kind` and `value`:

    finding     concepts that adjacent findings share a noun phrase with ("calcified granuloma": both, one place, one state)
    general     "disease": a statement only where it is denied ("no active disease")
    absent      "normal": nothing found, unless it is an organ's ("heart normal")
    negation    reaches forward: "no", "without"; denial: either way, "resolved"; hedge: either way, "likely"; non: the next finding
    course      "old", "improving": the next finding, else the one before; course_of: all findings of a list, "improvement in"
    place       side and zone; filler, preposition: what may stand inside a place or before it
    link        between chunks; verb, organ, ignore: words that stop a list, or a match

Missing is None. A finding in several places gives one statement a place. "Consistent with" states, "likely" and "?" doubt, "h/o" makes old.
After Chapman et al., A simple algorithm for identifying negated findings and diseases in discharge summaries, J Biomed Inform 2001;34:301-310.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import product

from hilum.vocabulary import State, name_of

SIDES = ("right", "left", "bilateral")
ZONES = ("upper", "middle", "lower", "apex", "hilum")
ACTIVITIES = ("active", "old", "stable", "improving", "worsening")

_CLAUSE_ENDS = re.compile(r"[;\n]|(?<!\brt)(?<!\blt)(?:\.(?!\d)|(?<!\d)\.)|\b(?:but|although|though|however|except|whereas|yet)\b", re.IGNORECASE)
_TOKEN = re.compile(r"\w+(?:'\w+)?|[,:()?&+]")
_NAMING = ("finding", "general")
_INSIDE_PLACES = ("filler", "preposition")  # "apex of the left lung" is one place
_ENDS_LISTS = ("place", "course", "course_of", "negation", "denial", "hedge", "absent", "organ", "verb")
_WORDS_IN_LISTS = 2  # a list item is a finding and at most so many words without meaning here
_CORRECTED_LENGTH = 8  # shorter words are too close to one another to guess a misspelt one


@dataclass(frozen=True)
class Statement:
    """What a reading says of one finding in one place."""

    concept: str  # id in `data/vocabulary.csv`; "abnormality" absent is what "normal" says
    state: State
    side: str | None  # one of SIDES, the patient's
    zone: str | None  # one of ZONES; lobes and fields are both called by their height
    activity: str | None  # one of ACTIVITIES
    sentence: str  # the clause it was read from, as written


@dataclass(frozen=True)
class _Mark:
    kind: str  # of the table, or "word"
    value: str
    at: int  # its number in the clause


@dataclass
class _Unit:
    """Findings that stand side by side, and what was found out about them."""

    concepts: tuple[str, ...]
    at: int
    state: State = State.PRESENT
    places: list[_Mark] = field(default_factory=list)
    activity: str | None = None


@dataclass
class _Chunk:
    link: str  # how it hangs on the chunk before: "", comma, and, or, with, infer
    marks: list[_Mark]
    units: list[_Unit] = field(default_factory=list)

    def of(self, *kinds: str) -> list[_Mark]:
        return [mark for mark in self.marks if mark.kind in kinds]

    @property
    def bare(self) -> bool:
        """A mere item of a list: what was said of the item before holds for it."""
        return bool(self.units) and not self.of(*_ENDS_LISTS) and len(self.of("word")) <= _WORDS_IN_LISTS

    @property
    def closing(self) -> bool:
        """The last item of a list with the place of all behind it: "scars" or "cavities in the left apex"."""
        ends = [mark for mark in self.of(*_ENDS_LISTS) if mark.kind != "place" or not self.units or mark.at < self.units[-1].at]
        return bool(self.units) and bool(self.of("place")) and not ends and self.link in ("and", "or")


def read(text: str) -> list[Statement]:
    """All statements of a reading (its words, without the lines of sex and age), in their order; each once a clause."""
    return [statement for clause in _clauses(text) for statement in _statements(clause)]


def describe(statement: Statement) -> str:
    """Short words, such as "possible cavity, left upper, old"."""
    doubt = {State.PRESENT: "", State.ABSENT: "no ", State.UNCERTAIN: "possible "}[statement.state]
    place = " ".join(part for part in (statement.side, statement.zone) if part)
    return ", ".join(part for part in (doubt + name_of(statement.concept).replace("_", " ").lower(), place, statement.activity) if part)


def concepts() -> set[str]:
    """Every concept that a reading can be found to name."""
    return {concept for kind, value in _terms().values() if kind in ("finding", "general", "absent") for concept in value.split()}


# --------------------------------------------------------------------------------------------------------------------- text to chunks


def _clauses(text: str) -> Iterator[str]:
    begin = 0
    for end in [*_CLAUSE_ENDS.finditer(text), None]:
        clause = text[begin : end.start() if end else None].strip()
        if clause:
            yield clause
        begin = end.end() if end else begin


@cache
def _terms() -> dict[tuple[str, ...], tuple[str, str]]:
    """Words to kind and value, alternatives written out."""
    text = resources.files("hilum").joinpath("data/reading_terms.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {words: (row["kind"], row["value"]) for row in rows for words in product(*(slot.split("|") for slot in row["words"].split()))}


@cache
def _long_words() -> dict[str, bool]:
    """Words of the table long enough to be corrected, and whether they name findings."""
    found: dict[str, bool] = {}
    for words, (kind, _) in _terms().items():
        found.update((word, kind == "finding" or found.get(word, False)) for word in words if len(word) >= _CORRECTED_LENGTH)
    return found


@cache
def _spelt(word: str) -> str:
    """The finding that a long word misses by one letter (one more, less, other, or two exchanged), else the word."""
    if len(word) < _CORRECTED_LENGTH - 1 or word in _long_words():
        return word
    near = [known for known, finding in _long_words().items() if finding and _one_letter_off(word, known)]
    return near[0] if near else word


def _one_letter_off(a: str, b: str) -> bool:
    if len(a) > len(b):
        a, b = b, a
    if len(b) - len(a) > 1 or a == b:
        return False
    first = next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if len(a) < len(b):
        return a[first:] == b[first + 1 :]
    return a[first + 1 :] == b[first + 1 :] or a[first:] == b[first + 1] + b[first] + b[first + 2 :]


def _scan(clause: str) -> list[_Mark]:
    """The clause as marks, longest terms first; what is in no term is a word."""
    words = [_spelt(word.lower()) for word in _TOKEN.findall(clause)]
    terms, marks, at = _terms(), [], 0
    longest = max(map(len, terms))
    while at < len(words):
        length = next((n for n in range(longest, 0, -1) if tuple(words[at : at + n]) in terms and at + n <= len(words)), 0)
        kind, value = terms[tuple(words[at : at + length])] if length else ("word", words[at])
        marks.append(_Mark(kind, value, len(marks)))
        at += length or 1
    return marks


def _chunks(marks: list[_Mark]) -> list[_Chunk]:
    chunks = [_Chunk("", [])]
    for mark in marks:
        if mark.kind != "link":
            chunks[-1].marks.append(mark)
        elif chunks[-1].marks:
            chunks.append(_Chunk(mark.value, []))
        elif mark.value != "comma":
            chunks[-1].link = mark.value
    for chunk in chunks:
        chunk.marks = _joined_places(chunk.marks)
        chunk.units = _units(chunk.marks)
    for before, after in reversed(list(zip(chunks, chunks[1:], strict=False))):
        if before.link == "comma" and before.bare and after.link in ("and", "or") and after.bare:
            before.link = after.link  # "nodules, cavities and scars": the comma is an "and"
    return chunks


def _units(marks: list[_Mark]) -> list[_Unit]:
    units: list[_Unit] = []
    before = ""  # kind of the mark before
    for mark in marks:
        own = tuple(mark.value.split()) if mark.kind == "finding" else ()
        if mark.kind in _NAMING and before in _NAMING:
            units[-1].concepts += own
        elif mark.kind in _NAMING:
            units.append(_Unit(own, mark.at, State.ABSENT if before == "non" else State.PRESENT))
        before = "denied" if before == "non" else mark.kind  # "non-calcified granuloma" denies the first only
    return units


def _joined_places(marks: list[_Mark]) -> list[_Mark]:
    """Neighbouring places as one, where they do not contradict: "left" "upper" field."""
    joined: list[_Mark] = []
    for mark in marks:
        last = next((index for index in range(len(joined) - 1, -1, -1) if joined[index].kind not in _INSIDE_PLACES), None)
        if mark.kind == "place" and last is not None and joined[last].kind == "place":
            both = _both(joined[last].value.split(), mark.value.split())
            if both:
                joined[last:] = [_Mark("place", both, joined[last].at)]
                continue
        joined.append(mark)
    return joined


def _both(one: list[str], other: list[str]) -> str | None:
    """Two places as one, or None where they contradict. An apex and a hilum are closer than the height of their lobe."""
    sides = {part for part in one + other if part in SIDES}
    zones = {part for part in one + other if part in ZONES}
    zones = zones & {"apex", "hilum"} or zones
    return " ".join([*sides, *zones]) if len(sides) <= 1 and len(zones) <= 1 else None


# ------------------------------------------------------------------------------------------------------------------ what is said of them


def _statements(clause: str) -> Iterator[Statement]:
    chunks = _chunks(_scan(clause))
    _set_places(chunks)
    _set_states(chunks)
    _set_activities(chunks)
    found = []
    for chunk in chunks:
        for unit in chunk.units:
            named = unit.concepts or (("abnormality",) if unit.state == State.ABSENT else ())
            found += [(concept, unit.state, *_side_zone(place), unit.activity) for concept in named for place in unit.places or [None]]
        if not chunk.units and not chunk.of("negation", "denial", "hedge", "organ") and len(chunk.of("word")) <= _WORDS_IN_LISTS:
            found += [(mark.value, State.ABSENT, None, None, None) for mark in chunk.of("absent")]
    yield from (Statement(*said, clause) for said in dict.fromkeys(found))


def _side_zone(place: _Mark | None) -> tuple[str | None, str | None]:
    parts = place.value.split() if place else []
    return next((part for part in parts if part in SIDES), None), next((part for part in parts if part in ZONES), None)


def _before(chunk: _Chunk, mark: _Mark) -> _Unit | None:
    return next((unit for unit in reversed(chunk.units) if unit.at < mark.at), None)


def _after(chunk: _Chunk, mark: _Mark) -> list[_Unit]:
    return [unit for unit in chunk.units if unit.at > mark.at]


def _set_states(chunks: list[_Chunk]) -> None:
    for kind, state in (("hedge", State.UNCERTAIN), ("denial", State.ABSENT), ("negation", State.ABSENT)):
        for index, chunk in enumerate(chunks):
            for mark in chunk.of(kind):
                for unit in _forward(chunks, index, mark) or (_backward(chunks, index, mark) if kind != "negation" else []):
                    unit.state = state
    for before, after in zip(chunks, chunks[1:], strict=False):
        if after.link == "or" and before.units and after.units:
            for unit in (before.units[-1], after.units[0]):
                unit.state = State.UNCERTAIN if unit.state == State.PRESENT else unit.state


def _forward(chunks: list[_Chunk], index: int, mark: _Mark) -> list[_Unit]:
    """Findings behind a mark: those of its chunk and of the list that goes on from there, or those that it leads to."""
    reached = _after(chunks[index], mark)
    rest = chunks[index + 1 :]
    if rest and rest[0].link == "infer" and not any(unit.concepts for unit in chunks[index].units):
        reached += rest[0].units  # "findings probably consistent with"
        rest = rest[1:]
    for chunk in rest if reached else []:
        if chunk.link not in ("comma", "and", "or") or not (chunk.bare or chunk.closing):
            break
        reached += chunk.units
    return reached


def _backward(chunks: list[_Chunk], index: int, mark: _Mark) -> list[_Unit]:
    """Findings before a mark: the last of its chunk with the list that leads to it; a chunk of the mark alone speaks of the one before."""
    own = _before(chunks[index], mark)
    if not own and index and not chunks[index].units and all(other.kind in (mark.kind, "verb", "filler") for other in chunks[index].marks):
        return chunks[index - 1].units[-1:]
    reached = [own] if own else []
    while own and index and chunks[index].link in ("and", "or") and chunks[index - 1].bare:
        index -= 1
        reached += chunks[index].units
    return reached


def _set_activities(chunks: list[_Chunk]) -> None:
    later = []
    for index, chunk in enumerate(chunks):
        for mark in reversed(chunk.of("course", "course_of")):  # the nearest word counts: "stable old scar" is old
            reached = _after(chunk, mark)
            if reached and mark.kind == "course_of":
                reached += _rest_of_list(chunks, index)
            elif reached:
                comma = index + 1 < len(chunks) and chunks[index + 1].link == "comma"  # "old scar, effusion": the scar only
                reached = [reached[0], *([] if comma else _forward(chunks, index, mark)[len(reached) :])]
            elif mark.kind == "course":
                later.append((index, mark))
            for unit in reached:
                unit.activity = unit.activity or mark.value
    for index, mark in later:
        own = _before(chunks[index], mark)
        earlier = next((chunk.units for chunk in reversed(chunks[:index]) if chunk.units), [])
        following = chunks[index + 1].units[:1] if index + 1 < len(chunks) else []
        for unit in [own] if own else [] if chunks[index].units else earlier or following:
            unit.activity = unit.activity or mark.value


def _rest_of_list(chunks: list[_Chunk], index: int) -> list[_Unit]:
    """Findings of the list that begins in a chunk, each with its own place or none."""
    reached: list[_Unit] = []
    for chunk in chunks[index + 1 :]:
        if chunk.link not in ("comma", "and", "or") or not chunk.units or chunk.of("course", "course_of", "verb"):
            break
        reached += chunk.units
    return reached


# ------------------------------------------------------------------------------------------------------------------------------ places


def _set_places(chunks: list[_Chunk]) -> None:
    waiting: list[_Mark] = []  # places named before any finding
    last: _Unit | None = None
    for index, chunk in enumerate(chunks):
        for place in chunk.of("place"):
            unit = _unit_of(chunk, place)
            if unit:
                _add_place(unit, place)
            elif last is None:
                waiting.append(place)
            elif chunk.link != "comma" or not chunk.of("word", "ignore"):
                last.places.append(_with_side(place, last.places))
        if chunk.units and waiting:
            first = chunk.units[0]
            first.places = waiting + [_with_side(place, waiting) for place in first.places]
            waiting = []
        if chunk.units and not chunk.of("place") and last:
            _carry_forward(chunk, last)
        if chunk.closing and chunks[index - 1].units and not last.places:
            last.places = list(chunk.units[-1].places)
        last = chunk.units[-1] if chunk.units else last


def _unit_of(chunk: _Chunk, place: _Mark) -> _Unit | None:
    """A place behind a preposition belongs to the finding before it, another to the finding after it, where there is one."""
    before, after = _before(chunk, place), next(iter(_after(chunk, place)), None)
    begin = max([unit.at for unit in [before] if unit] + [other.at for other in chunk.of("place") if other.at < place.at], default=-1)
    behind = any(begin < mark.at < place.at for mark in chunk.of("preposition"))
    return (before or after) if behind else (after or before)


def _add_place(unit: _Unit, place: _Mark) -> None:
    """One more place, or the rest of the last: "apical scar on the left" has one."""
    last = unit.places[-1].value.split() if unit.places else []
    own = place.value.split()
    both = _both(last, own) if len(last) == len(own) == 1 and (last[0] in SIDES) != (own[0] in SIDES) else None
    unit.places = [*unit.places[:-1], _Mark("place", both, place.at)] if both else [*unit.places, place]


def _carry_forward(chunk: _Chunk, last: _Unit) -> None:
    """A finding without a place takes that of the finding it comes "with", or of the list whose first item it follows."""
    listed = chunk.link in ("and", "or") and chunk.bare and all(place.at < last.at for place in last.places)
    if chunk.link == "with" or listed:
        chunk.units[0].places = list(last.places)


def _with_side(place: _Mark, others: list[_Mark]) -> _Mark:
    """ "Middle" after "right upper" is right middle."""
    side, _ = _side_zone(place)
    known = next((_side_zone(other)[0] for other in reversed(others)), None)
    return place if side or not known else _Mark("place", f"{known} {place.value}", place.at)
