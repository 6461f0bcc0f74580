"""Drawn shapes: which pixels they cover, that every form of text brings the same shape back, and
that nonsense is named.
"""

import base64
import json
import math
import re
import zlib
from fractions import Fraction

import imagecodecs
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hilum.annotations import shapes
from hilum.annotations.shapes import Bitmap, Box, Polygon, RunLengths, faults
from hilum.errors import BadData

SIZE = (7, 9)  # height, width
relaxed = settings(deadline=None)  # the machine may be shared


def image(text: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in line] for line in text.split()])


def inside(ring, row: Fraction, column: Fraction) -> bool:
    """Even-odd, by counting the edges that pass left of a point; a point on an edge is right of it.
    Exact, one point at a time.
    """
    crossed = 0
    for (row_0, column_0), (row_1, column_1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        row_0, column_0, row_1, column_1 = (
            Fraction(value) for value in (row_0, column_0, row_1, column_1)
        )
        if (row_0 <= row) != (row_1 <= row):
            crossed += column_0 + (row - row_0) / (row_1 - row_0) * (column_1 - column_0) <= column
    return crossed % 2 == 1


def plain(polygon: Polygon, size) -> list[list[bool]]:
    half = Fraction(1, 2)
    return [
        [
            inside(polygon.exterior, row + half, column + half)
            and not any(inside(hole, row + half, column + half) for hole in polygon.holes)
            for column in range(size[1])
        ]
        for row in range(size[0])
    ]


def meet(a, b, c, d) -> bool:
    """Do the closed edges ab and cd share a point? By solving for it in fractions."""
    a, b, c, d = (tuple(map(Fraction, point)) for point in (a, b, c, d))
    along, other, gap = [(q[0] - p[0], q[1] - p[1]) for p, q in ((a, b), (c, d), (a, c))]
    turn = along[0] * other[1] - along[1] * other[0]
    if turn:
        s, t = (
            (gap[0] * other[1] - gap[1] * other[0]) / turn,
            (gap[0] * along[1] - gap[1] * along[0]) / turn,
        )
        return 0 <= s <= 1 and 0 <= t <= 1
    if gap[0] * along[1] - gap[1] * along[0]:
        return False
    return max(min(a, b), min(c, d)) <= min(max(a, b), max(c, d))


def simple(ring) -> bool:
    """No two edges share a point but neighbours their corner, pair by pair."""
    edges = list(zip(ring, [*ring[1:], ring[0]], strict=True))
    for i, (a, b) in enumerate(edges):
        for j in range(i + 1, len(edges)):
            c, d = edges[j]
            if j - i in (1, len(edges) - 1):
                before, corner, after = (a, b, d) if j - i == 1 else (c, d, b)
                if meet(before, corner, after, after) or meet(corner, after, before, before):
                    return False
            elif meet(a, b, c, d):
                return False
    return True


masks = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))
quarters = st.integers(-8, 48).map(lambda value: value / 4)
points = st.tuples(quarters, quarters)
rings = st.lists(points, min_size=3, max_size=7).map(tuple)
polygons = st.builds(Polygon, rings, st.lists(rings, max_size=2).map(tuple))
boxes = st.builds(Box, quarters, quarters, quarters, quarters)
bitmaps = st.builds(Bitmap, st.integers(-6, 10), st.integers(-6, 10), masks)
some_shape = boxes | polygons | bitmaps | masks.map(RunLengths.of)


# Which pixels.


@pytest.mark.parametrize(
    ("shape", "covered"),
    [
        (Box(1, 1, 2, 3), "..... .###. .###. ..... ....."),
        (Box(0.5, 0.5, 2, 3), "###.. ###.. ..... ..... ....."),
        (Box(0.6, 0.4, 2.0, 3.0), "..... ###.. ###.. ..... ....."),
        (Box(-2, 3, 4, 9), "...## ...## ..... ..... ....."),
        (Polygon(((1, 1), (1, 4), (3, 4), (3, 1))), "..... .###. .###. ..... ....."),
        (
            Polygon(((0, 0), (5, 0), (5, 5))),
            "..... #.... ##... ###.. ####.",
        ),  # its slope runs through centres, the inside left of them
        (Polygon(((0, 0), (0, 5), (5, 5))), "##### .#### ..### ...## ....#"),
        (Polygon(((0, 2.5), (2.5, 5), (5, 2.5), (2.5, 0))), "..#.. .###. ##### .###. ..#.."),
        (Polygon(((0, 0), (0, 5), (5, 0), (5, 5))), "####. .##.. ..... .##.. ####."),
        (
            Polygon(((0, 0), (0, 5), (5, 5), (5, 0)), (((1, 1), (1, 4), (4, 4), (4, 1)),)),
            "##### #...# #...# #...# #####",
        ),
        (
            Polygon(((1, 1), (1, 1.4), (1.4, 1))),
            "..... ..... ..... ..... .....",
        ),  # between the centres
        (Polygon(((1, 1), (3, 3))), "..... ..... ..... ..... ....."),
        (Bitmap(3, -1, image("##. .##")), "..... ..... ..... #.... ##..."),
        (RunLengths((5, 5), (0, 2, 20, 3)), "#.... #.... ....# ....# ....#"),
    ],
)
def test_a_shape_covers_the_pixels_worked_out_by_hand(shape, covered):
    assert shape.to_mask((5, 5)).tolist() == image(covered).tolist()
    assert shape.to_mask((5, 5)).dtype == bool


@given(polygons)
@settings(max_examples=200, deadline=None)
def test_a_polygon_covers_the_centres_inside_it(polygon):
    assert polygon.to_mask(SIZE).tolist() == plain(polygon, SIZE)


@given(st.lists(st.tuples(*[st.floats(-20, 20)] * 2), min_size=3, max_size=9).map(tuple))
@relaxed
@example(
    ((0.0, 0.0), (0.0, 1.0), (4.847364793676594, 4.847364793676594))
)  # centres on a slope that rounding moves
@example(((-1e9, -1e9), (1e9 - 1, 1e9 - 1), (1e9, -1e9)))
def test_a_polygon_of_any_numbers_covers_the_centres_inside_it(ring):
    assert Polygon(ring).to_mask(SIZE).tolist() == plain(Polygon(ring), SIZE)


@given(rings, st.integers(1, 5))
@relaxed
def test_two_polygons_along_one_cut_share_no_pixel_and_lose_none(ring, cut):
    """A fan of triangles is the polygon where centres count once each."""
    fan = sum(
        Polygon((ring[0], one, two)).to_mask(SIZE).astype(int)
        for one, two in zip(ring[1:], ring[2:], strict=False)
    )
    assert (fan % 2 == 1).tolist() == Polygon(ring).to_mask(SIZE).tolist()


@given(boxes)
@relaxed
def test_a_box_covers_what_the_polygon_of_its_corners_covers(box):
    assume(min(box.height, box.width) > 0)
    bottom, right = box.top + box.height, box.left + box.width
    polygon = Polygon(((box.top, box.left), (box.top, right), (bottom, right), (bottom, box.left)))
    assert box.to_mask(SIZE).tolist() == polygon.to_mask(SIZE).tolist()
    assert polygon.to_box() == box


@given(masks, st.integers(-12, 12), st.integers(-12, 12))
@relaxed
def test_a_bitmap_lies_at_its_place_and_is_cut_at_the_border(mask, top, left):
    found = Bitmap(top, left, mask).to_mask(SIZE)
    for row, column in np.ndindex(SIZE):
        there = (row - top, column - left)
        expected = 0 <= there[0] < mask.shape[0] and 0 <= there[1] < mask.shape[1] and mask[there]
        assert found[row, column] == expected


@given(masks)
@relaxed
def test_the_box_of_a_mask_is_the_smallest_that_covers_it(mask):
    assume(mask.any())
    box = RunLengths.of(mask).to_box()
    assert box == Bitmap(0, 0, mask).to_box()
    covered = box.to_mask(mask.shape)
    assert not (mask & ~covered).any()
    rows, columns = np.nonzero(mask)
    assert covered.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_a_mask_without_a_pixel_has_no_box():
    for shape in (
        RunLengths.of(np.zeros((2, 3), bool)),
        Bitmap(0, 0, np.zeros((2, 3), bool)),
        Polygon(()),
    ):
        with pytest.raises(BadData, match="no box"):
            shape.to_box()


# Masks to outlines.


@given(masks)
@settings(max_examples=300, deadline=None)
def test_the_outlines_of_a_mask_are_the_mask_again(mask):
    traced = shapes.polygons_of(mask)
    painted = [polygon.to_mask(mask.shape) for polygon in traced]
    assert (
        np.sum(painted, axis=0, initial=0).tolist() == mask.astype(int).tolist()
        if traced
        else not mask.any()
    )
    for polygon, part in zip(traced, painted, strict=True):
        assert faults(polygon, mask.shape) == []
        assert polygon.to_box() == Bitmap(0, 0, part).to_box()
        assert all(simple(ring) for ring in (polygon.exterior, *polygon.holes))


def test_parts_that_touch_at_a_corner_are_two_polygons_and_holes_stay_holes():
    two = shapes.polygons_of(image("##. ##. ..#"))
    assert [polygon.exterior for polygon in two] == [
        ((0, 0), (0, 2), (2, 2), (2, 0)),
        ((2, 2), (2, 3), (3, 3), (3, 2)),
    ]
    (ring,) = shapes.polygons_of(image("### #.# ###"))
    assert [set(hole) for hole in ring.holes] == [{(1, 1), (1, 2), (2, 2), (2, 1)}]
    (hook,) = shapes.polygons_of(image("### #.# ##."))
    assert (
        len(hook.holes) == 1 and len(hook.exterior) == 6
    )  # the hole touches the outside at a corner only
    assert shapes.polygons_of(np.zeros((3, 3), bool)) == ()


# Run lengths.

KNOWN_TEXT = [  # written by pycocotools 2.0.11
    (np.eye(5, dtype=bool), "0150000000"),
    (np.zeros((4, 3), bool), "<"),
    (np.ones((4, 3), bool), "0<"),
    (image(".#. ### .#."), "11120N0"),
]


@pytest.mark.parametrize(("mask", "text"), KNOWN_TEXT)
def test_coco_text_is_the_one_of_the_reference(mask, text):
    assert RunLengths.of(mask).to_coco() == {"size": list(mask.shape), "counts": text}
    for counts in (text, text.encode()):
        assert (
            RunLengths.from_coco({"size": list(mask.shape), "counts": counts})
            .to_mask(mask.shape)
            .tolist()
            == mask.tolist()
        )


@given(masks)
@relaxed
def test_a_mask_comes_back_from_every_kind_of_run_lengths(mask):
    runs = RunLengths.of(mask)
    assert runs.counts[0] == 0 or not mask[0, 0]
    ways = {
        "as they are": runs,
        "compressed": RunLengths.from_coco(runs.to_coco()),
        "plain": RunLengths.from_coco(json.loads(json.dumps(runs.to_coco(compressed=False)))),
    }
    for way, found in ways.items():
        assert found == runs, way
        assert found.to_mask(mask.shape).tolist() == mask.tolist(), way


@given(st.lists(st.integers(0, 10**7), max_size=9))
@relaxed
def test_any_counts_come_back_from_coco_text(counts):
    runs = RunLengths((1, sum(counts)), tuple(counts))
    assert RunLengths.from_coco(runs.to_coco()) == runs


@pytest.mark.parametrize(
    "read",
    [
        lambda: RunLengths.from_coco({"size": [3, 3], "counts": "1é"}),
        lambda: RunLengths.from_coco({"size": [3, 3], "counts": "1Q"}),
        lambda: RunLengths.from_coco({"size": [3, 3], "counts": [1.5, 7.5]}),
        lambda: RunLengths.from_coco({"size": [3], "counts": [9]}),
        lambda: RunLengths.from_coco({"counts": [9]}),
        lambda: RunLengths((3, 3), (4, 4)).to_mask((3, 3)),
        lambda: RunLengths((3, 3), (4, -1, 6)).to_mask((3, 3)),
        lambda: RunLengths((3, 3), (9,)).to_mask((3, 4)),
    ],
)
def test_run_lengths_that_cannot_be_are_refused(read):
    with pytest.raises(BadData):
        read()


# Boxes and polygons of COCO.


@given(boxes)
@relaxed
def test_a_box_comes_back_from_coco(box):
    assert Box.from_coco(box.to_coco()) == box


def test_coco_says_x_before_y():
    assert Box.from_coco([225.5, 547.25, 86, 79]) == Box(
        top=547.25, left=225.5, height=79, width=86
    )
    assert Polygon.from_coco([1, 2, 3, 4, 5, 7]) == Polygon(((2, 1), (4, 3), (7, 5)))


@given(rings)
@relaxed
def test_a_polygon_comes_back_from_coco(ring):
    assert Polygon.from_coco(Polygon(ring).to_coco()) == Polygon(ring)


@pytest.mark.parametrize("wrong", [[1, 2, 3], [1, 2, 3, "4"], None, [1, 2, 3, True]])
def test_a_coco_box_of_other_things_is_refused(wrong):
    with pytest.raises(BadData, match=r"\[x, y, width, height\]"):
        Box.from_coco(wrong)


def test_a_coco_polygon_has_pairs_and_no_holes():
    with pytest.raises(BadData):
        Polygon.from_coco([1, 2, 3])
    with pytest.raises(BadData, match="run lengths"):
        Polygon(((0, 0), (0, 9), (9, 9)), (((1, 2), (1, 3), (2, 3)),)).to_coco()


# Text of our own, and Supervisely's.


@given(some_shape)
@settings(max_examples=200, deadline=None)
def test_every_shape_comes_back_from_its_text(shape):
    text = shape.to_json()
    assert shapes.from_json(text) == shape
    assert type(shapes.from_json(text)) is type(shape)
    assert shapes.from_json(text).to_json() == text
    assert "\n" not in text


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
@relaxed
def test_text_keeps_every_bit_of_a_number(row, column):
    assert shapes.from_json(Polygon(((row, column),)).to_json()).exterior == ((row, column),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"box":[1,2,3]}',
        '{"box":[1,2,3,"4"]}',
        '{"polygon":[[1,2,3]],"holes":[]}',
        '{"polygon":[[1,2]]}',
        '{"runs":"1Q","size":[1,2]}',
        '{"bitmap":"AAAA","at":[0,0]}',
        '{"bitmap":"AAAA"}',
        '{"bitmap":3,"at":[0,0]}',
        '{"runs":3,"size":[1,2]}',
    ],
)
def test_text_that_is_no_shape_is_refused(text):
    with pytest.raises(BadData):
        shapes.from_json(text)


def test_equal_bitmaps_are_one_in_a_set_and_cannot_be_changed():
    mask = image("#. ##")
    bitmap = Bitmap(1, 2, mask)
    mask[:] = False
    assert bitmap == Bitmap(1, 2, image("#. ##")) != Bitmap(2, 2, image("#. ##"))
    assert len({bitmap, Bitmap(1, 2, image("#. ##")), Bitmap(1, 2, image("#. #."))}) == 2
    with pytest.raises(ValueError, match="read-only"):
        bitmap.mask[0, 0] = False


@given(polygons | bitmaps)
@relaxed
def test_a_drawing_comes_back_from_supervisely(shape):
    drawn = json.loads(json.dumps(shapes.to_supervisely(shape)))
    assert (
        shapes.from_supervisely({**drawn, "classTitle": "lung", "labelerLogin": "someone"}) == shape
    )


def test_a_polygon_of_supervisely_has_x_first():
    drawn = {
        "geometryType": "polygon",
        "points": {
            "exterior": [[1, 2], [30, 2], [30.5, 44]],
            "interior": [[[3, 3], [4, 3], [4, 4]]],
        },
    }
    assert shapes.from_supervisely(drawn) == Polygon(
        ((2, 1), (2, 30), (44, 30.5)), (((3, 3), (3, 4), (4, 4)),)
    )


RING_OF_THE_MANUAL = (  # the example in Supervisely's own reference of Bitmap.base64_2_data: a palette PNG with a transparent entry
    "eJzrDPBz5+WS4mJgYOD19HAJAtLMIMwIInOeqf8BUmwBPiGuQPr///9Lb86/C2QxlgT5BTM4PLuRBuTwebo4hlTMSa44sKHhISMDuxpTYrr03F6gDIOnq5/LOqeEJgDM5ht6"
)


def test_a_bitmap_of_supervisely_is_read_as_its_manual_says():
    drawn = {"geometryType": "bitmap", "bitmap": {"data": RING_OF_THE_MANUAL, "origin": [4, 1]}}
    assert shapes.from_supervisely(drawn) == Bitmap(1, 4, image("### #.# ###"))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_a_bitmap_is_its_alpha_or_where_there_is_none_its_grey(channels):
    mask = image("#.. .##")
    values = np.full((*mask.shape, channels), 200, np.uint8)
    values[..., -1] = mask * 255
    data = base64.b64encode(zlib.compress(imagecodecs.png_encode(values.squeeze()))).decode()
    assert shapes.from_supervisely(
        {"geometryType": "bitmap", "bitmap": {"data": data, "origin": [0, 0]}}
    ) == Bitmap(0, 0, mask)


def _bitmap(data, origin=(0, 0)):
    return {"geometryType": "bitmap", "bitmap": {"data": data, "origin": list(origin)}}


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ({"geometryType": "polygone", "points": {}}, "did you mean 'polygon'"),
        ({"points": {"exterior": []}}, "geometryType"),
        ({"geometryType": "polygon"}, "points.exterior"),
        ({"geometryType": "polygon", "points": [[1, 2]]}, "points.exterior"),
        (
            {"geometryType": "polygon", "points": {"exterior": [[1, 2], [3]], "interior": []}},
            "two coordinates",
        ),
        (
            {"geometryType": "polygon", "points": {"exterior": [["1", "2"]], "interior": []}},
            "two coordinates",
        ),
        ({"geometryType": "bitmap", "bitmap": None}, "bitmap.data"),
        (_bitmap(RING_OF_THE_MANUAL, [0.5, 1]), "whole numbers"),
        (_bitmap(RING_OF_THE_MANUAL[:40]), "cut short"),
        (_bitmap("not base64!"), "cut short"),
        (_bitmap(_packed(b"no image")), "cut short"),
        (_bitmap(_packed(imagecodecs.png_encode(np.zeros((2, 2, 3), np.uint8)))), "without alpha"),
        (_bitmap(_packed(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0")), "64,000,000 pixels"),
    ],
)
def test_a_drawing_that_cannot_be_read_is_refused(drawn, said):
    with pytest.raises(BadData, match=said):
        shapes.from_supervisely(drawn)


# Faults.

SQUARE = ((1, 1), (1, 4), (4, 4), (4, 1))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (Polygon(SQUARE), []),
        (Polygon((*SQUARE, SQUARE[0])), []),  # closed by its first point
        (Polygon((SQUARE[0], *SQUARE)), []),
        (Polygon(((0, 0), (0, 9), (7, 9), (7, 0))), []),
        (Polygon(((1, 1), (3, 3))), ["the outline has 2 different points"]),
        (Polygon(((1, 1), (1, 1), (1, 1))), ["the outline has 0 different points"]),
        (Polygon(()), ["the outline has 0 different points"]),
        (Polygon(((1, 1), (4, 4), (1, 4), (4, 1))), ["crosses or touches itself"]),
        (
            Polygon(((0, 0), (0, 4), (4, 4), (0, 2))),
            ["crosses or touches itself"],
        ),  # a corner on an edge
        (Polygon(((1, 1), (2, 2), (3, 3))), ["crosses or touches itself"]),  # no area
        (
            Polygon(((0, 0), (0, 4), (0, 2), (3, 2))),
            ["crosses or touches itself"],
        ),  # back along itself
        (
            Polygon(((1, 1), (1, 4), (8, 4), (4, -1))),
            ["reaches outside the image: rows 1 to 8, columns -1 to 4"],
        ),
        (
            Polygon(((1, 1), (9, 9), (1, 9), (9, 1))),
            ["crosses or touches itself", "outside the image"],
        ),
        (Polygon(((1, 1), (math.nan, 4), (3, 3))), ["point 1 is nan"]),
        (Polygon(SQUARE, (((2, 2), (2, math.inf), (3, 3)),)), ["point 1 is inf"]),
        (Polygon(SQUARE, (((2, 2), (2, 3), (3, 3), (3, 2)),)), []),
        (
            Polygon(SQUARE, (((2, 2), (2, 6), (3, 6), (3, 2)),)),
            ["hole 1 covers 2 pixels that are not inside"],
        ),
        (Polygon(SQUARE, (((2, 2), (3, 3)),)), ["hole 1 has 2 different points"]),
        (
            Polygon(SQUARE, (((2, 2), (3, 3), (2, 3), (3, 2)),)),
            ["hole 1 crosses or touches itself"],
        ),
        (Box(1, 1, 2, 3), []),
        (Box(0, 0, 7, 9), []),
        (Box(-0.5, 1, 2, 3), ["outside the image"]),
        (Box(6, 1, 2, 3), ["outside the image"]),
        (Box(1, 1, 0, 3), ["0 high and 3 wide"]),
        (Box(1, 1, 2, -3), ["2 high and -3 wide"]),
        (Box(1, math.inf, 2, 3), ["left is inf"]),
        (Box(math.nan, 1, 2, math.nan), ["top is nan", "width is nan"]),
        (Bitmap(1, 1, image("##")), []),
        (Bitmap(1, 1, image("..")), ["draws no pixel"]),
        (Bitmap(1, 8, image("#.")), []),
        (Bitmap(1, 8, image("##")), ["outside the image"]),
        (Bitmap(-1, 2, image("##")), ["outside the image"]),
        (RunLengths(SIZE, (10, 3, 50)), []),
        (RunLengths(SIZE, (63,)), ["draws no pixel"]),
        (RunLengths(SIZE, (10, 3, 51)), ["add up to 64 pixels"]),
        (RunLengths(SIZE, (10, -3, 56)), ["count 1 is -3"]),
        (RunLengths((9, 7), (10, 3, 50)), [r"given for an image of \(9, 7\)"]),
        (RunLengths((9, 7), (10, -3, 50)), ["given for", "count 1 is -3", "add up to 57"]),
    ],
)
def test_faults_name_each_thing_that_is_wrong(shape, said):
    found = faults(shape, SIZE)
    assert len(found) == len(said), found
    for sentence, words in zip(found, said, strict=True):
        assert re.search(words, sentence), sentence


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 2), min_size=3, max_size=7).map(tuple))
@settings(max_examples=400, deadline=None)
def test_a_crossing_is_found_where_fractions_find_one(ring):
    assume(all(point != after for point, after in zip(ring, (*ring[1:], ring[0]), strict=True)))
    found = [sentence for sentence in faults(Polygon(ring), SIZE) if "itself" in sentence]
    assert bool(found) != simple(ring)


@pytest.mark.parametrize("nudge", [-1, 0, 1])
def test_a_crossing_is_found_to_the_last_bit_of_a_number(nudge):
    """A corner beside, on and beyond a slanting edge, by one unit in the last place."""
    at = math.nextafter(0.7, math.inf * nudge) if nudge else 0.7
    ring = ((0.0, 0.0), (0.1 * 8, 0.7 * 8), (0.0, 9.0), (0.1, at))
    assert bool(
        [sentence for sentence in faults(Polygon(ring), SIZE) if "itself" in sentence]
    ) != simple(ring)
    assert simple(ring) == (nudge > 0)


def test_where_an_outline_crosses_itself_is_said():
    (sentence,) = faults(Polygon(((1, 1), (4, 4), (1, 4), (4, 1))), SIZE)
    assert "(1, 1) to (4, 4) and (1, 4) to (4, 1)" in sentence


@pytest.mark.parametrize(
    "shape",
    [
        Box(math.nan, 1, 2, 3),
        Polygon(((1, 1), (math.inf, 4), (3, 3))),
        Polygon(((1, 1), (1e300, 4), (3, 3))),
    ],
)
def test_what_is_not_finite_is_neither_painted_nor_written(shape):
    for act in (shape.to_json, lambda: shape.to_mask(SIZE)):
        with pytest.raises(BadData, match="expected a number of pixels"):
            act()
