"""What an untrusted file holds costs work and memory in proportion to its size, or is refused by
name.
"""

import base64
import io
import tracemalloc
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_shapes import meet, simple

from hilum import errors
from hilum.annotations import mask_codecs, polygon_crossings, polygons, shapes
from hilum.annotations.shapes import Polygon, RunLengths
from hilum.dataset import tables
from hilum.dataset.readers import _nlm, _supervisely
from hilum.errors import BadData
from hilum.imaging.files import find_images

SIZE = (400, 400)


@contextmanager
def memory_below(most: int):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def comb(corners: int):
    """An outline of long edges that do not meet, whose boxes all overlap."""
    teeth = [(float(n % 2 * 299), n * 300 / corners) for n in range(corners)]
    return (*teeth, (400.0, 300.0), (400.0, 0.0))


def star(corners: int):
    """An outline whose edges nearly all cross one another."""
    return tuple((float(n % 2 * 299), n * 7919 % 300 + n * 1e-4) for n in range(corners))


# Outlines.


@given(
    st.lists(st.tuples(*[st.integers(0, 16).map(lambda n: n / 4)] * 2), min_size=3, max_size=9).map(
        tuple
    )
)
@settings(max_examples=400, deadline=None)
def test_the_edges_that_a_sweep_finds_do_meet_and_it_finds_some_where_there_are_any(ring):
    ring = polygons.corners(ring)
    if len(ring) < 3:
        return
    found = polygon_crossings.meeting(ring)
    assert (found is None) == simple(ring)
    if found:
        first, second = ((ring[edge], ring[(edge + 1) % len(ring)]) for edge in found)
        assert meet(*first, *second)


def test_four_times_the_corners_are_compared_five_times_as_often(monkeypatch):
    turns = []
    turn = polygon_crossings._turn
    monkeypatch.setattr(
        polygon_crossings, "_turn", lambda *points: turns.append(1) or turn(*points)
    )

    def compared(corners: int) -> int:
        turns.clear()
        assert polygon_crossings.meeting(comb(corners)) is None
        return len(turns)

    few, many = compared(500), compared(2000)
    assert many < 5.5 * few


@pytest.mark.parametrize(("ring", "crosses"), [(star(6_000), True), (comb(6_000), False)])
def test_thousands_of_corners_cost_little_memory(ring, crosses):
    with memory_below(60 << 20):
        found = shapes.faults(Polygon(ring), SIZE)
    assert any("crosses or touches itself" in fault for fault in found) == crosses


def test_filling_is_cut_into_parts_that_fit_into_memory(monkeypatch):
    ring = star(3000)
    whole = Polygon(ring).to_mask(SIZE)
    monkeypatch.setattr(polygons, "_AT_ONCE", 1000)
    with memory_below(20 << 20):
        parted = Polygon(ring).to_mask(SIZE)
    assert np.array_equal(whole, parted)


@pytest.mark.parametrize(
    ("polygon", "words"),
    [
        (Polygon(((0.0, 0.0),) * 200_001), "has 200,001 corners; expected at most 200,000"),
        (Polygon(((0.0, 0.0), (400.0, 0.0)) * 22_000), "passes .* rows, all edges taken together"),
        (
            Polygon(comb(10), (((0, 0), (0, 400), (400, 0)),) * 40),
            "has holes that reach over 6,400,000 pixels",
        ),
    ],
)
def test_a_polygon_beyond_all_bounds_is_refused_before_it_is_drawn(polygon, words):
    with pytest.raises(BadData, match=words):
        polygon.to_mask(SIZE)
    assert len(shapes.faults(polygon, SIZE)) >= 1


# Masks as text.


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mask_codecs.rle_decode("o" * 1_000_000), "more than 60 bits"),
        (lambda: RunLengths((10**5, 10**5), (10**10,)).to_box(), "is given for an image of"),
        (
            lambda: RunLengths.from_coco({"size": [-3, -3], "counts": [9]}).to_box(),
            "is given for an image of",
        ),
        (
            lambda: RunLengths.from_coco({"size": [3, 3], "counts": [10**400]}),
            "more than 300 digits",
        ),
        (lambda: RunLengths.from_coco({"size": [3, 3], "counts": 7}), "expected COCO run lengths"),
        (lambda: shapes.Box.from_coco([10**400, 1, 1, 1]), "more than 300 digits"),
        (lambda: shapes.from_json("[" * 100_000), "nests its brackets too deeply"),
        (lambda: shapes.from_json('{"box":[' + "9" * 5000 + ",1,1,1]}"), "more than 400 digits"),
        (
            lambda: mask_codecs.from_png_text(
                base64.b64encode(zlib.compress(bytes(65 << 20))).decode()
            ),
            "expected a bitmap",
        ),
    ],
)
def test_masks_as_text_that_stand_for_far_more_than_they_are_are_refused(make, words):
    with memory_below(300 << 20), pytest.raises(BadData, match=words):
        make()


def test_a_mask_of_single_pixels_becomes_an_outline_each():
    mask = np.indices((60, 60)).sum(axis=0) % 2 == 0
    boxes = [one.to_box() for one in shapes.polygons_of(mask)]
    assert {(box.top, box.left) for box in boxes} == set(
        zip(*map(list, np.nonzero(mask)), strict=True)
    )
    assert {(box.height, box.width) for box in boxes} == {(1, 1)}


# Names, numbers and tables.


def test_no_guess_is_made_at_a_long_name_and_no_endless_list_is_printed():
    said = errors.unknown(
        "column", "ab" * 50_000, ["ba" * 50_000, *map(str, range(100_000)), "near"]
    )
    assert len(said) < 10_000 and "and 99,802 more" in said
    assert "did you mean 'near'" in errors.unknown("column", "nera", ["near", "ba" * 50_000])


def test_a_long_row_of_digits_is_passed_over_once():
    """Tried anew from each of its digits, a file of some megabytes would take hours."""
    assert _supervisely._UID.findall("1" * 300_000 + " 1.2.840.1") == ["1.2.840.1"]
    assert _nlm._AGE.search("1" * 300_000 + " age 45 y")[1] == "45"


def test_folders_are_walked_once_for_each_part_of_a_pattern(tmp_path, monkeypatch):
    (tmp_path / "/".join("d" * 20)).mkdir(parents=True)
    walked = []
    entries = find_images._entries
    monkeypatch.setattr(
        find_images,
        "_entries",
        lambda search, folder: walked.append(folder) or entries(search, folder),
    )
    find_images.collect([tmp_path / "**/d/**/d/**/d/**/x.png"])
    assert len(walked) <= 4 * 21


def test_a_workbook_that_grows_far_more_than_sheets_do_is_refused(tmp_path):
    path, stream = tmp_path / "a.xlsx", io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/sharedStrings.xml", b"<si/>" * 5_000_000)
    path.write_bytes(stream.getvalue())
    with pytest.raises(BadData, match="bytes once unpacked; expected at most 16,777,216"):
        tables.read(path)
