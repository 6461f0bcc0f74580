"""What a worklist shows, as one value: the filters, the order and the page.

The address of a page holds all of it, so that a view can be sent to a colleague. `Query.text` is
its one canonical form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from hilum.annotations.vocabulary import LABEL_NAMES
from hilum.serve.parameters import Choice, Flag, Integer, ListOf, Parameter, Text
from hilum.serve.replies import Json, Refusal

STATES = tuple(LABEL_NAMES.values())
MASKS = ("reference", "corrected", "found", "unreliable", "missing")
ISSUES = ("any", "open", "none")
CALLS = ("present", "absent", "no_call")
VIEWS = ("grid", "rows")
ORDERS = ("path", "patient", "issue", "uncertainty", "next", "score")
MOST_ROWS = 500
PARAMETERS = (
    Parameter("part", Text(40), "train, tune or test"),
    Parameter("source", Text(300), "hospital or collection"),
    Parameter(
        "label",
        ListOf(Text(300)),
        "CONCEPT:STATE; states of one concept widen, concepts narrow the list",
    ),
    Parameter("issue", Text(80), "a rule of the audit, or any, open or none"),
    Parameter("mask", Choice(MASKS), "missing: neither a reference nor a corrected mask"),
    Parameter("call", Text(300), "CONCEPT:present, CONCEPT:absent or CONCEPT:no_call"),
    Parameter("disagreement", Flag(), "1: a call contradicts its label"),
    Parameter("patient", Text(300), "a patient_id"),
    Parameter("q", Text(200), "text in names, patients, sources or report texts"),
    Parameter("sort", Text(300), f"{', '.join(ORDERS[:-1])} or score.CONCEPT; - before: descending"),
    Parameter("view", Choice(VIEWS), "how a page shows it"),
    Parameter("offset", Integer(), "rows to skip", default=0),
    Parameter("limit", Integer(1, MOST_ROWS), "rows to return", default=60),
)


@dataclass(frozen=True)
class Query:
    """Filters, order and page of a worklist; "" and None filter nothing."""

    part: str = ""
    source: str = ""
    labels: tuple[tuple[str, str], ...] = ()  # concept and state
    issue: str = ""
    mask: str = ""
    call: tuple[str, str] | None = None
    disagreement: bool = False
    patient: str = ""
    q: str = ""
    sort: str = "path"
    view: str = "grid"
    offset: int = 0
    limit: int = 60

    @classmethod
    def of(cls, values: Mapping[str, Json]) -> Query:
        """Build from checked values of `PARAMETERS`. Raises `Refusal` for a wrong pair or order."""
        texts = {name: str(values[name] or "") for name in ("part", "source", "patient", "q")}
        labels = values["label"]
        pairs = [_pair(str(one), "label", STATES) for one in labels or ()]
        call = str(values["call"] or "")
        return cls(
            **texts,
            labels=tuple(pairs),
            issue=str(values["issue"] or ""),
            mask=str(values["mask"] or ""),
            call=_pair(call, "call", CALLS) if call else None,
            disagreement=bool(values["disagreement"]),
            sort=_order(str(values["sort"] or "path")),
            view=str(values["view"] or "grid"),
            offset=_whole(values["offset"]),
            limit=_whole(values["limit"]),
        )

    @property
    def filters(self) -> Query:
        """The same rows in the same order, without the page."""
        return replace(self, offset=0, limit=60, view="grid")

    def text(self) -> str:
        """Return the query string; what is as usual is left out."""
        pairs: list[tuple[str, str]] = []
        usual = Query()
        for name in ("part", "source", "issue", "mask", "patient", "q", "sort", "view"):
            if (value := getattr(self, name)) != getattr(usual, name):
                pairs.append((name, value))
        pairs += [("label", f"{concept}:{state}") for concept, state in self.labels]
        if self.call:
            pairs.append(("call", ":".join(self.call)))
        if self.disagreement:
            pairs.append(("disagreement", "1"))
        pages = {"offset": (self.offset, usual.offset), "limit": (self.limit, usual.limit)}
        pairs += [(name, str(one)) for name, (one, as_usual) in pages.items() if one != as_usual]
        return urlencode(pairs)


def _whole(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _pair(text: str, name: str, words: tuple[str, ...]) -> tuple[str, str]:
    """Split CONCEPT:WORD; a local concept has a colon of its own."""
    concept, _, word = text.rpartition(":")
    if not concept or word not in words:
        raise Refusal(
            422, f"{name}: got '{text[:60]}'", f"write CONCEPT:WORD with one of {', '.join(words)}"
        )
    return concept, word


def _order(text: str) -> str:
    name, _, concept = text.removeprefix("-").partition(".")
    if name not in ORDERS or (name == "score") != bool(concept):
        raise Refusal(
            422,
            f"sort: got '{text[:60]}'",
            f"write one of {', '.join(ORDERS[:-1])} or score.CONCEPT, with - before it to reverse",
        )
    return text
