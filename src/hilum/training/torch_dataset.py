"""PyTorch data sets of cached, augmented images, for training loops of one's own.

Images are float32 (..., 1, height, width) in [0, 1], bright is dense; masks int64 (..., height,
width). Keep `num_workers` at 0: a batch takes less time to make than to send between processes.

>>> import numpy as np
>>> from torch.utils.data import DataLoader
>>> from hilum.training.augmentation import Augmentation
>>> from hilum.training.batches import TrainingImages
>>> images = np.zeros((10, 64, 64), np.uint8)  # or the images of a cache of a run
>>> source = TrainingImages(images, targets=np.arange(10))
>>> dataset = CachedImages(source, rows=np.arange(8), changes=Augmentation())
>>> [tuple(batch["images"].shape) for batch in DataLoader(dataset, batch_size=4, shuffle=True)]
[(4, 1, 64, 64), (4, 1, 64, 64)]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hilum.training.augmentation import Augmentation, draw
from hilum.training.batches import Batch, TrainingImages, as_float

Item = dict[str, Tensor | list[Tensor]]
"""`rows`, `images`, and of `masks`, `boxes`, `points` and `targets` those that the source has"""


class CachedImages(Dataset[Item]):
    """The images of `rows`, by position, for a `DataLoader` with its own batch size and order.

    The changes of an image depend on `seed`, `epoch` and its row alone. Set `epoch` before each
    pass to draw new ones.
    """

    def __init__(
        self,
        images: TrainingImages,
        rows: np.ndarray,
        *,
        seed: int = 0,
        changes: Augmentation | None = None,
    ) -> None:
        self.images, self.rows = images, np.asarray(rows)
        self.seed, self.changes = seed, changes
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Return several images; a `DataLoader` calls this once per batch."""
        rows = self.rows[list(indices)]
        drawn = None
        if self.changes:
            drawn = [
                draw(self.changes, np.random.default_rng([self.seed, self.epoch, int(row)]))
                for row in rows
            ]
        whole = _tensors(self.images.batch(rows, drawn))
        return [{name: part[at] for name, part in whole.items()} for at in range(len(rows))]


def _tensors(batch: Batch) -> Item:
    """Convert a batch; boxes and points become one tensor per image."""
    made: Item = {
        "rows": torch.from_numpy(batch.rows),
        "images": torch.from_numpy(as_float(batch.images)).unsqueeze(1),
    }
    if batch.masks is not None:
        made["masks"] = torch.from_numpy(batch.masks).long()
    for name, moved in (("boxes", batch.boxes), ("points", batch.points)):
        if moved is not None:
            made[name] = [torch.from_numpy(np.asarray(one, np.float32)) for one in moved]
    if batch.targets is not None:
        made["targets"] = torch.from_numpy(np.asarray(batch.targets))
    return made
