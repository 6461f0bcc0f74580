"""Issues that the audit found, and unreliable lung masks, by rule, worst first, with images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl
from markupsafe import Markup

from hilum.annotations import lung_masks
from hilum.audit import checks
from hilum.audit.issues import Dismissed, Issue, Rule, dismissed, of_table, standing
from hilum.drawing import images
from hilum.pipeline import segment
from hilum.pipeline.cache import Cache
from hilum.plugins import Card
from hilum.reporting.context import Context

TITLE, ORDER = "Audit", 20
SHOWN = 4  # issues of a rule that are shown with their images
MESSAGES = 5  # of the others, listed as text; the rest are counted
LISTED = 50  # dismissed issues that are listed; the rest are counted

Outlines = Callable[[str], list[images.Outline]]


@dataclass(frozen=True)
class ShownIssue:
    """An issue with its image or both of a pair; `names` are ids that the message does not give."""

    images: list[Markup]
    message: str
    names: list[str]


@dataclass(frozen=True)
class RuleIssues:
    """The issues of one rule and severity; `more` counts those not shown and not listed."""

    rule: Rule
    severity: str
    count: int
    shown: list[ShownIssue]
    messages: list[str]
    more: int


@dataclass(frozen=True)
class Audit:
    """What the chapter shows; `caveats` say how reliable the checks are."""

    groups: list[RuleIssues]
    total: int
    dismissed: Dismissed
    caveats: list[Card]


def section(context: Context) -> Audit:
    """Group the issues of the audit and of the lung masks by rule."""
    cached = context.cached
    found = segment.issues(context.run, context.recipe)
    apart, issues = Dismissed.of(dismissed(found), LISTED), standing(found)
    segmented = segment.Masks.of(context.run, cached.size)
    rules = checks.rules() | {segment.UNRELIABLE.name: segment.UNRELIABLE}
    groups = [
        _group(rules[rule], severity, rows, cached, segmented)
        for (severity, rule), rows in issues.group_by("severity", "rule", maintain_order=True)
    ]
    return Audit(groups, issues.height, apart, checks.cards())


def _group(
    rule: Rule, severity: Any, rows: pl.DataFrame, cached: Cache, segmented: segment.Masks
) -> RuleIssues:
    visible = rows.filter(pl.col("image_id").is_in(cached.readable["image_id"].implode()))
    outlines = partial(_outlines, rule, cached, segmented)
    shown = [_shown(issue, cached, outlines) for issue in of_table(visible.head(SHOWN))]
    seen = {issue.message for issue in shown}
    others = [message for message in rows["message"] if message not in seen]
    more = max(len(others) - MESSAGES, 0)
    return RuleIssues(rule, severity, rows.height, shown, others[:MESSAGES], more)


def _shown(issue: Issue, cached: Cache, outlines: Outlines) -> ShownIssue:
    return ShownIssue(
        images=[_image(image_id, cached, outlines(image_id)) for image_id in issue.image_ids],
        message=issue.message,
        names=[one for one in issue.image_ids if one.rsplit("/", 1)[-1] not in issue.message],
    )


def _image(image_id: str, cached: Cache, outlines: list[images.Outline]) -> Markup:
    description = f"radiograph {image_id}" + (" with the outline of its lungs" if outlines else "")
    pixels = cached.images[cached.rows([image_id])[0]]
    return images.image(pixels, alt_text=description, outlines=outlines)


def _outlines(
    rule: Rule, cached: Cache, segmented: segment.Masks, image_id: str
) -> list[images.Outline]:
    """Outline the mask that a rule is about: the reference mask, or the segmented lungs."""
    if rule.name == segment.UNRELIABLE.name:
        return [
            images.Outline(segmented[image_id] == side, images.CYAN, dashed=True)
            for side in lung_masks.SIDES.values()
        ]
    if rule.about_masks:
        return [
            images.Outline(cached.masks[cached.rows([image_id])[0]] == side, images.ORANGE)
            for side in lung_masks.SIDES.values()
        ]
    return []
