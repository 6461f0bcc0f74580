"""The region of one file that the finding and anomaly models were shown, and how it maps back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hilum.annotations import lung_masks, shapes
from hilum.imaging.geometry import Chain, Crop, Letterbox, Size
from hilum.inference import lung_crop, saliency


@dataclass(frozen=True)
class Shown:
    """The region of one file that a model was shown, its lungs, and its place in image and file."""

    image: np.ndarray  # uint8 (size, size)
    labels: np.ndarray  # uint8, predicted lungs in the cached image
    crop: Crop
    size: Size  # of the file

    @property
    def from_cached(self) -> Chain:
        """The geometry from the cached image to the region."""
        return Chain((self.crop, Letterbox(self.crop.target, self.image.shape[0])))

    @property
    def from_file(self) -> Chain:
        """The geometry from the file's own pixels to the region."""
        return lung_crop.Cut(self.image, self.crop, "").to_file(self.size)

    @property
    def lungs(self) -> np.ndarray:
        """The predicted lungs in the region, bool (size, size)."""
        return lung_masks.downsample_labels(self.labels, self.from_cached.forward) > 0

    def in_file(self, found: np.ndarray) -> np.ndarray:
        """Map values of the region to the file's own pixels, float32, 0 outside the region."""
        return self.from_file.back(saliency.upsample(found, self.image.shape[0]))

    def in_cached(self, found: np.ndarray) -> np.ndarray:
        """Map values of the region to the cached image, float32, 0 outside the region."""
        return self.from_cached.back(saliency.upsample(found, self.image.shape[0]))

    def reference_mask(self, outlines: Sequence[shapes.Shape]) -> np.ndarray:
        """Return the union of outlines of the file, in the cached image, bool (size, size)."""
        mask = np.zeros(self.size, bool)
        for outline in outlines:
            mask |= outline.to_mask(self.size)
        letterbox = Letterbox(self.size, self.crop.source[0])
        return letterbox.forward(mask.astype(np.uint8) * np.uint8(255)) >= 128
