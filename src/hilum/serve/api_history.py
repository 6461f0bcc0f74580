"""Routes that read what readers did: revisions, agreement of two readers, and what to draw next."""

from __future__ import annotations

from collections.abc import Sequence

from hilum.revisions.revision import Revision
from hilum.serve import facts, queries
from hilum.serve.desk import Desk
from hilum.serve.facts import Facts
from hilum.serve.parameters import Integer, Parameter, Text
from hilum.serve.replies import Reply, as_json
from hilum.serve.routing import Call, Route

REVISIONS = (
    Parameter("since", Integer(), "only later ones", default=0),
    Parameter("author", Text(200), "only of this author"),
    Parameter("row", Integer(), "only of this image"),
    Parameter("offset", Integer(), "revisions to skip, from the newest", default=0),
    Parameter("limit", Integer(1, queries.MOST_ROWS), "revisions to return", default=60),
)


def revisions(desk: Desk, call: Call) -> Reply:
    """Answer a page of the history."""
    return as_json(revision_list(desk, call))


def revision_list(desk: Desk, call: Call) -> Facts:
    """Return revisions, the newest first."""
    offset, limit, last = call.whole("offset"), call.whole("limit"), desk.state.last
    row = call.values["row"]
    chosen = _chosen(desk, call, desk.study.image_id(row) if isinstance(row, int) else None)
    shown = chosen[offset : offset + limit]
    undone = {one.undoes: one.number for one in chosen if one.undoes}
    return {
        "total": len(chosen),
        "offset": offset,
        "limit": limit,
        "last": last,
        "revisions": [facts.revision(desk, one, undone) for one in shown],
    }


def _chosen(desk: Desk, call: Call, image_id: str | None) -> Sequence[Revision]:
    """Return the revisions that a request selects, the newest first."""
    if desk.journal is None:
        return []
    found = desk.journal.revisions(call.whole("since"), image_id)
    if author := call.text("author"):
        found = [one for one in found if one.author == author]
    return found[::-1]


ROUTES = (
    Route("GET", "/api/v1/revisions", "The history, the newest first", revisions, REVISIONS),
)
