"""Augmentation moves image and mask together, repeats itself, and does nothing when every limit is
0.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from hilum.training import degradations
from hilum.training.augmentation import Augmentation, AugmentationParams, draw, draw_many
from hilum.training.transforms import apply

NONE = Augmentation(
    rotation_degrees=0, scale=0, shift=0, contrast=0, brightness=0, gamma=0, elastic=0, flip=False
)
ALL = Augmentation(
    rotation_degrees=25,
    scale=0.3,
    shift=0.15,
    contrast=0.3,
    brightness=0.2,
    gamma=0.4,
    elastic=0.04,
    flip=True,
)
GEOMETRY = [
    replace(NONE, rotation_degrees=40),
    replace(NONE, scale=0.4),
    replace(NONE, shift=0.3),
    replace(NONE, elastic=0.05),
    replace(NONE, flip=True),
    replace(NONE, aspect=0.3),
    replace(NONE, aspect=0.3, rotation_degrees=30, flip=True),
    replace(ALL, contrast=0, brightness=0, gamma=0),
]
WIDE = {
    "aspect": 0.2,
    "border": 0.5,
    "bands": 0.2,
    "uneven": 0.2,
    "noise": 0.05,
    "blur": 0.01,
    "local_contrast": 0.5,
    "markers": 0.5,
    "invert": 0.3,
    "opacities": 0.8,
}
EVERYTHING = replace(ALL, **WIDE)


def two_lungs(height: int = 96, width: int = 128) -> np.ndarray:
    """A mask with two ellipses: 1 on the left of the image (the patient's right), 2 on
    its right.
    """
    row, column = np.ogrid[0:height, 0:width]
    mask = np.zeros((height, width), np.uint8)
    mask[((row - 45) / 32) ** 2 + ((column - 36) / 19) ** 2 < 1] = 1
    mask[((row - 50) / 28) ** 2 + ((column - 90) / 15) ** 2 < 1] = 2
    return mask


def noise(height: int = 96, width: int = 128) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width), np.uint8)


@pytest.mark.parametrize("settings", GEOMETRY)
@pytest.mark.parametrize("seed", range(5))
def test_image_and_mask_are_moved_by_the_same_map(settings: Augmentation, seed: int) -> None:
    mask = two_lungs()
    drawn = draw(settings, np.random.default_rng(seed))
    image, moved = apply(drawn, np.where(mask > 0, 255, 0).astype(np.uint8), mask)
    assert moved.any()
    # The nearest of the four pixels weighs at least a quarter: that is how far the two
    # interpolations may disagree, and no further.
    assert moved[image > 0.76 * 255].all()
    assert not moved[image < 0.24 * 255].any()
    assert ((image > 0) & (image < 255)).mean() < 0.06  # the outline only


def test_all_limits_zero_is_the_identity() -> None:
    drawn = draw(NONE, np.random.default_rng(0))
    image, mask = apply(drawn, noise(), two_lungs())
    assert np.array_equal(image, noise())
    assert np.array_equal(mask, two_lungs())


def test_one_draw_gives_one_result_also_after_a_journey_through_json() -> None:
    drawn = draw(EVERYTHING, np.random.default_rng(3))
    again = AugmentationParams(**json.loads(json.dumps(asdict(drawn))))
    for one, other in zip(
        apply(drawn, noise(), two_lungs()), apply(again, noise(), two_lungs()), strict=True
    ):
        assert np.array_equal(one, other)


def test_equal_generators_draw_equally_and_unequal_ones_do_not() -> None:
    assert draw(ALL, np.random.default_rng(1)) == draw(ALL, np.random.default_rng(1))
    assert draw(ALL, np.random.default_rng(1)) != draw(ALL, np.random.default_rng(2))


def test_draws_stay_within_the_limits_and_use_them() -> None:
    drawn = [draw(ALL, np.random.default_rng(seed)) for seed in range(300)]
    degrees = [each.rotation_degrees for each in drawn]
    assert -25 <= min(degrees) < -20 and 20 < max(degrees) <= 25
    scales = [each.scale for each in drawn]
    assert 1 / 1.3 <= min(scales) < 0.8 and 1.25 < max(scales) <= 1.3
    assert 0.4 < np.mean([each.flip for each in drawn]) < 0.6
    assert 0.035 < np.abs([each.elastic for each in drawn]).max() <= 0.04


def still(**changes: object) -> AugmentationParams:
    return replace(draw(NONE, np.random.default_rng(0)), **changes)


def test_a_mirrored_patient_swaps_the_right_and_the_left_lung() -> None:
    image, mask = apply(still(flip=True), noise(), two_lungs())
    assert np.array_equal(image, noise()[:, ::-1])
    expected = two_lungs()[:, ::-1]
    assert np.array_equal(mask == 1, expected == 2)
    assert np.array_equal(mask == 2, expected == 1)


def test_a_shift_by_whole_pixels_moves_down_and_right_and_brings_in_black() -> None:
    image, mask = apply(still(shift_rows=6 / 96, shift_columns=8 / 128), noise(), two_lungs())
    assert np.array_equal(image[6:, 8:], noise()[:-6, :-8])
    assert np.array_equal(mask[6:, 8:], two_lungs()[:-6, :-8])
    assert not image[:6].any() and not image[:, :8].any()


def test_a_positive_quarter_turn_is_anticlockwise_as_numpys() -> None:
    square = noise(64, 64)
    image, _ = apply(still(rotation_degrees=90.0), square)
    assert np.abs(image.astype(int) - np.rot90(square)).max() <= 1


def test_a_scale_above_one_magnifies() -> None:
    _, mask = apply(still(scale=1.25), noise(), two_lungs())
    assert (mask > 0).sum() == pytest.approx(1.25**2 * (two_lungs() > 0).sum(), rel=0.03)


@pytest.mark.parametrize("change", [{"contrast": 1.3}, {"brightness": 0.2}, {"gamma": 0.7}])
def test_grey_values_change_in_the_image_alone_and_keep_their_order(
    change: dict[str, float],
) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    labels = (ramp % 3).astype(np.uint8)
    image, mask = apply(still(**change), ramp, labels)
    assert np.array_equal(mask, labels)
    assert not np.array_equal(image, ramp)
    assert (np.diff(image.ravel().astype(int)) >= 0).all()


@pytest.mark.parametrize("name", [name for name in WIDE if name not in ("aspect", "border")])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_changes_greys_moves_nothing(name: str, dtype: type) -> None:
    """Flipped, the image's greys may be anything, but the mask stays where it is and the draw
    changes nothing else.
    """
    radiograph, changed = (noise().astype(np.float64) / 255 * np.iinfo(dtype).max).astype(dtype), 0
    for seed in range(12):
        drawn = draw(replace(NONE, **{name: WIDE[name]}), np.random.default_rng(seed))
        image, mask = apply(drawn, radiograph, two_lungs())
        assert np.array_equal(mask, two_lungs())
        assert image.dtype == dtype and image.shape == radiograph.shape
        changed += not np.array_equal(image, radiograph)
    assert changed > 0


@pytest.mark.parametrize("name", WIDE)
def test_a_setting_that_is_off_leaves_the_draws_of_the_others_as_they_were(name: str) -> None:
    before = draw(replace(ALL, crop=64), np.random.default_rng(4))
    after = draw(replace(ALL, crop=64, **{name: WIDE[name]}), np.random.default_rng(4))
    own = {
        "aspect",
        "outside",
        "covers",
        "uneven",
        "noise",
        "noise_seed",
        "blur",
        "tiles",
        "clip",
        "inverted",
        "opacities",
    }
    assert {key: value for key, value in asdict(before).items() if key not in own} == {
        key: value for key, value in asdict(after).items() if key not in own
    }
    assert {key: value for key, value in asdict(before).items() if key in own} == {
        key: getattr(AugmentationParams, key) for key in own
    }


def test_draws_of_many_are_those_of_one_after_the_other() -> None:
    one, other = np.random.default_rng(6), np.random.default_rng(6)
    assert draw_many(EVERYTHING, one, 5) == [draw(EVERYTHING, other) for _ in range(5)]


@pytest.mark.parametrize("seed", range(6))
def test_everything_at_once_keeps_image_and_mask_aligned(seed: int) -> None:
    """With greys that come from the geometry alone, an image of the mask moves as the mask does."""
    drawn = draw(EVERYTHING, np.random.default_rng(seed))
    still_grey = replace(
        drawn,
        contrast=1,
        brightness=0,
        gamma=1,
        covers=(),
        uneven=(),
        noise=0,
        blur=0,
        tiles=0,
        inverted=False,
        opacities=(),
        outside=0,
    )
    image, _ = apply(still_grey, np.where(two_lungs() > 0, 255, 0).astype(np.uint8), two_lungs())
    _, mask = apply(drawn, noise(), two_lungs())
    assert mask[image > 0.76 * 255].all() and not mask[image < 0.24 * 255].any()


@pytest.mark.parametrize(
    "geometry",
    [{"shift_rows": 0.25}, {"shift_rows": 0.25, "elastic": tuple([((0.0,) * 4,) * 4] * 2)}],
)
def test_what_comes_from_beyond_the_border_is_what_was_drawn_and_no_lung(geometry: dict) -> None:
    full = np.ones((96, 128), np.uint8)
    for outside, expected in ((0.0, 0), (0.5, 127), (1.0, 255)):
        image, mask = apply(
            still(outside=outside, **geometry), np.full((96, 128), 60, np.uint8), full
        )
        assert np.abs(image[:23].astype(int) - expected).max() <= 1 and (image[26:] == 60).all()
        assert not mask[:23].any() and mask[26:].all()
    image, mask = apply(still(outside=-1.0, **geometry), np.full((96, 128), 60, np.uint8), full)
    assert (image == 60).all() and not mask[:23].any()


def test_covers_lie_where_they_say_and_inversion_turns_greys_around() -> None:
    image, _ = apply(still(covers=((0.25, 0.5, 0.5, 1.0, 1.0),)), noise())
    assert (image[24:48, 64:] == 255).all()
    image[24:48, 64:] = noise()[24:48, 64:]
    assert np.array_equal(image, noise())
    assert np.array_equal(apply(still(inverted=True), noise())[0], 255 - noise())


def test_opacities_brighten_where_they_lie_and_darken_nothing() -> None:
    image = np.random.default_rng(2).integers(0, 200, (100, 80), np.uint8)
    seen = degradations.opaque(image, 0.5, 0.25, 0.1, 0.2, 0.7, 0.8)
    assert (
        (seen >= image).all()
        and (seen[:20] == image[:20]).all()
        and (seen[:, 60:] == image[:, 60:]).all()
    )
    middle = seen[45:55, 15:25].astype(float) - (
        image[45:55, 15:25] + 0.8 * np.maximum(0.7 * 255 - image[45:55, 15:25], 0)
    )
    assert np.abs(middle).max() < 6, "in its middle all of its fraction"
    bright = np.full((40, 40), 250, np.uint8)
    assert (degradations.opaque(bright, 0.5, 0.5, 0.2, 0.2, 0.7, 1.0) == bright).all(), (
        "what is denser stays"
    )


def test_without_a_mask_the_image_is_the_same_as_with_one() -> None:
    drawn = draw(ALL, np.random.default_rng(9))
    alone, nothing = apply(drawn, noise())
    assert nothing is None
    assert np.array_equal(alone, apply(drawn, noise(), two_lungs())[0])
