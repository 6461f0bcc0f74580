"""Films with reference masks of both protocols, for training and judging lung models.

`air`: Montgomery and Shenzhen, read as by `benchmarks._lib.lung_sets`. `full`: the folders
kermany-448 and covid-448, each with images/, masks/ and labels.csv (image, mask, patient, and for
COVID-19 licence). In the masks 255 is lung; 127 marks devices, arrows and text, which count as lung
only where lung surrounds them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from benchmarks._lib.lung_sets import dealt, parted, read
from hilum.annotations import lung_masks
from hilum.imaging.files import image_file
from hilum.imaging.geometry import Letterbox
from hilum.imaging.image_stack import as_uint8
from hilum.imaging.radiograph import preprocess

SIZE, WINDOW, FOLDS = 256, "percentiles", 5
AIR, FULL = ("montgomery", "shenzhen"), ("kermany", "covid")
SOURCES = (*AIR, *FULL)
LUNG, DEVICE = 255, 127  # grey levels of the masks of the full protocol
# Licences of single films under which trained weights may be used commercially. A film whose
# licence is not stated counts as not free.
FREE = ("CC BY", "CC BY 3.0", "CC BY 4.0", "CC0")


@dataclass(frozen=True)
class Films:
    """Images and masks uint8 (n, side, side), and of each film:

    its source, patient, name and pixels' digest; (height, width) of the file; its fold; whether it
    belongs to the tune part, a tenth of the patients; and whether its terms allow commercial use.
    """

    images: np.ndarray
    masks: np.ndarray
    sources: np.ndarray
    patients: np.ndarray
    names: np.ndarray
    digests: np.ndarray
    sizes: np.ndarray
    folds: np.ndarray
    tune: np.ndarray
    free: np.ndarray

    def of(self, source: str) -> np.ndarray:
        """Return the rows of a source."""
        return np.flatnonzero(self.sources == source)


def read_films(data: Path, work: Path, sources: tuple[str, ...] = SOURCES) -> Films:
    """Read all films of `sources` below `data`; caches go to `work`."""
    parts = [
        _air(data, source, work) if source in AIR else _full(data / f"{source}-448", source)
        for source in sources
    ]
    return Films(
        *(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Films))
    )


def _air(data: Path, source: str, work: Path) -> Films:
    films = read(data, source, SIZE, work)
    count = len(films.images)
    return _films(
        films.images,
        films.masks,
        source,
        films.patients,
        films.image_ids,
        films.digests,
        np.full((count, 2), SIZE),
        np.full(count, source != "shenzhen"),  # its masks are CC BY-NC-SA
    )


def _full(folder: Path, source: str) -> Films:
    table = pl.read_csv(folder / "labels.csv", infer_schema_length=0)
    table = table.filter(pl.col("mask").is_not_null())
    images, masks, sizes, digests = [], [], [], []
    for image, mask in table.select("image", "mask").iter_rows():
        file = image_file.read(folder / image)
        radiograph = file.radiograph()
        letterbox = Letterbox(radiograph.size, SIZE)
        images.append(as_uint8(preprocess(radiograph, SIZE, WINDOW, 8)))
        labels = full_mask(folder / mask)
        masks.append(lung_masks.downsample_labels(labels, letterbox.forward))
        sizes.append(radiograph.size)
        digests.append(file.pixel_digest)
    free = (
        table["licence"].fill_null("").str.strip_chars().is_in(FREE).to_numpy()
        if "licence" in table.columns
        else np.ones(table.height, bool)
    )
    # The prefix keeps patients of two sources apart.
    patients = np.array([f"{folder.name}:{name}" for name in table["patient"]])
    names = table["image"].to_numpy().astype(str)
    return _films(
        np.stack(images),
        np.stack(masks),
        source,
        patients,
        names,
        np.array(digests),
        np.array(sizes),
        free,
    )


def full_mask(path: Path) -> np.ndarray:
    """Read a mask of the full protocol as labels of right and left lung, in the file's pixels."""
    grey = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    lung = grey == LUNG
    return lung_masks.split_left_right(lung | ((grey == DEVICE) & lung_masks.fill_holes(lung)))


def _films(
    images: np.ndarray,
    masks: np.ndarray,
    source: str,
    patients: np.ndarray,
    names: np.ndarray,
    digests: np.ndarray,
    sizes: np.ndarray,
    free: np.ndarray,
) -> Films:
    count, tune = len(images), np.zeros(len(images), bool)
    tune[parted(patients, np.arange(count))[1]] = True
    return Films(
        images,
        masks,
        np.full(count, source),
        patients,
        names,
        digests,
        sizes,
        dealt(patients, FOLDS),
        tune,
        free,
    )
