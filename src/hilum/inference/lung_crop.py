"""Crop a radiograph to its lungs, or to one of them, reversibly to the file's own pixels.

A mask is trusted where its quality is at least that of the settings and it is not tiny. Elsewhere
the crop is the typical box, and without one the whole image; `how` says which of CUTS it is. A crop
whose mask is not trusted is not blackened outside the lungs either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from hilum.annotations import lung_masks
from hilum.config import LungCrop
from hilum.imaging.geometry import Chain, Crop, Letterbox, Size

LEAST_LUNG = 0.02  # of the image: a mask with less lung is not trusted
FEWEST = 8  # trusted masks that a typical box is averaged from
LUNGS, BOX, WHOLE, REQUESTED = CUTS = (
    "lungs",
    "typical box",
    "whole image",
    "whole image as requested",
)
ONE_LUNG = {f"{name} lung": side for name, side in lung_masks.SIDES.items()}  # by [crop] area
FLAGGED = (BOX, WHOLE)  # in place of lungs that were not found or not trusted
SIDES = ("top", "left", "bottom", "right")
Box = Mapping[str, float]


@dataclass(frozen=True)
class Cut:
    """A cropped image, uint8 (size, size), and the way back to the cached image.

    `how` is one of CUTS.
    """

    image: np.ndarray
    crop: Crop
    how: str

    def to_file(self, size: Size) -> Chain:
        """Return the geometry from a file of (height, width) `size` to this crop."""
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
    """Crop one cached image, uint8 (s, s), to its lungs.

    `labels` are the lungs, uint8 (s, s), `quality` the estimate of their mask, `size` the (height,
    width) of the original file, `typical` the box used where the mask is not trusted.
    """
    found = box(labels, settings, quality)
    crop, how = _cut(found, settings, typical, Letterbox(size, image.shape[0]))
    if settings.masked and found:
        # A rim keeps the pleura visible.
        reach = max(1, round(settings.margin * 0.25 * min(crop.target)))
        inside = cv2.dilate(
            (wanted(labels, settings) > 0).astype(np.uint8),
            cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)),
        )
        image = image * inside
    return Cut(Letterbox(crop.target, settings.size).forward(crop.forward(image)), crop, how)


def _cut(
    found: Crop | None, settings: LungCrop, typical: Box | None, letterbox: Letterbox
) -> tuple[Crop, str]:
    """Choose between the box of trusted lungs, the typical box and the whole image."""
    whole = Crop(letterbox.target, 0, 0, *letterbox.target)
    if settings.area == "whole":
        return whole, WHOLE if settings.masked and not found else REQUESTED
    if found:
        return found, LUNGS
    return (_placed(typical, letterbox), BOX) if typical else (whole, WHOLE)


def wanted(labels: np.ndarray, settings: LungCrop) -> np.ndarray:
    """Return the labels of the lungs that the crop is to hold, 0 elsewhere."""
    side = ONE_LUNG.get(settings.area)
    return labels if side is None else np.where(labels == side, labels, 0).astype(labels.dtype)


def box(labels: np.ndarray, settings: LungCrop, quality: float) -> Crop | None:
    """Return the lungs' bounding box, grown by the margin; None where the mask is not trusted."""
    if quality < settings.min_mask_quality:
        return None
    return _box(wanted(labels, settings), settings.margin)


def typical_box(boxes: Iterable[tuple[Crop, Size]]) -> dict[str, float]:
    """Average boxes in cached images into one, in fractions of the image; {} for too few.

    Each box comes with the (height, width) of its file.
    """
    fractions = []
    for crop, size in boxes:
        letterbox = Letterbox(size, crop.source[0])
        (top, left), (height, width) = letterbox.corner, letterbox.inner
        fractions.append(
            (
                (crop.top - top) / height,
                (crop.left - left) / width,
                (crop.bottom - top) / height,
                (crop.right - left) / width,
            )
        )
    if len(fractions) < FEWEST:
        return {}
    mean = np.clip(np.mean(fractions, axis=0), 0, 1).round(4).tolist()
    return dict(zip(SIDES, mean, strict=True))


def _placed(typical: Box, letterbox: Letterbox) -> Crop:
    (top, left), (height, width) = letterbox.corner, letterbox.inner
    first = top + round(typical["top"] * height), left + round(typical["left"] * width)
    last = top + round(typical["bottom"] * height), left + round(typical["right"] * width)
    return Crop(letterbox.target, *first, max(last[0], first[0] + 1), max(last[1], first[1] + 1))


def _box(labels: np.ndarray, margin: float) -> Crop | None:
    """Return the bounding box grown by `margin` of its sides; None for too little lung."""
    if cv2.countNonZero(labels) / labels.size < LEAST_LUNG:
        return None
    left, top, width, height = cv2.boundingRect(labels)
    ends = []
    for first, length, side in ((top, height, labels.shape[0]), (left, width, labels.shape[1])):
        more = round(margin * length)
        ends.append((max(0, first - more), min(side, first + length + more)))
    (top, bottom), (left, right) = ends
    height, width = labels.shape
    return Crop((height, width), top, left, bottom, right)
