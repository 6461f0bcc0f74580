"""U-Net for the lungs (Ronneberger et al. 2015), from MONAI.

The form of Falk et al. 2019 (Nature Methods 16:67) at full resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from hilum.plugins import Card
from hilum.training import lung_segmentation
from hilum.training.settings import SegmenterSettings

TASK = "lungs"
OUTPUTS = ("lungs",)
CARD = Card(
    title="U-Net for the lungs",
    licence=lung_segmentation.LICENCE,
    source=(
        "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image "
        "Segmentation. MICCAI 2015; from MONAI"
    ),
    citation="arXiv:1505.04597",
    caveats=f"{lung_segmentation.CAVEATS} {lung_segmentation.FULL_RESOLUTION}",
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


def _network(settings: Settings) -> nn.Module:
    # MONAI takes seconds to import, so it is imported only when a network is made.
    from monai.networks.nets.basic_unet import BasicUNet

    features = tuple(settings.width * times for times in (1, 1, 2, 4, 8, 1))
    # Batch normalisation takes half the time of MONAI's default "instance" on processors.
    return BasicUNet(spatial_dims=2, in_channels=1, out_channels=2, features=features, norm="batch")


fit = lung_segmentation.trainer(_network)
