"""Batches: image, mask, boxes and points stay aligned, draws repeat themselves whatever the
threads, and a stack reads what was written.
"""

import doctest
import os
import pickle
import threading

import numpy as np
import pytest

from hilum.errors import BadData, Damaged
from hilum.imaging.image_stack import ImageStack
from hilum.training.augmentation import (
    Augmentation,
    AugmentationParams,
    draw,
    draw_many,
)
from hilum.training.batches import TrainingImages, ahead, as_float, epoch, threads_for
from hilum.training.transforms import SpatialTransform

STILL = Augmentation(rotation_degrees=0, scale=0, shift=0, contrast=0, brightness=0, gamma=0)
GEOMETRY = {
    "rotated": Augmentation(30, 0, 0, 0, 0, 0),
    "scaled": Augmentation(0, 0.3, 0, 0, 0, 0),
    "shifted": Augmentation(0, 0, 0.1, 0, 0, 0),
    "bent": Augmentation(0, 0, 0, 0, 0, 0, elastic=0.03),
    "mirrored": Augmentation(0, 0, 0, 0, 0, 0, flip=True),
    "cut": Augmentation(0, 0, 0, 0, 0, 0, crop=120),
    "mirrored and cut": Augmentation(0, 0, 0, 0, 0, 0, flip=True, crop=120),
    "all": Augmentation(20, 0.2, 0.05, 0.2, 0.1, 0.2, elastic=0.02, flip=True, crop=120),
}


def disc(
    row: float, column: float, radius: float = 6, shape: tuple[int, int] = (128, 160)
) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (np.hypot(rows - row, columns - column) < radius).astype(np.uint8)


def centre(image: np.ndarray) -> np.ndarray:
    weights = image.astype(float)
    return (
        np.array(
            [
                (weights.sum(1) * np.arange(image.shape[0])).sum(),
                (weights.sum(0) * np.arange(image.shape[1])).sum(),
            ]
        )
        / weights.sum()
    )


@pytest.mark.parametrize("name", GEOMETRY)
def test_image_mask_box_and_points_stay_aligned(name: str) -> None:
    """A disc in the middle of a box: wherever the image's disc is found, the mask's, the box and
    the point are too.
    """
    place = np.array([[62.0, 85.0]])
    box = np.array([[56.5, 79.5, 68.5, 91.5]])
    image = disc(*place[0])
    found = TrainingImages((image * 200)[None], image[None], [box], [place])
    rng = np.random.default_rng(4)
    for _ in range(12):
        drawn = draw(GEOMETRY[name], rng)
        drawn = AugmentationParams(
            **{**vars(drawn), "contrast": 1.0, "brightness": 0.0, "gamma": 1.0}
        )
        made = found.batch(np.array([0]), [drawn])
        (top, left, bottom, right), (row, column) = made.boxes[0][0], made.points[0][0]
        seen, labels = made.images[0] > 100, made.masks[0] > 0
        assert np.abs(centre(made.images[0]) - (row, column)).max() < 0.5
        assert (
            np.abs(centre(labels) - (row, column)).max() < 0.6
        )  # the nearest label is up to half a pixel off
        inside = np.zeros(seen.shape, bool)
        inside[
            max(0, round(top - 1)) : round(bottom + 1), max(0, round(left - 1)) : round(right + 1)
        ] = True
        assert not (seen & ~inside).any() and seen.sum() > 0.25 * (bottom - top) * (right - left)


def test_a_box_that_left_the_image_is_empty_and_one_that_half_left_ends_at_the_border() -> None:
    moved = SpatialTransform(
        AugmentationParams(**{**vars(draw(STILL, np.random.default_rng(0))), "shift_columns": 0.5}),
        (100, 100),
    )
    (gone, half) = moved.boxes(np.array([[10, 60, 20, 80], [10, 40, 20, 60]]))
    assert gone[1] == gone[3] == 100
    assert half.tolist() == [10, 90, 20, 100]


def test_many_draws_at_once_are_the_single_draws_one_after_the_other() -> None:
    for changes in (
        Augmentation(),
        GEOMETRY["all"],
        GEOMETRY["bent"],
        GEOMETRY["mirrored and cut"],
    ):
        one, other = np.random.default_rng(7), np.random.default_rng(7)
        assert draw_many(changes, one, 5) == [draw(changes, other) for _ in range(5)]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_cut_is_a_window_of_the_image(mirrored: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    rng, corners = np.random.default_rng(1), set()
    for _ in range(300):
        drawn = AugmentationParams(
            **{**vars(draw(Augmentation(0, 0, 0, 0, 0, 0, crop=32), rng)), "flip": mirrored}
        )
        move = SpatialTransform(drawn, image.shape)
        (top, left) = move._corner
        corners.add((top, left))
        whole = image[:, ::-1] if mirrored else image
        assert np.array_equal(move.image(image), whole[top : top + 32, left : left + 32])
    assert {row for row, _ in corners} == set(range(9)) and {
        column for _, column in corners
    } == set(range(19))


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="smaller crop"):
        SpatialTransform(draw(Augmentation(crop=65), np.random.default_rng(0)), (64, 80))


def radiographs(count: int = 10) -> TrainingImages:
    rng = np.random.default_rng(3)
    masks = np.repeat(disc(30, 30, 9, (64, 64))[None], count, 0)
    return TrainingImages(
        rng.integers(0, 256, (count, 64, 64), np.uint8),
        masks,
        targets=np.arange(count, dtype=np.float32),
    )


def test_an_epoch_holds_every_row_once_with_its_target() -> None:
    made = list(epoch(radiographs(), np.arange(10), 4, np.random.default_rng(0)))
    assert [len(batch.rows) for batch in made] == [4, 4, 2]
    rows = np.concatenate([batch.rows for batch in made])
    assert sorted(rows.tolist()) == list(range(10)) and rows.tolist() != list(range(10))
    for batch in made:
        assert np.array_equal(batch.targets, batch.rows) and np.array_equal(
            batch.images, radiographs().images[batch.rows]
        )
    assert [
        row
        for batch in epoch(radiographs(), np.arange(5), 2, np.random.default_rng(0), shuffled=False)
        for row in batch.rows
    ] == list(range(5))


def test_equal_generators_give_equal_epochs_however_the_caller_dawdles() -> None:
    begun = threading.active_count()
    one = list(
        epoch(radiographs(), np.arange(10), 3, np.random.default_rng(5), Augmentation(flip=True))
    )
    other = []
    for batch in epoch(
        radiographs(), np.arange(10), 3, np.random.default_rng(5), Augmentation(flip=True)
    ):
        threading.Event().wait(0.002)
        other.append(batch)
    for first, second in zip(one, other, strict=True):
        assert np.array_equal(first.images, second.images) and np.array_equal(
            first.masks, second.masks
        )
    assert threading.active_count() == begun


def test_a_stack_gives_the_batches_that_the_array_gives(tmp_path) -> None:
    array = radiographs()
    array.images.tofile(tmp_path / "a.u8")
    stacked = TrainingImages(ImageStack(tmp_path / "a.u8", 64), array.masks, targets=array.targets)
    for changes, size in (
        (None, 4),
        (Augmentation(), 4),
        (Augmentation(), 10),  # read in two parts, into the same memory
        (GEOMETRY["mirrored"], 10),
    ):
        both = (
            epoch(one, np.arange(10), size, np.random.default_rng(2), changes)
            for one in (array, stacked)
        )
        for first, second in zip(*both, strict=True):
            assert np.array_equal(first.images, second.images)


@pytest.mark.parametrize("name", GEOMETRY)
def test_a_second_thread_prepares_batches_only_where_pixels_change(name, monkeypatch) -> None:
    monkeypatch.setattr("hilum.safety.threads.cores", lambda: 2)
    cuts = name in ("mirrored", "cut", "mirrored and cut")
    assert threads_for(GEOMETRY[name]) == (1 if cuts else 2)
    assert threads_for(None) == 1 and threads_for(Augmentation(0, 0, 0, 0, 0, 0, noise=0.1)) == 2
    monkeypatch.setattr("hilum.safety.threads.cores", lambda: 1)
    assert threads_for(GEOMETRY[name]) == 1


def test_a_fault_in_the_second_thread_reaches_the_caller() -> None:
    def broken() -> int:
        raise BadData("the cache is gone")

    with pytest.raises(BadData, match="the cache is gone"):
        list(ahead([lambda: 1, broken]))
    assert list(ahead([])) == []


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_floats_are_fractions_of_white(dtype: type, top: int) -> None:
    values = np.array([0, 1, top // 3, top], dtype)
    assert as_float(values).dtype == np.float32 and np.array_equal(
        as_float(values), values.astype(np.float32) / top
    )


def test_sixteen_bits_go_through_with_their_grey_values_and_geometry() -> None:
    image = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    changes = Augmentation(10, 0.1, 0.05, 0.2, 0.1, 0.2)
    drawn = draw(changes, np.random.default_rng(1))
    wide = TrainingImages(image[None]).batch(np.array([0]), [drawn]).images[0]
    narrow = (
        TrainingImages((image >> 8).astype(np.uint8)[None]).batch(np.array([0]), [drawn]).images[0]
    )
    assert wide.dtype == np.uint16 and len(np.unique(wide)) > 1000
    assert np.abs(as_float(wide) - as_float(narrow)).max() < 0.03


# ------------------------------------------------------------------------------------------- stacks


@pytest.fixture(params=[np.uint8, np.uint16])
def stored(request, tmp_path) -> tuple[np.ndarray, ImageStack]:
    array = (
        np.random.default_rng(0)
        .integers(0, np.iinfo(request.param).max, (9, 32, 32))
        .astype(request.param)
    )
    array.tofile(tmp_path / "radiographs")
    return array, ImageStack(tmp_path / "radiographs", 32, request.param)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_stack_is_read_like_an_array(stored, at_once, monkeypatch) -> None:
    array, stack = stored
    if not at_once:
        monkeypatch.setattr(
            "hilum.imaging.image_stack._AT_ONCE", None
        )  # every image is waited for, in the pool's threads
    assert stack.shape == array.shape and stack.dtype == array.dtype and len(stack) == 9
    for key in (
        3,
        -1,
        np.int64(2),
        slice(2, 7),
        slice(None, None, -2),
        [5, 5, 0],
        np.array([8, 1]),
        np.arange(9) % 2 == 0,
        [],
    ):
        assert np.array_equal(
            stack[key], array[key] if not isinstance(key, list) or key else array[:0]
        )
    out = np.empty((2, 32, 32), array.dtype)
    assert stack.read([4, 2], out) is out and np.array_equal(out, array[[4, 2]])
    assert np.array_equal(np.asarray(stack), array)


def test_a_stack_sent_to_another_process_is_opened_there(stored) -> None:
    array, stack = stored
    sent = pickle.dumps(stack)
    assert len(sent) < 1000  # the place of the file, and not its images
    assert np.array_equal(pickle.loads(sent)[:], array)


def test_a_stack_refuses_rows_and_places_that_are_not_there(stored) -> None:
    _, stack = stored
    with pytest.raises(IndexError, match="row 9 of 9"):
        stack[9]
    with pytest.raises(ValueError, match="out must be contiguous"):
        stack.read([1], np.empty((2, 32, 32), stack.dtype))


def test_a_stack_cut_short_under_its_reader_is_reported(stored) -> None:
    _, stack = stored
    os.truncate(stack.path, 100)
    with pytest.raises(Damaged, match="ends at byte"):
        stack[0]


# -------------------------------------------------------------------------------------------- torch


def test_the_torch_data_set_holds_the_same_batches() -> None:
    torch = pytest.importorskip("torch")
    from hilum.training.torch_dataset import CachedImages

    (plain,) = epoch(radiographs(), np.arange(10), 10, np.random.default_rng(1), shuffled=False)
    whole = next(iter(torch.utils.data.DataLoader(CachedImages(radiographs(), np.arange(10)), 10)))
    assert torch.equal(whole["images"], torch.from_numpy(as_float(plain.images)).unsqueeze(1))
    assert whole["images"].dtype == torch.float32
    assert torch.equal(whole["masks"], torch.from_numpy(plain.masks).long())
    assert torch.equal(whole["rows"], torch.from_numpy(plain.rows))
    items = CachedImages(radiographs(), np.arange(10), seed=1, changes=Augmentation())
    together = next(iter(torch.utils.data.DataLoader(items, batch_size=10)))
    assert torch.equal(together["images"][7], items[7]["images"]) and together["images"].shape == (
        10,
        1,
        64,
        64,
    )
    assert together["targets"].tolist() == list(range(10))


def test_the_example_of_the_torch_data_set_runs() -> None:
    pytest.importorskip("torch")
    from hilum.training import torch_dataset

    results = doctest.testmod(torch_dataset)
    assert results.attempted and not results.failed
