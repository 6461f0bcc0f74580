"""A revision: one change, its author and time, and its place in the chain of the journal.

Each revision carries a digest of itself and of the digest before it. So a row that was damaged,
edited, exchanged or removed from the middle is noticed. The digests are no signature: whoever can
write to the folder can write a whole new chain.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from hilum import storage
from hilum.errors import BadData, Damaged, HilumError, on_one_line
from hilum.revisions import changes
from hilum.revisions.changes import Change, Subject
from hilum.safety import untrusted_files

MOST_BYTES = 1 << 18  # of a change as JSON


@dataclass(frozen=True)
class Revision:
    """One change that an author made.

    `before` is the number of the subject's revision before this one, 0 for the first; `was` says
    for people what the data held before; `undoes` is the number of the revision that this takes
    back; `time` is UTC, as in 2026-05-01T09:30:00.125+00:00.
    """

    number: int
    time: str
    author: str
    change: Change
    before: int
    reason: str | None
    was: str | None
    undoes: int | None
    digest: str

    @property
    def subject(self) -> Subject:
        """What the change is about."""
        return self.change.subject(self.author)

    def to_json(self) -> dict[str, object]:
        """Return the revision as a JSON object, its change as `hilum.revisions.changes` writes
        it.
        """
        return {
            "number": self.number,
            "time": self.time,
            "author": self.author,
            "change": changes.to_json(self.change),
            "before": self.before,
            "reason": self.reason,
            "was": self.was,
            "undoes": self.undoes,
            "digest": self.digest,
        }


class Row(NamedTuple):
    """A row of the journal's table; subject and images repeat what the change says, for the
    index.
    """

    number: int
    time: str
    author: str
    subject: str
    image_id: str | None
    other_image_id: str | None
    before: int
    change: str
    reason: str | None
    was: str | None
    undoes: int | None
    digest: str


class Stale(HilumError):
    """Another change of the same subject came first; `current` is it, None where there is none."""

    def __init__(self, subject: Subject, expected: int, current: Revision | None) -> None:
        self.subject, self.expected, self.current = subject, expected, current
        there = (
            f"revision {current.number} by {current.author} of {current.time} stands"
            if current
            else "it has no revision"
        )
        seen = f"revision {expected}" if expected else "no revision of it"
        super().__init__(
            f"{on_one_line(' '.join(subject))}: was changed meanwhile. You saw {seen}; {there}. "
            "Nothing was saved: see what stands now, and make your change again on top of it"
        )


def now() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def subject_text(subject: Subject) -> str:
    """Return a subject as the text by which the journal finds it."""
    return storage.as_json(list(subject))


def row_of(revision: Revision) -> Row:
    """Return the row of a revision. Raises `BadData` where its change is too large."""
    change = storage.as_json(changes.to_json(revision.change))
    if len(change.encode()) > MOST_BYTES:
        raise BadData(f"a change of {len(change):,} characters; expected at most {MOST_BYTES:,}")
    return Row(
        revision.number,
        revision.time,
        revision.author,
        subject_text(revision.subject),
        *changes.images_of(revision.change),
        revision.before,
        change,
        revision.reason,
        revision.was,
        revision.undoes,
        revision.digest,
    )


def chained(row: Row, previous: str) -> Row:
    """Return the row with its digest, `previous` being that of the row before, "" for the first."""
    return row._replace(digest=_digest(row, previous))


def _digest(row: Row, previous: str) -> str:
    content = storage.as_json([previous, *row[:-1]])
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def of_row(row: Row) -> Revision:
    """Return the revision of a row. Raises `Damaged` where it holds no valid one."""
    try:
        change = changes.from_json(untrusted_files.parse_json(row.change, "its change"))
        found = Revision(
            row.number,
            row.time,
            row.author,
            change,
            row.before,
            row.reason,
            row.was,
            row.undoes,
            row.digest,
        )
        faults = faults_of_statement(row.author, row.reason, row.was)
        if row_of(found) != row:
            faults.append("its columns contradict its change")
    except (HilumError, TypeError, AttributeError) as error:
        raise Damaged(f"revision {row.number}: {error}") from None
    if faults:
        raise Damaged(f"revision {row.number}: {'; '.join(faults)}")
    return found


def fault_of_chain(row: Row, expected: int, previous: str) -> str:
    """Say what is wrong with the place of a row in the chain; "" where nothing is."""
    if row.number != expected:
        return f"revision {expected} is missing"
    if row.digest != _digest(row, previous):
        return f"revision {row.number} was edited or damaged, or the one before it was"
    return ""


def faults_of_statement(author: object, reason: object, was: object) -> list[str]:
    """Say what is wrong with author, reason and former state; the latter two may be None."""
    faults = changes.faults_of_text("author", author)
    for name, value in (("reason", reason), ("was", was)):
        if value is not None:
            faults += changes.faults_of_text(name, value, empty=True)
    return faults
