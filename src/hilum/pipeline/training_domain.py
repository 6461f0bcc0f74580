"""Fit the domain of a run's model: what its training images are like, see `hilum.inference.domain`.

Limits are measured on the tune part, whose patients the model was not trained on. Where it is too
small they are measured on the training part itself, by the images of other patients; a network that
was trained on these images describes them more alike than it does others, so the limits are then
rather strict.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hilum.imaging.image_stack import ImageStack
from hilum.inference import domain
from hilum.inference.domain import Domain
from hilum.inference.onnx_model import OnnxModel
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
    """Return what the detectors compare, of rows of images."""
    chosen = np.stack([images[row] for row in rows])
    if domain.OUTPUT not in model.contract.outputs:
        return domain.measurements(chosen, None)
    features = [model(image)[domain.OUTPUT] for image in chosen]
    return domain.measurements(chosen, np.stack(features))
