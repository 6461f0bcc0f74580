"""Revisions in words, as a table, and the differences of two states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from hilum.dataset.corrections import Correction
from hilum.revisions import changes
from hilum.revisions.changes import Change, Correct, DecideIssue, Read, SetLabel, SetMask, Subject
from hilum.revisions.revision import Revision
from hilum.revisions.state import State

AS_READ = "as the data state"
LOG = {
    "number": pl.Int64,
    "time": pl.String,
    "author": pl.String,
    "kind": pl.String,
    "of": pl.String,
    "before": pl.String,
    "after": pl.String,
    "reason": pl.String,
}
DIFFERENCES = {
    "kind": pl.String,
    "of": pl.String,
    "first": pl.String,
    "by_first": pl.String,
    "second": pl.String,
    "by_second": pl.String,
}
_SHOWN = 12  # characters of a mask's digest


def subject_of(change: Change) -> str:
    """Return what a change is about: image, concept, or rule and images of an issue."""
    if isinstance(change, DecideIssue):
        return " ".join(filter(None, changes.split_issue_key(change.issue_key)))
    if isinstance(change, (SetLabel, Read)):
        return f"{change.image_id} {change.concept}"
    return change.image_id


def content(change: Change) -> str:
    """Return what a change says of its subject, in words."""
    if changes.is_neutral(change):
        return changes.OPEN if isinstance(change, DecideIssue) else AS_READ
    if isinstance(change, SetMask):
        return f"mask {change.digest[:_SHOWN]}"
    if isinstance(change, Correct):
        return ", ".join(map(_action, change.corrections))
    if isinstance(change, DecideIssue):
        how = ", ".join(map(_action, change.corrections))
        return f"{change.decision}: {how}" if how else change.decision
    return getattr(change, "state", None) or AS_READ


def _action(one: Correction) -> str:
    return " ".join(filter(None, (one.action, *one.details)))


def log(revisions: Iterable[Revision], all_revisions: Mapping[int, Revision]) -> pl.DataFrame:
    """Return revisions as `LOG`; `all_revisions` gives by number those that came before them."""
    rows = []
    for one in revisions:
        former = all_revisions.get(one.before)
        before = content(former.change) if former else (one.was or AS_READ)
        kind = f"{one.change.kind} (undoes {one.undoes})" if one.undoes else one.change.kind
        reason = one.reason or getattr(one.change, "reason", "") or None
        what = (subject_of(one.change), before, content(one.change))
        rows.append((one.number, one.time, one.author, kind, *what, reason))
    return pl.DataFrame(rows, schema=LOG, orient="row")


def differences(first: State, second: State) -> pl.DataFrame:
    """Return the subjects of which two states say different things, as `DIFFERENCES`.

    Readings of the same author count as one subject; those of two authors do not.
    """
    standing = [{one.subject: one for one in state.standing} for state in (first, second)]
    rows = []
    for subject in sorted({*standing[0], *standing[1]}):
        pair = [found.get(subject) for found in standing]
        said = [one.change if one else None for one in pair]
        if said[0] == said[1]:
            continue
        any_of = next(one for one in said if one is not None)
        cells = [
            cell
            for one in pair
            for cell in (
                (content(one.change), f"revision {one.number} by {one.author}")
                if one
                else (AS_READ, None)
            )
        ]
        rows.append((_kind(subject), subject_of(any_of), *cells))
    return pl.DataFrame(rows, schema=DIFFERENCES, orient="row")


def _kind(subject: Subject) -> str:
    return f"{subject[0]} by {subject[-1]}" if subject[0] == "reading" else subject[0]
