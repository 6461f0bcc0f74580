"""Chest Xray Masks and Labels: Montgomery and Shenzhen in one folder, as published on Kaggle.

    CXR_png/CHNCXR_0001_0.png            the last digit: 1 tuberculosis, 0 normal
    masks/CHNCXR_0001_0_mask.png         both lungs, 255 inside; Shenzhen's masks end in _mask
    masks/MCUCXR_0001_0.png              Montgomery's do not
    ClinicalReadings/CHNCXR_0001_0.txt   sex, age and the radiologist's words
    test/CHNCXR_0025_0.png               images without a mask

`test/` has the images without a reference mask. It is not a held-out test set of the labels, so it
gives no part of a split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from hilum import storage
from hilum.dataset.manifest import Remark, Row
from hilum.dataset.readers import _nlm
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.plugins import Card

CARD = Card(
    title="Chest Xray Masks and Labels (Montgomery County and Shenzhen, Kaggle)",
    licence="research use as stated by the National Library of Medicine; "
    "the Shenzhen masks are CC BY-NC-SA 4.0",
    source="Kaggle: nikhilpandey360/chest-xray-masks-and-labels",
    citation="Jaeger et al. 2014, Quant Imaging Med Surg 4(6):475-477; "
    "Candemir et al. 2014, IEEE Trans Med Imaging 33(2):577-590; "
    "Stirenko et al. 2018, IEEE ELNANO",
    counts="800 images with readings (138 Montgomery: 80 normal, 58 tuberculosis; "
    "662 Shenzhen: 326 and 336), 704 lung masks",
    caveats="No patient key: each image counts as a patient of its own, except for notes such as "
    "'same pt as …' in Montgomery's readings. The two hospitals differ in image size and in the "
    "prevalence of tuberculosis.",
)
NAMES_ARE_PUBLISHED = True
TERMS = _nlm.TERMS


def detect(root: Path) -> bool:
    """Return whether a folder has images and the masks of both lungs in one."""
    return (
        (root / "CXR_png").is_dir()
        and (root / "masks").is_dir()
        and not (root / "ManualMask").exists()
    )


def rows(root: Path) -> Iterator[Row | Remark]:
    """Yield the images and remarks."""
    return _nlm.rows(root, ("CXR_png", "test"), _masks_of, ("masks",))


def example(root: Path, *, images: int = 24, seed: int = 0, size: int | None = None) -> None:
    """Write a made-up copy: about a fifth Montgomery, the rest Shenzhen.

    Every eighth image of Shenzhen has no mask. From 40 images on it has two faults that real
    folders have: one image appears under a second patient's name, and one reading says normal
    where the image's name says tuberculosis.
    """
    rng = np.random.default_rng(seed)
    montgomery = max(3, images // 5)
    for study in _nlm.invent("MCUCXR", montgomery, rng, size=synthetic.frame(360, 360, size)):
        _write(root, study, with_mask=True)
    frame, first = synthetic.frame(340, 330, size), None
    for index, study in enumerate(_nlm.invent("CHNCXR", images - montgomery, rng, size=frame)):
        first = first or study
        if images >= 40 and index == 2:
            study = replace(study, words="normal")
        if images >= 40 and index == 3:
            stem = f"{study.stem[:-1]}{first.stem[-1]}"
            study = replace(study, stem=stem, phantom=first.phantom, words=first.words)
        _write(root, study, with_mask=index % 8 != 7)


def _masks_of(stem: str) -> dict[str, str]:
    ending = "_mask" if stem.startswith("CHN") else ""
    return {"lung_mask": f"masks/{stem}{ending}.png"}


def _write(root: Path, study: _nlm.Invented, *, with_mask: bool) -> None:
    folder = "CXR_png" if with_mask else "test"
    storage.add_bytes(
        root / folder / f"{study.stem}.png", raster.png(study.phantom.pixels, quick=True)
    )
    if with_mask:
        both = study.phantom.right_lung | study.phantom.left_lung
        storage.add_bytes(root / _masks_of(study.stem)["lung_mask"], raster.png(both, quick=True))
    _nlm.write_reading(root, study)
