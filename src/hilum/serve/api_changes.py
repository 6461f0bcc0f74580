"""Routes that change a study: every change is a revision of the journal, or nothing happens.

A writer states the last revision of the subject that it saw. Where another came between, it gets
409 with that one, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hilum.dataset import corrections, display_corrections
from hilum.dataset.corrections import Correction
from hilum.imaging.files.pose import Display
from hilum.revisions import changes, mask_store, possible
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
from hilum.serve.desk import Desk
from hilum.serve.guard import SIGN_IN
from hilum.serve.parameters import Choice, Flag, Integer, ListOf, Object, Parameter, Text
from hilum.serve.replies import PNG, Json, Refusal, Reply, as_json
from hilum.serve.routing import EXPECTED, ROW, Body, Call, Route

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
    """Add a correction of an image to those that stand, or take one of them back.

    What is rotated, mirrored or inverted is the image as this run displays it.
    """
    image_id = desk.study.image_id(call.whole("row"))
    entry = correction_of(desk, image_id, call.content)
    standing = desk.state.images.get(image_id)
    before = (
        standing.change.corrections if standing and isinstance(standing.change, Correct) else ()
    )
    kept = tuple(one for one in before if one.cell != entry.cell)
    if not call.is_set("remove") and (made := _as_read(desk, entry)):
        kept = (*kept, made)
    elif len(kept) == len(before):
        raise _stands_elsewhere(desk, entry)
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
        correction_of_displayed(desk, str(one["image_id"] or row["image_id"]), one)
        for one in (given if isinstance(given, Sequence) else ())
        if isinstance(one, Mapping)
    ]
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
    number, author = call.whole("number"), call.author
    with desk.changing:
        _refuse_impossible(desk, desk.writing.former(number), author)
        return _answer([desk.writing.undo(number, author, reason)])


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
    author, expected = call.author, call.whole("expected")
    with desk.changing:
        desk.writing.refuse_stale(change.subject(author), expected)
        _refuse_impossible(desk, change, author)
        made = desk.writing.append(
            change, author=author, expected=expected, reason=reason or None, was=was
        )
    return _answer([made])


def _answer(made: Sequence[Revision]) -> Reply:
    return as_json({"revision": made[-1].number, "digest": made[-1].digest}, 201)


def correction_of(desk: Desk, image_id: str, given: Mapping[str, Json]) -> Correction:
    """Build a correction. Raises `BadData` for a wrong form, `Refusal` for an unknown image."""
    named = {key: given[key] for key in ("action", "value", "other") if given.get(key)}
    for one in (image_id, named.get("other")):
        if one is not None and desk.study.row(str(one)) is None:
            raise Refusal(422, f"there is no image {one}", "name an image of this study")
    entry = {"image_id": image_id, **named}
    if why := " ".join(str(given.get("reason") or "").split()):
        entry["why"] = why
    return corrections.of_entries([entry], possible.NAME)[0]


def correction_of_displayed(desk: Desk, image_id: str, given: Mapping[str, Json]) -> Correction:
    """Build a correction of an image as this run displays it; raises as `correction_of` does.

    Raises `Refusal` where it would take back what another revision stated.
    """
    entry = correction_of(desk, image_id, given)
    made = _as_read(desk, entry)
    if made is None:
        raise _stands_elsewhere(desk, entry)
    return made


def _as_read(desk: Desk, entry: Correction) -> Correction | None:
    """Return a correction of the displayed image as one of the image as read; None for neither.

    An image that the run displays rotated by 90 degrees, and that still lies on its side, is to be
    rotated by 180; one that it displays mirrored, and that is to be mirrored, is not.
    """
    if entry.action not in corrections.DISPLAYED:
        return entry
    row = desk.study.row(entry.image_id)
    shown = Display.of(desk.study.manifest.table.row(row or 0, named=True))
    made = display_corrections.together(
        display_corrections.of_display(entry.image_id, shown), [entry]
    )
    return next((one for one in made if one.action == entry.action), None)


def _stands_elsewhere(desk: Desk, entry: Correction) -> Refusal:
    """Return the refusal to take back what does not stand among an image's own corrections."""
    by = next((one for one in desk.state.corrections() if one.cell == entry.cell), None)
    who = f"revision {by.revision} by {by.author}" if by else "no revision, but perhaps the recipe"
    return Refusal(
        409,
        f"'{entry.action}' of {entry.image_id} would be taken back, and {who} states it",
        "undo that revision on the page of the history",
    )


def _refuse_impossible(desk: Desk, change: Change, author: str) -> None:
    """Raise `BadData` where a run could not take up what stands after a change."""
    changes.check(change)
    if not isinstance(change, SetLabel | Correct | DecideIssue):
        return
    standing = possible.Standing(desk.state.supposing([(change, author)]).corrections())
    named = possible.named_by(change)
    around = {one for entry in standing.around(named) for one in possible.images_of(entry)}
    possible.refuse_conflicts(standing, named, desk.study.of_images(sorted(around)))


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
        "Correct an image, from how the run displays it",
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
