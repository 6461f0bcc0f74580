"""Examine one radiograph: preprocess it, check its orientation, segment its lungs, crop it.

This is the one path from an image to what the finding and anomaly models are shown; runs, the
bundled models and cross-evaluation share it, so an image scores the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hilum.annotations import lung_masks
from hilum.config import LungCrop, Pixels
from hilum.imaging.geometry import Letterbox, Size
from hilum.imaging.image_stack import as_uint8
from hilum.imaging.radiograph import Radiograph, preprocess
from hilum.inference import lung_crop, lung_finder, orientation
from hilum.inference.lung_finder import LungSegmentation
from hilum.inference.onnx_model import InputContract, OnnxModel
from hilum.inference.orientation import QualityFlag


@dataclass(frozen=True)
class Examination:
    """The preprocessed image, its quality flags and its lungs.

    `image` is uint8 (s, s), letterboxed from a radiograph of (height, width) `size`.
    """

    image: np.ndarray
    size: Size
    quality_flags: tuple[QualityFlag, ...]
    lungs: LungSegmentation

    @property
    def quality(self) -> float:
        """Estimated quality of the lung mask, limited by the quality flags."""
        return lung_finder.cap_quality(self.lungs.quality, self.quality_flags)

    def crop(self, settings: LungCrop, typical: lung_crop.Box | None = None) -> lung_crop.Cut:
        """Crop the image to its lungs, see `hilum.inference.lung_crop.cut`."""
        return lung_crop.cut(
            self.image,
            self.lungs.labels,
            settings,
            quality=self.lungs.quality,
            typical=typical,
            size=self.size,
        )

    def upright_labels(self) -> np.ndarray:
        """Return the lung labels in the radiograph's own pixels, uint8 (height, width)."""
        back = Letterbox(self.size, self.image.shape[0]).back
        return lung_masks.upsample_labels(self.lungs.labels, self.lungs.likely, back)


def pixels_of(contract: InputContract) -> Pixels:
    """Return the preprocessing that a model's contract requires."""
    return Pixels(size=contract.size, normalisation=contract.normalisation)


def examine(
    radiograph: Radiograph,
    finder: OnnxModel | None,
    pixels: Pixels,
    protocol: str = lung_masks.AIR,
) -> Examination:
    """Preprocess a radiograph, compute its quality flags and segment its lungs.

    `protocol`, one of lung_masks.PROTOCOLS, says what counts as lung. Without `finder`, and in an
    image of one constant value, no lungs are found.
    """
    image = as_uint8(preprocess(radiograph, pixels.size, pixels.normalisation, pixels.depth))
    flags = orientation.flags_of_image(image, radiograph.size)
    values = radiograph.stored_values
    constant = values.min() == values.max()
    return examine_cached(image, radiograph.size, None if constant else finder, flags, protocol)


def examine_cached(
    image: np.ndarray,
    size: Size,
    finder: OnnxModel | None,
    quality_flags: tuple[QualityFlag, ...] = (),
    protocol: str = lung_masks.AIR,
) -> Examination:
    """Segment the lungs of an image that is preprocessed already, uint8 (s, s).

    Its quality flags are not computed here, only passed on.
    """
    lungs = (
        lung_finder.segment_lungs(finder, image, size, protocol)
        if finder
        else lung_finder.no_lungs(image.shape[0])
    )
    return Examination(image, size, quality_flags, lungs)
