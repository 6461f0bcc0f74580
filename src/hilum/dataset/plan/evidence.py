"""What a plan is made of: decisions with their evidence, files set aside with the reason, and questions with their answer's lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

STATED, CERTAIN, LIKELY = "stated", "certain", "likely"


@dataclass(frozen=True)
class Decision:
    """One thing that was decided: `certainty` is stated (hilum.toml or a header says so), certain (cells or pixels show it) or
    likely (the usual reading; nothing contradicts it)."""

    what: str
    value: str
    evidence: str
    certainty: str = CERTAIN


@dataclass(frozen=True)
class SetAside:
    """Files, columns or rows that are not used: how many, the first few names, and why."""

    kind: str  # file, table, column, row, cell
    reason: str
    names: tuple[str, ...]
    severity: str = "info"
    total: int | None = None  # where `names` holds the first ones only

    @property
    def count(self) -> int:
        return len(self.names) if self.total is None else self.total


@dataclass(frozen=True)
class Question:
    """What the evidence does not settle, and lines of hilum.toml that settle it, filled from the folder's own words."""

    text: str
    answer: Mapping[str, Any]
    comments: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Evidence:
    """What planning gathers on its way."""

    decisions: list[Decision] = field(default_factory=list)
    aside: list[SetAside] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def decide(self, what: str, value: str, evidence: str, certainty: str = CERTAIN) -> None:
        self.decisions.append(Decision(what, value, evidence, certainty))

    def set_aside(
        self, kind: str, names: Sequence[str], reason: str, severity: str = "info"
    ) -> None:
        if names:
            self.aside.append(SetAside(kind, reason, tuple(names), severity))

    def ask(self, text: str, answer: Mapping[str, Any], **comments: str) -> None:
        self.questions.append(Question(text, answer, comments))


def shown(names: Sequence[str], most: int = 3) -> str:
    """List the first names, and how many more there are."""
    listed = ", ".join(names[:most])
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
