"""The labels of one image as stored in its file, before they are interpreted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelImage:
    """The labels of a file, and the label of each pixel."""

    path: str
    kind: str  # PNG, JPEG, TIFF, BMP or GIF, by the bytes
    numbers: np.ndarray  # uint8 (height, width): the index of each pixel's label in `keys`
    keys: tuple[str, ...]  # of each label, see `hilum.imaging.files.label_image`
    brightness: tuple[float, ...]  # of each label as it is shown; below 0 where it is transparent
    form: str  # what holds the labels: grey, palette, colour or alpha
    distinct: int  # different values in the file
    soft: bool  # some are between two labels, by resizing or lossy compression
    exact: bool = True  # keys are values as stored, not the middle of a range
