"""Routes that read a study: its images, their pixels and masks, its issues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from hilum.annotations import lung_masks, shapes
from hilum.annotations.vocabulary import name_of
from hilum.dataset.manifest import SEVERITIES
from hilum.imaging.files import image_file
from hilum.revisions import changes
from hilum.revisions.changes import Read
from hilum.serve import facts, heat_maps, listing, masks, pixels, queries
from hilum.serve.desk import MODELS, Desk
from hilum.serve.facts import Facts
from hilum.serve.parameters import Choice, Flag, Integer, ListOf, Parameter, Text
from hilum.serve.replies import BINARY, PNG, WEBP, Json, Reply, as_json
from hilum.serve.routing import ROW, Call, Route

DECISIONS = (*changes.DECISIONS, "all")
BLIND = Parameter("blind", Flag(), "1: without labels, calls and issues", default=False)
ISSUE_FILTERS = (
    Parameter("rule", ListOf(Text(80)), "rules of the audit"),
    Parameter("severity", ListOf(Choice(SEVERITIES)), "severities"),
    Parameter("decision", ListOf(Choice(DECISIONS)), "what was decided"),
    Parameter("offset", Integer(), "issues to skip", default=0),
    Parameter("limit", Integer(1, queries.MOST_ROWS), "issues to return", default=60),
)


def study(desk: Desk, call: Call) -> Reply:
    """Answer what the study is, or how far it is prepared."""
    return as_json(facts.study_facts(desk, call.session))


def images(desk: Desk, call: Call) -> Reply:
    """Answer a page of the worklist."""
    return as_json(listing.page(desk, call.query))


def image(desk: Desk, call: Call) -> Reply:
    """Answer everything that is known of one image."""
    return as_json(image_facts(desk, call))


def image_facts(desk: Desk, call: Call) -> Facts:
    """Return what the viewer shows of an image."""
    row, blind = call.whole("row"), call.is_set("blind")
    study, state = desk.study, desk.state
    image_id = study.image_id(row)
    about = study.manifest.table.row(row, named=True)
    found: Facts = facts.listed_image(study, desk.worklist, row)
    columns = ("dataset", "study", "follow_up", "body_part", "modality", "laterality")
    found |= {name: about[name] for name in columns}
    found |= _of_file(desk, row)
    found |= {
        "mask_error": study.cached.index["mask_error"][row],
        "labels": [_label(desk, image_id, concept, blind=blind) for concept in study.concepts],
        "calls": [] if blind else _calls(desk, image_id),
        "issues": [] if blind else [facts.issue(desk, one) for one in _numbers(desk, row)],
        "masks": masks.available(desk, row),
        "mask_revision": state.expected(("mask", image_id)),
        "image_revision": state.expected(("image", image_id)),
        "corrections": [] if blind else _corrections(desk, image_id),
        "heats": [] if blind else list(heat_maps.available(desk, row)),
        "boxes": [] if blind else boxes(desk, row),
        "others": [
            facts.brief_image(study, desk.worklist, one) for one in study.of_patient(image_id)
        ],
        "position": _position(desk, call, row),
        "readings": _readings(desk, call, image_id),
        "blind": blind,
    }
    if blind:
        hidden = {"labels_shown": False, "n_issues": 0, "worst": None, "rules": [], "top": None}
        nothing = dict.fromkeys(("reference", "found", "mirrored", "neighbour"), False)
        found |= {**hidden, "disagreement": None, "masks": {**nothing, "corrected": None}}
    return found


def _of_file(desk: Desk, row: int) -> Facts:
    """Return what the decoded file states; of an unreadable one, why it is not read."""
    error = desk.study.cached.index["error"][row]
    if error is not None:
        nothing = dict.fromkeys(("original_height", "original_width"))
        spacing = dict.fromkeys(("row_spacing_mm", "column_spacing_mm"))
        return {**nothing, **spacing, "header": [], "processing_log": [], "quality_flags": []}
    shown = desk.shown(row)
    (height, width), own = shown.size, shown.radiograph.size
    spacing = shown.radiograph.spacing_mm
    flags = desk.worklist.table["flags"][row]
    return {
        "height": height,
        "width": width,
        "original_height": own[0],
        "original_width": own[1],
        "row_spacing_mm": spacing[0] * own[0] / height if spacing else None,
        "column_spacing_mm": spacing[1] * own[1] / width if spacing else None,
        "quality_flags": flags.split(", ") if flags else [],
        **pixels.file_facts(shown),
    }


def _label(desk: Desk, image_id: str, concept: str, *, blind: bool) -> Facts:
    stated = desk.study.stated(image_id, concept)
    latest = desk.state.latest.get(("label", image_id, concept))
    set_to = desk.state.labels.get((image_id, concept))
    state = stated[0]["state"] if stated else queries.STATES[-1]
    if set_to is not None and isinstance(set_to.change, changes.SetLabel):
        state = set_to.change.state or state
    return {
        "concept": concept,
        "name": name_of(concept),
        "state": None if blind else state,
        "sources": [] if blind else stated,
        "revision": latest.number if latest else 0,
        "author": None if blind or set_to is None else set_to.author,
    }


def _calls(desk: Desk, image_id: str) -> list[Json]:
    found: list[Json] = []
    for one in desk.study.scores(image_id).iter_rows(named=True):
        word = "no call"
        if not one["no_call"] and one["called"] == one["called"]:
            word = "present" if one["called"] else "absent"
        threshold = desk.study.threshold(one["task"], one["concept"], one["fold"])
        found.append(
            {
                "task": one["task"],
                "concept": one["concept"],
                "name": name_of(one["concept"]) if one["task"] == "finding" else "Anomaly",
                "score": one["score"],
                "threshold": threshold,
                "call": word,
                "reason": one["no_call"] or ("" if word != "no call" else "no threshold"),
                "percentile": one["percentile"],
                "part": one["part"],
                "fold": one["fold"],
            }
        )
    return found


def _numbers(desk: Desk, row: int) -> list[int]:
    return desk.worklist.links.of_row(row).tolist()


def _corrections(desk: Desk, image_id: str) -> list[Json]:
    return [facts.correction(one) for one in desk.state.corrections() if one.image_id == image_id]


def boxes(desk: Desk, row: int) -> list[Json]:
    """Return the bounding box of each drawn finding of an image, in the pixels that are sent."""
    study = desk.study
    image_id = study.image_id(row)
    drawn = study.manifest.shapes.filter(study.manifest.shapes["image_id"] == image_id)
    drawn = drawn.filter(~drawn["concept"].is_in(list(lung_masks.REFERENCE)))
    if not drawn.height:
        return []
    shown = desk.shown(row)
    own = image_file.own_size(shown.file)
    found: list[Json] = []
    for one in drawn.iter_rows(named=True):
        mask = shapes.from_json(one["shape"]).to_mask(own)
        sent = shown.to_sent(image_file.to_display(shown.file, mask).astype(np.uint8))
        rows, columns = (np.flatnonzero(sent.any(axis)) for axis in (1, 0))
        if len(rows):
            found.append(
                {
                    "concept": one["concept"],
                    "name": name_of(one["concept"]),
                    "source": one["author"] or one["source"],
                    "left": int(columns[0]),
                    "top": int(rows[0]),
                    "width": int(columns[-1] - columns[0] + 1),
                    "height": int(rows[-1] - rows[0] + 1),
                }
            )
    return found


def _position(desk: Desk, call: Call, row: int) -> Facts:
    """Return where an image stands in the worklist that the address describes."""
    query = call.query
    ordered = desk.ordered(query)
    places = np.flatnonzero(ordered == row)
    at = int(places[0]) if len(places) else -1
    return {
        "index": at,
        "total": len(ordered),
        "previous": int(ordered[at - 1]) if at > 0 else None,
        "next": int(ordered[at + 1]) if 0 <= at < len(ordered) - 1 else None,
        "query": query.text(),
    }


def _readings(desk: Desk, call: Call, image_id: str) -> list[Json]:
    """Return the session's own blind readings of an image."""
    found: list[Json] = []
    for concept in desk.study.concepts:
        latest = desk.state.latest.get(("reading", image_id, concept, call.session.author))
        change = latest.change if latest else None
        found.append(
            {
                "concept": concept,
                "name": name_of(concept),
                "state": change.state if isinstance(change, Read) else None,
                "revision": latest.number if latest else 0,
            }
        )
    return found


# ---------------------------------------------------------------------------------------- pixels


def image_pixels(desk: Desk, call: Call) -> Reply:
    """Answer the pixels of an image."""
    shown = desk.shown(call.whole("row"))
    sent = shown.pixels()
    return Reply(sent.data.cast("B"), BINARY, headers=pixels.headers(shown, sent))


def thumbnail(desk: Desk, call: Call) -> Reply:
    """Answer a small image."""
    row = call.whole("row")
    study = desk.study
    study.image_id(row)
    return Reply(desk.thumbnails.get(row, lambda: pixels.thumbnail(study, row)), WEBP)


def mask(desk: Desk, call: Call) -> Reply:
    """Answer a lung mask."""
    row, kind = call.whole("row"), call.text("kind")
    expected = desk.state.expected(("mask", desk.study.image_id(row)))
    made = masks.encoded(desk, row, kind, call.text("run"))
    return Reply(made, PNG, headers={"ETag": f'"{expected}"'})


def heat(desk: Desk, call: Call) -> Reply:
    """Answer a heat map."""
    made = heat_maps.encoded(desk, call.whole("row"), call.text("kind"), call.text("run"))
    return Reply(made, PNG)


# ---------------------------------------------------------------------------------------- issues


def issues(desk: Desk, call: Call) -> Reply:
    """Answer a page of the audit's issues."""
    return as_json(issue_list(desk, call))


def issue_list(desk: Desk, call: Call) -> Facts:
    """Return a page of issues, and what they can be filtered by."""
    found = [facts.issue(desk, number) for number in range(desk.study.issues.height)]
    wanted = {key: call.texts(key) for key in ("rule", "severity", "decision")}
    chosen = [one for one in found if _fits(one, wanted)]
    offset, limit = call.whole("offset"), call.whole("limit")
    return {
        "total": len(chosen),
        "offset": offset,
        "limit": limit,
        "filters": [_issue_filter(found, wanted, key) for key in wanted],
        "issues": chosen[offset : offset + limit],
        "rules": _rules(found),
    }


def _fits(one: Facts, wanted: Mapping[str, Sequence[str]]) -> bool:
    return all(not words or "all" in words or one[key] in words for key, words in wanted.items())


def _issue_filter(found: Sequence[Facts], wanted: Mapping[str, Sequence[str]], key: str) -> Json:
    others = {name: words for name, words in wanted.items() if name != key}
    counts = Counter(str(one[key]) for one in found if _fits(one, others))
    return {
        "key": key,
        "title": key.capitalize(),
        "values": [
            {"value": word, "name": word, "count": count, "selected": word in wanted[key]}
            for word, count in counts.most_common()
        ],
        "more": 0,
    }


def _rules(found: Sequence[Facts]) -> list[Json]:
    counted = Counter(str(one["rule"]) for one in found)
    is_open = Counter(str(one["rule"]) for one in found if one["decision"] == changes.OPEN)
    about = {str(one["rule"]): one for one in found}
    return [
        {
            "rule": rule,
            **{key: about[rule][key] for key in ("severity", "what", "rationale", "remedy")},
            "count": count,
            "open": is_open[rule],
        }
        for rule, count in counted.items()
    ]


_KIND = Parameter("kind", Choice(masks.KINDS), "which mask", "path", required=True)
_HEAT = Parameter("kind", Choice(facts.HEATS), "which map", "path", required=True)
_RUN = Parameter("run", Text(200), "another run, as the study's compare_with names it")
_IMAGE = "/api/v1/images/{row}"
ROUTES = (
    Route("GET", "/api/v1/study", "What the study is, or how far it is prepared", study),
    Route("GET", "/api/v1/images", "A page of the worklist", images, queries.PARAMETERS),
    Route("GET", _IMAGE, "Everything known of one image", image, (ROW, BLIND, *queries.PARAMETERS)),
    Route(
        "GET",
        f"{_IMAGE}/pixels",
        "Pixels, uint16 little-endian, bright is dense; the headers X-… describe them",
        image_pixels,
        (ROW,),
        media_type=BINARY,
        is_large=True,
    ),
    Route("GET", f"{_IMAGE}/thumbnail", "A small image", thumbnail, (ROW,), media_type=WEBP),
    Route(
        "GET",
        f"{_IMAGE}/masks/{{kind}}",
        "A lung mask at the size of the pixels: 0 outside, 1 right, 2 left, 255 ignored",
        mask,
        (ROW, _KIND, _RUN),
        media_type=PNG,
        work=masks.work,
    ),
    Route(
        "GET",
        f"{_IMAGE}/heat/{{kind}}",
        "A heat map at the size of the pixels, 255 where it is highest",
        heat,
        (ROW, _HEAT, _RUN),
        media_type=PNG,
        work=MODELS,
    ),
    Route("GET", "/api/v1/issues", "A page of the audit's issues", issues, ISSUE_FILTERS),
)
