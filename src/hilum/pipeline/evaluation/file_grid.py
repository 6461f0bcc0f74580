"""Measure predicted lung masks in the pixels of the image files, at full size.

The segmenter sees the cached image, letterboxed to 256 pixels by default, while published
figures are often of masks at the file's own size. Here the cached labels are enlarged as `hilum
apply` enlarges them, but without the network's probabilities, which no run stores: an outline
runs half-way between the cached pixels. They are compared with the reference mask as the data
set provides it.

Only the test part is measured, and at most `MOST` images of it, chosen by a digest of their names:
each image file and its masks are decoded again, which takes 0.2 to 1 s for 5 to 10 megapixels.
Distances are in pixels of the file, and in millimetres where its spacing is known. An image whose
file or mask can no longer be read is not measured, and counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations import lung_masks
from hilum.dataset.manifest import Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.errors import BadData, NotFound
from hilum.imaging.files import image_file
from hilum.imaging.files.pose import Display
from hilum.imaging.geometry import Letterbox
from hilum.imaging.image_stack import ImageStack
from hilum.pipeline import reference_masks
from hilum.pipeline.evaluation.segmentation import (
    PER_IMAGE,
    Spacing,
    known_spacing,
    measured_sides,
)
from hilum.pipeline.reference_masks import ImageRow, MeaningOf
from hilum.safety import threads
from hilum.safety.untrusted_files import Folder
from hilum.statistics.metrics import surface_distance

MOST = 1000  # images: about 10 minutes on two cores
# Decoders and NumPy release Python's lock; each thread holds some 100 MB of an 8-megapixel image.
_THREADS = min(4, threads.cores())


class InFilePixels(NamedTuple):
    """Rows of `PER_IMAGE`, and the images that could not be measured (image_id)."""

    per_image: pl.DataFrame
    unreadable: tuple[str, ...]


def overlaps(
    table: pl.DataFrame,
    cached: Cache,
    manifest: Manifest,
    row_of: dict[str, int],
    masks: np.ndarray | ImageStack,
    spacing: Spacing,
) -> InFilePixels:
    """Compare predicted and reference lungs of the test images that have a complete mask.

    `table`: the split's rows (image_id, part, source). `masks`: cached labels of the predicted
    lungs, uint8 (n, size, size), by the rows that `row_of` names. `spacing`: millimetres between
    rows and columns of each file's pixels, by image id.
    """
    wanted = _chosen(table, cached)
    if not row_of or not wanted.height:
        return InFilePixels(pl.DataFrame(schema=PER_IMAGE), ())
    meaning = reference_masks.stored_meanings(manifest, cached.folder).of
    chosen = set(wanted["image_id"])
    images = {
        image["image_id"]: image
        for image in reference_masks.images(manifest)
        if image["image_id"] in chosen
    }

    def work(image_id: str) -> list[list[float | str]] | None:
        """Measure one image, in a thread; None where it cannot be read."""
        found = masks[row_of[image_id]]
        try:
            return _measured(
                manifest.folder, images[image_id], meaning, found, spacing.get(image_id)
            )
        except (BadData, NotFound):  # the data folder may have changed since it was cached
            return None

    rows, unreadable = [], []
    with threads.pool(_THREADS) as pool:
        named = wanted.select("image_id", "part", "source").iter_rows()
        for about, sides in zip(named, pool.map(work, wanted["image_id"]), strict=True):
            if sides is None:
                unreadable.append(about[0])
            rows += [[*about, *side] for side in sides or ()]
    return InFilePixels(pl.DataFrame(rows, schema=PER_IMAGE, orient="row"), tuple(unreadable))


def _chosen(table: pl.DataFrame, cached: Cache) -> pl.DataFrame:
    """Return the rows of the test images to measure, in the order of `table`."""
    masked = cached.with_mask["image_id"].implode()
    test = table.filter((pl.col("part") == "test") & pl.col("image_id").is_in(masked))
    if test.height <= MOST:
        return test
    kept = sorted(test["image_id"], key=lambda image_id: storage.digest(image_id))[:MOST]
    return test.filter(pl.col("image_id").is_in(kept))


def _measured(
    folder: Folder,
    image: ImageRow,
    meaning: MeaningOf,
    found: np.ndarray,
    spacing: tuple[float | None, float | None] | None,
) -> list[list[float | str]]:
    """Measure one image at its file's size: a row for both lungs and for each."""
    file = image_file.read(*folder.located(image["path"]), Display.of(image))
    expected = reference_masks.read(folder, image, file, meaning).labels
    certain = np.stack([found == side for side in (lung_masks.RIGHT, lung_masks.LEFT)])
    letterbox = Letterbox(expected.shape, found.shape[0])
    large = lung_masks.upsample_labels(found, certain.astype(np.float32), letterbox.back)
    return list(measured_sides(expected, large, known_spacing(spacing), _distances))


def _distances(
    expected: np.ndarray, found: np.ndarray, in_mm: tuple[float, float] | None
) -> list[float]:
    """Return the distances in the order of `segmentation.DISTANCES`."""
    spacings = [surface_distance.PIXELS, *([in_mm] if in_mm else [])]
    measured = surface_distance.of_large_masks(expected, found, spacings)
    if in_mm is None:
        measured.append(dict.fromkeys(surface_distance.METRICS, float("nan")))
    return [one[name] for one in measured for name in surface_distance.METRICS]
