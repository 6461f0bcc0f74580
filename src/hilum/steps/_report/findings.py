"""What the audit found, by rule, worst first, with pictures of the first few of each rule."""

from __future__ import annotations

from typing import Any

import polars as pl
from markupsafe import Markup

from hilum import lungs, shelf
from hilum.drawing import pictures
from hilum.findings import Rule
from hilum.steps.cache import Cache

PICTURED = 4  # findings of a rule
MESSAGES = 5  # told at once; the others are counted
ABOUT_MASKS = "mask-"


def section(findings: pl.DataFrame, cached: Cache) -> dict[str, Any]:
    rules = {rule.name: rule for name in shelf.names("checks") for rule in shelf.load("checks", name).RULES}
    groups = [_group(rules[rule], severity, rows, cached) for (severity, rule), rows in findings.group_by("severity", "rule", maintain_order=True)]
    return {"groups": groups, "total": findings.height, "caveats": [shelf.load("checks", name).CARD for name in shelf.names("checks")]}


def _group(rule: Rule, severity: str, rows: pl.DataFrame, cached: Cache) -> dict[str, Any]:
    visible = rows.filter(pl.col("image_id").is_in(cached.readable["image_id"].implode()))
    outlined = rule.name.startswith(ABOUT_MASKS)
    shown = [_shown(row, cached, outlined) for row in visible.head(PICTURED).iter_rows(named=True)]
    told = {row["message"] for row in shown}
    others = [message for message in rows["message"] if message not in told]
    return {
        "rule": rule, "severity": severity, "count": rows.height, "shown": shown,
        "messages": others[:MESSAGES], "more": max(len(others) - MESSAGES, 0),
    }  # fmt: skip


def _shown(row: dict[str, Any], cached: Cache, outlined: bool) -> dict[str, Any]:
    """The image of a finding, or both of a pair; `names` are those that the message does not give already."""
    image_ids = [image_id for image_id in (row["image_id"], row["other_image_id"]) if image_id]
    names = [image_id for image_id in image_ids if image_id.rsplit("/", 1)[-1] not in row["message"]]
    return {"pictures": [_picture(image_id, cached, outlined) for image_id in image_ids], "message": row["message"], "names": names}


def _picture(image_id: str, cached: Cache, outlined: bool) -> Markup:
    row = cached.rows([image_id])[0]
    sides = [pictures.Outline(cached.masks[row] == side, pictures.ORANGE) for side in lungs.SIDES.values()] if outlined else []
    told = f"radiograph {image_id}" + (" with the outline of its mask" if outlined else "")
    return pictures.picture(cached.images[row], told=told, outlines=sides)
