"""Attention U-Net for the lungs (Oktay et al. 2018), from MONAI.

A U-Net with an additive attention gate on each skip connection.
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
    title="Attention U-Net for the lungs",
    licence=lung_segmentation.LICENCE,
    source=(
        "Oktay et al.: Attention U-Net: Learning Where to Look for the Pancreas. MIDL 2018; from "
        "MONAI"
    ),
    citation="arXiv:1804.03999",
    caveats=f"{lung_segmentation.CAVEATS} {lung_segmentation.FULL_RESOLUTION}",
)
QUICK: Mapping[str, int | float] = {
    "width": 8,
    "epochs": 4,
    "least_steps": 160,
    "learning_rate": 0.02,
}


@dataclass(frozen=True)
class Settings(SegmenterSettings):
    """The levels have 1, 2, 4, 8 and 16 times `width` channels, with 16 as in the authors' code."""

    width: int = 16


def _network(settings: Settings) -> nn.Module:
    # MONAI takes seconds to import, so it is imported only when a network is made.
    from monai.networks.nets.attentionunet import AttentionUnet

    channels = tuple(settings.width * 2**level for level in range(5))
    return AttentionUnet(
        spatial_dims=2, in_channels=1, out_channels=2, channels=channels, strides=(2, 2, 2, 2)
    )


fit = lung_segmentation.trainer(_network)
