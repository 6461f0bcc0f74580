"""Coordinates given for one raster, on a file of another size: scaled where both have the same
proportions, refused where they have not."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.annotations import shapes
from hilum.annotations.image_scale import Scale, same_proportions
from hilum.errors import BadData
from hilum.pipeline.evaluate import file_spacing

GIVEN = (60, 80)
sides = st.integers(1, 3000)
factors = st.floats(0.1, 4)
edges = st.floats(0, 1)


def resized(factor):
    return tuple(max(1, round(side * factor)) for side in GIVEN)


def nearest(mask, size):
    """Resampling in the plainest way: each pixel takes the value at its centre."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for old, new in zip(mask.shape, size, strict=True)
    )
    return mask[np.ix_(rows, columns)]


@given(st.tuples(sides, sides), factors)
@settings(deadline=None)
def test_a_resized_copy_has_the_proportions_of_its_original(size, factor):
    copy = tuple(max(1, round(side * factor)) for side in size)
    assert same_proportions(size, copy) and same_proportions(copy, size)


@pytest.mark.parametrize(
    ("original", "file", "words"),
    [
        ((1024, 1024), (512, 400), "cropped, padded or stretched"),
        ((2991, 2992), (1024, 768), "cropped, padded or stretched"),
        ((2500, 2048), (2048, 2500), "rotated by a quarter turn"),
        ((2500, 2048), (1024, 1250), "rotated by a quarter turn"),
        ((100, 100), (50, 45), "100x100 pixels (height x width), the file has 50x45"),
    ],
)
def test_other_proportions_are_refused_with_both_sizes_and_the_likely_cause(original, file, words):
    assert not same_proportions(original, file)
    with pytest.raises(BadData) as fault:
        Scale.between(original, file)
    assert words in str(fault.value)


@given(st.tuples(edges, edges), st.tuples(edges, edges), factors)
@settings(deadline=None)
def test_what_lies_on_the_original_lies_on_the_copy(rows, columns, factor):
    (top, bottom), (left, right) = (
        sorted(edge * side for edge in pair)
        for pair, side in zip((rows, columns), GIVEN, strict=True)
    )
    box = shapes.Box(top, left, bottom - top, right - left)
    scale = Scale.between(GIVEN, resized(factor))
    for shape in (box, box.to_polygon()):
        beyond = [fault for fault in shapes.faults(shape, GIVEN) if "outside" in fault]
        found = [
            fault for fault in shapes.faults(scale.shape(shape), scale.file) if "outside" in fault
        ]
        assert bool(found) <= bool(beyond)
    there, outline = scale.shape(box), scale.shape(box.to_polygon()).to_box()
    assert np.allclose(there.to_coco(), outline.to_coco())
    assert np.allclose(Scale(scale.file, GIVEN).shape(there).to_coco(), box.to_coco())


@given(st.integers(0, 999), st.integers(-5, 50), st.integers(-5, 70), factors)
@settings(deadline=None)
def test_bitmaps_and_run_lengths_are_resampled_as_the_whole_mask_is(seed, top, left, factor):
    patch = np.random.default_rng(seed).random((14, 11)) > 0.4
    bitmap = shapes.Bitmap(top, left, patch)
    scale = Scale.between(GIVEN, resized(factor))
    expected = nearest(bitmap.to_mask(GIVEN), scale.file)
    if expected.any():
        assert np.array_equal(scale.shape(bitmap).to_mask(scale.file), expected)
    runs = shapes.RunLengths.of(bitmap.to_mask(GIVEN))
    assert np.array_equal(scale.shape(runs).to_mask(scale.file), expected)


@given(st.integers(0, 999), st.integers(1, 5))
@settings(deadline=None)
def test_a_bitmap_that_is_enlarged_and_shrunk_again_is_the_same(seed, times):
    bitmap = shapes.Bitmap(3, 5, np.random.default_rng(seed).random((7, 9)) > 0.5)
    larger = (GIVEN[0] * times, GIVEN[1] * times)
    there = Scale(GIVEN, larger).shape(bitmap)
    assert there.mask.sum() == bitmap.mask.sum() * times**2
    assert Scale(larger, GIVEN).shape(there) == bitmap


def test_a_drawing_smaller_than_a_pixel_of_the_copy_keeps_one():
    speck = shapes.Bitmap(11, 31, np.ones((2, 2), bool))
    assert Scale((600, 800), (60, 80)).shape(speck) == shapes.Bitmap(1, 3, np.ones((1, 1), bool))


def test_a_file_of_the_given_size_keeps_every_number():
    polygon = shapes.Polygon(((0.1, 0.2), (30.3, 0.4), (7.7, 50.9)))
    assert Scale.between(GIVEN, GIVEN).shape(polygon) is polygon


def test_spacing_grows_as_the_file_shrinks():
    assert Scale((2000, 1000), (500, 250)).spacing((0.1, 0.2)) == pytest.approx((0.4, 0.8))


def test_spacing_is_that_of_the_file_and_not_known_where_the_proportions_differ():
    table = pl.DataFrame(
        [
            ["stated for a larger one", 2000, 1000, 0.1, 0.1],
            ["of the file", 500, 250, 0.3, 0.3],
            ["no size stated", None, None, 0.2, 0.4],
            ["stretched", 2000, 2000, 0.1, 0.1],
            ["on its side", 250, 500, 0.3, 0.3],
            ["no spacing", 500, 250, None, None],
        ],
        schema={
            "image_id": pl.String,
            **dict.fromkeys(("stated_height", "stated_width"), pl.Int64),
            **dict.fromkeys(("row_spacing_mm", "column_spacing_mm"), pl.Float64),
        },
        orient="row",
    )
    index = table.select("image_id", height=pl.lit(500), width=pl.lit(250))
    assert file_spacing(table, index) == {
        "stated for a larger one": pytest.approx((0.4, 0.4)),
        "of the file": (0.3, 0.3),
        "no size stated": (0.2, 0.4),
        "on its side": (0.3, 0.3),
    }
