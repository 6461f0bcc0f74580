"""The worklist as JSON: one page of rows, and every filter with its counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import name_of
from hilum.serve import facts, queries
from hilum.serve.desk import Desk
from hilum.serve.facts import Facts
from hilum.serve.queries import Query
from hilum.serve.replies import Json
from hilum.serve.worklist import WORDS, Worklist

MOST_VALUES = 40  # of one filter on a page
_TITLES = {
    "part": "Part",
    "mask": "Mask",
    "issue": "Issue",
    "label": "Label",
    "call": "Call",
    "disagreement": "Disagreement",
    "source": "Source",
}
_SORTS = {
    "path": "File name",
    "patient": "Patient",
    "issue": "Worst issue first",
    "-uncertainty": "Most uncertain mask first",
    "-disagreement": "Largest disagreement first",
    "next": "Next to draw",
}
_MASK_NAMES = {
    "reference": "reference mask",
    "corrected": "corrected here",
    "found": "predicted",
    "unreliable": "predicted, unreliable",
    "missing": "missing: no reference",
}


@dataclass(frozen=True)
class _Value:
    """One value of a filter: its text in an address, its name, and the images it would list."""

    text: str
    name: str
    rows: np.ndarray  # bool (images,)


def page(desk: Desk, query: Query) -> Facts:
    """Return a page of the worklist."""
    study, listed, ordered = desk.study, desk.worklist, desk.ordered(query)
    shown = ordered[query.offset : query.offset + query.limit]
    return {
        "total": len(ordered),
        "all": listed.table.height,
        "offset": query.offset,
        "limit": query.limit,
        "view": query.view,
        "sort": query.sort,
        "q": query.q,
        "patient": query.patient,
        "query": query.text(),
        "rows": [facts.listed_image(study, listed, int(row)) for row in shown],
        "filters": filters(listed, query),
        "sorts": [{"value": value, "name": name} for value, name in _sorts(listed)],
        "rows_selected_by_filter": len(ordered),
    }


def _sorts(listed: Worklist) -> Iterator[tuple[str, str]]:
    yield from _SORTS.items()
    for concept in listed.scores:
        yield f"-{queries.SCORE}{concept}", f"Highest score: {name_of(concept).lower()}"


def filters(listed: Worklist, query: Query) -> list[Json]:
    """Return every filter with its values and their counts under the other filters."""
    active = listed.filters(query)
    found: list[Json] = []
    for key, title in _TITLES.items():
        chosen = _chosen(query, key)
        values: list[tuple[_Value, int]] = []
        for own, of in _values(listed, key).items():
            others = [rows for name, rows in active.items() if name != (own or key)]
            base = np.logical_and.reduce([np.ones(listed.table.height, bool), *others])
            values += [(one, int(np.count_nonzero(one.rows & base))) for one in of]
        kept = [(one, count) for one, count in values if count or one.text in chosen]
        found.append(
            {
                "key": key,
                "title": title,
                "values": [
                    {
                        "value": one.text,
                        "name": one.name,
                        "count": count,
                        "selected": one.text in chosen,
                    }
                    for one, count in kept[:MOST_VALUES]
                ],
                "more": max(0, len(kept) - MOST_VALUES),
            }
        )
    return found


def _chosen(query: Query, key: str) -> Sequence[str]:
    value = getattr(query, key)
    if isinstance(value, bool):
        return ["1"] if value else []
    return [one if isinstance(one, str) else ":".join(one) for one in value]


def _values(listed: Worklist, key: str) -> Mapping[str, Iterable[_Value]]:
    """Return the values of a filter, by the name of the filter that they belong to; "" is `key`."""
    if key == "label":
        return {f"label {one}": _of_label(listed, one) for one in listed.labels}
    if key in ("part", "source"):
        return {"": _of_column(listed, key)}
    if key == "mask":
        some = ((word, _MASK_NAMES[word], listed.with_mask(word)) for word in queries.MASKS)
    elif key == "issue":
        words = [*queries.ISSUES, *listed.links.names]
        some = ((word, word, listed.about(word)) for word in words)
    elif key == "call":
        some = (
            (f"{one}:{word}", f"{name_of(one)}: {word}", listed.called(one, word))
            for one in listed.calls
            for word in WORDS.values()
        )
    else:
        some = iter([("1", "a call contradicts its label", ~np.isnan(listed.disagreement))])
    return {"": [_Value(*one) for one in some]}


def _of_label(listed: Worklist, concept: str) -> list[_Value]:
    return [
        _Value(
            f"{concept}:{state}", f"{name_of(concept)}: {state}", listed.labelled(concept, state)
        )
        for state in queries.STATES
    ]


def _of_column(listed: Worklist, name: str) -> list[_Value]:
    column = listed.table[name].cast(pl.String).cast(pl.Categorical)
    codes = column.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    counted = column.drop_nulls().value_counts(sort=True)
    words = counted[name].cast(pl.String).to_list()
    places = counted[name].to_physical().to_list()
    return [_Value(one, one, codes == place) for one, place in zip(words, places, strict=True)]
