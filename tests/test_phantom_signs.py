"""The signs of findings in made-up radiographs: seen, in their place, and nowhere else."""

import cv2
import numpy as np
import pytest

from hilum import errors
from hilum.dataset.readers import unidata
from hilum.imaging import synthetic
from hilum.imaging.synthetic._signs import SIGNS

HAZY = {"airspace_opacity", "pneumothorax", "effusion"}  # they change what lies around them too


def draw(seed, *signs, height=300, width=290):
    body = synthetic.anatomy(np.random.default_rng(seed))
    rng = np.random.default_rng([seed, 1])
    return synthetic.draw(body, rng, height=height, width=width, signs=signs)


def test_every_class_of_unidata_has_a_sign():
    assert set(unidata.FINDINGS.values()) == set(SIGNS)


@pytest.mark.parametrize("sign", SIGNS)
def test_a_sign_is_seen_within_its_extent_and_hardly_beyond(sign):
    for seed in range(6):
        well, ill = draw(seed), draw(seed, sign)
        extent = ill.extents[sign]
        change = np.abs(ill.pixels.astype(int) - well.pixels)
        assert set(ill.extents) == {sign}
        assert extent.dtype == np.bool_ and extent.shape == (300, 290)
        assert 20 < extent.sum() < 0.4 * extent.size
        assert change[extent].mean() > 4
        around = cv2.dilate(extent.astype(np.uint8), np.ones((11, 11))) > 0
        assert change[around].sum() > (0.5 if sign in HAZY else 0.97) * change.sum()


@pytest.mark.parametrize("sign", SIGNS)
def test_a_sign_leaves_the_lung_masks_alone_unless_it_is_fluid(sign):
    for seed in range(3):
        well, ill = draw(seed), draw(seed, sign)
        lost = (well.right_lung | well.left_lung) & ~(ill.right_lung | ill.left_lung)
        assert lost.any() == (sign == "effusion")
        assert (lost & ill.extents[sign]).sum() >= 0.9 * lost.sum()
        assert not ((ill.right_lung | ill.left_lung) & ~(well.right_lung | well.left_lung)).any()


def test_a_pneumothorax_is_darker_and_smoother_than_the_lung():
    for seed in range(6):
        well, ill = draw(seed), draw(seed, "pneumothorax")
        rim = cv2.erode(ill.extents["pneumothorax"].astype(np.uint8), np.ones((5, 5))) > 0
        assert ill.pixels[rim].mean() < well.pixels[rim].mean() - 5


def test_all_signs_at_once_have_an_extent_each_and_the_same_bytes_twice():
    one, two = (draw(2, *SIGNS, height=97, width=131) for _ in range(2))
    assert list(one.extents) == list(SIGNS) and all(extent.any() for extent in one.extents.values())
    assert one.pixels.tobytes() == two.pixels.tobytes()


def test_an_unknown_sign_is_refused_with_the_nearest_name():
    with pytest.raises(errors.NotFound, match="did you mean 'fibrosis'"):
        draw(0, "fibrosys")
