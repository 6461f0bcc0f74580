"""U-Net for the lungs (Ronneberger et al. 2015), from MONAI.

The form of Falk et al. 2019 (Nature Methods 16:67) at full resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from hilum.plugins import Card
from hilum.training import lung_segmentation
from hilum.training.settings import SegmenterSettings

TASK = "lungs"
OUTPUTS = ("lungs",)
CARD = Card(
    title="U-Net for the lungs",
    licence=(
        "Apache-2.0 (the code; trained weights are bound by the terms of the images they were "
        "trained on)"
    ),
    source=(
        "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image "
        "Segmentation. MICCAI 2015; from MONAI"
    ),
    citation="arXiv:1505.04597",
    caveats=(
        "Segments the patient's right and left lung in frontal views. Lateral views, small "
        "children, consolidated lungs, and images that are mirrored or rotated by more than the "
        "augmentation are outside its training domain. "
        "Runs at full resolution: on processors it takes about ten times as long as "
        "'compact_unet'; on a GPU the difference is small."
    ),
)
QUICK: Mapping[str, int | float] = {
    "width": 8,
    "epochs": 4,
    "least_steps": 160,
    "learning_rate": 0.01,
}


@dataclass(frozen=True)
class Settings(SegmenterSettings):
    """The levels have 1, 1, 2, 4 and 8 times `width` channels, with 32 as in MONAI."""

    width: int = 32


def fit(
    images: np.ndarray,
    masks: np.ndarray,
    rows: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    **training: Any,
) -> nn.Module:
    """Train on `rows` of images and masks, both uint8 (N, size, size); see `lung_segmentation.fit`.

    Labels are 0 background, 1 right lung, 2 left lung, 255 ignored.
    """
    return lung_segmentation.fit(
        lambda: _network(settings.width), images, masks, rows, settings, seed=seed, **training
    )


def _network(width: int) -> nn.Module:
    # MONAI takes seconds to import, so it is imported only when a network is made.
    from monai.networks.nets.basic_unet import BasicUNet

    features = (width, width, 2 * width, 4 * width, 8 * width, width)
    # Batch normalisation takes half the time of MONAI's default "instance" on processors.
    return BasicUNet(spatial_dims=2, in_channels=1, out_channels=2, features=features, norm="batch")
