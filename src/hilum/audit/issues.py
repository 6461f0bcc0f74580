"""Issues that an audit reports, and the rules that they break.

A table of issues has `COLUMNS` and is sorted worst first: rule, severity (error, warning, info),
image_id (null: the issue is of the whole data set), other_image_id (the second image of a pair,
else null), message (what was observed), remedy (what to do, from the rule), value (what a
correction of it sets, such as the degrees clockwise of "rotate"; null where it needs none).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import starmap

import polars as pl

COLUMNS = {
    "rule": pl.String,
    "severity": pl.String,
    "image_id": pl.String,
    "other_image_id": pl.String,
    "message": pl.String,
    "remedy": pl.String,
    "value": pl.String,
}
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
