"""Changes of whole batches with PyTorch: the same draws give the images that OpenCV gives."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hilum.training.augmentation import Augmentation, draw, draw_each  # noqa: E402
from hilum.training.batches import TrainingImages  # noqa: E402
from hilum.training.device_augmentation import DeviceAugmentation  # noqa: E402

SIZE, COUNT = 96, 40
NONE = dict(rotation_degrees=0, scale=0, shift=0, contrast=0, brightness=0, gamma=0)
CHANGES = {
    "geometry": Augmentation(
        **(NONE | dict(rotation_degrees=20, scale=0.2, shift=0.1, aspect=0.2, flip=True))
    ),
    "grey levels": Augmentation(
        **(NONE | dict(contrast=0.4, brightness=0.1, gamma=0.4, invert=0.5))
    ),
    "uneven": Augmentation(**NONE, uneven=0.3),
    "blur": Augmentation(**NONE, blur=0.1),
    "local contrast": Augmentation(**NONE, local_contrast=0.7),
    "covers": Augmentation(**NONE, markers=0.7, border=0.5, elastic=0.02),
}


def radiographs() -> np.ndarray:
    """Smooth images with an edge, as a radiograph has them."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    waves = [
        120 + 60 * np.sin(5 * rows + number) * np.cos(4 * columns - number) + 40 * (columns > 0.5)
        for number in range(COUNT)
    ]
    return np.stack(waves).astype(np.uint8)


def both(changes: Augmentation) -> tuple[np.ndarray, np.ndarray]:
    """The same draws applied by OpenCV and by PyTorch, in grey levels."""
    source, rows = TrainingImages(radiographs()), np.arange(COUNT)
    drawn = draw_each(changes, [np.random.default_rng([3, row]) for row in rows])
    device = DeviceAugmentation((SIZE, SIZE), changes.blur)
    made = device(*map(torch.from_numpy, device.prepare(source, rows, drawn)))
    return source.batch(rows, drawn).images.astype(np.float32), made.numpy() * 255


@pytest.mark.parametrize("name", CHANGES)
def test_the_same_draws_give_the_same_images_up_to_rounding(name: str) -> None:
    processor, device = both(CHANGES[name])
    assert np.abs(processor - radiographs()).mean() > 0.3  # there was something to change
    off = np.abs(processor - device)
    assert off.mean() < 0.6 and np.quantile(off, 0.995) < 3


def test_noise_has_the_same_deviation_from_another_generator() -> None:
    source = TrainingImages(np.full((COUNT, SIZE, SIZE), 128, np.uint8))
    changes, rows = Augmentation(**NONE, noise=0.1), np.arange(COUNT)
    drawn = draw_each(changes, [np.random.default_rng([3, row]) for row in rows])
    device = DeviceAugmentation((SIZE, SIZE))
    torch.manual_seed(0)
    made = device(*map(torch.from_numpy, device.prepare(source, rows, drawn))).numpy() * 255
    expected = np.array([255 * one.noise for one in drawn])
    processor = source.batch(rows, drawn).images.std((1, 2))
    assert np.allclose(made.std((1, 2)), expected, atol=0.5)
    assert np.allclose(processor, expected, atol=0.5)


def test_a_draw_from_each_generator_is_the_draw_from_it_alone() -> None:
    for changes in CHANGES.values():
        rngs, again = ([np.random.default_rng([5, row]) for row in range(6)] for _ in range(2))
        assert draw_each(changes, rngs) == [draw(changes, rng) for rng in again]
