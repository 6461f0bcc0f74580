"""Montgomery County, in the layout of its release by the National Library of Medicine.

CXR_png/MCUCXR_0001_0.png              the last digit: 1 tuberculosis, 0 normal
ManualMask/leftMask/MCUCXR_0001_0.png  left lung, 255 inside; on the right of the image
ManualMask/rightMask/MCUCXR_0001_0.png
ClinicalReadings/MCUCXR_0001_0.txt     sex, age and the radiologist's words
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hilum import storage
from hilum.dataset.manifest import Remark, Row
from hilum.dataset.readers import _nlm
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.plugins import Card

CARD = Card(
    title="Montgomery County chest X-ray set",
    licence="research use as stated by the National Library of Medicine; cite the two papers",
    source="U.S. National Library of Medicine, "
    "Lister Hill National Center for Biomedical Communications",
    citation="Jaeger et al. 2014, Quant Imaging Med Surg 4(6):475-477; "
    "Candemir et al. 2014, IEEE Trans Med Imaging 33(2):577-590",
    counts="138 images (80 normal, 58 tuberculosis), 138 pairs of lung masks",
    caveats="No patient key: each image counts as a patient of its own, except where three "
    "readings note 'same pt as …'.",
)
NAMES_ARE_PUBLISHED = True
TERMS = _nlm.TERMS
_LEFT, _RIGHT = "ManualMask/leftMask", "ManualMask/rightMask"


def detect(root: Path) -> bool:
    """Return whether a folder has the release's folders of images and of masks by side."""
    return (root / "CXR_png").is_dir() and (root / "ManualMask").is_dir()


def rows(root: Path) -> Iterator[Row | Remark]:
    """Yield the images and remarks."""
    return _nlm.rows(root, ("CXR_png",), _masks_of, (_LEFT, _RIGHT))


def example(root: Path, *, images: int = 12, seed: int = 0, size: int | None = None) -> None:
    """Write a made-up copy. The last image has only the mask of its right lung."""
    frame = synthetic.frame(360, 360, size)
    studies = _nlm.invent("MCUCXR", images, np.random.default_rng(seed), size=frame)
    for index, study in enumerate(studies):
        masks = _masks_of(study.stem)
        storage.add_bytes(
            root / "CXR_png" / f"{study.stem}.png", raster.png(study.phantom.pixels, quick=True)
        )
        storage.add_bytes(
            root / masks["right_lung_mask"], raster.png(study.phantom.right_lung, quick=True)
        )
        if index < images - 1:
            storage.add_bytes(
                root / masks["left_lung_mask"], raster.png(study.phantom.left_lung, quick=True)
            )
        _nlm.write_reading(root, study)


def _masks_of(stem: str) -> dict[str, str]:
    return {"left_lung_mask": f"{_LEFT}/{stem}.png", "right_lung_mask": f"{_RIGHT}/{stem}.png"}
