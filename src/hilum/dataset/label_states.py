"""The states of labels as numbers, concept by concept: five bytes a label, and no text.

A million images have 14 million labels of ChestX-ray14. As a table these are a gigabyte, and
joining them with the images by name takes seconds; what splits, checks, trains and evaluates needs
of them is the state of an image and a concept. The stored table of images therefore also has a
column `state of CONCEPT` for each concept, which is read in place of the labels as long as their
file is the one that it was made from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from hilum import storage
from hilum.dataset.groups import starts
from hilum.storage.stored_table import StoredTable

PIECE = 1 << 20  # labels that are held as text at a time
STORED = "state of "  # and the concept: the name of a stored column
DIGEST = "labels"  # the key of the digest of their file in the metadata of the table of images
SPARSEST = 16  # images and concepts for each label, beyond which states are not stored
NO_LABEL = np.iinfo(np.int8).min  # in place of a state
KEY = ("image_id", "concept", "state")


class OfConcept(NamedTuple):
    """The labels of one concept: rows in the table of images (int32), and their states (int8)."""

    rows: np.ndarray
    states: np.ndarray


@dataclass(frozen=True)
class LabelStates:
    """The labels of each concept, in the order of the table of labels; concepts by name.

    `sound`: whether the labels are sorted by image and concept, without one that is repeated or is
    of an image that the table of images lacks.
    """

    images: int
    of: Mapping[str, OfConcept]
    sound: bool

    def column(self, concept: str) -> pl.Series:
        """Return `state` of each image in the table's order, null where it is not mentioned."""
        found = self.of.get(concept)
        if found is None:
            return pl.Series("state", [None], pl.Int8).new_from_index(0, self.images)
        if self.sound and len(found.rows) == self.images:  # each image has one, in their order
            return pl.Series("state", found.states)
        states, known = np.zeros(self.images, np.int8), np.zeros(self.images, bool)
        states[found.rows], known[found.rows] = found.states, True
        made = pl.DataFrame({"state": states, "known": known})
        return made.select(pl.when("known").then("state").alias("state"))["state"]

    def numbers(self, concept: str) -> np.ndarray:
        """Return `column` as int8 (images,), `NO_LABEL` where it is null."""
        return self.column(concept).fill_null(NO_LABEL).to_numpy()

    def counts(self, concept: str) -> dict[int, int]:
        """Count the labels of a concept by state."""
        counts = np.bincount(self.of[concept].states.astype(np.int16) - NO_LABEL)
        return {int(at) + NO_LABEL: int(counts[at]) for at in np.flatnonzero(counts)}


def of(images: pl.Series, labels: pl.LazyFrame) -> LabelStates:
    """Return the states of `labels` (image_id, concept, state) of these images.

    Fastest where images are sorted and each has a label, as ingest writes them.
    """
    found: dict[str, list[OfConcept]] = {}
    sound, last, at = True, ("", ""), 0
    for stated in _pieces(labels):
        # "Not mentioned" has no label. Tables that were made smaller hold names as categories.
        piece = stated.drop_nulls().cast({"image_id": pl.String})
        sound = sound and piece.height == stated.height
        if not piece.height:
            continue
        concepts = _words(piece["concept"])
        code = piece["concept"].cast(pl.Enum(concepts)).to_physical().to_numpy()
        code = code.astype(np.min_scalar_type(len(concepts)), copy=False)  # the fewer bytes to sort
        rows = _rows(images, piece["image_id"], max(at, 0))
        at = int(rows[-1])
        later = (rows[1:] > rows[:-1]) | ((rows[1:] == rows[:-1]) & (code[1:] > code[:-1]))
        known = bool((rows >= 0).all())
        begin = (piece["image_id"][0], piece["concept"][0])
        sound = sound and last < begin and bool(later.all()) and known
        last = (piece["image_id"][-1], piece["concept"][-1])
        by_concept = np.argsort(code, kind="stable")
        ends = np.r_[0, np.cumsum(np.bincount(code, minlength=len(concepts)))]
        states = piece["state"].to_numpy()
        for concept, (first, end) in zip(concepts, pairwise(ends), strict=True):
            if first == end:  # a word of an `Enum` that no label here has
                continue
            chosen = by_concept[first:end]
            chosen = chosen if known else chosen[rows[chosen] >= 0]
            found.setdefault(concept, []).append(OfConcept(rows[chosen], states[chosen]))
    joined = {
        concept: OfConcept(*(np.concatenate(parts) for parts in zip(*found[concept], strict=True)))
        for concept in sorted(found)
    }
    return LabelStates(len(images), joined, sound)


def beside(
    images: pl.DataFrame, states: LabelStates, labels: Path
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return the table of images with a column of states for each concept, and its metadata.

    `labels`: the file that they are of. Nothing is added where they are not sound, or so sparse
    that the columns would take more memory.
    """
    count = sum(len(one.rows) for one in states.of.values())
    if not states.sound or states.images * len(states.of) > SPARSEST * count:
        return images, {}
    columns = [states.column(concept).alias(STORED + concept) for concept in states.of]
    return images.with_columns(columns), {DIGEST: storage.digest_of_file(labels)}


def stored(images: pl.DataFrame, tables: Mapping[str, StoredTable]) -> LabelStates | None:
    """Return the states that `beside` made columns of `images`; None where the labels are others.

    `tables`: the stored "manifest" and "labels".
    """
    if tables["manifest"].metadata.get(DIGEST) != storage.digest(tables["labels"].data):
        return None
    rows = np.arange(images.height, dtype=np.int32)
    columns = {name: images[name] for name in images.columns if name.startswith(STORED)}
    found = {
        name.removeprefix(STORED): OfConcept(
            rows[column.is_not_null().to_numpy()] if column.null_count() else rows,
            column.drop_nulls().to_numpy(),
        )
        for name, column in columns.items()
    }
    return LabelStates(images.height, found, sound=True)


def _pieces(labels: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    for at in range(0, labels.select(pl.len()).collect().item(), PIECE):
        yield labels.select(KEY).slice(at, PIECE).collect()


def _words(names: pl.Series) -> pl.Series:
    """Return names, among them all of `names`; sorted, unless those of an `Enum` are not."""
    if isinstance(names.dtype, pl.Enum):
        return names.dtype.categories
    return names.cast(pl.String).unique().sort()


def _rows(images: pl.Series, labelled: pl.Series, at: int) -> np.ndarray:
    """Return the row of each label's image, int32, -1 where `images` lacks it.

    `at`: the row with which the labels may begin.
    """
    begins = starts(labelled)
    named = labelled.gather(begins)
    for first in (at, at + 1):  # a piece may begin with the image that the one before ended with
        if images.slice(first, len(named)).equals(named):
            place = np.arange(first, first + len(named), dtype=np.int32)
            break
    else:
        known = images.to_frame("image").with_columns(row=pl.int_range(pl.len(), dtype=pl.Int32))
        place = (
            named.to_frame("image")
            .join(
                known.unique("image", keep="first"), on="image", how="left", maintain_order="left"
            )["row"]
            .fill_null(-1)
            .to_numpy()
        )
    return np.repeat(place, np.diff(np.r_[begins, len(labelled)]))
