"""The labels of one image as its file has them, before anything says what they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelImage:
    path: str
    kind: str  # PNG, JPEG, TIFF, BMP or GIF, by the bytes
    numbers: np.ndarray  # uint8 (height, width): the place of each pixel's label in `keys`
    keys: tuple[str, ...]  # of each label, see `hilum.imaging.files.label_image`
    brightness: tuple[float, ...]  # of each label as it is shown; below 0 where it is transparent
    form: str  # where the labels stand: grey, palette, colour or alpha
    distinct: int  # different values in the file
    soft: bool  # some lie between two labels, by resizing or lossy compression
    exact: bool = True  # keys are values that stand in the file, not the middle of some
