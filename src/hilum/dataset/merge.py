"""Merging of the manifests of several folders.

Labels are concepts, and image ids and patients have the prefix of their data set, so the tables
are concatenated. The root is the deepest folder that contains all, and all paths start there. The
order of the folders makes no difference.

A data set may be spread over several folders with different images; a patient who occurs in two of
them is one patient. Two folders with the same images are refused. A user's own folders (data set
`folder`) are different collections, whose names mean nothing outside of their folder: their
images, patients and source get the name of the folder as prefix, `folder/hospital_a/…`, with as
much of its path as makes it unique. Adding a folder therefore renames nobody unless it has the
name of one that is there already.

Persons who occur in two data sets are not detected here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import polars as pl

from hilum.dataset.manifest import PLACES, Manifest
from hilum.errors import BadData, HilumError
from hilum.safety import addresses, path_names

OWN = "folder"  # the data set whose names are unique within one folder only
_KEYED = ("table", "labels", "remarks", "shapes")


def merge(manifests: Sequence[Manifest]) -> Manifest:
    """Return one manifest of all images; a single manifest is returned as it is.

    Raises `HilumError` where a folder is given twice or lies in another, `BadData` where two
    folders hold the same images.
    """
    if not manifests:
        raise HilumError("no folders to merge; give two or more")
    if len(manifests) == 1:
        return manifests[0]
    ordered = sorted(manifests, key=lambda manifest: manifest.root)
    _refuse_nested([manifest.root for manifest in ordered])
    root = Path(os.path.commonpath([manifest.root for manifest in ordered]))
    names = _unique_names(
        [manifest.root for manifest in ordered if OWN in manifest.table["dataset"]]
    )
    renamed = [_renamed(_below(manifest, root), names.get(manifest.root)) for manifest in ordered]
    _refuse_same_images(ordered, renamed)
    table, labels, remarks, shapes = (
        pl.concat([getattr(manifest, part) for manifest in renamed]) for part in _KEYED
    )
    return Manifest.of(
        root, table, labels, remarks, shapes, links=any(manifest.links for manifest in manifests)
    )


def _refuse_nested(roots: list[Path]) -> None:
    """Raise `HilumError` for equal or nested folders among the sorted `roots`.

    In this order a folder comes right before those in it.
    """
    for first, second in pairwise(roots):
        if first == second:
            raise HilumError(f"{first} is given twice; give each folder once")
        if first in second.parents:
            raise HilumError(
                f"{second} lies in {first}, so its images would be in the table twice; "
                "leave one of the two out"
            )


def _below(manifest: Manifest, root: Path) -> Manifest:
    """Return a manifest with all paths starting at `root`."""
    start = path_names.below(root, manifest.root)
    remarked = (
        pl.when(pl.col("path") == ".")
        .then(pl.lit(start))
        .otherwise(pl.concat_str(pl.lit(f"{start}/"), "path"))
    )
    table = manifest.table.with_columns(
        pl.concat_str(pl.lit(f"{start}/"), column).alias(column) for column in PLACES
    )
    return replace(
        manifest,
        root=root,
        table=table,
        remarks=manifest.remarks.with_columns(remarked.alias("path")),
    )


def _unique_names(roots: list[Path]) -> dict[Path, str]:
    """Return the shortest ends of the paths, of one number of names each, that all differ."""
    deepest = max((len(root.parts) for root in roots), default=0)
    for count in range(1, deepest + 1):
        ends = {root: "/".join(root.parts[-count:]).strip("/") for root in roots}
        if len(set(ends.values())) == len(roots):
            return ends
    return {}


def _renamed(manifest: Manifest, name: str | None) -> Manifest:
    """Return a manifest with `name` as prefix of images, patients and source; None: as it is."""
    if name is None:
        return manifest

    def prefixed(column: str) -> pl.Expr:
        """Return the column's ids with the name behind that of the data set."""
        return pl.col(column).str.replace(f"{OWN}/", f"{OWN}/{name}/", literal=True)

    source = pl.when(pl.col("source") == OWN).then(pl.lit(name)).otherwise("source")
    table = manifest.table.with_columns(
        prefixed("image_id"), prefixed("patient_id"), source.alias("source")
    )
    labels, shapes = (
        part.with_columns(prefixed("image_id")) for part in (manifest.labels, manifest.shapes)
    )
    return replace(manifest, table=table, labels=labels, shapes=shapes)


def _refuse_same_images(given: list[Manifest], renamed: list[Manifest]) -> None:
    """Raise `BadData` naming the pairs of folders that hold the same images."""
    where = pl.concat(
        [
            one.table.select(
                "image_id",
                pl.lit(path_names.as_text(addresses.stored(manifest.root))).alias("root"),
            )
            for manifest, one in zip(given, renamed, strict=True)
        ]
    )
    twice = (
        where.group_by("image_id").agg(pl.col("root").sort()).filter(pl.col("root").list.len() > 1)
    )
    if twice.height:
        pairs = (
            twice.group_by(pl.col("root").list.join(" and "))
            .agg(pl.len(), pl.col("image_id").min())
            .sort("root")
        )
        faults = [
            f"{roots}: {count} images, the first {first}"
            for roots, count, first in pairs.iter_rows()
        ]
        raise BadData.listing(
            "folders hold the same images of one data set; leave one of each two out", faults
        )
