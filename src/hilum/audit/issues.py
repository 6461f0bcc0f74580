"""Issues that an audit reports, and the rules that they break.

A table of issues has `COLUMNS` and is sorted worst first: rule, severity (error, warning, info),
image_id (null: the issue is of the whole data set), other_image_id (the second image of a pair,
else null), message (what was observed), remedy (what to do, from the rule), value (what a
correction of it sets, such as the degrees clockwise of "rotate"; null where it needs none); and
what a reader made of it: decision (open, accepted, dismissed or mended), with decision_reason,
decision_author and decision_revision, null where it is open.

A dismissed issue stays in the table and is no longer counted: `standing`. One that was mended and
is found nevertheless still counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import starmap

import polars as pl

from hilum.revisions.changes import ACCEPTED, DISMISSED, MENDED, OPEN

FOUND = {  # by the checks
    "rule": pl.String,
    "severity": pl.String,
    "image_id": pl.String,
    "other_image_id": pl.String,
    "message": pl.String,
    "remedy": pl.String,
    "value": pl.String,
}
COLUMNS = {
    **FOUND,
    "decision": pl.String,
    "decision_reason": pl.String,
    "decision_author": pl.String,
    "decision_revision": pl.Int64,
}
_SUBJECT = ("rule", "image_id", "other_image_id")  # by which a decision finds its issue
MASK_RULES = "mask-"  # prefix of the rules whose images are shown with the outlines of their masks


@dataclass(frozen=True, slots=True)
class Issue:
    """One observation about an image, about a pair of images, or (without an image) about the
    whole data set.
    """

    rule: str
    severity: str
    image_id: str | None
    other_image_id: str | None
    message: str
    value: str | None = None

    @property
    def image_ids(self) -> list[str]:
        """Return the ids of its image, or of both images of a pair."""
        return [image_id for image_id in (self.image_id, self.other_image_id) if image_id]


def of_table(table: pl.DataFrame) -> Iterator[Issue]:
    """Yield the issues in a table with `COLUMNS`, in its order; one of before has no `value`."""
    known = (one.name for one in fields(Issue) if one.name in table.columns)
    return starmap(Issue, table.select(known).iter_rows())


def decided(issues: pl.DataFrame, decisions: pl.DataFrame) -> pl.DataFrame:
    """Return issues with the decisions on them, in the same order.

    `issues` has the columns `FOUND`, null where an earlier table lacks one, and `decisions` those
    of `hilum.revisions.uptake.COLUMNS`. Decisions in `issues` are replaced.
    """
    found = decisions.select(
        *_SUBJECT,
        decision="content",
        decision_reason="reason",
        decision_author="author",
        decision_revision="number",
    )
    known = issues.select(name for name in FOUND if name in issues.columns)
    whole = pl.concat([pl.DataFrame(schema=FOUND), known], how="diagonal")
    joined = whole.join(found, on=_SUBJECT, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(pl.col("decision").fill_null(OPEN)).select(list(COLUMNS))


def standing(issues: pl.DataFrame) -> pl.DataFrame:
    """Return the issues that no reader dismissed."""
    return issues.filter(pl.col("decision") != DISMISSED)


def dismissed(issues: pl.DataFrame) -> pl.DataFrame:
    """Return the issues that a reader dismissed."""
    return issues.filter(pl.col("decision") == DISMISSED)


def notes(issues: pl.DataFrame) -> list[str]:
    """Return what a reader decided of each issue that still counts, as words; "" of an open one."""
    words = {
        ACCEPTED: "accepted in {by}",
        MENDED: "corrected in {by}, and found nevertheless",
    }
    return [
        words.get(decision, "").format(by=_by(number, author))
        for decision, number, author in issues.select(
            "decision", "decision_revision", "decision_author"
        ).iter_rows()
    ]


def _by(number: int, author: str) -> str:
    return f"revision {number} by {author}"


@dataclass(frozen=True)
class Dismissed:
    """Issues that readers dismissed, a line each; `more` counts those beyond."""

    lines: Sequence[DismissedIssue]
    more: int

    @classmethod
    def of(cls, issues: pl.DataFrame, most: int) -> Dismissed:
        """Return the first `most` of issues that were dismissed."""
        lines = [
            DismissedIssue(
                row["rule"],
                row["message"],
                row["decision_reason"] or "",
                _by(row["decision_revision"], row["decision_author"]),
            )
            for row in issues.head(most).iter_rows(named=True)
        ]
        return cls(lines, issues.height - len(lines))

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.lines) + self.more


@dataclass(frozen=True)
class DismissedIssue:
    """An issue, why it is none, and whose decision that is."""

    rule: str
    message: str
    reason: str
    by: str


@dataclass(frozen=True)
class Rule:
    """A rule of a check: what is wrong, why it matters, what to do. Texts are plain sentences.

    `severity` is one of `hilum.dataset.manifest.SEVERITIES`. `correction` is what
    `hilum propose-fixes` proposes for each issue of the rule, one of
    `hilum.dataset.corrections.ACTIONS`, or None where only a person can mend it;
    `corrects_both` proposes it for both images of a pair. The images of a pair whose rule is of
    the `same_image` stay in one part of a split, together with their patients.
    """

    name: str
    severity: str
    what: str
    rationale: str
    remedy: str
    correction: str | None = None
    corrects_both: bool = False
    same_image: bool = False

    @property
    def about_masks(self) -> bool:
        """Return whether images of the rule are shown with the outlines of their lung masks."""
        return self.name.startswith(MASK_RULES)

    def issue(self, rows: pl.DataFrame) -> Iterator[Issue]:
        """Yield an issue for each row.

        Rows have `message`, and may have `image_id`, `other_image_id`, `value` and a `severity`
        that replaces the rule's.
        """
        for row in rows.iter_rows(named=True):
            yield Issue(
                self.name,
                row.get("severity", self.severity),
                row.get("image_id"),
                row.get("other_image_id"),
                row["message"],
                row.get("value"),
            )
