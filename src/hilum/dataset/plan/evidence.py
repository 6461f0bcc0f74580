"""Parts of a reading plan: decisions with evidence, unused files with reasons, open questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hilum.dataset.plan.settings import Values

STATED, CERTAIN, LIKELY = "stated", "certain", "likely"


@dataclass(frozen=True)
class Decision:
    """One decision on how the folder is read.

    `certainty`: stated (by hilum.toml or a header), certain (shown by cells or pixels) or likely
    (the usual reading, which nothing contradicts).
    """

    what: str
    value: str
    evidence: str
    certainty: str = CERTAIN


@dataclass(frozen=True)
class SetAside:
    """Files, tables, columns, rows or cells that are not used, by name, for one reason."""

    kind: str  # file, table, column, row, cell
    reason: str
    names: tuple[str, ...]
    severity: str = "info"
    total: int | None = None  # where `names` holds the first ones only

    @property
    def count(self) -> int:
        """Return how many there are, named or not."""
        return len(self.names) if self.total is None else self.total


@dataclass(frozen=True)
class Question:
    """A question that the evidence leaves open, and keys of hilum.toml that would answer it.

    The values of `answer` are taken from the folder; `comments` explain keys to the reader.
    """

    text: str
    answer: Values
    comments: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Evidence:
    """Decisions, unused files and open questions, in the order in which planning met them."""

    decisions: list[Decision] = field(default_factory=list)
    aside: list[SetAside] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def decide(self, what: str, value: str, evidence: str, certainty: str = CERTAIN) -> None:
        """Add a decision."""
        self.decisions.append(Decision(what, value, evidence, certainty))

    def set_aside(
        self, kind: str, names: Sequence[str], reason: str, severity: str = "info"
    ) -> None:
        """Add unused files, tables, columns, rows or cells; nothing where `names` is empty."""
        if names:
            self.aside.append(SetAside(kind, reason, tuple(names), severity))

    def ask(self, text: str, answer: Values, **comments: str) -> None:
        """Add a question; `comments` explain keys of its answer."""
        self.questions.append(Question(text, answer, comments))


def shown(names: Sequence[str], most: int = 3) -> str:
    """Return the first `most` names and the number of the others, separated by commas."""
    listed = ", ".join(names[:most])
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
