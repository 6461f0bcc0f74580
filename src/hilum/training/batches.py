"""Batches to learn from: rows of a cache or of an array, each with one draw for its image, its mask, its boxes and its points.

Images are uint8 or uint16 (b, height, width), masks uint8, and they stay so until `as_float`: a quarter of the memory, and OpenCV moves
them faster than floats. Nothing is decoded here, so one thread that makes the next batch ahead is enough, and there are no worker
processes, to which every batch would have to be copied. All that is random comes from the generator that is given, in the order of the
batches, so it does not depend on threads.

    for batch in epoch(TrainingImages(cache.images, cache.masks), rows, 32, rng, Augmentation()):
        x = as_float(batch.images)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from hilum.imaging.image_stack import ImageStack
from hilum.safety import threads
from hilum.training.augmentation import (
    Augmentation,
    AugmentationParams,
    SpatialTransform,
    draw_many,
    grey,
)

Made = TypeVar("Made")


@dataclass(frozen=True)
class TrainingImages:
    """What batches are made of, each indexed by row. `targets` is taken as it is; the others move with the image."""

    images: np.ndarray | ImageStack  # uint8 or uint16 (n, height, width)
    masks: np.ndarray | ImageStack | None = None  # uint8 (n, height, width)
    boxes: Sequence[np.ndarray] | None = (
        None  # of each row float (k, 4), see `hilum.training.augmentation`
    )
    points: Sequence[np.ndarray] | None = None  # of each row float (k, 2)
    targets: np.ndarray | None = None  # (n, ...)

    def batch(self, rows: np.ndarray, drawn: Sequence[AugmentationParams] | None = None) -> Batch:
        """The pictures of `rows`, at least one, each changed by its draw; as they are without draws."""
        targets = None if self.targets is None else self.targets[rows]
        boxes, points = (
            None if all_of is None else [all_of[row] for row in rows]
            for all_of in (self.boxes, self.points)
        )
        if drawn is None:
            return Batch(
                rows,
                self.images[rows],
                None if self.masks is None else self.masks[rows],
                boxes,
                points,
                targets,
            )
        moves = [SpatialTransform(one, self.images.shape[1:]) for one in drawn]
        changed = np.empty((len(rows), *moves[0].target), self.images.dtype)
        for at, (move, image) in enumerate(zip(moves, _taken(self.images, rows), strict=True)):
            seen = grey(move.draw, move.image(image, changed[at]))
            if seen is not changed[at]:
                changed[at] = seen
        labels = None
        if self.masks is not None:
            labels = np.stack(
                [
                    move.labels(mask)
                    for move, mask in zip(moves, _taken(self.masks, rows), strict=True)
                ]
            )
        boxes = boxes and [move.boxes(some) for move, some in zip(moves, boxes, strict=True)]
        points = points and [move.points(some) for move, some in zip(moves, points, strict=True)]
        return Batch(rows, changed, labels, boxes, points, targets)


@dataclass(frozen=True)
class Batch:
    """`TrainingImages` of some rows; None for what they lack."""

    rows: np.ndarray  # int64 (b,)
    images: np.ndarray
    masks: np.ndarray | None
    boxes: list[np.ndarray] | None
    points: list[np.ndarray] | None
    targets: np.ndarray | None


def epoch(
    pictures: TrainingImages,
    rows: np.ndarray,
    size: int,
    rng: np.random.Generator,
    changes: Augmentation | None = None,
    *,
    shuffled: bool = True,
) -> Iterator[Batch]:
    """All `rows` once, in batches of `size`, the last perhaps shorter; the next is being made while one is worked on."""
    order = rng.permutation(rows) if shuffled else np.asarray(rows)

    def works() -> Iterator[Callable[[], Batch]]:
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield partial(
                pictures.batch,
                chosen,
                None if changes is None else draw_many(changes, rng, len(chosen)),
            )

    return ahead(works())


def ahead(works: Iterable[Callable[[], Made]]) -> Iterator[Made]:
    """What each call of `works` gives, in order; one call runs in a second thread while the one before is worked on."""
    with threads.pool(1, "batches") as pool:
        coming: Any = None
        for work in works:
            ready, coming = coming, pool.submit(work)
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()


def as_float(images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """float32 in [0, 1], same shape, of uint8 or uint16 images; into `out` where it is given, which spares the system new memory."""
    return np.divide(images, np.float32(np.iinfo(images.dtype).max), out=out, dtype=np.float32)


def _taken(pictures: np.ndarray | ImageStack, rows: np.ndarray) -> Sequence[np.ndarray]:
    """The pictures of `rows`, of an array without copying them."""
    return (
        pictures.read(rows) if isinstance(pictures, ImageStack) else [pictures[row] for row in rows]
    )
