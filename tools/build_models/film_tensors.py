"""Films on the training device, with their grey levels as ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RANKS = 64  # points of a film's table of grey levels


@dataclass
class Films:
    """All films on the training device.

    images, ranks (the equalised image) and lungs are uint8 (n, s, s); tables float32 (n, RANKS),
    the grey levels of equally spaced ranks; targets float32 (n, tasks); source int64 (n,).
    """

    images: Tensor
    ranks: Tensor
    lungs: Tensor
    tables: Tensor
    targets: Tensor
    source: Tensor

    @property
    def device(self) -> torch.device:
        """The device that holds the films."""
        return self.images.device


def films(
    images: np.ndarray,
    lungs: np.ndarray,
    targets: np.ndarray,
    source: np.ndarray,
    device: str,
) -> Films:
    """Put films on a device; `lungs` is a mask uint8 (n, s, s), not zero inside."""
    ranks, tables = np.empty_like(images), np.empty((len(images), RANKS), np.float32)
    for row, image in enumerate(images):
        inside = image[image > 0]
        counts = np.bincount(inside, minlength=256).astype(np.float64)
        counts[0] = 0
        middle = np.cumsum(counts) - counts / 2
        ranks[row] = np.clip(middle / max(len(inside), 1) * 254 + 1, 1, 255).astype(np.uint8)[image]
        ranks[row][image == 0] = 0
        places = np.linspace(0, 100, RANKS)
        tables[row] = np.percentile(inside, places) / 255 if len(inside) else places / 100
    arrays = [images, ranks, (lungs > 0).astype(np.uint8)]
    tensors = [torch.from_numpy(one).to(device) for one in arrays]
    rest = (tables, targets.astype(np.float32), source.astype(np.int64))
    return Films(*tensors, *(torch.from_numpy(one).to(device) for one in rest))
