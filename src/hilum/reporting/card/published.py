"""What the published cards of a data set state, and how it compares with the files.

`NAME.published.toml` beside a reader has

    url, licence_url, year     of the data set, where known
    [[statement]]
    where                      which card, and which place in it
    note                       what to consider in comparing
    words                      what it states that no fact of `facts` can be compared with
    [statement.facts]          stated value by the name of the fact; a dotted key is one name

A name that `facts.known` does not know is an error of the file. Statements may contradict one
another; all are compared with the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hilum import plugins
from hilum.errors import BadData
from hilum.reporting.card.facts import Facts, Value, in_words, known, reason

FIGURES = "published.toml"  # NAME.published.toml beside a reader
AGREES, DIFFERS, NOT_CHECKED = "agrees", "differs", "not checked"

_Tree = Mapping[str, "Value | _Tree"]  # of a TOML file, in which a dotted key is a table


@dataclass(frozen=True)
class Statement:
    """What one place of a published card states: facts by name, and other things in words."""

    where: str
    facts: Mapping[str, Value]
    note: str = ""
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """All that is published of a data set."""

    statements: tuple[Statement, ...] = ()
    url: str = ""
    licence_url: str = ""
    year: str = ""


@dataclass(frozen=True)
class Compared:
    """A stated fact and the one found; `why` it could not be checked, or how far off it is."""

    where: str
    name: str
    stated: Value
    found: Value | None
    verdict: str
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    """All stated facts of a data set, compared with the files."""

    rows: list[Compared] = field(default_factory=list)

    def count(self, verdict: str) -> int:
        """Count the facts with a verdict."""
        return sum(row.verdict == verdict for row in self.rows)

    def of(self, where: str) -> list[Compared]:
        """Return the facts that one place states."""
        return [row for row in self.rows if row.where == where]

    def contested(self) -> list[tuple[str, int, int]]:
        """Return how many facts of each statement the files confirm, where statements disagree.

        Each is the place, the number of facts that agree with the files, and the number checked.
        """
        values: dict[str, set[str]] = {}
        for row in self.rows:
            values.setdefault(row.name, set()).add(repr(row.stated))
        disputed = [
            row for row in self.rows if len(values[row.name]) > 1 and row.verdict != NOT_CHECKED
        ]
        checked = Counter(row.where for row in disputed)
        return [
            (where, sum(row.where == where and row.verdict == AGREES for row in disputed), count)
            for where, count in checked.items()
        ]


def read(dataset: str) -> Published:
    """Read what is published of a data set; nothing where there is no file.

    Raises `BadData` with every name that is no fact's.
    """
    stored = plugins.facts("readers", dataset, FIGURES)
    statements = tuple(
        Statement(
            item["where"],
            dict(_flat(item.get("facts", {}))),
            item.get("note", ""),
            tuple(item.get("words", ())),
        )
        for item in stored.pop("statement", [])
    )
    unknown = [
        f"{statement.where}: {name}"
        for statement in statements
        for name in statement.facts
        if not known(name)
    ]
    if unknown:
        raise BadData.listing(f"{dataset}.{FIGURES} has names that are no facts", unknown)
    return Published(
        statements,
        stored.get("url", ""),
        stored.get("licence_url", ""),
        str(stored.get("year", "")),
    )


def compare(published: Published, found: Facts) -> Comparison:
    """Compare every stated fact with the facts found."""
    return Comparison(
        [
            _compared(item.where, name, stated, found)
            for item in published.statements
            for name, stated in item.facts.items()
        ]
    )


def _compared(where: str, name: str, stated: Value, found: Facts) -> Compared:
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


def as_dict(row: Compared) -> dict[str, Value | None]:
    """Return a row for JSON."""
    return {
        "where": row.where,
        "fact": row.name,
        "in words": in_words(row.name),
        "stated": row.stated,
        "found": row.found,
        "verdict": row.verdict,
        "reason": row.why,
    }


def _flat(tree: _Tree, prefix: str = "") -> Iterator[tuple[str, Value]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
