"""Routes that read what readers did: revisions, agreement of two readers, and what to draw next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from hilum.annotations.vocabulary import name_of
from hilum.errors import NotFound, TooFew
from hilum.revisions import agreement as comparing
from hilum.revisions.changes import STATES
from hilum.revisions.revision import Revision
from hilum.serve import facts, queries
from hilum.serve.desk import Desk
from hilum.serve.facts import Facts
from hilum.serve.parameters import Integer, Parameter, Text
from hilum.serve.replies import Json, Reply, as_json
from hilum.serve.routing import Call, Route

REVISIONS = (
    Parameter("since", Integer(), "only later ones", default=0),
    Parameter("author", Text(200), "only of this author"),
    Parameter("row", Integer(), "only of this image"),
    Parameter("offset", Integer(), "revisions to skip, from the newest", default=0),
    Parameter("limit", Integer(1, queries.MOST_ROWS), "revisions to return", default=60),
)

AGREEMENT = (
    Parameter("concept", Text(200), "a finding"),
    Parameter("a", Text(200), "one reader"),
    Parameter("b", Text(200), "the other one"),
)
MOST_QUEUED = 200  # images still to be read that are named


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


# ------------------------------------------------------------------------------------- agreement


def agreement(desk: Desk, call: Call) -> Reply:
    """Answer how far two readers agree."""
    return as_json(agreement_facts(desk, call))


def agreement_facts(desk: Desk, call: Call) -> Facts:
    """Return Cohen's kappa of two readers on one finding, and what is still to be read."""
    study, state = desk.study, desk.state
    counted = Counter(concept for _, concept, _ in state.readings)
    concept = call.text("concept") or max(study.concepts, key=lambda one: counted[one], default="")
    read = comparing.authors_of(state, concept)
    first = call.text("a") or next(iter(read), "")
    second = call.text("b") or next((one for one in read if one != first), "")
    count = study.manifest.table.height
    return {
        "concepts": [
            {"id": one, "name": name_of(one), "readings": counted[one]} for one in study.concepts
        ],
        "concept": concept or None,
        "authors": list(read),
        "a": first or None,
        "b": second or None,
        "states": list(STATES),
        **_agreed(desk, concept, first, second),
        "progress": [{"author": one, "read": done, "of": count} for one, done in read.items()],
        "queue": _queue(desk, concept, call.session.author),
    }


def _agreed(desk: Desk, concept: str, first: str, second: str) -> Facts:
    """Return kappa, the table and the images on which two readers disagree."""
    manifest = desk.study.manifest.table
    patients = dict(manifest.select("image_id", "patient_id").iter_rows())
    try:
        found = comparing.agreement(desk.state, concept, (first, second), patients)
    except (NotFound, TooFew) as error:
        return {**_NOT_COMPARED, "message": str(error) if second else None}
    return {
        "n": found.images,
        "patients": found.patients,
        "table": [[found.table[one, other] for other in STATES] for one in STATES],
        "observed": found.observed.value,
        "kappa": found.kappa.value,
        "low": found.kappa.ci_low,
        "high": found.kappa.ci_high,
        "disagreements": [
            {
                "row": row,
                "image_id": one.image_id,
                "path": None if row is None else manifest["path"][row],
                "a": one.states[0],
                "b": one.states[1],
            }
            for one in found.disagreements
            for row in [desk.study.row(one.image_id)]
        ],
        "message": None,
    }


_NOT_COMPARED: Facts = {
    **dict.fromkeys(("kappa", "low", "high", "observed")),
    **dict.fromkeys(("n", "patients"), 0),
    **dict.fromkeys(("table", "disagreements"), ()),
}


def _queue(desk: Desk, concept: str, author: str) -> Sequence[int]:
    """Return the images that an author has still to read: first those that others have read."""
    study, readings = desk.study, desk.state.readings
    own = {image_id for image_id, of, by in readings if of == concept and by == author}
    others = {image_id for image_id, of, by in readings if of == concept and by != author}
    first = [row for one in others - own if (row := study.row(one)) is not None]
    taken = {row for one in own | others if (row := study.row(one)) is not None}
    rest = (row for row in range(study.manifest.table.height) if row not in taken)
    return [*sorted(first), *islice(rest, MOST_QUEUED)][:MOST_QUEUED]


# ---------------------------------------------------------------------------------- next to draw


def next_to_draw(desk: Desk, call: Call) -> Reply:
    """Answer the images whose masks would help the next model most."""
    found = desk.worklist.to_draw
    after = call.values["after"]
    if isinstance(after, int) and after in found["row"]:
        found = found.slice(found["row"].to_list().index(after) + 1)
    rows: list[Json] = [
        {
            **facts.brief_image(desk.study, desk.worklist, one["row"]),
            "rank": one["rank"],
            "expected_gain": one["gain"],
            "why": one["why"],
        }
        for one in found.head(call.whole("limit")).iter_rows(named=True)
    ]
    return as_json({"rows": rows})


ROUTES = (
    Route("GET", "/api/v1/agreement", "How far two readers agree", agreement, AGREEMENT),
    Route(
        "GET",
        "/api/v1/next-to-draw",
        "Images in the order in which drawn masks are expected to help most",
        next_to_draw,
        (
            Parameter("limit", Integer(1, queries.MOST_ROWS), "images to return", default=20),
            Parameter("after", Integer(), "only those behind this image"),
        ),
    ),
    Route("GET", "/api/v1/revisions", "The history, the newest first", revisions, REVISIONS),
)
