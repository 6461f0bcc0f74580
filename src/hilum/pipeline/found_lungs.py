"""Predict the lungs of cached images, each by its own model, in shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations import lung_masks
from hilum.dataset.pixel_cache import Cache
from hilum.imaging.geometry import Size
from hilum.imaging.image_stack import AsUint8, ImageStack
from hilum.inference import lung_finder
from hilum.inference.onnx_model import OnnxModel
from hilum.pipeline import _sharded
from hilum.pipeline._sharded import Rows
from hilum.progress import Progress
from hilum.storage import JsonObject, integrity

VERSION = 1  # to be raised when the same model and image give another mask or quality


def find(
    masks: Path,
    planned: pl.DataFrame,
    models: Mapping[str, OnnxModel],
    cached: Cache,
    progress: Progress,
    *,
    changes: bool = True,
) -> list[JsonObject]:
    """Predict the lungs of every image of `planned`, image_id and `finder` (a name of `models`).

    `changes` as in `lung_finder.segment_lungs`. Writes the file `masks`, and returns the rows of
    `hilum.pipeline.segment.LUNGS`.
    """
    sizes = {
        image_id: (height, width)
        for image_id, height, width in cached.index.select(
            "image_id", "height", "width"
        ).iter_rows()
    }
    columns = planned.select("image_id", "finder").iter_rows()
    items = {
        image_id: _Place(row, finder, int(cached.rows([image_id])[0]), sizes[image_id])
        for row, (image_id, finder) in enumerate(columns)
    }
    rows = Rows(masks, cached.size)
    made_by = {name: integrity.digest_of(model.path) for name, model in models.items()}
    found = _sharded.results(
        masks.parent,
        _Finding(models, cached.images, rows, changes),
        items,
        progress,
        made_from=[VERSION, made_by, cached.digest, changes],
        rows=rows,
    )
    return [{"image_id": name, **json.loads(one)} for name, one in zip(items, found, strict=True)]


class _Place(NamedTuple):
    """An image: row of its mask, name of its model, row in the cache, (height, width) of its
    file.
    """

    row: int
    finder: str
    cached: int
    size: Size


@dataclass(frozen=True)
class _Finding:
    """Predicts the lungs of one image, writes the mask, and gives its row of LUNGS as JSON."""

    models: Mapping[str, OnnxModel]
    images: ImageStack | AsUint8
    rows: Rows
    changes: bool

    def __call__(self, place: _Place) -> bytes:
        found = lung_finder.segment_lungs(
            self.models[place.finder],
            self.images[place.cached],
            place.size,
            changes=self.changes,
        )
        areas = {
            f"{name}_pixels": int(np.count_nonzero(found.labels == side))
            for name, side in lung_masks.SIDES.items()
        }
        checksum = self.rows.write(place.row, found.labels)
        row = {"row": place.row, "model": place.finder, **areas}
        return storage.as_json({**row, "quality": found.quality, "crc32": checksum}).encode()
