"""Merge: the tables of several folders as one.

Labels are concepts already, so they line up by themselves; image ids and patients carry their data set's name. The root is the deepest
folder that holds all, and paths, those of remarks too, are written from there. The order of the folders makes no difference.

A data set may lie in several folders, where each holds another part of its images: its patients keep their names, so that one who
stands in two folders is one patient. Two folders that hold the same images are refused. Folders of one's own (data set `folder`) are
different collections whose names mean nothing beyond their folder: in a merge their images, patients and source get the folder's name
before them, `folder/hospital_a/…`, as much of its path as tells them apart. So adding a folder renames nobody unless it has the name of
one that is there.

Who is the same person in two data sets is not asked here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import polars as pl

from hilum.dataset.manifest import Manifest
from hilum.errors import BadData, HilumError
from hilum.safety import path_names

OWN = "folder"  # the data set whose names are unique in one folder only
_PATHS = ("path", "lung_mask", "right_lung_mask", "left_lung_mask")
_KEYED = ("table", "labels", "remarks", "shapes")


def merge(manifests: Sequence[Manifest]) -> Manifest:
    """One manifest of them all; of a single one, itself.

    Raises `HilumError` where a folder is given twice or lies in another, `BadData` where two folders hold the same images.
    """
    if not manifests:
        raise HilumError("no folders to merge; give two or more")
    if len(manifests) == 1:
        return manifests[0]
    ordered = sorted(manifests, key=lambda manifest: manifest.root)
    _refuse_nested([manifest.root for manifest in ordered])
    root = Path(os.path.commonpath([manifest.root for manifest in ordered]))
    names = _telling([manifest.root for manifest in ordered if OWN in manifest.table["dataset"]])
    told = [_renamed(_below(manifest, root), names.get(manifest.root)) for manifest in ordered]
    _refuse_same_images(ordered, told)
    table, labels, remarks, shapes = (
        pl.concat([getattr(manifest, part) for manifest in told]) for part in _KEYED
    )
    return Manifest.of(
        root, table, labels, remarks, shapes, links=any(manifest.links for manifest in manifests)
    )


def _refuse_nested(roots: list[Path]) -> None:
    """`roots` in their order, in which a folder comes right before those in it."""
    for first, second in pairwise(roots):
        if first == second:
            raise HilumError(f"{first} is given twice; give each folder once")
        if first in second.parents:
            raise HilumError(
                f"{second} lies in {first}, so its pictures would stand in the table twice; leave one of the two out"
            )


def _below(manifest: Manifest, root: Path) -> Manifest:
    """The same with all paths written from `root`."""
    start = path_names.below(root, manifest.root)
    remarked = (
        pl.when(pl.col("path") == ".")
        .then(pl.lit(start))
        .otherwise(pl.concat_str(pl.lit(f"{start}/"), "path"))
    )
    table = manifest.table.with_columns(
        pl.concat_str(pl.lit(f"{start}/"), column).alias(column) for column in _PATHS
    )
    return replace(
        manifest,
        root=root,
        table=table,
        remarks=manifest.remarks.with_columns(remarked.alias("path")),
    )


def _telling(roots: list[Path]) -> dict[Path, str]:
    """The end of each path that tells it from the others: the folder's name, with as many above it as that takes."""
    deepest = max((len(root.parts) for root in roots), default=0)
    for count in range(1, deepest + 1):
        ends = {root: "/".join(root.parts[-count:]).strip("/") for root in roots}
        if len(set(ends.values())) == len(roots):
            return ends
    return {}


def _renamed(manifest: Manifest, name: str | None) -> Manifest:
    """An own folder's images, patients and source with the folder's name; any other data set as it is (`name` None)."""
    if name is None:
        return manifest

    def prefixed(column: str) -> pl.Expr:
        return pl.col(column).str.replace(f"{OWN}/", f"{OWN}/{name}/", literal=True)

    source = pl.when(pl.col("source") == OWN).then(pl.lit(name)).otherwise("source")
    table = manifest.table.with_columns(
        prefixed("image_id"), prefixed("patient_id"), source.alias("source")
    )
    labels, shapes = (
        part.with_columns(prefixed("image_id")) for part in (manifest.labels, manifest.shapes)
    )
    return replace(manifest, table=table, labels=labels, shapes=shapes)


def _refuse_same_images(given: list[Manifest], told: list[Manifest]) -> None:
    where = pl.concat(
        [
            one.table.select("image_id", pl.lit(path_names.as_text(manifest.root)).alias("root"))
            for manifest, one in zip(given, told, strict=True)
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
