"""What a worklist shows, as one value: the filters, the order and the page.

The address of a page holds all of it, so that a view can be sent to a colleague. Values of one
filter widen the list, filters narrow it; labels of different findings narrow it too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from hilum.annotations.vocabulary import LABEL_NAMES
from hilum.serve.parameters import Choice, Flag, Integer, ListOf, Parameter, Text
from hilum.serve.replies import Json, Refusal

STATES = tuple(LABEL_NAMES.values())
MASKS = ("reference", "corrected", "found", "unreliable", "missing")
ANY, OPEN, NONE = ISSUES = ("any", "open", "none")
CALLS = ("present", "absent", "no call")
CELLS = ("tp", "fp", "fn", "tn")
OWN = "own"  # threshold of a cell: each score is called by that of its own model
VIEWS = ("grid", "rows")
ORDERS = ("path", "patient", "issue", "uncertainty", "next", "disagreement")
SCORE = "score."
MOST_ROWS = 500
_NAME = ListOf(Text(300))
PARAMETERS = (
    Parameter("part", _NAME, "train, tune or test"),
    Parameter("source", _NAME, "hospital or collection"),
    Parameter("label", _NAME, "CONCEPT:STATE"),
    Parameter("issue", _NAME, "a rule of the audit, or any, open or none"),
    Parameter("mask", ListOf(Choice(MASKS)), "missing: neither a reference nor a corrected mask"),
    Parameter("call", _NAME, "CONCEPT:present, CONCEPT:absent or CONCEPT:no call"),
    Parameter("disagreement", Flag(), "1: a call contradicts its label", default=False),
    Parameter("cell", _NAME, "of a confusion matrix: CONCEPT:tp|fp|fn|tn:THRESHOLD[:PART]"),
    Parameter("patient", Text(300), "a patient, with or without the name of the data set"),
    Parameter("q", Text(200), "text in names, patients, sources or report texts"),
    Parameter("sort", Text(300), f"{', '.join(ORDERS)} or score.CONCEPT; - before it: descending"),
    Parameter("view", Choice(VIEWS), "how a page shows it", default="grid"),
    Parameter("offset", Integer(), "rows to skip", default=0),
    Parameter("limit", Integer(1, MOST_ROWS), "rows to return", default=60),
)


class Pair(NamedTuple):
    """A finding and a word about it: a label state or a call."""

    concept: str
    word: str


class Cell(NamedTuple):
    """A cell of the confusion matrix of one finding, at a threshold or at the run's `OWN` calls."""

    concept: str
    cell: str
    threshold: str
    part: str


@dataclass(frozen=True)
class Query:
    """Filters, order and page of a worklist; "" and () filter nothing."""

    part: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    label: tuple[Pair, ...] = ()
    issue: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    call: tuple[Pair, ...] = ()
    disagreement: bool = False
    cell: tuple[Cell, ...] = ()
    patient: str = ""
    q: str = ""
    sort: str = "path"
    view: str = "grid"
    offset: int = 0
    limit: int = 60

    @classmethod
    def of(cls, values: Mapping[str, Json]) -> Query:
        """Build from checked values of `PARAMETERS`. Raises `Refusal` for a wrong pair or order."""
        return cls(
            part=_texts(values["part"]),
            source=_texts(values["source"]),
            label=tuple(_pair(one, "label", STATES) for one in _texts(values["label"])),
            issue=_texts(values["issue"]),
            mask=_texts(values["mask"]),
            call=tuple(_pair(one, "call", CALLS) for one in _texts(values["call"])),
            disagreement=bool(values["disagreement"]),
            cell=tuple(_cell(one) for one in _texts(values["cell"])),
            patient=_text(values["patient"]),
            q=_text(values["q"]).strip(),
            sort=_order(_text(values["sort"]) or "path"),
            view=_text(values["view"]) or "grid",
            offset=_whole(values["offset"]),
            limit=_whole(values["limit"]),
        )

    @classmethod
    def of_text(cls, text: str) -> Query:
        """Build from a query string, such as one of an address. Raises `Refusal`."""
        given: dict[str, list[str]] = {}
        for name, value in parse_qsl(text.removeprefix("?"), keep_blank_values=False):
            given.setdefault(name, []).append(value)
        try:
            return cls.of({one.name: one.read(given.get(one.name, [])) for one in PARAMETERS})
        except ValueError as wrong:
            raise Refusal(422, f"the filter: {wrong}", "take the address of a worklist") from None

    @property
    def filters(self) -> Query:
        """The same rows in the same order, without the page."""
        return replace(self, offset=0, limit=60, view="grid")

    def text(self) -> str:
        """Return the query string; what is as usual is left out."""
        return urlencode(list(self._pairs()))

    def _pairs(self) -> Iterator[tuple[str, str]]:
        usual = Query()
        for one in fields(self):
            value = getattr(self, one.name)
            if value == getattr(usual, one.name):
                continue
            if one.name == "disagreement":
                yield one.name, "1"
            elif isinstance(value, tuple):
                for each in value:
                    yield one.name, each if isinstance(each, str) else ":".join(map(str, each))
            else:
                yield one.name, str(value)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Json) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, Sequence) else ()


def _whole(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _pair(text: str, name: str, words: tuple[str, ...]) -> Pair:
    """Split CONCEPT:WORD; a local concept has a colon of its own."""
    concept, _, word = text.rpartition(":")
    if not concept or word not in words:
        raise Refusal(
            422, f"{name}: got '{text[:60]}'", f"write CONCEPT:WORD with one of {', '.join(words)}"
        )
    return Pair(concept, word)


def _cell(text: str) -> Cell:
    """Split CONCEPT:CELL:THRESHOLD, with :PART or without; a local concept has a colon too."""
    parts = text.split(":")
    for cut in (2, 3):
        concept, rest = ":".join(parts[:-cut]), parts[-cut:]
        if concept and rest[0] in CELLS and (rest[1] == OWN or _is_number(rest[1])):
            return Cell(concept, rest[0], rest[1], rest[2] if cut == 3 else "test")
    raise Refusal(
        422, f"cell: got '{text[:60]}'", "write CONCEPT:tp:THRESHOLD with one of tp, fp, fn and tn"
    )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _order(text: str) -> str:
    name = text.removeprefix("-")
    if name not in ORDERS and not (name.startswith(SCORE) and name != SCORE):
        raise Refusal(
            422,
            f"sort: got '{text[:60]}'",
            f"write one of {', '.join(ORDERS)} or score.CONCEPT, with - before it to reverse",
        )
    return text
