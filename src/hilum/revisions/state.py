"""What stands after the revisions of a journal: the latest change of each subject."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from hilum.dataset.corrections import Correction
from hilum.revisions import changes
from hilum.revisions.changes import (
    MENDED,
    Correct,
    DecideIssue,
    Read,
    SetLabel,
    SetMask,
    Subject,
)
from hilum.revisions.journal import Journal
from hilum.revisions.revision import Revision

Kind = TypeVar("Kind", SetLabel, SetMask, DecideIssue, Correct, Read)


@dataclass(frozen=True)
class State:
    """The latest revision of each subject, up to the revision `last`.

    The mappings below leave out subjects that were taken back to what the data state.
    """

    latest: Mapping[Subject, Revision] = field(default_factory=dict)
    last: int = 0

    @classmethod
    def of(cls, journal: Journal, until: int | None = None) -> State:
        """Return the state of a journal, as it was at the revision `until`.

        Raises `Damaged` as `Journal.revisions` does.
        """
        return cls()._after(journal.revisions(until=until))

    def updated(self, journal: Journal) -> State:
        """Return the state with what was appended since; itself where nothing was."""
        return self._after(journal.revisions(self.last))

    def _after(self, revisions: Iterable[Revision]) -> State:
        revisions = list(revisions)
        if not revisions:
            return self
        latest = {**self.latest, **{one.subject: one for one in revisions}}
        return State(latest, revisions[-1].number)

    def expected(self, subject: Subject) -> int:
        """Return the number that a writer who sees this state states for a subject."""
        found = self.latest.get(subject)
        return found.number if found else 0

    @cached_property
    def standing(self) -> tuple[Revision, ...]:
        """The revisions that stand and say something, by number."""
        found = [one for one in self.latest.values() if not changes.is_neutral(one.change)]
        return tuple(sorted(found, key=lambda one: one.number))

    @cached_property
    def labels(self) -> dict[tuple[str, str], Revision]:
        """Labels that were set, by image_id and concept."""
        return {(change.image_id, change.concept): one for one, change in self._of(SetLabel)}

    @cached_property
    def masks(self) -> dict[str, Revision]:
        """Masks that were set, by image_id."""
        return {change.image_id: one for one, change in self._of(SetMask)}

    @cached_property
    def issues(self) -> dict[str, Revision]:
        """Decisions on issues, by issue key; open issues are not among them."""
        return {change.issue_key: one for one, change in self._of(DecideIssue)}

    @cached_property
    def images(self) -> dict[str, Revision]:
        """Images with corrections of their own, by image_id."""
        return {change.image_id: one for one, change in self._of(Correct)}

    @cached_property
    def readings(self) -> dict[tuple[str, str, str], Revision]:
        """Blind readings, by image_id, concept and author."""
        return {
            (change.image_id, change.concept, one.author): one for one, change in self._of(Read)
        }

    def _of(self, kind: type[Kind]) -> list[tuple[Revision, Kind]]:
        return [(one, one.change) for one in self.standing if isinstance(one.change, kind)]

    def corrections(self) -> list[Correction]:
        """Return the corrections of labels, images and mended issues, with author and revision.

        Of several that decide one cell, that of the latest revision.
        """
        found = {
            entry.cell: replace(entry, author=one.author, revision=one.number)
            for one in self.standing
            for entry in _entries(one)
        }
        return list(found.values())


def _entries(one: Revision) -> tuple[Correction, ...]:
    """Return the corrections that a revision makes, with the reason that it gives."""
    change = one.change
    if isinstance(change, SetLabel):
        return (
            Correction(
                change.image_id,
                "set label",
                concept=change.concept,
                state=change.state,
                why=one.reason,
            ),
        )
    if isinstance(change, Correct):
        return tuple(replace(entry, why=entry.why or one.reason) for entry in change.corrections)
    if isinstance(change, DecideIssue) and change.decision == MENDED:
        rule, why = changes.split_issue_key(change.issue_key)[0], change.reason or one.reason
        return tuple(
            replace(entry, rule=entry.rule or rule, why=entry.why or why or None)
            for entry in change.corrections
        )
    return ()
