"""Kinds of change that a reader makes to a run, their checks, and their JSON.

A change has a subject: the cell, mask, issue or image that it is about. The latest change of a
subject stands, and each kind has one that takes everything back to what the data state: a label or
reading without a state, `RemoveMask`, an issue that is "open", an image without corrections.

    kind            subject                                 what it says
    set label       ("label", image_id, concept)            the label's state
    set mask        ("mask", image_id)                      the reference mask of the lungs
    remove mask     ("mask", image_id)                      the mask of the data is used again
    decide issue    ("issue", issue_key)                    what a reader makes of an audit's issue
    correct image   ("image", image_id)                     all corrections of the image that stand
    read            ("reading", image_id, concept, author)  a blind reading; the table stays
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar
from urllib.parse import quote, unquote

from hilum.annotations.vocabulary import LABEL_NAMES, LOCAL, concepts
from hilum.dataset import corrections
from hilum.dataset.corrections import Correction
from hilum.errors import BadData, on_one_line, unknown

STATES = tuple(LABEL_NAMES.values())  # present, absent, uncertain, not mentioned
ACCEPTED, DISMISSED, MENDED, OPEN = DECISIONS = ("accepted", "dismissed", "mended", "open")
LONGEST = {"author": 200, "concept": 200, "image_id": 4096, "reason": 2000, "was": 2000}
MOST_CORRECTIONS = 100  # of one change
_HEXADECIMAL = frozenset("0123456789abcdef")
_DIGEST_LENGTH = 64  # characters of a SHA-256
_OF_JOURNAL = ("author", "revision")  # keys of a correction that its revision states

Subject = tuple[str, ...]


@dataclass(frozen=True)
class SetLabel:
    """A label's state, one of `STATES`; None: the label of the data stands again."""

    image_id: str
    concept: str
    state: str | None

    kind: ClassVar[str] = "set label"

    def subject(self, author: str) -> Subject:
        """Return what the change is about."""
        return "label", self.image_id, self.concept


@dataclass(frozen=True)
class SetMask:
    """The reference mask of an image's lungs, kept under the digest that `put_mask` returned."""

    image_id: str
    digest: str

    kind: ClassVar[str] = "set mask"

    def subject(self, author: str) -> Subject:
        """Return what the change is about."""
        return "mask", self.image_id


@dataclass(frozen=True)
class RemoveMask:
    """The mask that was set is taken back, and that of the data, if any, is used again.

    The correction "leave out mask" is the way to an image without a mask.
    """

    image_id: str

    kind: ClassVar[str] = "remove mask"

    def subject(self, author: str) -> Subject:
        """Return what the change is about."""
        return "mask", self.image_id


@dataclass(frozen=True)
class DecideIssue:
    """What a reader makes of an issue: one of `DECISIONS`, with the corrections of a mended one."""

    issue_key: str
    decision: str
    reason: str = ""
    corrections: tuple[Correction, ...] = ()

    kind: ClassVar[str] = "decide issue"

    def subject(self, author: str) -> Subject:
        """Return what the change is about."""
        return "issue", self.issue_key


@dataclass(frozen=True)
class Correct:
    """All corrections of an image that stand; a writer adds to those it saw. None: as read."""

    image_id: str
    corrections: tuple[Correction, ...] = ()

    kind: ClassVar[str] = "correct image"

    def subject(self, author: str) -> Subject:
        """Return what the change is about."""
        return "image", self.image_id


@dataclass(frozen=True)
class Read:
    """A blind reading of one concept by its author; None takes it back."""

    image_id: str
    concept: str
    state: str | None

    kind: ClassVar[str] = "read"

    def subject(self, author: str) -> Subject:
        """Return what the change is about: each author reads for himself."""
        return "reading", self.image_id, self.concept, author


Change = SetLabel | SetMask | RemoveMask | DecideIssue | Correct | Read
KINDS: dict[str, type[Change]] = {
    one.kind: one for one in (SetLabel, SetMask, RemoveMask, DecideIssue, Correct, Read)
}


def issue_key(rule: str, image_id: str | None, other_image_id: str | None) -> str:
    """Return rule|image_id|other_image_id, empty for None; % and | in them are percent-encoded."""
    return "|".join(_encoded(part or "") for part in (rule, image_id, other_image_id))


def split_issue_key(key: str) -> tuple[str, str | None, str | None]:
    """Return rule, image_id and other_image_id of a key. Raises `BadData` for another text."""
    parts = [unquote(part) for part in key.split("|")]
    if len(parts) != 3 or not parts[0]:
        raise BadData(f"expected an issue as rule|image_id|other_image_id, got {key[:200]!r}")
    return parts[0], parts[1] or None, parts[2] or None


def _encoded(part: str) -> str:
    return "".join(quote(one) if one in "%|" else one for one in part)


def images_of(change: Change) -> tuple[str | None, str | None]:
    """Return the image of a change and, for an issue of a pair, the second one."""
    if isinstance(change, DecideIssue):
        return split_issue_key(change.issue_key)[1:]
    return change.image_id, None


def neutral(change: Change) -> Change:
    """Return the change of the same subject that takes it back to what the data state."""
    if isinstance(change, (SetMask, RemoveMask)):
        return RemoveMask(change.image_id)
    if isinstance(change, DecideIssue):
        return DecideIssue(change.issue_key, OPEN)
    if isinstance(change, Correct):
        return Correct(change.image_id)
    return type(change)(change.image_id, change.concept, None)


def is_neutral(change: Change) -> bool:
    """Say whether a change takes its subject back to what the data state."""
    return change == neutral(change)


# ------------------------------------------------------------------------------------------- JSON


def to_json(change: Change) -> dict[str, object]:
    """Return a change as a JSON object with its `kind`, from which `from_json` makes an equal
    one.
    """
    found: dict[str, object] = {"kind": change.kind}
    for one in fields(change):
        value = getattr(change, one.name)
        if one.name == "corrections":
            value = [correction.entry for correction in value]
        found[one.name] = value
    return found


def from_json(value: object) -> Change:
    """Return the change of an untrusted JSON object.

    Raises `BadData` with every fault of its form and of what it says.
    """
    if not isinstance(value, Mapping):
        raise BadData(f"expected a change as a JSON object, got {str(value)[:80]}")
    kind = KINDS.get(str(value.get("kind")))
    if kind is None:
        raise BadData(unknown("kind of change", str(value.get("kind")), KINDS))
    given = {str(key): one for key, one in value.items() if key != "kind"}
    names = [one.name for one in fields(kind)]
    if faults := [unknown(f"key of '{kind.kind}'", key, names) for key in given.keys() - names]:
        raise BadData.listing("a change", faults)
    if missing := [name for name in names if name not in given]:
        raise BadData(f"a change '{kind.kind}' lacks {', '.join(missing)}")
    if "corrections" in given:
        given["corrections"] = _corrections(given["corrections"])
    change = kind(**given)
    check(change)
    return change


def _corrections(value: object) -> tuple[Correction, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadData(f"expected a list of corrections, got {str(value)[:80]}")
    if len(value) > MOST_CORRECTIONS:
        raise BadData(f"expected at most {MOST_CORRECTIONS} corrections, got {len(value)}")
    return tuple(corrections.of_entries(value, "corrections of a change"))


# ----------------------------------------------------------------------------------------- checks


def check(change: Change) -> None:
    """Raise `BadData` with everything that is wrong with a change, whatever the data are."""
    if faults := _faults(change):
        raise BadData.listing(f"a change '{change.kind}' that cannot be kept", faults)


def _faults(change: Change) -> list[str]:
    if isinstance(change, DecideIssue):
        return _faults_of_decision(change)
    faults = faults_of_text("image_id", change.image_id)
    if isinstance(change, SetMask):
        return [*faults, *_faults_of_digest(change.digest)]
    if isinstance(change, Correct):
        return [*faults, *_faults_of_corrections(change.corrections)]
    if isinstance(change, (SetLabel, Read)):
        return [*faults, *_faults_of_label(change.concept, change.state)]
    return faults


def _faults_of_decision(change: DecideIssue) -> list[str]:
    faults = [
        *faults_of_text("reason", change.reason, empty=True),
        *_faults_of_corrections(change.corrections),
    ]
    try:
        named = [one for one in split_issue_key(change.issue_key)[1:] if one]
    except BadData as error:
        return [*faults, str(error)]
    faults += [fault for image_id in named for fault in faults_of_text("image_id", image_id)]
    if change.decision not in DECISIONS:
        faults.append(unknown("decision", str(change.decision), DECISIONS))
    if change.decision == DISMISSED and not change.reason.strip():
        faults.append("an issue is dismissed with a reason; say why it is none")
    if change.corrections and change.decision != MENDED:
        faults.append(f"corrections come with '{MENDED}', not with '{change.decision}'")
    return faults


def _faults_of_label(concept: object, state: object) -> list[str]:
    faults = faults_of_text("concept", concept)
    if not faults and concept not in concepts() and not str(concept).startswith(LOCAL):
        faults.append(unknown("concept", str(concept), concepts()))
    if state is not None and state not in STATES:
        faults.append(unknown("state", str(state), STATES))
    return faults


def _faults_of_digest(digest: object) -> list[str]:
    if is_digest(digest):
        return []
    return [f"expected a mask's SHA-256 in hexadecimal, got {str(digest)[:80]!r}"]


def is_digest(value: object) -> bool:
    """Say whether a value is a SHA-256 in lower-case hexadecimal, and so safe as a file's name."""
    return isinstance(value, str) and len(value) == _DIGEST_LENGTH and set(value) <= _HEXADECIMAL


def _faults_of_corrections(found: Sequence[Correction]) -> list[str]:
    if len(found) > MOST_CORRECTIONS:
        return [f"expected at most {MOST_CORRECTIONS} corrections, got {len(found)}"]
    entries = [one.entry for one in found]
    try:
        corrections.of_entries(entries, "corrections")
    except BadData as error:
        return [str(error)]
    if any(key in entry for entry in entries for key in _OF_JOURNAL):
        return [f"a correction states {' or '.join(_OF_JOURNAL)}, which its revision does"]
    texts = [pair for entry in entries for pair in entry.items()]
    return [fault for key, value in texts for fault in faults_of_text(key, value)]


def faults_of_text(name: str, value: object, *, empty: bool = False) -> list[str]:
    """Say what is wrong with a text: not text, empty, too long, or with control characters."""
    longest = LONGEST.get(name, LONGEST["reason"])
    if not isinstance(value, str):
        return [f"{name} must be text, got {str(value)[:80]!r}"]
    if not value.strip() and not empty:
        return [f"{name} is empty"]
    if len(value) > longest:
        return [f"{name} has {len(value):,} characters; expected at most {longest:,}"]
    if value != on_one_line(value):
        return [f"{name} holds control characters: {on_one_line(value[:80])}"]
    return []
