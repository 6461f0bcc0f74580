"""Features of a frozen network, computed once for benchmarks and tools that fit on top of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from hilum import storage
from hilum.safety.onnx_session import Session
from hilum.training import efficientnet_backbone, onnx_export

STAGES = (3, 4, 5)  # of seven: 40, 80 and 112 channels
FAINT = 1e-8  # keeps the gradient-free root of a constant channel finite
SIZE = 224


class MiddleStages(nn.Module):
    """uint8 (n, size, size) -> mean and standard deviation of each channel of STAGES, (n, 464).

    The weights are those of ImageNet and never trained.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = efficientnet_backbone.Backbone(max(STAGES))
        efficientnet_backbone.load_imagenet(self.backbone)
        self.backbone.freeze(max(STAGES))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features."""
        found: list[Tensor] = []
        each = self.backbone.each_stage(images.unsqueeze(1).float() / 255)
        for stage in STAGES:
            cells = each[stage - 1]
            mean = cells.mean((2, 3), keepdim=True)
            spread = ((cells - mean).square().mean((2, 3)) + FAINT).sqrt()
            found += [mean.flatten(1), spread]
        return torch.cat(found, 1)


def exported(work: Path) -> Path:
    """Write the network as an ONNX file in `work`, if it is not there."""
    path = work / "middle-stages.onnx"
    if not path.exists():
        onnx_export.to_onnx(
            MiddleStages().eval(), path, size=SIZE, outputs=("features",), metadata={}
        )
    return path


def middle_stages(films: Path, work: Path, network: Path | None = None) -> np.ndarray:
    """Compute the features float32 (n, 464) of the lung crops of `films`, kept in `work`.

    `films` is a folder of `tools.build_models.films`; `network` another file of the same kind.
    """
    path = network or exported(work)
    digests = pl.read_parquet(films / "facts.parquet")["pixel_digest"].to_list()
    kept = work / f"middle-{storage.digest([digests, storage.digest_of_file(path)])}.npy"
    if not kept.exists():
        crops = np.load(films / "crops.npy", mmap_mode="r")
        session = Session(path.read_bytes(), path.name, SIZE, trusted=True)
        rows = [
            session.run(["features"], {onnx_export.INPUT: np.ascontiguousarray(crop[None])})[0][0]
            for crop in crops
        ]
        with storage.replacing(kept) as beside, open(beside, "wb") as stream:
            np.save(stream, np.stack(rows))
    return np.load(kept)
