"""Routes that change a study: every change is a revision of the journal, or nothing happens.

A writer states the last revision of the subject that it saw. Where another came between, it gets
409 with that one, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hilum.dataset import corrections
from hilum.dataset.corrections import Correction
from hilum.errors import BadData, HilumError
from hilum.revisions import changes, mask_store
from hilum.revisions.changes import (
    Change,
    Correct,
    DecideIssue,
    Read,
    RemoveMask,
    SetLabel,
    SetMask,
)
from hilum.revisions.revision import Revision
from hilum.serve import masks, queries
from hilum.serve.desk import SLOW, Desk
from hilum.serve.guard import SIGN_IN
from hilum.serve.parameters import Choice, Flag, Integer, ListOf, Object, Parameter, Text
from hilum.serve.queries import Query
from hilum.serve.replies import PNG, Json, Refusal, Reply, as_json
from hilum.serve.routing import EXPECTED, ROW, Body, Call, Route

JOURNAL = "the journal"  # as errors of corrections call their source
MOST_AT_ONCE = 20_000  # images of one bulk change
_REASON = Parameter("reason", Text(2000), "why, for people", "body")
_IF_MATCH = Parameter(
    "if-match", Text(20), 'the last revision of the mask that was seen, as "12"', "header"
)
_CONCEPT = Parameter("concept", Text(200, 1), "a finding", "body", required=True)
_STATE = Parameter("state", Choice(queries.STATES), "its state", "body", required=True)


def label(desk: Desk, call: Call) -> Reply:
    """Set a label."""
    image_id, concept = desk.study.image_id(call.whole("row")), call.text("concept")
    change = SetLabel(image_id, concept, call.text("state"))
    entry = Correction(image_id, "set label", concept=concept, state=change.state)
    _refuse_impossible(desk, [entry])
    return _written(desk, call, change, was=_was(desk, image_id, concept))


def _was(desk: Desk, image_id: str, concept: str) -> str:
    stated = desk.study.stated(image_id, concept)
    return ", ".join(str(one["state"]) for one in stated) or queries.STATES[-1]


def draw(desk: Desk, call: Call) -> Reply:
    """Keep a mask that was drawn, in the file's own pixels."""
    expected, row = _seen(call), call.whole("row")
    image_id = desk.study.image_id(row)
    author, shown = call.author, desk.shown(row)
    with desk.drawing:
        own = shown.to_own(mask_store.decoded(call.data, "the mask that was sent"))
        digest = desk.writing.put_mask(own)
    was = "reference mask" if desk.study.has_reference[row] else "no mask"
    made = desk.writing.append(SetMask(image_id, digest), author=author, expected=expected, was=was)
    return _answer([made])


def take_mask_back(desk: Desk, call: Call) -> Reply:
    """Take a mask that was drawn back, so that that of the data stands again."""
    change = RemoveMask(desk.study.image_id(call.whole("row")))
    return _answer([desk.writing.append(change, author=call.author, expected=_seen(call))])


def _seen(call: Call) -> int:
    """Return the revision of If-Match. Raises `Refusal` (428) where it is missing."""
    text = call.text("if-match").strip().removeprefix("W/").strip('"')
    if not text.isascii() or not text.isdigit():
        raise Refusal(
            428,
            "a mask is kept on top of the one that was seen, and If-Match does not name it",
            'send If-Match: "NUMBER" with mask_revision of the image',
        )
    return int(text)


def plausibility(desk: Desk, call: Call) -> Reply:
    """Say how a mask compares with the reference and with usual lungs; nothing is kept."""
    with desk.drawing:
        drawn = mask_store.decoded(call.data, "the mask that was sent")
        return as_json(masks.plausibility(desk, call.whole("row"), drawn))


def correct(desk: Desk, call: Call) -> Reply:
    """Add a correction of an image to those that stand, or take one of them back."""
    image_id = desk.study.image_id(call.whole("row"))
    entry = _correction(desk, image_id, call.content)
    standing = desk.state.images.get(image_id)
    before = (
        standing.change.corrections if standing and isinstance(standing.change, Correct) else ()
    )
    kept = tuple(one for one in before if one.cell != entry.cell)
    if not call.is_set("remove"):
        _refuse_impossible(desk, [entry])
        kept = (*kept, entry)
    return _written(desk, call, Correct(image_id, kept))


def decide(desk: Desk, call: Call) -> Reply:
    """Accept, dismiss or mend an issue, or open it again."""
    number = call.whole("number")
    issues = desk.study.issues
    if number >= issues.height:
        raise Refusal(404, f"there is no issue {number}", "reload the page of issues")
    row = issues.row(number, named=True)
    key = changes.issue_key(row["rule"], row["image_id"], row["other_image_id"])
    given = call.content["corrections"]
    entries = [
        _correction(desk, str(one["image_id"] or row["image_id"]), one)
        for one in (given if isinstance(given, Sequence) else ())
        if isinstance(one, Mapping)
    ]
    if entries:
        _refuse_impossible(desk, entries)
    reason = " ".join(call.text("reason").split())
    change = DecideIssue(key, call.text("decision"), reason, tuple(entries))
    return _written(desk, call, change)


def read_blind(desk: Desk, call: Call) -> Reply:
    """Keep a blind reading; it never changes the table."""
    image_id = desk.study.image_id(call.whole("row"))
    return _written(desk, call, Read(image_id, call.text("concept"), call.text("state")))


def undo(desk: Desk, call: Call) -> Reply:
    """Take a revision back by another one."""
    reason = " ".join(call.text("reason").split()) or None
    return _answer([desk.writing.undo(call.whole("number"), call.author, reason)])


def author(desk: Desk, call: Call) -> Reply:
    """Give the session the name that its changes carry."""
    if desk.settings.user_header:
        raise Refusal(403, "the reverse proxy names who is reading", "sign in there as another")
    call.session.author = " ".join(call.text("name").split())
    if not call.session.author:
        raise Refusal(422, "the name is empty", "give your name or initials")
    return as_json({"author": call.session.author})


def invite(desk: Desk, call: Call) -> Reply:
    """Make an address that lets one more browser in, once."""
    if desk.settings.user_header or desk.sessions.has_password:
        place = f"{desk.settings.address}{SIGN_IN if desk.sessions.has_password else '/'}"
        return as_json({"address": place})
    return as_json({"address": f"{desk.settings.address}/?token={desk.sessions.invite()}"})


# ------------------------------------------------------------------------------------- in common


def _written(desk: Desk, call: Call, change: Change, was: str | None = None) -> Reply:
    """Append one change."""
    reason = " ".join(call.text("reason").split()) if "reason" in call.content else ""
    made = desk.writing.append(
        change,
        author=call.author,
        expected=call.whole("expected"),
        reason=reason or None,
        was=was,
    )
    return _answer([made])


def _answer(made: Sequence[Revision]) -> Reply:
    return as_json({"revision": made[-1].number, "digest": made[-1].digest}, 201)


def _correction(desk: Desk, image_id: str, given: Mapping[str, Json]) -> Correction:
    """Build a correction. Raises `BadData` for a wrong form, `Refusal` for an unknown image."""
    named = {key: given[key] for key in ("action", "value", "other") if given.get(key)}
    for one in (image_id, named.get("other")):
        if one is not None and desk.study.row(str(one)) is None:
            raise Refusal(422, f"there is no image {one}", "name an image of this study")
    entry = {"image_id": image_id, **named}
    if why := " ".join(str(given.get("reason") or "").split()):
        entry["why"] = why
    return corrections.of_entries([entry], JOURNAL)[0]


def _refuse_impossible(desk: Desk, entries: Sequence[Correction]) -> None:
    """Raise `BadData` where a run could not take the entries up beside all that stand."""
    images = {one for entry in entries for one in (entry.image_id, entry.other) if one}
    decided = {entry.cell for entry in entries}
    standing = [
        one
        for one in desk.state.corrections()
        if one.image_id in images
        and one.cell not in decided
        and (one.other in images or not one.other)
    ]
    here = desk.study.of_images(sorted(images))
    corrections.apply(here, [*standing, *entries], JOURNAL)


# ------------------------------------------------------------------------------------------ bulk


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
        corrections.of_entries([entry.entry], JOURNAL)
        if desk.worklist.labelled(concept, state)[row]:
            raise BadData(f"is {state} already")
        _refuse_impossible(desk, [entry])
        yield SetLabel(image_id, concept, state)
    elif change["kind"] == "correction":
        entry = _correction(desk, image_id, change)
        standing = desk.state.images.get(image_id)
        before = (
            standing.change.corrections if standing and isinstance(standing.change, Correct) else ()
        )
        if entry.cell in {one.cell for one in before if one.value == entry.value}:
            raise BadData("has this correction already")
        _refuse_impossible(desk, [entry])
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


# ---------------------------------------------------------------------------------------- routes

_ENTRY = (
    Parameter("action", Choice(tuple(corrections.ACTIONS)), "what is corrected", "body", True),
    Parameter("value", Text(200), "degrees clockwise, or a patient", "body"),
    Parameter("other", Text(4096), "image_id of the second image of a pair", "body"),
)
_OF_ISSUE = Object(
    (
        Parameter("image_id", Text(4096), "the image; by default the issue's", "body"),
        *_ENTRY,
        Parameter("title", Text(200), "ignored", "body"),
        _REASON,
    )
)
_NUMBER = Parameter("number", Integer(), "its number", "path", required=True)
_CHANGE = Object(
    (
        Parameter("kind", Choice(("label", "correction", "issue")), "what changes", "body", True),
        Parameter("concept", Text(200), "of a label", "body"),
        Parameter("state", Choice(queries.STATES), "of a label", "body"),
        Parameter("action", Choice(tuple(corrections.ACTIONS)), "of a correction", "body"),
        Parameter("value", Text(200), "of a correction", "body"),
        Parameter("other", Text(4096), "of a correction", "body"),
        Parameter("decision", Choice(changes.DECISIONS), "of open issues", "body"),
        _REASON,
    )
)
_IMAGE = "/api/v1/images/{row}"
_MASK_BODY = Body("grey PNG of 8 bits at the size of the pixels: 0, 1 right, 2 left, 255", PNG)


def _json(*members: Parameter) -> Body:
    return Body("what to change", content=Object(members))


ROUTES = (
    Route(
        "POST",
        f"{_IMAGE}/labels",
        "Set a label",
        label,
        (ROW,),
        _json(_CONCEPT, _STATE, _REASON, EXPECTED),
        changes=True,
    ),
    Route(
        "PUT",
        f"{_IMAGE}/masks/corrected",
        "Keep a mask that was drawn",
        draw,
        (ROW, _IF_MATCH),
        _MASK_BODY,
        changes=True,
    ),
    Route(
        "DELETE",
        f"{_IMAGE}/masks/corrected",
        "Take a mask that was drawn back",
        take_mask_back,
        (ROW, _IF_MATCH),
        changes=True,
    ),
    Route(
        "POST",
        f"{_IMAGE}/plausibility",
        "How a mask compares with the reference and with usual lungs",
        plausibility,
        (ROW,),
        _MASK_BODY,
    ),
    Route(
        "POST",
        f"{_IMAGE}/corrections",
        "Correct an image",
        correct,
        (ROW,),
        _json(
            *_ENTRY,
            Parameter("remove", Flag(), "true: take it back", "body", default=False),
            _REASON,
            EXPECTED,
        ),
        changes=True,
    ),
    Route(
        "POST",
        "/api/v1/issues/{number}",
        "Decide an issue",
        decide,
        (_NUMBER,),
        _json(
            Parameter("decision", Choice(changes.DECISIONS), "what it is", "body", required=True),
            _REASON,
            Parameter("corrections", ListOf(_OF_ISSUE), "of a mended one", "body"),
            EXPECTED,
        ),
        changes=True,
    ),
    Route(
        "POST",
        "/api/v1/readings",
        "Keep a blind reading",
        read_blind,
        (),
        _json(
            Parameter("row", Integer(), "the image", "body", required=True),
            _CONCEPT,
            _STATE,
            EXPECTED,
        ),
        changes=True,
    ),
    Route(
        "POST",
        "/api/v1/bulk",
        "Change many images at once",
        bulk,
        (),
        _json(
            Parameter("rows", ListOf(Integer(), MOST_AT_ONCE), "images", "body"),
            Parameter("filter", Text(4000), "or the query string of a worklist", "body"),
            Parameter("change", _CHANGE, "the change of each", "body", required=True),
        ),
        changes=True,
        work=SLOW,
    ),
    Route(
        "POST",
        "/api/v1/revisions/{number}/undo",
        "Take a revision back",
        undo,
        (_NUMBER,),
        _json(_REASON),
        changes=True,
    ),
    Route(
        "POST",
        "/api/v1/author",
        "Say who is reading",
        author,
        (),
        _json(Parameter("name", Text(200, 1), "name or initials", "body", required=True)),
    ),
    Route("POST", "/api/v1/invitations", "An address that lets one more browser in, once", invite),
)
