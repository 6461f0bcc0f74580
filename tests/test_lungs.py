"""Which lung is which."""

import numpy as np
import pytest

from hilum import lungs


def picture(*boxes):
    mask = np.zeros((100, 100), bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def test_the_patients_right_lung_lies_on_the_pictures_left():
    labels = lungs.sides(picture((20, 10, 80, 40), (20, 60, 80, 90)))
    assert labels[50, 20] == lungs.RIGHT and labels[50, 70] == lungs.LEFT and labels[0, 0] == 0


def test_a_fragment_goes_to_the_nearer_lung():
    labels = lungs.sides(picture((20, 10, 80, 40), (20, 60, 80, 90), (85, 80, 88, 83)))
    assert labels[86, 81] == lungs.LEFT


def test_touching_lungs_are_cut_where_they_are_narrowest():
    labels = lungs.sides(picture((20, 10, 80, 48), (20, 52, 80, 90), (40, 48, 43, 52)))
    assert labels[50, 20] == lungs.RIGHT and labels[50, 70] == lungs.LEFT
    assert abs(int((labels == 1).sum()) - int((labels == 2).sum())) < 40


@pytest.mark.parametrize("box, side", [((20, 10, 80, 40), lungs.RIGHT), ((20, 60, 80, 90), lungs.LEFT)])
def test_one_lung_alone_stays_one_lung(box, side):
    assert set(np.unique(lungs.sides(picture(box)))) == {0, side}


def test_an_empty_mask_has_no_lungs():
    assert not lungs.sides(picture()).any()


def test_of_a_found_lung_the_largest_part_is_kept_and_its_holes_filled():
    found = np.zeros((2, 100, 100), np.float32)
    found[0, 20:80, 10:40], found[0, 50:52, 20:22], found[0, 2:5, 2:5] = 0.9, 0.1, 0.9
    found[1, 20:80, 60:90] = 0.8
    labels = lungs.from_probabilities(found)
    assert labels[51, 21] == lungs.RIGHT and labels[3, 3] == 0 and (labels == lungs.LEFT).sum() == 60 * 30


def test_no_probability_above_the_threshold_is_no_lung():
    assert not lungs.from_probabilities(np.full((2, 32, 32), 0.4, np.float32)).any()


def test_holes_are_those_of_scipy():
    from scipy import ndimage

    rng = np.random.default_rng(0)
    for share in (0.3, 0.5, 0.7):
        mask = rng.random((40, 37)) < share
        assert np.array_equal(lungs.filled(mask), ndimage.binary_fill_holes(mask))
