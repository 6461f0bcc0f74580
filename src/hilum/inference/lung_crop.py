"""Crop a radiograph to its lungs, or to one of them, reversibly to the file's own pixels.

A mask is trusted where its quality is at least that of the settings and it is not tiny. Elsewhere
the crop is the typical box, and without one the whole image; `how` says which of CUTS it is. A crop
whose mask is not trusted is not blackened outside it either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from hilum.annotations import lung_masks
from hilum.config import LungCrop
from hilum.imaging.geometry import Chain, Crop, Letterbox, Size

LEAST_LUNG = 0.02  # of the image: with less lung found, the mask is not trusted
FEWEST = 8  # trusted masks that a typical box is made of
LUNGS, BOX, WHOLE, ASKED = CUTS = (
    "lungs",
    "typical box",
    "whole picture",
    "whole picture as asked for",
)
ONE_LUNG = {f"{name} lung": side for name, side in lung_masks.SIDES.items()}  # by [crop] area
FLAGGED = (BOX, WHOLE)  # in place of lungs that were not found or not trusted
SIDES = ("top", "left", "bottom", "right")
Box = Mapping[str, float]


@dataclass(frozen=True)
class Cut:
    """A region: uint8 (size, size), and the way back from it to the cached picture. `how` is one of CUTS."""

    image: np.ndarray
    crop: Crop
    how: str

    def to_file(self, size: Size) -> Chain:
        """The geometry from a file of (height, width) `size` to this region."""
        return Chain(
            (
                Letterbox(size, self.crop.source[0]),
                self.crop,
                Letterbox(self.crop.target, self.image.shape[0]),
            )
        )


def cut(
    image: np.ndarray,
    labels: np.ndarray,
    settings: LungCrop,
    *,
    quality: float = 1.0,
    typical: Box | None = None,
    size: Size = (1, 1),
) -> Cut:
    """The region of one cached picture uint8 (s, s), of a file of (height, width) `size`, whose lungs are `labels`, of that quality."""
    found = box(labels, settings, quality)
    crop, how = _cut(found, settings, typical, Letterbox(size, image.shape[0]))
    if settings.masked and found:
        reach = max(
            1, round(settings.margin * 0.25 * min(crop.target))
        )  # a rim, so that the pleura stays in the picture
        inside = cv2.dilate(
            (wanted(labels, settings) > 0).astype(np.uint8),
            cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)),
        )
        image = image * inside
    return Cut(Letterbox(crop.target, settings.size).forward(crop.forward(image)), crop, how)


def _cut(
    found: Crop | None, settings: LungCrop, typical: Box | None, letterbox: Letterbox
) -> tuple[Crop, str]:
    """The crop and why it is that, of the box of believed lungs."""
    whole = Crop(letterbox.target, 0, 0, *letterbox.target)
    if settings.area == "whole":
        return whole, WHOLE if settings.masked and not found else ASKED
    if found:
        return found, LUNGS
    return (_placed(typical, letterbox), BOX) if typical else (whole, WHOLE)


def wanted(labels: np.ndarray, settings: LungCrop) -> np.ndarray:
    """Those of the labels that the region is to hold."""
    side = ONE_LUNG.get(settings.area)
    return labels if side is None else np.where(labels == side, labels, 0).astype(labels.dtype)


def box(labels: np.ndarray, settings: LungCrop, quality: float) -> Crop | None:
    """The bounding box of the lungs that are wanted, grown by a margin; None where the mask is not believed."""
    return (
        _box(wanted(labels, settings), settings.margin)
        if quality >= settings.min_mask_quality
        else None
    )


def typical_box(boxes: Iterable[tuple[Crop, Size]]) -> dict[str, float]:
    """The typical box of boxes in cached pictures and the (height, width) of their files, in shares of the picture; {} of too few."""
    shares = []
    for crop, size in boxes:
        letterbox = Letterbox(size, crop.source[0])
        (top, left), (height, width) = letterbox.corner, letterbox.inner
        shares.append(
            (
                (crop.top - top) / height,
                (crop.left - left) / width,
                (crop.bottom - top) / height,
                (crop.right - left) / width,
            )
        )
    return (
        dict(zip(SIDES, np.clip(np.mean(shares, axis=0), 0, 1).round(4).tolist(), strict=True))
        if len(shares) >= FEWEST
        else {}
    )


def _placed(typical: Box, letterbox: Letterbox) -> Crop:
    (top, left), (height, width) = letterbox.corner, letterbox.inner
    first = top + round(typical["top"] * height), left + round(typical["left"] * width)
    last = top + round(typical["bottom"] * height), left + round(typical["right"] * width)
    return Crop(letterbox.target, *first, max(last[0], first[0] + 1), max(last[1], first[1] + 1))


def _box(labels: np.ndarray, margin: float) -> Crop | None:
    """The lungs' bounding box grown by `margin` of its sides, within the picture; None where too little lung was found."""
    if (labels > 0).mean() < LEAST_LUNG:
        return None
    ends = []
    for axis in (0, 1):
        covered = np.flatnonzero((labels > 0).any(axis=1 - axis))
        first, last = int(covered[0]), int(covered[-1]) + 1
        more = round(margin * (last - first))
        ends.append((max(0, first - more), min(labels.shape[axis], last + more)))
    (top, bottom), (left, right) = ends
    return Crop(labels.shape, top, left, bottom, right)
