"""Batches for a training loop of one's own: `hilum.training.batches` as data sets of PyTorch.

    loader = DataLoader(Batches(pictures, rows, 32, seed=0, changes=Augmentation()), batch_size=None)
    loader = DataLoader(Items(pictures, rows), batch_size=32)

Images come as float32 (..., 1, height, width) in [0, 1], bright is dense; masks as int64 (..., height, width). `num_workers` stays 0:
a batch takes less time to make than to send from one process to another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from hilum.training.augmentation import Augmentation, draw
from hilum.training.batches import Batch, TrainingImages, as_float, epoch


class CachedBatches(IterableDataset):
    """Each pass is the next epoch: what is drawn in it depends on `seed` and its number alone. `epoch` may be set to go on from one."""

    def __init__(
        self,
        pictures: TrainingImages,
        rows: np.ndarray,
        size: int,
        *,
        seed: int,
        changes: Augmentation | None = None,
    ) -> None:
        self.pictures, self.rows, self.size, self.seed, self.changes = (
            pictures,
            np.asarray(rows),
            size,
            seed,
            changes,
        )
        self.epoch = 0

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.size)

    def __iter__(self) -> Iterator[dict[str, Tensor | list[Tensor]]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        return map(_tensors, epoch(self.pictures, self.rows, self.size, rng, self.changes))


class CachedImages(Dataset):
    """One picture a number. What is drawn for it depends on `seed`, `epoch` and its row alone; `epoch` is for the caller to count."""

    def __init__(
        self,
        pictures: TrainingImages,
        rows: np.ndarray,
        *,
        seed: int = 0,
        changes: Augmentation | None = None,
    ) -> None:
        self.pictures, self.rows, self.seed, self.changes = (
            pictures,
            np.asarray(rows),
            seed,
            changes,
        )
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Tensor | list[Tensor]]:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Tensor | list[Tensor]]]:
        rows = self.rows[list(numbers)]
        drawn = (
            [
                draw(self.changes, np.random.default_rng([self.seed, self.epoch, int(row)]))
                for row in rows
            ]
            if self.changes
            else None
        )
        whole = _tensors(self.pictures.batch(rows, drawn))
        return [{name: part[at] for name, part in whole.items()} for at in range(len(rows))]


def _tensors(batch: Batch) -> dict[str, Tensor | list[Tensor]]:
    """`rows`, `images`, and of `masks`, `boxes`, `points` and `targets` what there is; boxes and points one tensor an image."""
    made: dict[str, Tensor | list[Tensor]] = {
        "rows": torch.from_numpy(batch.rows),
        "images": torch.from_numpy(as_float(batch.images)).unsqueeze(1),
    }
    if batch.masks is not None:
        made["masks"] = torch.from_numpy(batch.masks).long()
    for name in ("boxes", "points"):
        if (moved := getattr(batch, name)) is not None:
            made[name] = [torch.from_numpy(np.asarray(one, np.float32)) for one in moved]
    if batch.targets is not None:
        made["targets"] = torch.from_numpy(np.asarray(batch.targets))
    return made
