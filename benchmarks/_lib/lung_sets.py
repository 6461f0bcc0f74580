"""Read radiographs with reference masks once, assign them to folds by patient, and measure found
lungs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilum.annotations import lung_masks
from hilum.config import Pixels
from hilum.pipeline import cache, ingest
from hilum.statistics.metrics import overlap, surface_distance

SETS = ("montgomery", "shenzhen")
TUNE = 0.1  # of the patients that are trained on: they say when to stop
METRICS = (
    "dice",
    "right_dice",
    "left_dice",
    "iou",
    "precision",
    "recall",
    "hausdorff95",
    "average_distance",
)

# Other scanners, sizes, borders, exposures: what every training here draws from, unless it is
# requested the plain ones.
WIDE = {
    "rotation_degrees": 12.0,
    "scale": 0.25,
    "aspect": 0.12,
    "shift": 0.08,
    "contrast": 0.5,
    "brightness": 0.12,
    "gamma": 0.7,
    "elastic": 0.01,
    "border": 0.4,
    "bands": 0.12,
    "uneven": 0.15,
    "noise": 0.04,
    "blur": 0.005,
    "local_contrast": 0.2,
    "markers": 0.15,
}


@dataclass(frozen=True)
class Drawn:
    """Hold images with both lungs drawn: images and masks uint8 (n, size, size), of each image its
    name, patient, set and pixels' digest.
    """

    images: np.ndarray
    masks: np.ndarray
    image_ids: np.ndarray
    patients: np.ndarray
    sources: np.ndarray
    digests: np.ndarray

    def __add__(self, other: Drawn) -> Drawn:
        return Drawn(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in self.__dataclass_fields__
            )
        )

    def of(self, source: str) -> np.ndarray:
        """Return the rows of a set."""
        return np.flatnonzero(self.sources == source)


def read(data: Path, name: str, size: int, work: Path) -> Drawn:
    """Return one set, cached in `work`."""
    manifest = ingest.ingest(data / name)
    radiographs = cache.fill(manifest, Pixels(size=size), work / f"cache-{name}")
    table = manifest.table.join(
        radiographs.with_mask.select("image_id", "pixel_digest"), on="image_id"
    ).sort("image_id")
    rows = radiographs.rows(table["image_id"])
    reported = (
        np.array(table[column].to_list())
        for column in ("image_id", "patient_id", "source", "pixel_digest")
    )
    image_ids, patients, _, digests = reported
    return Drawn(
        radiographs.images[rows],
        radiographs.masks[rows],
        image_ids,
        patients,
        np.full(len(rows), name),
        digests,
    )


def dealt(patients: np.ndarray, folds: int, seed: int = 0) -> np.ndarray:
    """Return the fold of each row, whole patients together."""
    names, row = np.unique(patients, return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(names)) % folds)[row]


def parted(
    patients: np.ndarray, rows: np.ndarray, fraction: float = TUNE, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return `rows` as those to train on and those to watch, a fraction of the patients."""
    names = np.unique(patients[rows])
    watched = np.random.default_rng(seed).permutation(names)[: round(fraction * len(names))]
    tune = np.isin(patients[rows], watched)
    return rows[~tune], rows[tune]


def evenly(radiographs: Drawn, learn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images and masks, those of smaller sets repeated, and the rows to train on: each set
    about as often as the largest.

    Repeated images get rows of their own, as what happens to an image in training goes by its row.
    """
    rows = [
        learn[radiographs.sources[learn] == name] for name in np.unique(radiographs.sources[learn])
    ]
    again = np.concatenate(
        [np.tile(some, round(max(map(len, rows)) / len(some)) - 1) for some in rows]
    ).astype(np.int64)
    images, masks = (
        np.concatenate([of, of[again]]) for of in (radiographs.images, radiographs.masks)
    )
    return images, masks, np.concatenate([learn, len(radiographs.images) + np.arange(len(again))])


def measured(found: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Return measures of found labels against reference ones: overlap of both lungs as one (as is
    published), Dice of each lung, distances in pixels of the square.
    """
    reported = {
        "right_dice": overlap.dice(mask == lung_masks.RIGHT, found == lung_masks.RIGHT),
        "left_dice": overlap.dice(mask == lung_masks.LEFT, found == lung_masks.LEFT),
    }
    for module, names in (
        (overlap, ("dice", "iou", "precision", "recall")),
        (surface_distance, ("hausdorff95", "average_distance")),
    ):
        reported |= {name: getattr(module, name)(mask > 0, found > 0) for name in names}
    return {name: float(reported[name]) for name in METRICS}
