"""The route that lists the issues of the audit, with what readers decided of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import polars as pl

from hilum.dataset.manifest import SEVERITIES
from hilum.revisions import changes
from hilum.revisions.changes import DecideIssue
from hilum.serve import facts, queries
from hilum.serve.desk import Desk
from hilum.serve.facts import Facts
from hilum.serve.parameters import Choice, Integer, ListOf, Parameter, Text
from hilum.serve.replies import Json, Reply, as_json
from hilum.serve.routing import Call, Route

ALL = "all"
FILTERS = (
    Parameter("rule", ListOf(Text(80)), "rules of the audit"),
    Parameter("severity", ListOf(Choice(SEVERITIES)), "severities"),
    Parameter("decision", ListOf(Choice((*changes.DECISIONS, ALL))), "what was decided"),
    Parameter("offset", Integer(), "issues to skip", default=0),
    Parameter("limit", Integer(1, queries.MOST_ROWS), "issues to return", default=60),
)
_KEYS = ("rule", "severity", "decision")


def issues(desk: Desk, call: Call) -> Reply:
    """Answer a page of the audit's issues."""
    return as_json(issue_list(desk, call))


def issue_list(desk: Desk, call: Call) -> Facts:
    """Return a page of issues, and what they can be filtered by."""
    table = _table(desk)
    wanted = {key: call.texts(key) for key in _KEYS}
    fits = {key: _fits(table[key], words) for key, words in wanted.items()}
    chosen = np.flatnonzero(reduce(np.logical_and, fits.values()))
    offset, limit = call.whole("offset"), call.whole("limit")
    return {
        "total": len(chosen),
        "offset": offset,
        "limit": limit,
        "filters": [_filter(table, fits, key, wanted[key]) for key in _KEYS],
        "issues": [facts.issue(desk, int(one)) for one in chosen[offset : offset + limit]],
        "rules": list(_rules(desk, table)),
    }


def _table(desk: Desk) -> pl.DataFrame:
    """Return rule, severity and decision of each issue, by its number."""
    decision = np.full(desk.study.issues.height, changes.OPEN, object)
    by_decision: dict[str, list[str]] = {}
    for key, one in desk.state.issues.items():
        if isinstance(one.change, DecideIssue):
            by_decision.setdefault(one.change.decision, []).append(key)
    for word, keys in by_decision.items():
        decision[desk.study.numbers(keys)] = word
    words = pl.col("rule", "severity").cast(pl.String)
    return desk.study.issues.select(words, decision=pl.Series(decision.tolist(), dtype=pl.String))


def _fits(values: pl.Series, words: Sequence[str]) -> np.ndarray:
    if not words or ALL in words:
        return np.ones(len(values), bool)
    return values.is_in(list(words)).to_numpy()


def _filter(
    table: pl.DataFrame, fits: Mapping[str, np.ndarray], key: str, chosen: Sequence[str]
) -> Json:
    """Return the values of a filter, the most frequent first, counted under the others."""
    others = reduce(np.logical_and, (one for name, one in fits.items() if name != key))
    counts = table.filter(others)[key].value_counts().sort("count", key, descending=[True, False])
    return {
        "key": key,
        "title": key.capitalize(),
        "values": [
            {"value": word, "name": word, "count": count, "selected": word in chosen}
            for word, count in counts.iter_rows()
        ],
        "more": 0,
    }


def _rules(desk: Desk, table: pl.DataFrame) -> list[Json]:
    """Return every rule that found something, in the order of the issues."""
    is_open = (pl.col("decision") == changes.OPEN).sum()
    counted = table.group_by("rule", maintain_order=True).agg(
        pl.col("severity").last(), count=pl.len(), open=is_open
    )
    return [
        {**one, **facts.about_rule(desk.study.rules.get(one["rule"]))}
        for one in counted.iter_rows(named=True)
    ]


ROUTES = (Route("GET", "/api/v1/issues", "A page of the audit's issues", issues, FILTERS),)
