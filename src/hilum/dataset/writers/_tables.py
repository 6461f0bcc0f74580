"""The manifest's tables in the shapes that exports need: by part, and one column a concept."""

from __future__ import annotations

import polars as pl

from hilum.annotations.vocabulary import concepts
from hilum.dataset.manifest import PARTS, Manifest
from hilum.errors import Mismatch


def parts(manifest: Manifest, split: pl.DataFrame | None) -> dict[str | None, Manifest]:
    """The manifest of each part that has images, or of all of them under None where there is no split.

    Raises `Mismatch` where the split names images that the manifest does not have.
    """
    if split is None:
        return {None: manifest}
    strange = split.join(manifest.table, on="image_id", how="anti")["image_id"]
    if len(strange):
        shown = ", ".join(strange.sort().head(3))
        raise Mismatch(
            f"the split names {len(strange)} images that the table does not have ({shown}); make it again with `hilum split`"
        )
    by_part = {
        part: manifest.only(split.filter(pl.col("part") == part)["image_id"]) for part in PARTS
    }
    return {part: images for part, images in by_part.items() if images.table.height}


def exported(manifest: Manifest, split: pl.DataFrame | None) -> Manifest:
    """The images that the split names, or all. Raises as `parts` does."""
    return (
        manifest
        if split is None
        else manifest.only(
            [
                image_id
                for images in parts(manifest, split).values()
                for image_id in images.table["image_id"]
            ]
        )
    )


def part_of(manifest: Manifest, split: pl.DataFrame | None) -> pl.DataFrame:
    """image_id and part (null where there is no split) of the manifest's images, in the table's order."""
    images = manifest.table.select("image_id")
    if split is None:
        return images.with_columns(part=pl.lit(None, pl.String))
    return images.join(
        split.select("image_id", "part"), on="image_id", how="left", maintain_order="left"
    )


def concepts_in(manifest: Manifest) -> list[str]:
    """All concepts that label an image, in the vocabulary's order, the user's own behind them."""
    order = {concept: place for place, concept in enumerate(concepts())}
    return sorted(
        manifest.labels["concept"].unique(),
        key=lambda concept: (order.get(concept, len(order)), concept),
    )


def wide(manifest: Manifest, concepts: list[str]) -> pl.DataFrame:
    """image_id and one column for each of `concepts`: 1, 0, -1, or null where it is not mentioned; in the table's order."""
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
    told = {"form": form, "images": exported, **more}
    left = manifest.table.height - exported
    return {**told, "not in the split": left} if left else told
