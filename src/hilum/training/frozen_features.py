"""Evaluate a frozen network on many images by ONNX Runtime, on all cores.

PyTorch takes three to five times as long for the same convolutions, in batches more than for one
image: their features no longer fit the processor's cache. So images go one by one, each thread on
its own ones. Values differ from PyTorch's by rounding, and are those of the exported model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from hilum.imaging.image_stack import ImageStack
from hilum.safety import threads
from hilum.safety.onnx_session import Session
from hilum.training import onnx_export

KINDS = 2  # of networks whose features are kept: an anomaly model's and a linear probe's
AHEAD = 4  # batches for each thread that are under way: memory holds no more
_OUTPUT = "features"


class FrozenFeatures:
    """The output of a frozen network, uint8 (n, size, size) -> float32 (n, ...), of many images.

    Raises `HilumError` where ONNX Runtime and PyTorch disagree on it.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        content = onnx_export.traced(network.cpu().eval(), size, [_OUTPUT])
        onnx_export.compare(network, content, size, [_OUTPUT])
        self._session = Session(content, "the frozen network", size, trusted=True)

    def batches(
        self, images: np.ndarray | ImageStack, rows: np.ndarray, at_once: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images and their outputs, `at_once` of `rows` and the rest at last, in order."""

        def evaluated(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Evaluate a batch, image by image."""
            chosen = np.ascontiguousarray(images[some])
            return chosen, np.concatenate([self._of(one) for one in chosen])

        parts = (rows[start : start + at_once] for start in range(0, len(rows), at_once))
        yield from _in_order(evaluated, parts, torch.get_num_threads())

    def _of(self, image: np.ndarray) -> np.ndarray:
        return self._session.run([_OUTPUT], {onnx_export.INPUT: image[None]})[0]


@lru_cache(KINDS)
def exported(network: Callable[[], nn.Module], size: int) -> FrozenFeatures:
    """Return the features of what `network` makes, exported once for all folds of a run.

    It makes the same network each time, as that of a package's weights is.
    """
    return FrozenFeatures(network(), size)


Batch = tuple[np.ndarray, np.ndarray]


def _in_order(
    work: Callable[[np.ndarray], Batch], parts: Iterator[np.ndarray], count: int
) -> Iterator[Batch]:
    """Yield what `work` gives for each part, done by `count` threads, in the parts' order."""
    with threads.pool(count, "features") as pool:
        coming = deque[Future[Batch]]()
        for part in parts:
            coming.append(pool.submit(work, part))
            if len(coming) > AHEAD * count:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
