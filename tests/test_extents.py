"""Widths between lungs: by hand on drawn boxes, and against the anatomy that a phantom was drawn
from.
"""

import numpy as np
import pytest

from hilum.annotations import lung_masks
from hilum.imaging import synthetic
from hilum.inference import chest_measurements


def chest():
    """Two lungs of 80 rows; from row 60 on the heart pushes the left one out by 10 columns and the
    right one by 5.
    """
    labels = np.zeros((120, 110), np.uint8)
    labels[20:100, 10:45], labels[20:100, 60:100] = lung_masks.RIGHT, lung_masks.LEFT
    labels[60:100, 40:45] = labels[60:100, 60:70] = 0
    return labels


def test_widths_and_areas_of_boxes():
    found = chest_measurements.measure(chest())
    assert (
        found.thorax_width == 90
        and found.heart_width == 30
        and found.width_ratio == pytest.approx(1 / 3)
    )
    assert found.right_area == 80 * 35 - 40 * 5 and found.left_to_right == (80 * 40 - 40 * 10) / (
        80 * 35 - 40 * 5
    )


def test_millimetres_follow_the_axis():
    found = chest_measurements.measure(chest(), (0.5, 0.2))
    assert found.thorax_width == pytest.approx(18) and found.heart_width == pytest.approx(6)
    assert found.right_area == pytest.approx((80 * 35 - 40 * 5) * 0.1)


def test_a_spur_of_an_outline_does_not_decide():
    labels = chest()
    labels[61, 60:90] = 0
    assert chest_measurements.measure(labels).heart_width == 30


def test_what_is_not_there_is_not_measured():
    labels = chest()
    assert chest_measurements.measure(np.where(labels == lung_masks.LEFT, 0, labels))[2:] == (
        None,
        None,
    )
    assert chest_measurements.measure(np.zeros_like(labels)) == (0, 0, None, None)
    apart = np.zeros((100, 100), np.uint8)  # no row is shared
    apart[10:40, 10:40], apart[50:90, 60:90] = lung_masks.RIGHT, lung_masks.LEFT
    assert (
        chest_measurements.measure(apart)[2:] == (None, None)
        and chest_measurements.measure(apart).width_ratio is None
    )


def test_ratios_follow_the_anatomy_of_phantoms():
    rng = np.random.default_rng(4)
    true, found = [], []
    for number in range(24):
        body = synthetic.anatomy(rng, child=number % 3 == 0)
        made = synthetic.draw(body, rng, height=256, width=256)
        labels = np.where(
            made.right_lung, lung_masks.RIGHT, np.where(made.left_lung, lung_masks.LEFT, 0)
        ).astype(np.uint8)
        true.append((body.heart_right + body.heart_left) / (2 * body.half_width))
        found.append(chest_measurements.measure(labels).width_ratio)
    apart = (
        np.array(true) - found
    )  # mostly above 0: a spur is left out, and children have short hearts
    assert (
        np.corrcoef(true, found)[0, 1] > 0.85
        and np.abs(apart).max() < 0.1
        and np.median(apart) < 0.03
    )
