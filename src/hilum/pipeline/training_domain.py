"""Fit the domain of a run's model: what its training images are like, see `hilum.inference.domain`.

Limits are measured on the tune part, whose patients the model was not trained on. Where it is too
small they are measured on the training part itself, by the images of other patients; a network that
was trained on these images describes them more alike than it does others, so the limits are then
rather strict.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import numpy as np
import polars as pl

from hilum.errors import BadData
from hilum.imaging.image_stack import ImageStack
from hilum.inference import domain, image_statistics
from hilum.inference.domain import Domain
from hilum.inference.onnx_model import OnnxModel
from hilum.scale import shards
from hilum.statistics import folds

MOST = domain.MOST_FITTED  # images of a part that are described, evenly out of all


def fit_domain(
    model: OnnxModel,
    images: np.ndarray | ImageStack,
    train: np.ndarray,
    tune: np.ndarray,
    patients: pl.Series,
) -> Domain | None:
    """Fit the domain of a model to rows `train` of images, uint8 (n, size, size).

    `tune` are rows of other patients, `patients` (len(train),) are those of `train`. None where the
    images, or their patients, are too few.
    """
    some = np.arange(0, len(train), -(-len(train) // MOST) or 1)
    rows = _measured(model, images, train[some])
    if len(tune) >= domain.FEWEST:
        return domain.fit(rows, _measured(model, images, tune[:: -(-len(tune) // MOST)]))
    people = patients.gather(some)
    if people.n_unique() < domain.FEWEST:
        return None
    crossed = domain.crossed_distances(rows, folds.by_name_order(people))
    return domain.fit_crossed(rows, crossed)


def _measured(
    model: OnnxModel, images: np.ndarray | ImageStack, rows: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what the detectors compare, of rows of images.

    Raises `BadData` that lists the images on which process after process was ended.
    """
    places = {f"image in row {row}": row for row in rows.tolist()}
    with closing(shards.run(_Measuring(model, images), places, None)) as outcomes:
        ended = list(outcomes)
    if set_aside := [one.fault for one in ended if one.fault]:
        raise BadData.listing("training images that cannot be measured", set_aside)
    found = np.stack([np.frombuffer(one.result) for one in ended])
    of_image = len(image_statistics.NAMES)
    if found.shape[1] == of_image:
        return {domain.IMAGE: found}
    return {domain.IMAGE: found[:, :of_image], domain.FEATURES: found[:, of_image:]}


@dataclass(frozen=True)
class _Measuring:
    """Measures the image in one row: its statistics, then what features the model gives."""

    model: OnnxModel
    images: np.ndarray | ImageStack

    def __call__(self, row: int) -> bytes:
        image, features = self.images[row], None
        if domain.OUTPUT in self.model.contract.outputs:
            features = self.model.many(image[None], (domain.OUTPUT,))[domain.OUTPUT]
        measured = domain.measurements(image[None], features)
        names = (domain.IMAGE, domain.FEATURES)
        return np.concatenate([measured[name][0] for name in names if name in measured]).tobytes()
