"""A frozen network evaluated by ONNX Runtime gives what PyTorch gives, in the order of the rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hilum.errors import HilumError
from hilum.training.frozen_features import FrozenFeatures

SIZE = 32


class Network(nn.Module):
    """uint8 (n, size, size) -> float32 (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.unsqueeze(1).float() / 255).mean((2, 3))


class Unsteady(Network):
    """Another answer each time."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) + torch.rand(1)


def test_outputs_are_those_of_the_network_in_the_order_of_the_rows():
    rng, network = np.random.default_rng(0), Network()
    images = rng.integers(0, 256, (40, SIZE, SIZE), np.uint8)
    rows = rng.permutation(40)[:33]
    parts = list(FrozenFeatures(network, SIZE).batches(images, rows, 8))
    assert [len(seen) for seen, _ in parts] == [8, 8, 8, 8, 1]
    seen, found = (np.concatenate(each) for each in zip(*parts, strict=True))
    np.testing.assert_array_equal(seen, images[rows])
    with torch.no_grad():
        np.testing.assert_allclose(found, network(torch.from_numpy(seen)).numpy(), atol=1e-5)


def test_no_row_gives_no_batch():
    images = np.zeros((1, SIZE, SIZE), np.uint8)
    assert not list(FrozenFeatures(Network(), SIZE).batches(images, np.array([], int), 8))


def test_a_network_that_onnx_runtime_evaluates_otherwise_is_refused():
    with pytest.raises(HilumError, match="differs by"):
        FrozenFeatures(Unsteady(), SIZE)
