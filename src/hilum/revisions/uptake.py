"""Take the revisions of a journal up into a manifest, and note which stand behind its cells.

Labels, corrections of images and those of mended issues become corrections of
`hilum.dataset.corrections`; each changed label and each remark names revision and author. A mask
that was drawn takes the place of those of the data: its outlines are run lengths, which state the
size of the image's file, so that a mask of a file that has another size by now is refused by name
and never stretched. What is about an image that the data do not hold leaves a remark.

`REVISIONS`, a table in the run's folder, lists the revisions that stand:

    number, time, author, digest   of the revision, see `hilum.revisions.revision`
    kind                           of the change, see `hilum.revisions.changes`
    rule, image_id, other_image_id, concept    what it is about, null where it has none
    content                        state of a label, SHA-256 of a mask, decision on an issue, or
                                   the corrections of an image as JSON
    reason                         null where none was given
    used                           whether the data hold the images that it names
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations import lung_masks, shapes
from hilum.dataset import corrections
from hilum.dataset.corrections import CORRECTED, Correction
from hilum.dataset.manifest import MASK_COLUMNS, REMARK_COLUMNS, SHAPE_COLUMNS, Manifest
from hilum.errors import Damaged, NotFound
from hilum.revisions import changes
from hilum.revisions.changes import Correct, DecideIssue, Read, SetLabel, SetMask
from hilum.revisions.journal import FILE, FOLDER, Journal
from hilum.revisions.revision import Revision
from hilum.revisions.state import State
from hilum.run_folder import Run

REVISIONS = "revisions.parquet"
COLUMNS = {
    "number": pl.Int64,
    "time": pl.String,
    "author": pl.String,
    "digest": pl.String,
    "kind": pl.String,
    "rule": pl.String,
    "image_id": pl.String,
    "other_image_id": pl.String,
    "concept": pl.String,
    "content": pl.String,
    "reason": pl.String,
    "used": pl.Boolean,
}
NAME = "annotations"  # what remarks and sources call the journal
UNUSED = "revision-unused"  # rule of the remark on a revision about an image that is not there
_MASK_VALUES = "mask_values"
_CONCEPTS = {label: concept for concept, label in lung_masks.REFERENCE.items() if label is not None}


@dataclass(frozen=True)
class Uptake:
    """A manifest with the revisions taken up, and the table of these revisions."""

    manifest: Manifest
    revisions: pl.DataFrame

    @property
    def summary(self) -> dict[str, int]:
        """The number of the last revision that stands, and counts by what they change."""
        used = self.revisions.filter("used")
        names = {
            SetLabel.kind: "labels",
            SetMask.kind: "masks",
            Correct.kind: "corrected images",
            DecideIssue.kind: "issues decided",
        }
        count = Counter(used["kind"])
        last = self.revisions["number"].to_list()
        return {
            "revision": max(last, default=0),
            **{words: count[kind] for kind, words in names.items() if count[kind]},
            **({"not used": unused} if (unused := self.revisions.height - used.height) else {}),
        }


def located(path: Path) -> Path:
    """Return the folder of a journal: `path`, or that of the run in `path`.

    Raises `NotFound` where neither holds one.
    """
    for folder in (path, path / FOLDER):
        if (folder / FILE).exists():
            return folder
    raise NotFound(
        f"{path} holds no {FILE}: give the folder of a run that was corrected with `hilum serve`, "
        f"or its folder {FOLDER}"
    )


def apply(manifest: Manifest, journal: Journal, until: int | None = None) -> Manifest:
    """Return the manifest with the revisions taken up, those up to `until`; see `take_up`."""
    return take_up(manifest, journal, until).manifest


def take_up(manifest: Manifest, journal: Journal, until: int | None = None) -> Uptake:
    """Take up the revisions of a journal, those up to `until`.

    Raises `Damaged` where the journal or a mask is, and `BadData` as `corrections.apply` does.
    """
    state = State.of(journal, until)
    table = of_state(state, set(manifest.table["image_id"]))
    entries = state.corrections()
    usable = [one for one in entries if _images(one) <= set(manifest.table["image_id"])]
    corrected = corrections.apply(manifest, usable, NAME)
    drawn = {
        image_id: one
        for image_id, one in state.masks.items()
        if image_id in set(corrected.table["image_id"])
    }
    corrected = _with_masks(corrected, journal, drawn, entries)
    remarks = pl.DataFrame(list(_unused(table)), schema=REMARK_COLUMNS, orient="row")
    taken = replace(
        corrected,
        remarks=pl.concat([corrected.remarks, remarks]).sort("path", "rule", "message"),
    )
    taken.check()
    return Uptake(taken, table)


def _images(one: Correction) -> set[str]:
    return {image_id for image_id in (one.image_id, one.other) if image_id is not None}


# ------------------------------------------------------------------------------------------ masks


def _with_masks(
    manifest: Manifest,
    journal: Journal,
    drawn: Mapping[str, Revision],
    entries: Collection[Correction],
) -> Manifest:
    """Return the manifest in which these masks, and no others, are those of their images."""
    later = {
        (one.image_id, one.action): one.revision or 0
        for one in entries
        if one.action in ("leave out mask", "exchange mask sides")
    }
    kept = {
        image_id: one
        for image_id, one in drawn.items()
        if later.get((image_id, "leave out mask"), 0) < one.number
    }
    if not kept:
        return manifest
    rows = [
        row
        for image_id, one in sorted(kept.items())
        for row in _shapes_of(
            journal, image_id, one, later.get((image_id, "exchange mask sides"), 0) > one.number
        )
    ]
    own = pl.col("image_id").is_in(list(kept))
    lungs = pl.col("concept").is_in(list(lung_masks.REFERENCE))
    cells = [pl.when(~own).then(column).alias(column) for column in (*MASK_COLUMNS, _MASK_VALUES)]
    shown = pl.concat(
        [
            manifest.shapes.filter(~(own & lungs)),
            pl.DataFrame(rows, schema=SHAPE_COLUMNS, orient="row"),
        ]
    ).sort("image_id", "concept", "shape", "author")
    path = dict(manifest.table.select("image_id", "path").iter_rows())
    remarks = pl.DataFrame(
        [_remark_of_mask(path[image_id], one) for image_id, one in sorted(kept.items())],
        schema=REMARK_COLUMNS,
        orient="row",
    )
    return replace(
        manifest,
        table=manifest.table.with_columns(cells),
        shapes=shown,
        remarks=pl.concat([manifest.remarks, remarks]),
    )


def _shapes_of(
    journal: Journal, image_id: str, one: Revision, exchanged: bool
) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Yield the rows of `Manifest.shapes` of a mask, one for each label in it."""
    if not isinstance(one.change, SetMask):
        return
    try:
        labels = journal.mask(one.change.digest)
    except Damaged as error:
        raise Damaged(
            f"the mask of {image_id}, revision {one.number} by {one.author}: {error}"
        ) from None
    sides = {lung_masks.RIGHT: lung_masks.LEFT, lung_masks.LEFT: lung_masks.RIGHT}
    for label, concept in _CONCEPTS.items():
        drawn = sides.get(label, label) if exchanged else label
        inside = labels == drawn
        if np.any(inside):
            shape = shapes.RunLengths.of(inside).to_json()
            source = f"{NAME}: revision {one.number}"
            yield image_id, concept, concept, shape, source, one.author


def _remark_of_mask(path: str, one: Revision) -> tuple[str, str, str, str]:
    reason = f": {one.reason}" if one.reason else ""
    return path, "info", CORRECTED, f"lung mask, by revision {one.number} by {one.author}{reason}"


# ------------------------------------------------------------------------------------ the table


def of_state(state: State, known: Collection[str]) -> pl.DataFrame:
    """Return the table of the revisions that stand, blind readings apart; `known` are images."""
    rows = [_row(one, known) for one in state.standing if not isinstance(one.change, Read)]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def empty() -> pl.DataFrame:
    """Return the table of a run without a journal."""
    return pl.DataFrame(schema=COLUMNS)


def of_run(run: Run) -> pl.DataFrame:
    """Return the table of the revisions that a run's finished ingest took up."""
    if REVISIONS not in run.files("ingest"):
        return empty()
    return run.table("ingest", REVISIONS)


def _row(one: Revision, known: Collection[str]) -> dict[str, object]:
    change = one.change
    image_id, other = changes.images_of(change)
    rule = concept = content = None
    reason = one.reason
    named = {image_id, other} - {None}
    if isinstance(change, SetLabel):
        concept, content = change.concept, change.state
    elif isinstance(change, SetMask):
        content = change.digest
    elif isinstance(change, Correct):
        content = storage.as_json([entry.entry for entry in change.corrections])
        named |= {name for entry in change.corrections for name in _images(entry)}
    elif isinstance(change, DecideIssue):
        rule = changes.split_issue_key(change.issue_key)[0]
        content, reason = change.decision, change.reason or one.reason
        named |= {name for entry in change.corrections for name in _images(entry)}
    return {
        "number": one.number,
        "time": one.time,
        "author": one.author,
        "digest": one.digest,
        "kind": change.kind,
        "rule": rule,
        "image_id": image_id,
        "other_image_id": other,
        "concept": concept,
        "content": content,
        "reason": reason,
        "used": named <= set(known),
    }


def _unused(table: pl.DataFrame) -> Iterator[tuple[str, str, str, str]]:
    """Yield a remark for each revision about an image that is not in the data."""
    for row in table.filter(~pl.col("used")).iter_rows(named=True):
        images = " and ".join(filter(None, (row["image_id"], row["other_image_id"])))
        yield (
            row["image_id"] or "",
            "warning",
            UNUSED,
            f"revision {row['number']} by {row['author']} ({row['kind']}) is of {images}, and the "
            "data hold no such image, or not the second one that it names: it is not used",
        )


def refuse_lost(before: pl.DataFrame, journal: Journal | None) -> None:
    """Raise `Damaged` where revisions that a run took up before are in its journal no more."""
    if not before.height:
        return
    there = {one.number: one.digest for one in journal.revisions()} if journal else {}
    lost = [
        f"revision {number} by {author}"
        for number, author, digest in before.select("number", "author", "digest").iter_rows()
        if there.get(number) != digest
    ]
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise Damaged(
            f"the run was made with {', '.join(lost[:3])}{more}, which its folder {FOLDER} does "
            "not hold any more. Restore that folder from a copy; or, to give these corrections "
            f"up, delete {REVISIONS} in the run and make it again"
        )
