"""Depthwise convolutions compute what PyTorch's own do, in training as when they are applied."""

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from hilum.training.depthwise import DepthwiseConvolution  # noqa: E402

CASES = [(kernel, stride, side) for kernel in (3, 5, 7) for stride in (1, 2) for side in (2, 7, 14)]


def computed(convolution, x, *, training):
    """Return the output, and the gradients of a function of it by image and kernels."""
    x = x.clone().requires_grad_(True)
    convolution.train(training).zero_grad()
    output = convolution(x)
    output.double().square().sum().backward()
    return output.detach(), given(x.grad), given(convolution.weight.grad)


def given(value):
    """Return what is there, for the type checker."""
    assert value is not None
    return value


def made(kernel, stride, dtype=torch.float64, channels=16):
    with torch.random.fork_rng():
        torch.manual_seed(kernel)
        return DepthwiseConvolution(channels, kernel=kernel, stride=stride).to(dtype)


def noise(side, channels=16):
    numbers = torch.Generator().manual_seed(side)
    return torch.randn(3, channels, side, side, generator=numbers, dtype=torch.float64)


@pytest.mark.parametrize(("kernel", "stride", "side"), CASES)
def test_gradients_in_training_are_those_of_pytorch(kernel, stride, side):
    convolution, x = made(kernel, stride), noise(side)
    found = computed(convolution, x, training=True)
    expected = computed(convolution, x, training=False)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_under_autocast_gradients_are_those_of_float32_to_the_precision_of_bfloat16(kernel, stride):
    convolution, x = made(kernel, stride, torch.float32), noise(14).float()
    expected = computed(convolution, x, training=False)
    with torch.autocast("cpu", torch.bfloat16):
        found = computed(convolution, x, training=True)
    assert [one.dtype for one in found] == [torch.bfloat16, torch.float32, torch.float32]
    for one, other in zip(found, expected, strict=True):
        assert (one.float() - other).norm() < 0.01 * other.norm()


@pytest.mark.parametrize("kernel", [3, 5])
def test_with_stride_two_the_lower_right_is_padded_by_one_pixel_more(kernel):
    convolution, x = made(kernel, 2), noise(8)
    before, after = (kernel - 2) // 2, (kernel - 1) // 2
    assert after == before + 1
    padded = F.pad(x, (before, after) * 2)
    expected = F.conv2d(padded, convolution.weight, stride=2, groups=16)
    torch.testing.assert_close(convolution.train()(x), expected)


def test_a_bias_and_frozen_kernels_are_trained_as_they_say():
    convolution, x = made(5, 1), noise(7)
    convolution.bias = torch.nn.Parameter(torch.ones(16, dtype=torch.float64))
    convolution.weight.requires_grad_(False)
    convolution.train()(x).sum().backward()
    assert convolution.weight.grad is None
    torch.testing.assert_close(given(convolution.bias).grad, torch.full((16,), 3.0 * 49).double())
