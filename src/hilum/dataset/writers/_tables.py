"""The manifest's tables as exports need them: by part, and with one column per concept."""

from __future__ import annotations

import polars as pl

from hilum.annotations.vocabulary import concepts
from hilum.dataset.manifest import PARTS, Manifest
from hilum.errors import Mismatch


def parts(manifest: Manifest, split: pl.DataFrame | None) -> dict[str | None, Manifest]:
    """Return the manifest of each part that has images, or all of it under None without a split.

    Raises `Mismatch` where the split names images that the manifest does not have.
    """
    if split is None:
        return {None: manifest}
    unknown = split.join(manifest.table, on="image_id", how="anti")["image_id"]
    if len(unknown):
        shown = ", ".join(unknown.sort().head(3))
        raise Mismatch(
            f"the split names {len(unknown)} images that the table does not have ({shown}); "
            "make it again with `hilum split`"
        )
    by_part = {
        part: manifest.only(split.filter(pl.col("part") == part)["image_id"]) for part in PARTS
    }
    return {part: images for part, images in by_part.items() if images.table.height}


def exported(manifest: Manifest, split: pl.DataFrame | None) -> Manifest:
    """Return the images that the split names, or all without a split. Raises as `parts`."""
    if split is None:
        return manifest
    by_part = parts(manifest, split).values()
    return manifest.only([name for images in by_part for name in images.table["image_id"]])


def part_of(manifest: Manifest, split: pl.DataFrame | None) -> pl.DataFrame:
    """Return image_id and part (null without a split) of all images, in the table's order."""
    images = manifest.table.select("image_id")
    if split is None:
        return images.with_columns(part=pl.lit(None, pl.String))
    return images.join(
        split.select("image_id", "part"), on="image_id", how="left", maintain_order="left"
    )


def concepts_in(manifest: Manifest) -> list[str]:
    """Return all concepts of labels in the vocabulary's order, then the user's own."""
    order = {concept: place for place, concept in enumerate(concepts())}
    return sorted(
        manifest.labels["concept"].unique(),
        key=lambda concept: (order.get(concept, len(order)), concept),
    )


def wide(manifest: Manifest, concepts: list[str]) -> pl.DataFrame:
    """Return image_id and a column per concept: 1, 0, -1, or null for not mentioned.

    Rows are in the table's order.
    """
    images = manifest.table.select("image_id")
    if manifest.labels.height:
        images = images.join(
            manifest.labels.pivot("concept", index="image_id", values="state"),
            on="image_id",
            how="left",
            maintain_order="left",
        )
    return images.with_columns(
        pl.lit(None, pl.Int8).alias(concept)
        for concept in concepts
        if concept not in images.columns
    ).select("image_id", *concepts)


def summary(form: str, manifest: Manifest, exported: int, **more: object) -> dict[str, object]:
    """Return the summary of a writer: format, number of images, `more`, and what is left out."""
    found = {"form": form, "images": exported, **more}
    left = manifest.table.height - exported
    return {**found, "not in the split": left} if left else found
