"""Which lung is which."""

import numpy as np
import pytest

from hilum.annotations import lung_masks


def image(*boxes):
    mask = np.zeros((100, 100), bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def test_the_patients_right_lung_lies_on_the_images_left():
    labels = lung_masks.split_left_right(image((20, 10, 80, 40), (20, 60, 80, 90)))
    assert (
        labels[50, 20] == lung_masks.RIGHT
        and labels[50, 70] == lung_masks.LEFT
        and labels[0, 0] == 0
    )


def test_a_fragment_goes_to_the_nearer_lung():
    labels = lung_masks.split_left_right(
        image((20, 10, 80, 40), (20, 60, 80, 90), (85, 80, 88, 83))
    )
    assert labels[86, 81] == lung_masks.LEFT


def test_touching_lungs_are_cut_where_they_are_narrowest():
    labels = lung_masks.split_left_right(
        image((20, 10, 80, 48), (20, 52, 80, 90), (40, 48, 43, 52))
    )
    assert labels[50, 20] == lung_masks.RIGHT and labels[50, 70] == lung_masks.LEFT
    assert abs(int((labels == 1).sum()) - int((labels == 2).sum())) < 40


@pytest.mark.parametrize(
    "box, side", [((20, 10, 80, 40), lung_masks.RIGHT), ((20, 60, 80, 90), lung_masks.LEFT)]
)
def test_one_lung_alone_stays_one_lung(box, side):
    assert set(np.unique(lung_masks.split_left_right(image(box)))) == {0, side}


def test_an_empty_mask_has_no_lungs():
    assert not lung_masks.split_left_right(image()).any()


def test_of_a_found_lung_the_largest_part_is_kept_and_its_holes_filled():
    found = np.zeros((2, 100, 100), np.float32)
    found[0, 20:80, 10:40], found[0, 50:52, 20:22], found[0, 2:5, 2:5] = 0.9, 0.1, 0.9
    found[1, 20:80, 60:90] = 0.8
    labels = lung_masks.from_probabilities(found)
    assert (
        labels[51, 21] == lung_masks.RIGHT
        and labels[3, 3] == 0
        and (labels == lung_masks.LEFT).sum() == 60 * 30
    )


def test_no_probability_above_the_threshold_is_no_lung():
    assert not lung_masks.from_probabilities(np.full((2, 32, 32), 0.4, np.float32)).any()


def test_holes_are_those_of_scipy():
    from scipy import ndimage

    rng = np.random.default_rng(0)
    for share in (0.3, 0.5, 0.7):
        mask = rng.random((40, 37)) < share
        assert np.array_equal(lung_masks.fill_holes(mask), ndimage.binary_fill_holes(mask))


def test_of_one_drawn_lung_the_other_side_is_unknown():
    both = image((20, 10, 80, 40)) * np.uint8(lung_masks.RIGHT) + image(
        (20, 60, 80, 90)
    ) * np.uint8(lung_masks.LEFT)
    assert (
        lung_masks.ignore_unlabelled_side(both) is both
        and not lung_masks.ignore_unlabelled_side(both * 0).any()
    )
    right, left = (
        lung_masks.ignore_unlabelled_side(np.where(both == side, both, 0).astype(np.uint8))
        for side in (lung_masks.RIGHT, lung_masks.LEFT)
    )
    assert (right[:, 40:] == lung_masks.IGNORE).all() and np.array_equal(
        right[:, :40], both[:, :40]
    )
    assert (left[:, :60] == lung_masks.IGNORE).all() and np.array_equal(left[:, 60:], both[:, 60:])


def test_known_masks_are_those_of_the_cache_with_what_is_unknown():
    from hilum.dataset.pixel_cache import MasksWithIgnore

    one = image((20, 10, 80, 40)).astype(np.uint8)
    known = MasksWithIgnore(np.stack([one, one * 0]))
    assert (
        known.shape == (2, 100, 100)
        and np.array_equal(known[0], lung_masks.ignore_unlabelled_side(one))
        and np.array_equal(known[[1, 0]][1], known[0])
    )
    assert known[np.array([], int)].shape == (0, 100, 100) and not known[1].any()


def test_a_mask_of_one_lung_is_part_of_a_mask_and_no_other_is():
    from pathlib import Path

    import polars as pl

    from hilum.dataset.pixel_cache import Cache

    rows = [
        ("both", 5, 5, None, None),
        ("right", 5, 0, None, None),
        ("left", 0, 5, None, None),
        ("none", 0, 0, None, None),
        ("no file", None, None, None, None),
        ("spoilt", 5, 0, "of another size", None),
        ("unread", 5, 0, None, "broken"),
    ]
    index = pl.DataFrame(
        rows,
        schema=["image_id", "right_pixels", "left_pixels", "mask_error", "error"],
        orient="row",
    )
    cache = Cache(Path("nowhere"), 64, index)
    assert cache.with_part_of_mask["image_id"].to_list() == ["right", "left"] and cache.with_mask[
        "image_id"
    ].to_list() == ["both"]
