"""Masks of every kind of file and every habit of labelling show the same lungs; what is not settled
is refused by name.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_bmp_gif import bmp, gif, packed
from test_raster import chunk, described, png, tiff

from hilum.annotations import lung_masks
from hilum.dataset import mask_files
from hilum.errors import BadData
from hilum.imaging import synthetic
from hilum.imaging.files import label_image
from hilum.imaging.files.label_image import Consensus
from hilum.safety.untrusted_files import Folder

SIZE = (160, 144)
RNG = np.random.default_rng(0)
DRAWN = synthetic.draw(synthetic.anatomy(RNG), RNG, height=SIZE[0], width=SIZE[1])
RIGHT, LEFT = DRAWN.right_lung, DRAWN.left_lung
BOTH = RIGHT | LEFT
ROWS, COLUMNS = np.indices(SIZE)
_MIDDLE = (np.flatnonzero(RIGHT.any(axis=0))[-1] + np.flatnonzero(LEFT.any(axis=0))[0]) // 2
HEART = ~BOTH & (((ROWS - 95) / 24) ** 2 + ((COLUMNS - _MIDDLE - 6) / 20) ** 2 < 1)
CLAVICLES = (
    ~BOTH
    & (np.abs(ROWS - 12) < 4)
    & (np.abs(COLUMNS - _MIDDLE) > 8)
    & (np.abs(COLUMNS - _MIDDLE) < 45)
)
STRIP = (ROWS < 6) | (SIZE[0] - 6 <= ROWS)
LABELS = RIGHT * np.uint8(lung_masks.RIGHT) + LEFT * np.uint8(lung_masks.LEFT)
VALUES = RIGHT * 1 + LEFT * 2
WHITE = BOTH * np.uint8(255)
SLOW = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def as_png(values) -> bytes:
    return imagecodecs.png_encode(np.ascontiguousarray(values))


def grey(values) -> bytes:
    return as_png(np.asarray(values).astype(np.uint8))


def few_bits(
    numbers: np.ndarray, bits: int, *palette: tuple[int, int, int], extra: tuple[bytes, ...] = ()
) -> bytes:
    """A PNG of 1, 2, 4 or 8 bits, grey or with a palette."""
    spread = (numbers[:, :, None].astype(int) >> np.arange(bits - 1, -1, -1) & 1).reshape(
        len(numbers), -1
    )
    rows = np.packbits(spread.astype(np.uint8), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [chunk(b"PLTE", bytes(sum(palette, ()))), *extra] if palette else []
    return png(numbers.shape[1], numbers.shape[0], bits, 3 if palette else 0, lines, *chunks)


def coloured(background=(0, 0, 0), **colours: tuple[int, int, int]) -> np.ndarray:
    parts = {"right": RIGHT, "left": LEFT, "both": BOTH, "heart": HEART, "clavicles": CLAVICLES}
    image = np.empty((*SIZE, 3), np.uint8)
    image[:] = background
    for name, colour in colours.items():
        image[parts[name]] = colour
    return image


def with_alpha(colour: np.ndarray, alpha: np.ndarray) -> bytes:
    return as_png(np.concatenate([colour, alpha[:, :, None].astype(np.uint8)], axis=2))


def voc(numbers: np.ndarray) -> np.ndarray:
    """With a rim of 255 around each label, as Pascal VOC has it."""
    block = np.ones((3, 3), np.uint8)
    rim = cv2.dilate(numbers.astype(np.uint8), block) != cv2.erode(numbers.astype(np.uint8), block)
    return np.where(rim, 255, numbers)


def grey_palette() -> np.ndarray:
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)


FULL = np.full((*SIZE, 3), 255, np.uint8)
VOC_COLOURS = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
CMAP = np.array([(0, 0, 0), (60, 0, 0), (0, 0, 90), (255, 255, 0)], np.uint8)
SAME = {  # files whose lungs are exactly those drawn
    "0 and 255": grey(WHITE),
    "0 and 1": grey(BOTH),
    "PNG of 1 bit": few_bits(BOTH, 1),
    "PNG of 2 bits, 1 and 2": few_bits(VALUES, 2),
    "16 bits, 0 and 65535": as_png(BOTH * np.uint16(65535)),
    "16 bits, 0 and 1": as_png(BOTH * np.uint16(1)),
    "inverted": grey(255 - WHITE),
    "inverted, 1 bit": few_bits(~BOTH, 1),
    "three equal channels": as_png(np.repeat(WHITE[:, :, None], 3, 2)),
    "red on black": as_png(coloured(both=(255, 0, 0))),
    "dark blue on black": as_png(coloured(both=(0, 0, 40))),
    "black on white": as_png(coloured((255, 255, 255), both=(0, 0, 0))),
    "two colours": as_png(coloured(right=(255, 0, 0), left=(0, 255, 0))),
    "three organs in colours": as_png(
        coloured(right=(255, 0, 0), left=(0, 0, 255), heart=(0, 255, 0))
    ),
    "labels 1 and 2": grey(VALUES),
    "labels 2 and 1": grey(3 * BOTH - VALUES),
    "labels 2 and 3": grey(VALUES + BOTH),
    "0, 127 and 255": grey(RIGHT * 127 + LEFT * 255),
    "0, 255 and 128": grey(RIGHT * 255 + LEFT * 128),
    "255 with 0 and 128": grey(255 - RIGHT * 255 - LEFT * 127),
    "labels 1, 2 and heart 3": grey(VALUES + 3 * HEART),
    "heart 1, lungs 2": grey(HEART + 2 * BOTH),
    "lungs, heart and clavicles": grey(VALUES + 3 * HEART + 4 * CLAVICLES),
    "lungs 1, ignored strips 255": grey(np.where(STRIP, 255, BOTH)),
    "palette, dark red": few_bits(BOTH, 8, (0, 0, 0), (128, 0, 0)),
    "palette, VOC colours": few_bits(VALUES, 8, *VOC_COLOURS),
    "palette of 4 bits": few_bits(VALUES + 3 * HEART, 4, *VOC_COLOURS),
    "palette of 1 bit, black on white": few_bits(BOTH, 1, (255, 255, 255), (0, 0, 0)),
    "palette of one colour": few_bits(VALUES, 8, *((0, 0, 0),) * 3),
    "palette shorter than its numbers": few_bits(VALUES, 8, (0, 0, 0), (9, 9, 9)),
    "palette, transparent background": few_bits(
        BOTH, 8, (255, 255, 255), (0, 0, 0), extra=(chunk(b"tRNS", b"\0"),)
    ),
    "alpha, opaque white": with_alpha(FULL, WHITE),
    "alpha, black": with_alpha(FULL * 0, WHITE),
    "alpha and colour": with_alpha(coloured(both=(255, 255, 255)), WHITE),
    "alpha, half seen": with_alpha(coloured((7, 7, 7), both=(255, 0, 0)), WHITE // 2),
    "alpha with two colours": with_alpha(coloured(right=(255, 0, 0), left=(0, 0, 0)), WHITE),
    "alpha full": with_alpha(coloured(both=(255, 255, 255)), np.full(SIZE, 255)),
    "grey and alpha": as_png(np.stack([WHITE * 0 + np.uint8(255), WHITE], -1)),
    "TIFF": imagecodecs.tiff_encode(WHITE),
    "TIFF, floating point": imagecodecs.tiff_encode(VALUES.astype(np.float32)),
    "TIFF, probabilities": imagecodecs.tiff_encode(np.where(BOTH, 0.9, 0.1).astype(np.float32)),
    "TIFF, int64": imagecodecs.tiff_encode(VALUES.astype(np.int64)),
    "TIFF, MinIsWhite": tiff(described(WHITE, 0), (255 - WHITE).tobytes()),
    "BMP of 8 bits": cv2.imencode(".bmp", WHITE)[1].tobytes(),
    "BMP of 1 bit": bmp(
        packed(BOTH.astype(np.uint8), 1, False),
        SIZE,
        1,
        palette=np.array([(0, 0, 0), (255, 255, 255)], np.uint8),
    ),
    "BMP of 4 bits with a palette": bmp(
        packed(VALUES.astype(np.uint8), 4, False), SIZE, 4, palette=CMAP
    ),
    "BMP in colour": cv2.imencode(".bmp", coloured(both=(255, 255, 255)))[1].tobytes(),
    "GIF": gif(WHITE, grey_palette()),
    "GIF with a palette": gif(VALUES.astype(np.uint8), CMAP),
}
NEAR = {  # files whose edges were blurred on the way
    "JPEG": imagecodecs.jpeg8_encode(WHITE, level=75),
    "JPEG of low quality": imagecodecs.jpeg8_encode(WHITE, level=30),
    "JPEG, inverted": imagecodecs.jpeg8_encode(255 - WHITE, level=90),
    "JPEG, three channels": imagecodecs.jpeg8_encode(np.repeat(WHITE[:, :, None], 3, 2), level=90),
    "JPEG, red on black": imagecodecs.jpeg8_encode(coloured(both=(255, 0, 0)), level=92),
    "JPEG, two colours": imagecodecs.jpeg8_encode(
        coloured(right=(255, 0, 0), left=(0, 0, 255)), level=95
    ),
    "JPEG, 0, 128 and 255": imagecodecs.jpeg8_encode(
        (RIGHT * 128 + LEFT * 255).astype(np.uint8), level=92
    ),
    "a JPEG saved as PNG": grey(
        imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(WHITE, level=60))
    ),
    "soft edges": grey(cv2.GaussianBlur(WHITE, (0, 0), 1.2)),
    "soft edges of a label map": grey(
        cv2.GaussianBlur(np.where(RIGHT, 128, WHITE).astype(np.uint8), (3, 3), 0)
    ),
    "soft edges, 16 bits": as_png(
        cv2.GaussianBlur(WHITE.astype(np.float32) * 257, (0, 0), 1.0).astype(np.uint16)
    ),
    "soft alpha": with_alpha(FULL, cv2.GaussianBlur(WHITE, (0, 0), 1.0)),
    "soft GIF": gif(cv2.GaussianBlur(WHITE, (0, 0), 1.0), grey_palette()),
    "a label map of 1 and 2, interpolated": grey(
        cv2.resize(
            cv2.resize(VALUES.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST),
            SIZE[::-1],
            interpolation=cv2.INTER_LINEAR,
        )
    ),
    "a rim to be ignored": grey(voc(VALUES)),
    "a rim to be ignored around both": few_bits(
        voc(BOTH * 1), 8, (0, 0, 0), (128, 0, 0), *((9, 9, 9),) * 253, (224, 224, 192)
    ),
}


def understood(
    folder: Path,
    data: bytes,
    *,
    name: str = "m.any",
    size=SIZE,
    agreed=Consensus(),  # noqa: B008 (frozen)
    column="lung_mask",
    said=None,
) -> mask_files.MaskFile:
    (folder / name).write_bytes(data)
    row = {
        "path": "a.png",
        **dict.fromkeys(mask_files.COLUMNS),
        column: name,
        "mask_values": said and json.dumps(said),
    }
    (found,) = mask_files.read(Folder(folder), row, size, lambda place: agreed)
    return found


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize("content", SAME)
def test_lungs_of_every_file_are_those_drawn_to_the_pixel(tmp_path, content):
    found = understood(tmp_path, SAME[content]).labels()
    seen = found != lung_masks.IGNORE
    assert np.array_equal(found[seen], LABELS[seen]) and (seen.all() or "ignored" in content)


@pytest.mark.parametrize("content", NEAR)
def test_blurred_edges_are_cut_in_the_middle_and_make_no_rims(tmp_path, content):
    found = understood(tmp_path, NEAR[content]).labels()
    least = 0.85 if "ignored" in content else 0.9
    assert (
        overlap(found == lung_masks.RIGHT, RIGHT) > least
        and overlap(found == lung_masks.LEFT, LEFT) > least
    )
    block = np.ones((7, 7), np.uint8)
    inside, outside = cv2.erode(LABELS, block), cv2.dilate(LABELS, block) == 0
    assert np.array_equal(found[inside > 0], LABELS[inside > 0]) and not found[outside].any()


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ("0 and 255", "binary"),
        ("inverted", "binary; inverted"),
        ("labels 2 and 1", "label map 1=left 2=right"),
        ("labels 1, 2 and heart 3", "label map 1=right 2=left 3=heart"),
        ("lungs, heart and clavicles", "label map 1=right 2=left 3=heart 4=none"),
        ("lungs 1, ignored strips 255", "label map 1=lungs 255=ignore"),
        ("palette, dark red", "binary; palette"),
        ("alpha, opaque white", "binary; alpha"),
        ("two colours", "label map #00ff00=left #ff0000=right; colour"),
        ("JPEG, 0, 128 and 255", "label map 128=right 255=left; soft edges"),
        ("JPEG", "binary; soft edges"),
        ("soft GIF", "binary; soft edges"),
    ],
)
def test_what_was_understood_is_said(tmp_path, content, form):
    assert understood(tmp_path, {**SAME, **NEAR}[content]).form == form


@SLOW
@given(
    values=st.lists(st.integers(0, 255), min_size=5, max_size=5, unique=True),
    organs=st.sets(st.sampled_from(["heart", "clavicles"])),
    wide=st.booleans(),
    flip=st.booleans(),
)
def test_any_numbers_will_do_for_a_label_map(tmp_path, values, organs, wide, flip):
    """Background, lungs and other organs have any values, and the image may lie mirrored: the right
    lung is on its left.
    """
    ground, right, left, heart, clavicles = values
    if max(set(values) - {255}) <= 50 and 255 in values:
        values = [0 if value == 255 else value for value in values]  # that one is to be ignored
        ground, right, left, heart, clavicles = values
    numbers = np.full(SIZE, ground, np.uint16)
    for mask, value in ((HEART, heart), (CLAVICLES, clavicles)):
        numbers[mask] = (
            value if {heart: "heart", clavicles: "clavicles"}[value] in organs else ground
        )
    numbers[RIGHT], numbers[LEFT] = right, left
    numbers, expected = (
        (numbers[:, ::-1], np.where(LABELS, 3 - LABELS, 0)[:, ::-1]) if flip else (numbers, LABELS)
    )
    found = understood(
        tmp_path, as_png(numbers * np.uint16(200) if wide else numbers.astype(np.uint8))
    ).labels()
    assert np.array_equal(found, expected)


def bars() -> np.ndarray:
    """Clavicles that cross the tops of the lungs."""
    top = np.flatnonzero(BOTH.any(axis=1))[0]
    across = np.abs(COLUMNS - _MIDDLE)
    return (np.abs(ROWS - top - 14 - across // 8) < 4) & (across > 8) & (across < 56)


def test_clavicles_that_cross_the_lungs_are_no_lesion(tmp_path):
    found = understood(tmp_path, grey(np.where(bars(), 4, VALUES)))
    assert (
        np.array_equal(found.labels(), np.where(bars(), 0, LABELS))
        and found.form == "label map 1=right 2=left 4=none"
    )


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("margin", [-5, -2, 0, 4])
def test_lungs_cut_by_the_border_are_no_background(tmp_path, margin, inverted):
    """A tight crop, in which lungs are at much of the border; the middle between them is free."""
    (top, bottom), (left, right) = (np.flatnonzero(BOTH.any(axis=axis))[[0, -1]] for axis in (1, 0))
    cut = np.s_[top - margin : bottom + margin + 1, left - margin : right + margin + 1]
    found = understood(
        tmp_path, grey(255 - WHITE[cut] if inverted else WHITE[cut]), size=LABELS[cut].shape
    )
    assert np.array_equal(found.labels(), LABELS[cut])


def test_a_label_map_whose_labels_touch_keeps_its_thin_parts(tmp_path):
    """A sliver of 2 between 0 and 3 is no seam, because 0 and 3 touch elsewhere."""
    numbers = VALUES + 3 * HEART
    sliver = np.s_[75:80, np.flatnonzero(LEFT[77])[-1] + 1]
    numbers[sliver] = 2
    assert (understood(tmp_path, grey(numbers)).labels()[sliver] == lung_masks.LEFT).all()


# ------------------------------------------------------------------------------- folders and users


def meaning_of(folder: Path, data: bytes) -> label_image.ValueMeaning:
    (folder / "one").write_bytes(data)
    return label_image.meaning(label_image.read(folder / "one"))


def test_masks_of_a_folder_agree_on_what_their_values_stand_for(tmp_path):
    """A mask of the left lung alone is of no use by itself: its value is 2 in the others."""
    agreed = label_image.consensus(
        [meaning_of(tmp_path, grey(VALUES)) for _ in range(3)] + [meaning_of(tmp_path, grey(RIGHT))]
    )
    assert agreed.roles == {"0": "none", "1": "right", "2": "left"} and not agreed.unsettled
    mirrored = understood(tmp_path, grey(VALUES[:, ::-1]), agreed=agreed)
    assert np.array_equal(mirrored.labels(), LABELS[:, ::-1]), (
        "the values say so, and the audit says that the sides are exchanged"
    )
    alone = understood(tmp_path, grey(2 * LEFT), agreed=agreed)
    assert np.array_equal(alone.labels(), LEFT * 2) and alone.form == "label map 2=left"
    heart = label_image.consensus([meaning_of(tmp_path, grey(VALUES + 3 * HEART))])
    assert not understood(tmp_path, grey(3 * HEART), agreed=heart).labels().any()


def test_values_that_a_folder_disagrees_on_are_refused_with_both_readings(tmp_path):
    agreed = label_image.consensus(
        [meaning_of(tmp_path, grey(one)) for one in (VALUES, 3 * BOTH - VALUES)]
    )
    assert set(agreed.unsettled) == {"1", "2"} and agreed.roles == {"0": "none"}
    with pytest.raises(
        BadData, match=r"m\.any: what its value 1 \(right in 1 masks, left in 1 masks\) and 2"
    ):
        understood(tmp_path, grey(VALUES), agreed=agreed)


def test_a_mask_inverted_among_others_is_read_by_its_own_shape_and_reported(tmp_path):
    agreed = label_image.consensus([meaning_of(tmp_path, grey(WHITE)) for _ in range(4)])
    found = understood(tmp_path, grey(255 - WHITE), agreed=agreed)
    assert (
        np.array_equal(found.labels(), LABELS)
        and found.form == "binary; inverted; background unlike its folder"
    )
    assert not understood(tmp_path, grey(WHITE * 0), agreed=agreed).labels().any()


def remedy(fault: pytest.ExceptionInfo) -> dict[str, str]:
    """What the lines for hilum.toml in a message say, pasted."""
    return label_image.roles_from_toml(
        tomllib.loads(str(fault.value).partition("example\n")[2])["mask_values"]
    )


UPPER = ROWS < 80
UNSETTLED = {
    "lobes": grey(np.where(UPPER, VALUES, VALUES * 3)),
    "a lesion in the lung": grey(
        BOTH * 1
        + (RIGHT & (np.hypot(ROWS - 75, COLUMNS - np.flatnonzero(RIGHT.any(0)).mean()) < 12))
    ),
    "two organs that are no lungs": grey(HEART + 2 * CLAVICLES * (COLUMNS < _MIDDLE)),
    "colours": as_png(
        np.where(
            (UPPER & BOTH)[:, :, None],
            coloured(right=(1, 0, 0), left=(2, 0, 0)),
            coloured(right=(3, 0, 0), left=(4, 0, 0)),
        )
    ),
}


@pytest.mark.parametrize("content", UNSETTLED)
def test_what_is_not_settled_is_refused_with_lines_that_settle_it(tmp_path, content):
    with pytest.raises(
        BadData, match=r"m\.any: what its value .* stands for can be more than one thing"
    ) as fault:
        understood(tmp_path, UNSETTLED[content])
    said = remedy(fault)
    assert understood(tmp_path, UNSETTLED[content], said=said).labels().any()


def test_what_a_user_says_goes_before_all_else(tmp_path):
    said = {"0": "none", "1": "left", "2": "right", "3": "ignore"}
    found = understood(tmp_path, grey(VALUES + 3 * HEART), said=said).labels()
    assert np.array_equal(found, np.where(BOTH, 3 - LABELS, HEART * np.uint8(255)))
    with pytest.raises(
        BadData, match="value 3 stands for is not among the values that are named"
    ) as fault:
        understood(
            tmp_path, grey(VALUES + 3 * HEART), said={"0": "none", "1": "right", "2": "left"}
        )
    assert remedy(fault) == {"0": "none", "1": "right", "2": "left", "3": "heart"}
    assert np.array_equal(
        understood(tmp_path, grey(VALUES), said={"1": "left", "2": "right"}).labels(),
        np.where(BOTH, 3 - LABELS, 0),
    ), "the background needs no word"
    jpeg = imagecodecs.jpeg8_encode((RIGHT * 127 + LEFT * 255).astype(np.uint8), level=92)
    assert (
        overlap(
            understood(tmp_path, jpeg, said={"0": "none", "127": "left", "255": "right"}).labels()
            == lung_masks.LEFT,
            RIGHT,
        )
        > 0.95
    )


def test_every_fault_of_what_a_user_says_is_named():
    with pytest.raises(
        BadData,
        match=r"(?s)2 faults.*1: no role is called 'rigth': did you mean 'right'.*7: no role is called '3'",
    ):
        label_image.roles_from_toml({"1": "rigth", "7": 3, "0": "none"})
    with pytest.raises(BadData, match="no value stands for a lung"):
        label_image.roles_from_toml({"1": "heart"})
    assert label_image.roles_from_toml({"#FF0000": "right", "255": "ignore"}) == {
        "#ff0000": "right",
        "255": "ignore",
    }


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (imagecodecs.png_encode(DRAWN.pixels), "is a photograph or too blurred for a mask"),
        (
            imagecodecs.jpeg8_encode(VALUES.astype(np.uint8), level=98),
            "too close to be distinguished in a JPEG",
        ),
        (imagecodecs.tiff_encode(VALUES.astype(np.float32) - 1), "holds values from -1 to 1"),
        (imagecodecs.tiff_encode(VALUES.astype(np.int32) * 50000), "holds values from 0 to 100000"),
        (b"no image", "is not a PNG"),
    ],
)
def test_what_is_no_mask_is_refused_by_name(tmp_path, data, words):
    with pytest.raises(BadData, match=words) as fault:
        understood(tmp_path, data)
    assert "m.any" in str(fault.value)


@SLOW
@given(
    values=st.lists(st.integers(0, 300), min_size=1, max_size=6, unique=True),
    seed=st.integers(0, 2**31),
    grain=st.integers(1, 40),
    alike=st.booleans(),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    kind=st.sampled_from(["grey", "colour", "alpha", "jpeg"]),
)
def test_no_pattern_of_labels_raises_anything_but_bad_data(
    tmp_path, values, seed, grain, alike, size, kind
):
    """Patches of any values and sizes; every label has a role, or is named in the refusal."""
    rng = np.random.default_rng(seed)
    weights = (
        None
        if alike
        else np.array([0.9, *[0.1 / max(len(values) - 1, 1)] * (len(values) - 1)])
        / (1 if len(values) > 1 else 0.9)
    )
    patches = rng.choice(values, (-(-size[0] // grain), -(-size[1] // grain)), p=weights)
    numbers = np.kron(patches, np.ones((grain, grain), int))[: size[0], : size[1]].astype(np.uint16)
    if kind == "grey":
        data = as_png(numbers)
    elif kind == "colour":
        data = as_png(np.stack([numbers, numbers * 7, numbers // 2], -1).astype(np.uint8))
    elif kind == "alpha":
        data = with_alpha(np.repeat(numbers[:, :, None].astype(np.uint8), 3, 2), numbers * 3 % 256)
    else:
        data = imagecodecs.jpeg8_encode(numbers.astype(np.uint8), level=80)
    (tmp_path / "one").write_bytes(data)
    label_image.sniff(tmp_path / "one")
    try:
        found = understood(tmp_path, data, size=size)
    except BadData as fault:
        assert "m.any" in str(fault)
        return
    assert (
        set(found.settled.roles) == set(found.image.keys)
        and found.labels().shape == size
        and found.form
    )
    assert set(np.unique(found.labels())) <= {0, 1, 2, 255}


# ------------------------------------------------------------------------------ sides, sizes, turns


@pytest.mark.parametrize(
    "data",
    [
        grey(RIGHT),
        grey(255 * RIGHT),
        grey(255 * ~RIGHT),
        grey(VALUES),
        few_bits(RIGHT, 1, (255, 0, 0), (0, 0, 9)),
    ],
)
def test_a_file_of_one_lung_gives_that_lung(tmp_path, data):
    found = understood(tmp_path, data, column="right_lung_mask")
    assert np.array_equal(found.labels(), RIGHT * np.uint8(lung_masks.RIGHT)) and list(
        found.named()
    ) == ["right_lung"]


@pytest.mark.parametrize("factor", [0.5, 0.75, 2])
def test_a_mask_of_another_size_in_the_same_proportions_is_scaled(tmp_path, factor):
    small = cv2.resize(
        VALUES.astype(np.uint8), None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST_EXACT
    )
    found = understood(tmp_path, grey(small))
    assert found.form == f"label map 1=right 2=left; scaled from {small.shape[0]}x{small.shape[1]}"
    assert found.labels().shape == SIZE and all(
        overlap(found.labels() == side, side == LABELS) > 0.9 for side in (1, 2)
    )


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((80, 72), True),
        ((80, 73), True),
        ((81, 72), True),
        ((107, 96), True),
        ((80, 80), False),
        ((144, 160), False),
        ((80, 75), False),
    ],
)
def test_only_masks_of_other_proportions_are_refused(tmp_path, size, fits):
    data = grey(cv2.resize(WHITE, size[::-1], interpolation=cv2.INTER_NEAREST))
    if fits:
        assert understood(tmp_path, data).labels().shape == SIZE
    else:
        with pytest.raises(
            BadData, match=rf"m\.any: mask of {size[0]}x{size[1]} pixels for an image of 160x144"
        ):
            understood(tmp_path, data)


def test_a_mask_is_rotated_as_its_exif_says(tmp_path):
    rotated = np.ascontiguousarray(np.rot90(WHITE))
    exif = tiff({274: ("H", (6,))}, b"")
    data = imagecodecs.jpeg8_encode(rotated, level=95)
    segment = b"Exif\0\0" + exif
    data = data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2) + segment + data[2:]
    assert overlap(understood(tmp_path, data).labels() > 0, BOTH) > 0.95
    assert np.array_equal(
        understood(tmp_path, tiff(described(rotated, 1, t274=6), rotated.tobytes())).labels(),
        LABELS,
    )


@pytest.mark.parametrize(("value", "lung"), [(0, False), (1, True), (255, True)])
def test_a_mask_of_one_value_is_empty_or_full(tmp_path, value, lung):
    found = understood(tmp_path, grey(np.full(SIZE, value)))
    assert bool(found.labels().any()) == lung and found.labels().all() == lung


# --------------------------------------------------------------------------------------- is it one?


@pytest.mark.parametrize("content", [*SAME, *(name for name in NEAR if "low quality" not in name)])
def test_label_images_are_distinguished_from_photographs(tmp_path, content):
    (tmp_path / "one").write_bytes({**SAME, **NEAR}[content])
    seen = label_image.sniff(tmp_path / "one")
    assert seen is not None and seen.kind == "labels" and seen.side == "both" and seen.words
    assert 0.1 < seen.foreground < 0.5


@pytest.mark.parametrize(
    ("mask", "side"),
    [
        (RIGHT, "right"),
        (LEFT, "left"),
        (HEART, None),
        (CLAVICLES, None),
        (HEART & (COLUMNS < _MIDDLE - 10), None),
    ],
)
def test_the_side_of_a_mask_is_seen_by_its_place(tmp_path, mask, side):
    (tmp_path / "one").write_bytes(grey(255 * mask))
    assert label_image.sniff(tmp_path / "one").side == side


def posterised(values: np.ndarray, levels: int) -> np.ndarray:
    return values // (256 // levels) * (255 // (levels - 1))


def windowed(values: np.ndarray, low: float, high: float) -> np.ndarray:
    dark, bright = np.percentile(values, [low, high])
    return np.clip((values - dark) / (bright - dark) * 255, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "change",
    [
        lambda values: values,
        lambda values: 255 - values,
        lambda values: posterised(values, 16),
        lambda values: posterised(values, 4),
        lambda values: windowed(values, 20, 80),
        lambda values: windowed(values, 40, 60),
        lambda values: cv2.GaussianBlur(values, (0, 0), 4),
        lambda values: posterised(cv2.GaussianBlur(values, (0, 0), 3), 6),
    ],
)
def test_no_radiograph_is_a_label_image_however_its_contrast(tmp_path, seed, change):
    rng = np.random.default_rng(seed)
    values = change(synthetic.draw(synthetic.anatomy(rng), rng, height=256, width=240).pixels)
    for data in (
        as_png(values),
        imagecodecs.jpeg8_encode(values, level=85),
        cv2.imencode(".bmp", values)[1].tobytes(),
    ):
        (tmp_path / "one").write_bytes(data)
        assert label_image.sniff(tmp_path / "one") is None


@pytest.mark.parametrize(
    "values", [np.zeros(SIZE), np.full(SIZE, 255), RNG.integers(100, 104, SIZE)]
)
def test_an_image_that_shows_nothing_is_no_label_image_for_certain(tmp_path, values):
    (tmp_path / "one").write_bytes(grey(values))
    assert label_image.sniff(tmp_path / "one").kind == "constant"


DATA = Path(__file__).parents[2] / "shared" / "data"
PHOTOGRAPHS = (
    "nih-448/images",
    "covid-448/images",
    "kermany-448/images",
    "nih-sample/images",
    "shenzhen/CXR_png",
    "montgomery/CXR_png",
)
MASKS = ("kermany-448/masks", "covid-448/masks", "shenzhen/mask", "montgomery/ManualMask")


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the radiographs of ../shared/data")
@pytest.mark.parametrize(
    ("folder", "are"),
    [*((folder, None) for folder in PHOTOGRAPHS), *((folder, "labels") for folder in MASKS)],
)
def test_of_real_files_every_mask_is_one_and_no_radiograph_is(folder, are, monkeypatch):
    monkeypatch.setattr(
        label_image, "_INFORMATIVE", 1 << 40
    )  # their size alone would settle it for most
    files = [path for path in sorted((DATA / folder).rglob("*")) if path.is_file()][::25]
    assert files and {seen and seen.kind for seen in map(label_image.sniff, files)} == {are}
