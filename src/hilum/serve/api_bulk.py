"""The route that changes many images at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hilum.dataset import corrections
from hilum.dataset.corrections import Correction
from hilum.errors import BadData, HilumError
from hilum.revisions import changes
from hilum.revisions.changes import Change, Correct, DecideIssue, SetLabel
from hilum.serve import api_changes, queries
from hilum.serve.desk import SLOW, Desk
from hilum.serve.parameters import Choice, Integer, ListOf, Object, Parameter, Text
from hilum.serve.queries import Query
from hilum.serve.replies import Json, Refusal, Reply, as_json
from hilum.serve.routing import Body, Call, Route

MOST_AT_ONCE = 20_000  # images of one bulk change


def bulk(desk: Desk, call: Call) -> Reply:
    """Change many images at once: all of them, but for those that are skipped and named."""
    wanted, skipped = list(_wanted(desk, call)), list[Json]()
    change = call.content["change"]
    if not isinstance(change, Mapping):
        raise TypeError("the route checks that change is an object")
    made: list[tuple[Change, int]] = []
    for row in wanted:
        try:
            made += [
                (one, desk.state.expected(one.subject(""))) for one in _each(desk, row, change)
            ]
        except HilumError as error:
            skipped.append({"row": row, "why": str(error)})
    reason = " ".join(str(change.get("reason") or "").split()) or None
    revisions = desk.writing.append_all(made, author=call.author, reason=reason) if made else []
    first_and_last = [revisions[0].number, revisions[-1].number] if revisions else None
    return as_json(
        {"changed": len(wanted) - len(skipped), "skipped": skipped, "revisions": first_and_last},
        201,
    )


def _wanted(desk: Desk, call: Call) -> Iterator[int]:
    rows, text = call.content["rows"], call.content["filter"]
    if isinstance(rows, Sequence):
        found = [one for one in rows if isinstance(one, int)]
    elif isinstance(text, str):
        found = desk.ordered(Query.of_text(text)).tolist()
    else:
        raise Refusal(422, "neither rows nor a filter say which images to change", "send one")
    if len(found) > MOST_AT_ONCE:
        raise Refusal(
            422,
            f"{len(found):,} images at once; at most {MOST_AT_ONCE:,}",
            "filter the list further",
        )
    yield from dict.fromkeys(found)


def _each(desk: Desk, row: int, change: Mapping[str, Json]) -> Iterator[Change]:
    """Yield the changes of one image. Raises `HilumError` where there is none to make."""
    image_id = desk.study.image_id(row)
    if change["kind"] == "label":
        concept, state = str(change["concept"] or ""), str(change["state"] or "")
        entry = Correction(image_id, "set label", concept=concept, state=state)
        corrections.of_entries([entry.entry], api_changes.JOURNAL)
        if desk.worklist.labelled(concept, state)[row]:
            raise BadData(f"is {state} already")
        api_changes.refuse_impossible(desk, [entry])
        yield SetLabel(image_id, concept, state)
    elif change["kind"] == "correction":
        entry = api_changes.correction_of(desk, image_id, change)
        standing = desk.state.images.get(image_id)
        before = (
            standing.change.corrections if standing and isinstance(standing.change, Correct) else ()
        )
        if entry.cell in {one.cell for one in before if one.value == entry.value}:
            raise BadData("has this correction already")
        api_changes.refuse_impossible(desk, [entry])
        kept = tuple(one for one in before if one.cell != entry.cell)
        yield Correct(image_id, (*kept, entry))
    else:
        yield from _decisions(desk, row, change)


def _decisions(desk: Desk, row: int, change: Mapping[str, Json]) -> Iterator[Change]:
    links, issues = desk.worklist.links, desk.study.issues
    decided = str(change["decision"] or "")
    is_open = [int(one) for one in links.of_row(row) if not desk.worklist.decided[one]]
    if not is_open:
        raise BadData("has no open issue")
    for number in is_open:
        about = issues.row(number, named=True)
        key = changes.issue_key(about["rule"], about["image_id"], about["other_image_id"])
        reason = " ".join(str(change.get("reason") or "").split())
        yield DecideIssue(key, decided, reason)


_CHANGE = Object(
    (
        Parameter("kind", Choice(("label", "correction", "issue")), "what changes", "body", True),
        Parameter("concept", Text(200), "of a label", "body"),
        Parameter("state", Choice(queries.STATES), "of a label", "body"),
        Parameter("action", Choice(tuple(corrections.ACTIONS)), "of a correction", "body"),
        Parameter("value", Text(200), "of a correction", "body"),
        Parameter("other", Text(4096), "of a correction", "body"),
        Parameter("decision", Choice(changes.DECISIONS), "of open issues", "body"),
        Parameter("reason", Text(2000), "why, for people", "body"),
    )
)
_CONTENT = Object(
    (
        Parameter("rows", ListOf(Integer(), MOST_AT_ONCE), "images", "body"),
        Parameter("filter", Text(4000), "or the query string of a worklist", "body"),
        Parameter("change", _CHANGE, "the change of each", "body", required=True),
    )
)
ROUTES = (
    Route(
        "POST",
        "/api/v1/bulk",
        "Change many images at once",
        bulk,
        (),
        Body("which images, and what to change", content=_CONTENT),
        changes=True,
        work=SLOW,
    ),
)
