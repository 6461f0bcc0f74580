"""Findings of an audit, and the rules that they break.

As a table (`COLUMNS`), worst first: rule, severity (error, warning, info), image_id (null: the finding is of the whole set),
other_image_id (the second of a pair, else null), message (what was seen), remedy (what to do, from the rule).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

COLUMNS = {
    "rule": pl.String,
    "severity": pl.String,
    "image_id": pl.String,
    "other_image_id": pl.String,
    "message": pl.String,
    "remedy": pl.String,
}


@dataclass(frozen=True, slots=True)
class Issue:
    """What was seen of one image, of a pair, or (without an image) of the whole set."""

    rule: str
    severity: str
    image_id: str | None
    other_image_id: str | None
    message: str


@dataclass(frozen=True)
class Rule:
    """What a check looks for. Texts are plain sentences; `severity` is one of `hilum.dataset.manifest.SEVERITIES`."""

    name: str
    severity: str
    what: str
    rationale: str
    remedy: str

    def issue(self, rows: pl.DataFrame) -> Iterator[Issue]:
        """A finding for each row: `message`, and `image_id`, `other_image_id` and a `severity` of its own where the rows have them."""
        for row in rows.iter_rows(named=True):
            yield Issue(
                self.name,
                row.get("severity", self.severity),
                row.get("image_id"),
                row.get("other_image_id"),
                row["message"],
            )
