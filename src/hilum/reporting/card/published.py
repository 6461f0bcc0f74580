"""What the published cards of a data set state, in `NAME.published.toml` beside its reader, and how it compares with what the files say.

    url, licence_url, year     of the data set, where known
    [[statement]]
    where                      which card, and which place in it
    note                       what to mind in comparing
    words                      what it states that no fact of `facts` can be held against
    [statement.facts]          stated value by the name of the fact; a dotted key is one name

A name that `facts.known` does not know is an error of the file. Statements may contradict one another; all are held against the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hilum import plugins
from hilum.errors import BadData
from hilum.reporting.card.facts import Value, in_words, known, reason

FIGURES = "published.toml"  # NAME.published.toml beside a reader
AGREES, DIFFERS, NOT_CHECKED = "agrees", "differs", "not checked"


@dataclass(frozen=True)
class Statement:
    where: str
    facts: Mapping[str, Value]
    note: str = ""
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    statements: tuple[Statement, ...] = ()
    url: str = ""
    licence_url: str = ""
    year: str = ""


@dataclass(frozen=True)
class Compared:
    """One stated fact beside what was found; `why` says why it could not be checked, or how far off it is."""

    where: str
    name: str
    stated: Value
    found: Value | None
    verdict: str
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    rows: list[Compared] = field(default_factory=list)

    def count(self, verdict: str) -> int:
        return sum(row.verdict == verdict for row in self.rows)

    def of(self, where: str) -> list[Compared]:
        return [row for row in self.rows if row.where == where]

    def contested(self) -> list[tuple[str, int, int]]:
        """Where statements differ from one another: each, how many of those facts the files agree with, and how many could be checked."""
        values: dict[str, set[str]] = {}
        for row in self.rows:
            values.setdefault(row.name, set()).add(repr(row.stated))
        torn = [
            row for row in self.rows if len(values[row.name]) > 1 and row.verdict != NOT_CHECKED
        ]
        checked = Counter(row.where for row in torn)
        return [
            (where, sum(row.where == where and row.verdict == AGREES for row in torn), count)
            for where, count in checked.items()
        ]


def read(dataset: str) -> Published:
    """What is published of a data set; nothing where there is no file. Raises `BadData` with every name that is no fact's."""
    told = plugins.facts("readers", dataset, FIGURES)
    statements = tuple(
        Statement(
            item["where"],
            dict(_flat(item.get("facts", {}))),
            item.get("note", ""),
            tuple(item.get("words", ())),
        )
        for item in told.pop("statement", [])
    )
    strange = [
        f"{statement.where}: {name}"
        for statement in statements
        for name in statement.facts
        if not known(name)
    ]
    if strange:
        raise BadData.listing(f"{dataset}.{FIGURES} names what is no fact's name", strange)
    return Published(
        statements, told.get("url", ""), told.get("licence_url", ""), str(told.get("year", ""))
    )


def compare(published: Published, found: Mapping[str, Value]) -> Comparison:
    return Comparison(
        [
            _compared(item.where, name, stated, dict(found))
            for item in published.statements
            for name, stated in item.facts.items()
        ]
    )


def _compared(where: str, name: str, stated: Value, found: dict[str, Value]) -> Compared:
    if name not in found:
        return Compared(where, name, stated, None, NOT_CHECKED, reason(name, found))
    value = found[name]
    if value == stated:
        return Compared(where, name, stated, value, AGREES)
    off = (
        f"{value - stated:+,}".replace("-", "−")
        if isinstance(value, int) and isinstance(stated, int)
        else ""
    )
    return Compared(where, name, stated, value, DIFFERS, off)


def as_dict(row: Compared) -> dict[str, Any]:
    """For JSON."""
    return {
        "where": row.where,
        "fact": row.name,
        "in words": in_words(row.name),
        "stated": row.stated,
        "found": row.found,
        "verdict": row.verdict,
        "reason": row.why,
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
