"""What is said of images, labels, issues and revisions: the JSON that pages and programs read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from hilum import __version__
from hilum.annotations.vocabulary import name_of
from hilum.audit.issues import Rule
from hilum.dataset.manifest import SEVERITIES
from hilum.revisions import changes
from hilum.revisions.changes import Correct, DecideIssue, Read, RemoveMask, SetLabel, SetMask
from hilum.revisions.revision import Revision
from hilum.serve import queries
from hilum.serve.desk import Desk
from hilum.serve.replies import Json
from hilum.serve.sessions import Session
from hilum.serve.study import Study
from hilum.serve.worklist import WORDS, Worklist

Facts = dict[str, Json]
HEATS = ("saliency", "anomaly")


def study_facts(desk: Desk, session: Session) -> Facts:
    """Return what every page knows of the study, also while it is being prepared."""
    ready = desk.preparation.is_ready
    found: Facts = {
        "name": desk.preparation.run.folder.resolve().name,
        "version": __version__,
        "read_only": desk.settings.read_only,
        "author": session.author or None,
        "token": session.token,
        "ready": ready,
        "steps": [
            {
                "name": one.name,
                "state": one.state,
                "done": one.done,
                "total": one.total,
                "message": one.message,
            }
            for one in desk.preparation.steps
        ],
        "compare_with": list(desk.compared),
        "last_revision": desk.state.last,
    }
    return {**found, **(_of_study(desk) if ready else _of_none())}


def _of_none() -> Facts:
    return {"images": 0, "patients": 0, "concepts": [], "finding": None, "has": {}, "masks": {}}


def _of_study(desk: Desk) -> Facts:
    study, listed = desk.study, desk.worklist
    return {
        "images": study.manifest.table.height,
        "patients": study.manifest.table["patient_id"].n_unique(),
        "concepts": [{"id": one, "name": name_of(one)} for one in study.concepts],
        "finding": study.finding,
        "has": {
            "reference": bool(listed.reference.any()),
            "found": study.found is not None,
            "saliency": study.run.done("train"),
            "anomaly": study.run.done("train"),
            "scores": study.has_scores,
            "issues": bool(study.issues.height),
        },
        "masks": {word: int(listed.with_mask(word).sum()) for word in queries.MASKS},
    }


# ------------------------------------------------------------------------------------- one image


def listed_image(study: Study, listed: Worklist, row: int) -> Facts:
    """Return an image as a row of the worklist."""
    about = listed.table.row(row, named=True)
    numbers = listed.links.of_row(row).tolist()
    rules = study.issues["rule"]
    worst = int(listed.worst[row])
    quality = float(listed.quality[row])
    far = float(listed.disagreement[row])
    rank = float(listed.ranks[row])
    return {
        "row": row,
        "image_id": about["image_id"],
        "path": about["path"],
        "patient": about["patient_id"],
        "part": about["part"],
        "source": about["source"],
        "view": about["view"],
        "sex": about["sex"],
        "age_years": about["age_years"],
        "width": about["width"],
        "height": about["height"],
        "error": about["error"],
        "mask": queries.MASKS[int(listed.masks[row])],
        "mask_quality": None if np.isnan(quality) else quality,
        "uncertainty": None if np.isnan(quality) else 1 - quality,
        "next": None if np.isnan(rank) else int(rank),
        "n_issues": len(numbers),
        "worst": SEVERITIES[worst] if worst < len(SEVERITIES) else None,
        "rules": sorted({rules[one] for one in numbers}),
        "labels": [
            {"concept": concept, "name": name_of(concept), "state": state}
            for concept, state in listed.states(row)
        ],
        "top": _top(study, listed, row),
        "disagreement": None if np.isnan(far) else far,
        "revised": bool(listed.revised[row]),
    }


def _top(study: Study, listed: Worklist, row: int) -> Json:
    """Return the score of the leading finding, or else the first that there is."""
    for concept in [study.finding or "", *listed.scores]:
        if concept in listed.scores and not np.isnan(listed.scores[concept][row]):
            return {
                "concept": concept,
                "name": name_of(concept),
                "score": float(listed.scores[concept][row]),
                "call": WORDS[int(listed.calls[concept][row])],
            }
    return None


def brief_image(study: Study, listed: Worklist, row: int) -> Facts:
    """Return an image of a short list, such as the patient's others."""
    about = study.manifest.table.row(row, named=True)
    return {
        "row": row,
        "image_id": about["image_id"],
        "path": about["path"],
        "view": about["view"],
        "study": about["study"],
        "follow_up": about["follow_up"],
        "part": listed.table["part"][row],
    }


# ---------------------------------------------------------------------------------------- issues


def issue(desk: Desk, number: int) -> Facts:
    """Return an issue with what was decided of it."""
    study = desk.study
    row = study.issues.row(number, named=True)
    rule = study.rules.get(row["rule"])
    key = changes.issue_key(row["rule"], row["image_id"], row["other_image_id"])
    latest = desk.state.latest.get(("issue", key))
    change = latest.change if latest else None
    decided = change if isinstance(change, DecideIssue) else DecideIssue(key, changes.OPEN)
    return {
        "number": number,
        "rule": row["rule"],
        "severity": row["severity"],
        "what": rule.what if rule else "",
        "rationale": rule.rationale if rule else "",
        "message": row["message"],
        "remedy": rule.remedy if rule else "",
        "row": row["row"],
        "image_id": row["image_id"],
        "other_row": row["other_row"],
        "other_image_id": row["other_image_id"],
        "decision": decided.decision,
        "reason": decided.reason,
        "author": latest.author if latest else None,
        "time": latest.time if latest else None,
        "revision": latest.number if latest else 0,
        "made": [correction(one) for one in decided.corrections],
        "corrections": list(_remedies(rule, row["image_id"], row["other_image_id"], row["value"])),
    }


_TITLES = {
    "leave out": "Leave the image out",
    "keep one of pair": "Keep one of the two",
    "leave out mask": "Leave the mask out",
    "exchange mask sides": "Exchange the sides of the mask",
    "same patient as": "Make the two patients one",
    "mirror": "Mirror the image",
    "invert": "Invert the image",
    "rotate": "Rotate the image",
}
# An image that is displayed wrongly may also be left out.
_DISPLAY = ("rotate", "mirror", "invert")


def _remedies(
    rule: Rule | None, image_id: str | None, other: str | None, value: str | None
) -> Iterator[Facts]:
    """Yield the corrections that are offered for an issue, ready to be sent back."""
    if rule is None or rule.correction is None or image_id is None:
        return
    offered = [(rule.correction, value)]
    if rule.correction in _DISPLAY:
        offered.append(("leave out", None))
    for action, value in offered:
        of_pair = action in ("keep one of pair", "same patient as")
        if of_pair and other is None:
            continue
        title = _TITLES.get(action, action)
        yield {
            "image_id": image_id,
            "action": action,
            "value": value,
            "other": other if of_pair else None,
            "title": f"{title} by {value}°" if action == "rotate" else title,
        }
        if action in ("keep one of pair", "leave out") and other is not None:
            yield {
                "image_id": other,
                "action": action,
                "value": value,
                "other": image_id if of_pair else None,
                "title": f"{title}: the other one goes",
            }


def correction(one: changes.Correction) -> Facts:
    """Return a correction."""
    return {
        "image_id": one.image_id,
        "action": one.action,
        "value": one.value,
        "other": one.other,
        "reason": one.why,
        "author": one.author,
        "revision": one.revision,
    }


# ------------------------------------------------------------------------------------- revisions


def revision(desk: Desk, one: Revision, undone_by: Mapping[int, int]) -> Facts:
    """Return a revision for the history, `what` as a sentence."""
    image_id = changes.images_of(one.change)[0]
    stands = desk.state.latest.get(one.subject)
    journal = desk.journal
    before = journal.revision(one.before) if journal and one.before else None
    return {
        "number": one.number,
        "time": one.time,
        "author": one.author,
        "kind": "undo" if one.undoes else _KIND[type(one.change)],
        "what": sentence(one),
        "before": _content(before) if before else one.was,
        "after": _content(one),
        "reason": one.reason,
        "row": desk.study.row(image_id),
        "image_id": image_id,
        "digest": one.digest,
        "undone_by": undone_by.get(one.number),
        "can_undo": stands is not None and stands.number == one.number and one.number > 0,
    }


_KIND = {
    SetLabel: "label",
    SetMask: "mask",
    RemoveMask: "mask",
    DecideIssue: "issue",
    Correct: "image",
    Read: "reading",
}


def current(one: Revision | None) -> Json:
    """Return the revision that came first, for a writer whose change was refused."""
    if one is None:
        return None
    return {
        "number": one.number,
        "author": one.author,
        "time": one.time,
        "what": sentence(one),
        "after": _content(one),
    }


def sentence(one: Revision) -> str:
    """Say what a revision did."""
    change, undone = one.change, f", which undoes revision {one.undoes}" if one.undoes else ""
    if isinstance(change, SetLabel | Read):
        verb = "read" if isinstance(change, Read) else "set"
        what = f"{verb} {name_of(change.concept).lower()} of {change.image_id}: {_content(one)}"
    elif isinstance(change, SetMask):
        what = f"drew the lungs of {change.image_id}"
    elif isinstance(change, RemoveMask):
        what = f"took the drawn lungs of {change.image_id} back"
    elif isinstance(change, DecideIssue):
        rule, image_id, _ = changes.split_issue_key(change.issue_key)
        what = f"{change.decision}: {rule} of {image_id or 'the whole set'}"
    else:
        what = f"corrected {change.image_id}: {_content(one)}"
    return what + undone


def _content(one: Revision) -> str:
    """Return what stands after a revision, in a few words."""
    change = one.change
    if isinstance(change, SetLabel | Read):
        return change.state or "as the data state"
    if isinstance(change, SetMask):
        return change.digest[:12]
    if isinstance(change, RemoveMask):
        return "as the data state"
    some = [" ".join(filter(None, (each.action, each.value))) for each in change.corrections]
    if isinstance(change, DecideIssue):
        return f"{change.decision}{': ' if some else ''}{', '.join(some)}"
    return ", ".join(some) or "as read"
