"""Made-up tables, runs and folders that several tests stand on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from hilum.dataset.manifest import COLUMNS, Manifest
from hilum.imaging.files import raster


def manifest(
    rows: list[tuple[str, str, str, int | None]],
    root: Path = Path("nowhere"),
    *,
    given: list[str | None] | None = None,
) -> Manifest:
    """A manifest of (image, patient, source, state of tuberculosis or None)."""
    images = [
        dict.fromkeys(COLUMNS)
        | {
            "image_id": f"made/{image}",
            "dataset": "made",
            "source": source,
            "patient_id": f"made/{patient}",
            "path": f"{image}.png",
        }
        | {"given_part": given[index] if given else None}
        for index, (image, patient, source, _) in enumerate(rows)
    ]
    labels = [
        [f"made/{image}", "tuberculosis", state, "tuberculosis", "test", "column", *[None] * 4]
        for image, _, _, state in rows
        if state is not None
    ]
    return Manifest.of(root, images, labels, [])


def cohort(
    patients: int,
    *,
    sources: tuple[str, ...] = ("east", "west"),
    images_each: int = 1,
    start: int = 0,
) -> Manifest:
    """`patients` patients dealt evenly to sources, every second one with tuberculosis, each with
    `images_each` images.
    """
    return manifest(
        [
            (
                f"{number:05d}-{image}",
                f"p{number:05d}",
                sources[number // 2 % len(sources)],
                number % 2,
            )
            for number in range(start, start + patients)
            for image in range(images_each)
        ]
    )


def parts(table: pl.DataFrame) -> dict[str, str]:
    return dict(zip(table["patient_id"], table["part"], strict=True))


def radiograph(path: Path, seed: int = 0) -> Path:
    """Write a small PNG of noise."""
    raster.write_png(path, np.random.default_rng(seed).integers(0, 255, (40, 36), np.uint8))
    return path


def two_classes(folder: Path) -> Path:
    """A folder `data` with two classes of two images each, beside one with a secret image."""
    radiograph(folder / "elsewhere" / "secret.png", 9)
    names = ("NORMAL/a.png", "NORMAL/b.png", "PNEUMONIA/c.png", "PNEUMONIA/d.png")
    for number, name in enumerate(names):
        radiograph(folder / "data" / name, number)
    return folder / "data"
