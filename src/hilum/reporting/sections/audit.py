"""What the audit found, and which found lungs are doubtful, by rule, worst first, with pictures of the first few of each rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import polars as pl
from markupsafe import Markup

from hilum.annotations import lung_masks
from hilum.audit import checks
from hilum.audit.issues import Rule
from hilum.drawing import images
from hilum.pipeline import segment
from hilum.pipeline.cache import Cache

PICTURED = 4  # findings of a rule
MESSAGES = 5  # told at once; the others are counted


def section(findings: pl.DataFrame, cached: Cache, found: segment.Masks) -> dict[str, Any]:
    """`found` are the lungs that are drawn where a finding is about them."""
    rules = checks.rules() | {segment.UNRELIABLE.name: segment.UNRELIABLE}
    groups = [
        _group(rules[rule], severity, rows, cached, found)
        for (severity, rule), rows in findings.group_by("severity", "rule", maintain_order=True)
    ]
    return {
        "groups": groups,
        "total": findings.height,
        "caveats": checks.cards(),
    }


def _group(
    rule: Rule, severity: str, rows: pl.DataFrame, cached: Cache, found: segment.Masks
) -> dict[str, Any]:
    visible = rows.filter(pl.col("image_id").is_in(cached.readable["image_id"].implode()))
    outlines = partial(_outlines, rule, cached, found)
    shown = [_shown(row, cached, outlines) for row in visible.head(PICTURED).iter_rows(named=True)]
    told = {row["message"] for row in shown}
    others = [message for message in rows["message"] if message not in told]
    return {
        "rule": rule,
        "severity": severity,
        "count": rows.height,
        "shown": shown,
        "messages": others[:MESSAGES],
        "more": max(len(others) - MESSAGES, 0),
    }


def _shown(
    row: dict[str, Any], cached: Cache, outlines: Callable[[str], list[images.Outline]]
) -> dict[str, Any]:
    """The image of a finding, or both of a pair; `names` are those that the message does not give already."""
    image_ids = [image_id for image_id in (row["image_id"], row["other_image_id"]) if image_id]
    names = [
        image_id for image_id in image_ids if image_id.rsplit("/", 1)[-1] not in row["message"]
    ]
    return {
        "pictures": [_picture(image_id, cached, outlines(image_id)) for image_id in image_ids],
        "message": row["message"],
        "names": names,
    }


def _picture(image_id: str, cached: Cache, outlines: list[images.Outline]) -> Markup:
    told = f"radiograph {image_id}" + (" with the outline of its lungs" if outlines else "")
    return images.image(cached.images[cached.rows([image_id])[0]], alt_text=told, outlines=outlines)


def _outlines(
    rule: Rule, cached: Cache, found: segment.Masks, image_id: str
) -> list[images.Outline]:
    """Of the drawn mask where the rule is about it, of the found lungs where it is about them."""
    if rule.name == segment.UNRELIABLE.name:
        return [
            images.Outline(found[image_id] == side, images.CYAN, dashed=True)
            for side in lung_masks.SIDES.values()
        ]
    if rule.about_masks:
        return [
            images.Outline(cached.masks[cached.rows([image_id])[0]] == side, images.ORANGE)
            for side in lung_masks.SIDES.values()
        ]
    return []
