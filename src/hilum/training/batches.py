"""Make training batches: rows of a cache or an array, each changed by one draw.

The draw of a row changes its image, mask, boxes and points alike. Images are uint8 or uint16 (b,
height, width) and masks uint8 until `as_float`: a quarter of the memory, and OpenCV moves them
faster than floats. Nothing is decoded here, so one or two threads that prepare the next batches are
enough (`threads_for`); worker processes would have to receive every batch as a copy. All randomness
comes from the given generator in the order of the batches, so it does not depend on threads.

    for batch in epoch(TrainingImages(cache.images, cache.masks), rows, 32, rng, Augmentation()):
        x = as_float(batch.images)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from hilum.imaging.image_stack import READERS, AsUint8, ImageStack
from hilum.safety import threads
from hilum.training.augmentation import (
    Augmentation,
    AugmentationParams,
    from_numbers,
    numbers_for,
)
from hilum.training.transforms import SpatialTransform, change_grey_levels

Made = TypeVar("Made")


@dataclass(frozen=True)
class TrainingImages:
    """The source of batches, each part indexed by row.

    Masks, boxes and points move with the image, see `hilum.training.transforms`; `targets` are
    passed on unchanged.
    """

    images: np.ndarray | ImageStack | AsUint8  # uint8 or uint16 (n, height, width)
    masks: np.ndarray | ImageStack | None = None  # uint8 (n, height, width)
    boxes: Sequence[np.ndarray] | None = None  # float (k, 4) for each row
    points: Sequence[np.ndarray] | None = None  # float (k, 2) for each row
    targets: np.ndarray | None = None  # (n, ...)

    def batch(self, rows: np.ndarray, drawn: Sequence[AugmentationParams] | None = None) -> Batch:
        """Return the images of `rows`, at least one, each changed by its draw, if any."""
        targets = None if self.targets is None else self.targets[rows]
        boxes = None if self.boxes is None else [self.boxes[row] for row in rows]
        points = None if self.points is None else [self.points[row] for row in rows]
        if drawn is None:
            masks = None if self.masks is None else self.masks[rows]
            return Batch(rows, self.images[rows], masks, boxes, points, targets)
        _, height, width = self.images.shape
        moves = [SpatialTransform(one, (height, width)) for one in drawn]
        changed = np.empty((len(rows), *moves[0].target), self.images.dtype)
        for at, (move, image) in enumerate(zip(moves, _read(self.images, rows), strict=True)):
            place = changed[at]
            new = change_grey_levels(move.params, move.image(image, place))
            if new is not place:
                place[:] = new
        masks = None
        if self.masks is not None:
            read = _read(self.masks, rows)
            masks = np.stack([move.labels(mask) for move, mask in zip(moves, read, strict=True)])
        boxes = boxes and [move.boxes(some) for move, some in zip(moves, boxes, strict=True)]
        points = points and [move.points(some) for move, some in zip(moves, points, strict=True)]
        return Batch(rows, changed, masks, boxes, points, targets)


@dataclass(frozen=True)
class Batch:
    """Some rows of `TrainingImages`; None for parts that these lack."""

    rows: np.ndarray  # int64 (b,)
    images: np.ndarray
    masks: np.ndarray | None
    boxes: list[np.ndarray] | None
    points: list[np.ndarray] | None
    targets: np.ndarray | None


def epoch(
    images: TrainingImages,
    rows: np.ndarray,
    size: int,
    rng: np.random.Generator,
    changes: Augmentation | None = None,
    *,
    shuffled: bool = True,
    workers: int | None = None,
) -> Iterator[Batch]:
    """Yield all `rows` once in batches of `size`, the last perhaps shorter.

    The next `workers` batches, by default as many as `threads_for` says, are prepared, each in a
    thread of its own, while the caller works on the current one.
    """
    order = rng.permutation(rows) if shuffled else np.asarray(rows)

    def work(chosen: np.ndarray, numbers: np.ndarray | None) -> Batch:
        if changes is None or numbers is None:
            return images.batch(chosen)
        return images.batch(chosen, from_numbers(changes, numbers))

    def works() -> Iterator[Callable[[], Batch]]:
        """Yield one job per batch; the numbers are drawn here, in the order of the batches."""
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield partial(work, chosen, changes and numbers_for(changes, rng, len(chosen)))

    return ahead(works(), threads_for(changes) if workers is None else workers)


def threads_for(changes: Augmentation | None) -> int:
    """Return how many threads prepare batches fastest beside a caller that does little, 1 or 2.

    One alone holds such a caller up where pixels are interpolated or changed, which takes several
    times as long as reading an image or scaling it to floats. What reads, cuts and mirrors alone
    has Python's lock for most of its time: a second thread would hand it to and fro, image by
    image, and wait for it longer than it works.
    """
    return 1 if changes is None or changes.only_cuts or threads.cores() == 1 else 2


def ahead(works: Iterable[Callable[[], Made]], workers: int = 1) -> Iterator[Made]:
    """Yield the result of each call in order, running `workers` calls ahead in as many threads."""
    with threads.pool(workers, "batches") as pool:
        coming: deque[Future[Made]] = deque()
        for work in works:
            coming.append(pool.submit(work))
            if len(coming) > workers:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def as_float(images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Scale uint8 or uint16 images to float32 in [0, 1], same shape.

    Writes into `out` where it is given, which saves allocating memory.
    """
    return np.divide(images, np.float32(np.iinfo(images.dtype).max), out=out, dtype=np.float32)


def _read(images: np.ndarray | ImageStack | AsUint8, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images of `rows`, each valid until the next one.

    Those of an array are not copied. Those of a stack are read a few at a time into the same
    memory, which so stays in the processor's cache until they are changed.
    """
    if not isinstance(images, ImageStack):
        yield from (images[row] for row in rows)
        return
    place = np.empty((min(len(rows), READERS), *images.shape[1:]), images.dtype)
    for start in range(0, len(rows), READERS):
        some = rows[start : start + READERS]
        yield from images.read(some, place[: len(some)])
