"""Geometry can be undone, shrinking does not alias, and a resized mask stays where it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum import lungs
from hilum.radiograph import Chain, Crop, Letterbox, resize, to_uint8

sides = st.integers(1, 700)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, to=st.sampled_from([64, 256]))
def test_a_letterbox_holds_the_whole_picture_centred_and_in_proportion(height, width, to):
    box = Letterbox((height, width), to)
    square = box.forward(np.full((height, width), 200, np.uint8))
    rows, columns = np.flatnonzero(square.any(axis=1)), np.flatnonzero(square.any(axis=0))
    assert (len(rows), len(columns)) == box.inner and max(box.inner) == to
    assert abs(rows[0] - (to - 1 - rows[-1])) <= 1 and abs(columns[0] - (to - 1 - columns[-1])) <= 1
    assert box.back(square).shape == (height, width) and (box.back(square) == 200).all()


@settings(max_examples=60, deadline=None)
@given(height=st.integers(64, 500), width=st.integers(64, 500), data=st.data())
def test_a_mask_comes_back_to_its_files_own_pixels(height, width, data):
    top, left = data.draw(st.integers(0, height // 2)), data.draw(st.integers(0, width // 2))
    disc = np.hypot(np.arange(height)[:, None] - height / 2, np.arange(width) - width / 2) < min(height, width) / 3
    labels = disc.astype(np.uint8)
    letterbox = Letterbox((height, width), 256)
    crop = Crop((256, 256), top // 8, left // 8, 256 - top // 8, 256 - left // 8)
    way = Chain((letterbox, crop, Letterbox(crop.target, 224)))
    returned = way.back(way.forward(labels, labels=True), labels=True)
    assert returned.shape == labels.shape
    seen = way.back(np.ones((224, 224), np.uint8), labels=True) > 0  # what the crop left in
    both = (returned > 0) & disc & seen
    assert 2 * both.sum() / ((returned > 0) & seen).sum().__add__((disc & seen).sum()) > 0.93


def test_shrinking_averages_and_does_not_alias():
    stripes = np.tile(np.array([0, 255], np.uint8), (100, 50))
    assert np.abs(resize(stripes, (10, 10)).astype(int) - 128).max() <= 1


def test_a_crop_outside_its_picture_is_refused():
    with pytest.raises(ValueError, match="inside"):
        Crop((10, 10), 0, 0, 11, 5)


def test_to_uint8_rounds_and_clips():
    assert to_uint8(np.array([-1, 0, 0.5, 1, 2], np.float32)).tolist() == [0, 0, 128, 255, 255]


def test_a_resized_mask_keeps_its_area_within_a_rim():
    labels = np.zeros((400, 300), np.uint8)
    labels[50:350, 20:120], labels[60:340, 170:280] = lungs.RIGHT, lungs.LEFT
    small = lungs.resized(labels, Letterbox((400, 300), 128).forward)
    scale = (128 / 400) ** 2
    for side in (lungs.RIGHT, lungs.LEFT):
        assert abs((small == side).sum() / ((labels == side).sum() * scale) - 1) < 0.05
