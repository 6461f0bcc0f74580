"""The route that changes many images at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hilum.dataset import corrections
from hilum.dataset.corrections import Correction
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData, HilumError
from hilum.revisions import changes, possible
from hilum.revisions.changes import Change, Correct, DecideIssue, SetLabel
from hilum.revisions.possible import Standing
from hilum.revisions.state import State
from hilum.serve import api_changes, queries
from hilum.serve.desk import SLOW, Desk
from hilum.serve.parameters import Choice, Integer, ListOf, Object, Parameter, Text
from hilum.serve.queries import Query
from hilum.serve.replies import Json, Refusal, Reply, as_json
from hilum.serve.routing import Body, Call, Route

MOST_AT_ONCE = 20_000  # images of one bulk change


@dataclass(frozen=True)
class _Proposed:
    """The changes of one image, with the correction that they make, if any."""

    row: int
    changes: tuple[Change, ...]
    corrections: tuple[Correction, ...] = ()


def bulk(desk: Desk, call: Call) -> Reply:
    """Change many images at once: all of them, but for those that are skipped and named."""
    begun = time.monotonic()
    wanted, skipped = list(_wanted(desk, call)), dict[int, str]()
    change = call.content["change"]
    if not isinstance(change, Mapping):
        raise TypeError("the route checks that change is an object")
    reason = " ".join(str(change.get("reason") or "").split()) or None
    with desk.changing:
        state, proposed = desk.state, list(_proposed(desk, wanted, change, skipped))
        kept = _possible(desk, state, proposed, skipped)
        # An issue of a pair is one of both images, and is decided once.
        distinct = {one.subject(""): one for each in kept for one in each.changes}
        made = [(one, state.expected(subject)) for subject, one in distinct.items()]
        if time.monotonic() - begun > desk.settings.limits.seconds:
            raise Refusal(
                503, f"{len(wanted):,} images take too long; nothing was changed", "choose fewer"
            )
        revisions = desk.writing.append_all(made, author=call.author, reason=reason) if made else []
    first_and_last = [revisions[0].number, revisions[-1].number] if revisions else None
    left = [{"row": row, "why": skipped[row]} for row in wanted if row in skipped]
    return as_json({"changed": len(kept), "skipped": left, "revisions": first_and_last}, 201)


def _possible(
    desk: Desk, state: State, proposed: Sequence[_Proposed], skipped: dict[int, str]
) -> list[_Proposed]:
    """Return what a run could take up together, and say why the rest is skipped."""
    if not any(one.corrections for one in proposed):
        return list(proposed)
    standing = possible.Standing(state.corrections())
    named = {entry for one in proposed for entry in one.corrections}
    images = {one for entry in named for one in possible.images_of(entry)}
    around = {one for entry in standing.around(images) for one in possible.images_of(entry)}
    manifest = desk.study.of_images(sorted(images | around))
    return list(_together(standing, manifest, proposed, skipped))


def _together(
    standing: Standing, manifest: Manifest, proposed: Sequence[_Proposed], skipped: dict[int, str]
) -> Iterator[_Proposed]:
    """Yield what can stand together, halving what cannot: few faults cost few checks."""
    if not proposed:
        return
    entries = [entry for one in proposed for entry in one.corrections]
    before = standing.put(entries)
    try:
        images = {one for entry in entries for one in possible.images_of(entry)}
        possible.refuse_conflicts(standing, images, manifest)
    except BadData as error:
        standing.restore(before)
        if len(proposed) == 1:
            skipped[proposed[0].row] = str(error)
            return
        middle = len(proposed) // 2
        yield from _together(standing, manifest, proposed[:middle], skipped)
        yield from _together(standing, manifest, proposed[middle:], skipped)
    else:
        yield from proposed


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


def _proposed(
    desk: Desk, rows: Sequence[int], change: Mapping[str, Json], skipped: dict[int, str]
) -> Iterator[_Proposed]:
    """Yield the changes of each image, and say why the rest is skipped."""
    each = {"label": _labels, "correction": _corrections, "issue": _decisions}
    of_row = each[str(change["kind"])](desk, change)
    for row in rows:
        try:
            yield of_row(row)
        except HilumError as error:
            skipped[row] = str(error)


def _labels(desk: Desk, change: Mapping[str, Json]) -> Callable[[int], _Proposed]:
    concept, state = str(change["concept"] or ""), str(change["state"] or "")
    there, study = desk.worklist.labelled, desk.study
    has = there(concept, state) if state in queries.STATES else np.zeros(0, bool)

    def of_row(row: int) -> _Proposed:
        image_id = study.image_id(row)
        entry = Correction(image_id, "set label", concept=concept, state=state)
        corrections.of_entries([entry.entry], possible.NAME)
        if has[row]:
            raise BadData(f"is {state} already")
        return _Proposed(row, (SetLabel(image_id, concept, state),), (entry,))

    return of_row


def _corrections(desk: Desk, change: Mapping[str, Json]) -> Callable[[int], _Proposed]:
    state, study = desk.state, desk.study

    def of_row(row: int) -> _Proposed:
        image_id = study.image_id(row)
        entry = api_changes.correction_of_displayed(desk, image_id, change)
        standing = state.images.get(image_id)
        before = (
            standing.change.corrections if standing and isinstance(standing.change, Correct) else ()
        )
        if entry.cell in {one.cell for one in before if one.value == entry.value}:
            raise BadData("has this correction already")
        kept = tuple(one for one in before if one.cell != entry.cell)
        return _Proposed(row, (Correct(image_id, (*kept, entry)),), (entry,))

    return of_row


def _decisions(desk: Desk, change: Mapping[str, Json]) -> Callable[[int], _Proposed]:
    listed, issues, study = desk.worklist, desk.study.issues, desk.study
    decided = str(change["decision"] or "")
    reason = " ".join(str(change.get("reason") or "").split())

    def key_of(number: int) -> str:
        about = issues.row(number, named=True)
        return changes.issue_key(about["rule"], about["image_id"], about["other_image_id"])

    def of_row(row: int) -> _Proposed:
        study.image_id(row)
        is_open = [int(one) for one in listed.links.of_row(row) if not listed.decided[one]]
        if not is_open:
            raise BadData("has no open issue")
        return _Proposed(
            row, tuple(DecideIssue(key_of(number), decided, reason) for number in is_open)
        )

    return of_row


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
