"""Shenzhen No. 3 Hospital, in the layout of its release by the National Library of Medicine.

CXR_png/CHNCXR_0001_0.png           the last digit: 1 tuberculosis, 0 normal
mask/CHNCXR_0001_0_mask.png         both lungs, 255 inside; released separately, for 566 of
                                    662 images, and may be missing altogether
ClinicalReadings/CHNCXR_0001_0.txt  sex, age and the radiologist's words
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
    title="Shenzhen Hospital chest X-ray set",
    licence="research use as stated by the National Library of Medicine; "
    "the lung masks are CC BY-NC-SA 4.0",
    source="U.S. National Library of Medicine; masks by Stirenko et al.",
    citation="Jaeger et al. 2014, Quant Imaging Med Surg 4(6):475-477; "
    "Stirenko et al. 2018, IEEE ELNANO (masks)",
    counts="662 images (326 normal, 336 tuberculosis), 566 lung masks",
    caveats="No patient key: each image counts as a patient of its own. "
    "A mask has both lungs without saying which is which.",
)
NAMES_ARE_PUBLISHED = True
LACKS = frozenset({"patients"})  # no patient key, and no note of two images of one patient
TERMS = _nlm.TERMS


def detect(root: Path) -> bool:
    """Return whether a folder has Shenzhen's images without the mask folders of other editions."""
    images = root / "CXR_png"
    other_edition = (root / "masks").exists() or (root / "ManualMask").exists()
    if other_edition or not images.is_dir():
        return False
    return next(images.glob("CHNCXR_*"), None) is not None


def rows(root: Path) -> Iterator[Row | Remark]:
    """Yield the images and remarks."""
    return _nlm.rows(root, ("CXR_png",), _masks_of, ("mask",))


def example(root: Path, *, images: int = 12, seed: int = 0, size: int | None = None) -> None:
    """Write a made-up copy. Every seventh image has no mask, about as many as in the release."""
    frame = synthetic.frame(340, 330, size)
    studies = _nlm.invent("CHNCXR", images, np.random.default_rng(seed), size=frame)
    for index, study in enumerate(studies):
        storage.add_bytes(
            root / "CXR_png" / f"{study.stem}.png", raster.png(study.phantom.pixels, quick=True)
        )
        if index % 7 != 6:
            both = study.phantom.right_lung | study.phantom.left_lung
            storage.add_bytes(
                root / _masks_of(study.stem)["lung_mask"], raster.png(both, quick=True)
            )
        _nlm.write_reading(root, study)


def _masks_of(stem: str) -> dict[str, str]:
    return {"lung_mask": f"mask/{stem}_mask.png"}
