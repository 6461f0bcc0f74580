"""Geometry can be undone, shrinking does not alias, and a resized mask stays where it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.annotations import lung_masks
from hilum.imaging import radiograph
from hilum.imaging.geometry import Chain, Crop, Letterbox, resize
from hilum.imaging.radiograph import Radiograph, preprocess, to_uint8

sides = st.integers(1, 700)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, to=st.sampled_from([64, 256]))
def test_a_letterbox_holds_the_whole_image_centred_and_in_proportion(height, width, to):
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
    disc = (
        np.hypot(np.arange(height)[:, None] - height / 2, np.arange(width) - width / 2)
        < min(height, width) / 3
    )
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


def fractions(source: int, target: int) -> np.ndarray:
    """float64 (target, source): which fraction of each new pixel each old one covers. The oracle:
    an integral, worked out pixel by pixel.
    """
    edges = np.arange(target + 1) * source / target
    cover = np.minimum(edges[1:, None], np.arange(1, source + 1)) - np.maximum(
        edges[:-1, None], np.arange(source)
    )
    return np.clip(cover, 0, None) * target / source


@settings(max_examples=80, deadline=None)
@given(
    height=st.integers(2, 300),
    width=st.integers(2, 300),
    data=st.data(),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
)
def test_shrinking_is_the_exact_average_of_the_area_whatever_the_factors(
    height, width, data, dtype
):
    size = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max
    image = (np.random.default_rng(height * width).random((height, width)) * top).astype(dtype)
    expected = fractions(height, size[0]) @ image.astype(np.float64) @ fractions(width, size[1]).T
    assert np.abs(resize(image, size) - expected).max() <= (
        2e-5 if dtype is np.float32 else 0.51 + 2e-5 * top
    )


@settings(max_examples=40, deadline=None)
@given(height=st.integers(20, 200), width=st.integers(20, 200), data=st.data())
def test_an_axis_that_shrinks_does_not_alias_where_the_other_grows(height, width, data):
    size = data.draw(st.integers(height, 400)), data.draw(st.integers(2, width // 4))
    fine = np.tile(np.arange(width) % 2, (height, 1)).astype(np.float32)
    found = resize(fine, size)
    assert found.shape == size and np.abs(found - fractions(width, size[1]) @ fine[0]).max() < 1e-5


def test_shrunken_labels_keep_to_the_label_of_most_of_the_area_and_to_the_lowest_among_equals():
    labels = np.array([[3, 3, 7, 1], [3, 0, 7, 1]], np.uint8)
    assert resize(labels, (1, 2), labels=True).tolist() == [[3, 1]]
    line = np.zeros((90, 90), np.uint8)
    line[:, 44:47] = (
        5  # three pixels wide, of which nearest-neighbour sampling of every tenth may see none
    )
    assert resize(line, (30, 30), labels=True).any() and set(
        np.unique(resize(line, (31, 17), labels=True))
    ) <= {0, 5}


@settings(max_examples=60, deadline=None)
@given(height=st.integers(30, 600), width=st.integers(30, 600), to=st.sampled_from([64, 256, 512]))
def test_an_image_goes_through_a_letterbox_and_back_to_where_it_was(height, width, to):
    """A slope in both directions comes back as it was, but for the rim and the size of a pixel."""
    slope = (np.arange(height)[:, None] + np.arange(width)).astype(np.float32)
    box = Letterbox((height, width), to)
    back = box.back(box.forward(slope))
    pixel = max(
        1.0, *(source / inner for source, inner in zip((height, width), box.inner, strict=True))
    )
    rim = int(np.ceil(pixel))
    middle = slice(rim, height - rim), slice(rim, width - rim)
    assert (
        back.shape == slope.shape
        and np.abs(back - slope)[middle].max() <= 0.15 * pixel + 0.01
        and np.abs(back - slope).max() <= 2 * pixel
    )


def test_beside_a_letterboxed_image_is_nothing_and_it_is_known_where():
    box = Letterbox((300, 200), 128)
    square = box.forward(np.ones((300, 200), np.float32))
    assert (
        (square[box.inside()] == 1).all()
        and square.sum() == np.prod(box.inner)
        and box.inner == (128, 85)
        and box.corner == (0, 21)
    )


@pytest.mark.parametrize(
    ("dtype", "entries"), [(np.uint8, 256), (np.uint8, 16), (np.uint16, 4096), (np.uint16, 65536)]
)
def test_a_table_of_brightness_is_looked_up_exactly(dtype, entries, monkeypatch):
    rng = np.random.default_rng(1)
    values, shown = (
        rng.integers(0, entries, (40, 30)).astype(dtype),
        rng.random(entries).astype(np.float32),
    )
    for wide in (True, False):
        monkeypatch.setattr(
            "hilum.imaging.radiograph._WIDE_TABLES", wide and radiograph._WIDE_TABLES
        )
        assert np.array_equal(Radiograph(values, None, (), shown).pixels, shown[values])
        assert np.array_equal(
            Radiograph(values[::2, ::-1], None, (), shown).pixels, shown[values][::2, ::-1]
        )


@pytest.mark.parametrize("window", ["percentiles", "full"])
def test_a_prepared_image_is_stretched_over_what_lies_in_the_image_alone(window):
    values = np.random.default_rng(0).integers(1000, 3000, (300, 200)).astype(np.uint16)
    radiograph = Radiograph(values, None, (), (np.arange(4096) / 4095).astype(np.float32))
    narrow, wide = preprocess(radiograph, 128, window), preprocess(radiograph, 128, window, 16)
    box = Letterbox((300, 200), 128)
    small = fractions(300, 128) @ (values / 4095) @ fractions(200, 85).T
    low, high = np.percentile(small, (0.5, 99.5)) if window == "percentiles" else (0, 1)
    expected = np.clip((small - low) / (high - low), 0, 1)
    assert (
        np.abs(narrow[box.inside()] - 255 * expected).max() < 0.51
        and np.abs(wide[box.inside()] - 65535 * expected).max() < 8
    )
    assert narrow.dtype == np.uint8 and wide.dtype == np.uint16 and not wide[:, :20].any()


@settings(max_examples=40, deadline=None)
@given(
    factor=st.integers(1, 12),
    inner=st.sampled_from([(256, 256), (200, 256), (256, 131)]),
    more=st.sampled_from([0, 0, 1]),
    seed=st.integers(0, 2**31),
)
def test_an_image_that_is_averaged_in_strips_is_the_same_to_the_bit(factor, inner, more, seed):
    size = inner[0] * factor + more, inner[1] * factor
    rng = np.random.default_rng(seed)
    values, table = rng.integers(0, 256, size, np.uint8), rng.random(256, np.float32)
    image = Radiograph(values, None, (), table)
    whole = Letterbox(size, 256).forward(image.pixels)
    assert np.array_equal(preprocess(image, 256, "full", 16), radiograph.to_uint16(whole))


def test_a_crop_outside_its_image_is_refused():
    with pytest.raises(ValueError, match="inside"):
        Crop((10, 10), 0, 0, 11, 5)


def test_to_uint8_rounds_and_clips():
    assert to_uint8(np.array([-1, 0, 0.5, 1, 2], np.float32)).tolist() == [0, 0, 128, 255, 255]


def test_a_resized_mask_keeps_its_area_within_a_rim():
    labels = np.zeros((400, 300), np.uint8)
    labels[50:350, 20:120], labels[60:340, 170:280] = lung_masks.RIGHT, lung_masks.LEFT
    small = lung_masks.downsample_labels(labels, Letterbox((400, 300), 128).forward)
    scale = (128 / 400) ** 2
    for side in (lung_masks.RIGHT, lung_masks.LEFT):
        assert abs((small == side).sum() / ((labels == side).sum() * scale) - 1) < 0.05
