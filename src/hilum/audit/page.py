"""The audit as one HTML file: findings by rule, worst first, with what, why and remedy, and the pictures of the first of them.

Pairs stand side by side, masks are outlined on their picture. Nothing is loaded from elsewhere; without JavaScript everything is there
but the filters. Size is bounded: a picture is a JPEG of `SIDE` pixels, and only so many findings have one (`OF_A_RULE`, `PICTURES`);
the others are told in a line each, up to `LISTED` lines; all are in issues.parquet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import polars as pl
from markupsafe import Markup

from hilum import __version__, plugins
from hilum.annotations import lung_masks
from hilum.dataset.manifest import SEVERITIES, Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.drawing import images as pictures
from hilum.drawing import templates
from hilum.imaging.geometry import resize
from hilum.safety.path_names import as_text

TEMPLATE = "resources/audit.html.j2"
SIDE = 176  # pixels of a picture
PICTURES, OF_A_RULE = 1600, 240  # pictures on the page, and findings of one rule that have them
LISTED = 20_000  # findings told in a line each, beside those with pictures
OUTLINED = "mask-"  # rules whose pictures are shown with the outlines of their masks
COLOURS = {"right": pictures.ORANGE, "left": pictures.CYAN}


def render(findings: pl.DataFrame, manifest: Manifest, cached: Cache) -> str:
    """The page of `findings` as `hilum.audit.issues.COLUMNS`. Every text is escaped by the template."""
    return templates.render(TEMPLATE, _told(findings, manifest, cached), autoescape=True)


def _told(findings: pl.DataFrame, manifest: Manifest, cached: Cache) -> dict[str, Any]:
    source = manifest.table.select("image_id", "source")
    rows = findings.join(source, on="image_id", how="left", maintain_order="left").with_columns(
        pl.col("source").fill_null("the whole set")
    )
    groups = list(_groups(rows, cached))
    return {
        "folder": as_text(manifest.root.name),
        "images": manifest.table.height,
        "total": findings.height,
        "groups": groups,
        "severities": [
            (severity, (findings["severity"] == severity).sum()) for severity in SEVERITIES
        ],
        "sources": rows["source"].unique().sort().to_list(),
        "pictured": sum(len(group["shown"]) for group in groups),
        "listed": sum(len(group["lines"]) for group in groups),
        "colours": COLOURS,
        "cards": [plugins.load("checks", name).CARD for name in plugins.names("checks")],
        "version": __version__,
    }


def _groups(rows: pl.DataFrame, cached: Cache) -> Iterator[dict[str, Any]]:
    rules = {
        rule.name: rule
        for name in plugins.names("checks")
        for rule in plugins.load("checks", name).RULES
    }
    seen = dict(zip(cached.index["image_id"], cached.index["error"].is_null(), strict=True))
    room, lines = PICTURES, LISTED
    for (severity, rule), found in rows.group_by("severity", "rule", maintain_order=True):
        shown, told = [], []
        for row in found.iter_rows(named=True):
            images = [
                image_id
                for image_id in (row["image_id"], row["other_image_id"])
                if image_id and seen.get(image_id)
            ]
            if images and len(shown) < OF_A_RULE and len(images) <= room:
                shown.append((row, images))
                room -= len(images)
            elif len(told) < lines:
                told.append(row)
        lines -= len(told)
        cards = [
            _card(row, images, drawn)
            for (row, images), drawn in zip(shown, _drawn(shown, cached, rule), strict=True)
        ]
        more = found.height - len(cards) - len(told)
        yield {
            "rule": rules[rule],
            "severity": severity,
            "count": found.height,
            "shown": cards,
            "lines": [_line(row) for row in told],
            "more": more,
        }


def _card(row: dict[str, Any], images: Sequence[str], drawn: Sequence[Markup]) -> dict[str, Any]:
    return {
        **_line(row),
        "pictures": [
            {"name": image_id, "picture": picture}
            for image_id, picture in zip(images, drawn, strict=True)
        ],
    }


def _line(row: dict[str, Any]) -> dict[str, Any]:
    names = [image_id for image_id in (row["image_id"], row["other_image_id"]) if image_id]
    return {"message": row["message"], "names": names, "source": row["source"]}


def _drawn(
    shown: Sequence[tuple[dict[str, Any], Sequence[str]]], cached: Cache, rule: str
) -> Iterator[list[Markup]]:
    """The pictures of each finding, read from the cache one finding at a time."""
    outlined = rule.startswith(OUTLINED)
    for _, images in shown:
        places = cached.rows(images)
        masks = cached.masks.read(places) if outlined else [None] * len(places)
        yield [
            _picture(image_id, image, mask)
            for image_id, image, mask in zip(images, cached.images.read(places), masks, strict=True)
        ]


def _picture(image_id: str, image: np.ndarray, mask: np.ndarray | None) -> Markup:
    eight = image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)
    side = min(SIDE, len(eight))
    small = resize(eight, (side, side))
    if mask is None:
        return pictures.image(small, alt_text=f"radiograph {image_id}")
    fitted = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
    outlines = [
        pictures.Outline(fitted == label, COLOURS[name]) for name, label in lung_masks.SIDES.items()
    ]
    return pictures.image(
        small, alt_text=f"radiograph {image_id} with the outline of its mask", outlines=outlines
    )
