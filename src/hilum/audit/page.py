"""The audit as one HTML page: issues by rule, worst first, each rule with what is wrong, why it
matters and what to do, and with images of its first issues.

The images of a pair are shown side by side; masks are outlined on their images. The page loads
nothing from elsewhere, and works without JavaScript except for the filters. Its size is bounded: an
image is a JPEG of `SIDE` pixels, and only so many issues are illustrated (`PER_RULE`, `IMAGES`); of
the others the first of each rule are listed in a line each (`LINES_PER_RULE`, `LISTED`). With
100,000 issues it stays below 5 MB. How many are not shown stands below each rule, with the line of
Python that gives all of them from issues.parquet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import polars as pl
from markupsafe import Markup

from hilum import __version__
from hilum.annotations import lung_masks
from hilum.audit import checks
from hilum.audit.issues import Dismissed, Rule, dismissed, notes, of_table, standing
from hilum.dataset.manifest import SEVERITIES, Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.drawing import images as drawing
from hilum.drawing import templates
from hilum.imaging.geometry import resize
from hilum.safety.path_names import as_text

TEMPLATE = "resources/audit.html.j2"
SIDE = 176  # pixels; seven images fit in a row of the page
IMAGES, PER_RULE = 400, 40  # images on the page, and illustrated issues of one rule
# Issues listed in a line each, beside the illustrated ones, in all and of one rule.
LISTED, LINES_PER_RULE = 5_000, 1_250
COLOURS = {"right": drawing.ORANGE, "left": drawing.CYAN}


@dataclass(frozen=True)
class _Image:
    name: str
    image: Markup


@dataclass(frozen=True)
class _Line:
    """An issue on the page; `images` is empty where it is only listed.

    `note` says what a reader decided, "" where nobody did.
    """

    message: str
    names: Sequence[str]
    source: str
    note: str
    images: Sequence[_Image] = ()


@dataclass(frozen=True)
class _Group:
    """Issues of one rule and severity: `shown` with images, `lines` without, and how many more."""

    rule: Rule
    severity: str
    count: int
    shown: Sequence[_Line]
    lines: Sequence[_Line]
    more: int


def render(issues: pl.DataFrame, manifest: Manifest, cached: Cache) -> str:
    """Return the page of `issues` (`hilum.audit.issues.COLUMNS`). The template escapes all text."""
    return templates.render(TEMPLATE, _content(issues, manifest, cached), autoescape=True)


def _content(issues: pl.DataFrame, manifest: Manifest, cached: Cache) -> dict[str, object]:
    """Return the template's variables."""
    source = manifest.table.select("image_id", "source")
    apart, issues = Dismissed.of(dismissed(issues), LISTED), standing(issues)
    rows = issues.join(source, on="image_id", how="left", maintain_order="left").with_columns(
        pl.col("source").fill_null("the whole set")
    )
    groups = list(_groups(rows, cached))
    return {
        "folder": as_text(manifest.root.name),
        "images": manifest.table.height,
        "total": issues.height,
        "groups": groups,
        "dismissed": apart,
        "severities": [
            (severity, (issues["severity"] == severity).sum()) for severity in SEVERITIES
        ],
        "sources": rows["source"].unique().sort().to_list(),
        "colours": COLOURS,
        "cards": checks.cards(),
        "version": __version__,
    }


def _groups(rows: pl.DataFrame, cached: Cache) -> Iterator[_Group]:
    rules = checks.rules()
    readable = dict(zip(cached.index["image_id"], cached.index["error"].is_null(), strict=True))
    room, lines = IMAGES, LISTED
    for (severity, name), found in rows.group_by("severity", "rule", maintain_order=True):
        rule = rules[str(name)]
        shown, listed = [], []
        some = found.head(PER_RULE + max(lines, 0) + IMAGES)  # more can neither be shown nor listed
        for issue, source, note in zip(of_table(some), some["source"], notes(some), strict=True):
            images = [image_id for image_id in issue.image_ids if readable.get(image_id)]
            if images and len(shown) < PER_RULE and len(images) <= room:
                illustrated = _images(images, cached, outlined=rule.about_masks)
                shown.append(_Line(issue.message, issue.image_ids, source, note, illustrated))
                room -= len(images)
            elif len(listed) < min(lines, LINES_PER_RULE):
                listed.append(_Line(issue.message, issue.image_ids, source, note))
        lines -= len(listed)
        more = found.height - len(shown) - len(listed)
        yield _Group(rule, str(severity), found.height, shown, listed, more)


def _images(image_ids: Sequence[str], cached: Cache, *, outlined: bool) -> list[_Image]:
    """Read the images of one issue from the cache, with their masks where these are outlined."""
    rows = cached.rows(image_ids)
    masks = cached.masks[rows] if outlined else [None] * len(rows)
    return [
        _Image(image_id, _thumbnail(image_id, image, mask))
        for image_id, image, mask in zip(image_ids, cached.images[rows], masks, strict=True)
    ]


def _thumbnail(image_id: str, image: np.ndarray, mask: np.ndarray | None) -> Markup:
    side = min(SIDE, len(image))
    small = resize(image, (side, side))
    if mask is None:
        return drawing.image(small, alt_text=f"radiograph {image_id}")
    resized = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
    outlines = [
        drawing.Outline(resized == label, COLOURS[name]) for name, label in lung_masks.SIDES.items()
    ]
    return drawing.image(
        small, alt_text=f"radiograph {image_id} with the outline of its mask", outlines=outlines
    )
