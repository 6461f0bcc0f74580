"""BMP and GIF: every depth, compression and order of rows is read to the value, and what is not one
image is refused by name.
"""

from __future__ import annotations

import struct

import cv2
import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.errors import BadData
from hilum.imaging.files import _bmp, _gif, raster

RNG = np.random.default_rng(0)
SLOW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SIZES = st.tuples(st.integers(1, 19), st.integers(1, 19))


# ------------------------------------------------------------------------------------------ writers


def bmp(
    rows: bytes,
    size,
    bits: int,
    *,
    palette=None,
    from_top=False,
    compression=0,
    fields=b"",
    header=40,
) -> bytes:
    """A bitmap of `rows`, bytes as they lie in the file."""
    height, width = size
    colours = (
        b""
        if palette is None
        else b"".join(bytes(c[::-1]) + (b"" if header == 12 else b"\0") for c in palette.tolist())
    )
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        used = 0 if palette is None else len(palette)
        info = struct.pack(
            "<IiiHHIIiiII",
            header,
            width,
            -height if from_top else height,
            1,
            bits,
            compression,
            len(rows),
            0,
            0,
            used,
            0,
        )
    behind = info + fields + bytes(max(0, header - len(info) - len(fields))) + colours
    return (
        b"BM"
        + struct.pack("<IHHI", 14 + len(behind) + len(rows), 0, 0, 14 + len(behind))
        + behind
        + rows
    )


def packed(numbers: np.ndarray, bits: int, from_top: bool) -> bytes:
    rows = numbers if from_top else numbers[::-1]
    spread = (
        (rows[:, :, None] >> np.arange(bits - 1, -1, -1) & 1)
        .astype(np.uint8)
        .reshape(len(rows), -1)
    )
    filled = np.pad(spread, ((0, 0), (0, -spread.shape[1] % 32)))
    return np.packbits(filled, axis=1).tobytes()


def run_lengths(numbers: np.ndarray, bits: int, plain: bool) -> bytes:
    """RLE8 or RLE4 from the bottom: runs, or where `plain` rows as they are from three
    pixels on.
    """
    out = b""
    for row in numbers[::-1]:
        if plain and len(row) > 2:
            both = np.pad(row, (0, len(row) % 2)).reshape(-1, 2)
            body = bytes(row) if bits == 8 else bytes((both[:, 0] << 4 | both[:, 1]).tolist())
            out += bytes([0, len(row)]) + body + bytes(len(body) % 2)
        else:
            out += b"".join(bytes([1, one if bits == 8 else one << 4]) for one in row.tolist())
        out += b"\0\0"
    return out + b"\0\1"


def gif(
    numbers: np.ndarray,
    palette: np.ndarray,
    *,
    more=b"",
    interlaced=False,
    screen=None,
    at=(0, 0),
    transparent=None,
    local=False,
    frames=1,
) -> bytes:
    """A GIF whose table of codes is cleared before it grows; `palette` of a power of
    two colours.
    """
    bits = max(2, int(len(palette) - 1).bit_length())
    rows = (
        np.concatenate([numbers[first::step] for first, step in _gif._PASSES])
        if interlaced
        else numbers
    )
    width = bits + 1
    groups = [
        rows.ravel()[start : start + (1 << bits) - 2]
        for start in range(0, rows.size, (1 << bits) - 2)
    ]
    codes = np.concatenate(
        [np.concatenate([[1 << bits], group]) for group in groups] + [[(1 << bits) + 1]]
    ).astype(np.uint32)
    stream = np.packbits(
        (codes[:, None] >> np.arange(width) & 1).astype(np.uint8).ravel(), bitorder="little"
    ).tobytes()
    blocks = b"".join(
        bytes([len(part)]) + part
        for part in (stream[start : start + 255] for start in range(0, len(stream), 255))
    )
    colours, flags = palette.tobytes(), 0x80 | int(len(palette) - 1).bit_length() - 1
    (height, across), (top, left) = screen or numbers.shape, at
    control = b"" if transparent is None else b"\x21\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    box = struct.pack("<HHHH", left, top, numbers.shape[1], numbers.shape[0])
    image = (
        control
        + b","
        + box
        + bytes([(flags if local else 0) | 64 * interlaced])
        + (colours if local else b"")
        + bytes([bits])
        + blocks
        + b"\0"
    )
    head = (
        b"GIF89a"
        + struct.pack("<HH", across, height)
        + bytes([0x70 if local else flags, 0, 0])
        + (b"" if local else colours)
    )
    return head + more + image * frames + b";"


def stored(module, data: bytes):
    return module.stored(data, module.read_header(data))


# --------------------------------------------------------------------------------------------- BMP


@SLOW
@given(
    size=SIZES,
    bits=st.sampled_from([1, 2, 4, 8]),
    from_top=st.booleans(),
    header=st.sampled_from([12, 40, 108, 124]),
    seed=st.integers(0, 2**31),
)
def test_palettes_of_every_depth_and_header_come_back(size, bits, from_top, header, seed):
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 1 << bits, size).astype(np.uint8)
    palette = rng.integers(0, 256, (1 << bits, 3)).astype(np.uint8)
    from_top &= header > 12
    found = stored(
        _bmp,
        bmp(
            packed(numbers, bits, from_top),
            size,
            bits,
            palette=palette,
            from_top=from_top,
            header=header,
        ),
    )
    assert np.array_equal(found.values, numbers) and np.array_equal(found.palette, palette)


@SLOW
@given(size=SIZES, bits=st.sampled_from([4, 8]), plain=st.booleans(), seed=st.integers(0, 2**31))
def test_run_lengths_come_back_and_opencv_agrees(size, bits, plain, seed):
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 1 << bits, size).astype(np.uint8)
    palette = rng.integers(0, 256, (1 << bits, 3)).astype(np.uint8)
    data = bmp(
        run_lengths(numbers, bits, plain),
        size,
        bits,
        palette=palette,
        compression=1 if bits == 8 else 2,
    )
    found = stored(_bmp, data)
    assert np.array_equal(found.values, numbers)
    assert np.array_equal(
        found.coloured(), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    )


def test_runs_of_several_pixels_and_skipped_ones_are_read():
    runs = bytes([5, 3, 0, 0, 0, 2, 2, 1, 2, 1, 0, 1])
    found = stored(
        _bmp, bmp(runs, (4, 6), 8, palette=np.zeros((256, 3), np.uint8), compression=1)
    ).values
    assert (
        found[3].tolist() == [3] * 5 + [0]
        and found[1].tolist() == [0, 0, 1, 1, 0, 0]
        and found.sum() == 17
    )


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_and_grey_of_opencv_are_read_as_it_reads_them(tmp_path, channels):
    colour = RNG.integers(0, 256, (7, 5, channels)).astype(np.uint8)
    data = cv2.imencode(".bmp", colour)[1].tobytes()
    assert np.array_equal(stored(_bmp, data).values[:, :, :3], colour[:, :, 2::-1])
    grey = RNG.integers(0, 256, (7, 5)).astype(np.uint8)
    (tmp_path / "any.name").write_bytes(cv2.imencode(".bmp", grey)[1].tobytes())
    found = raster.read(tmp_path / "any.name")
    assert (
        found.kind == "BMP"
        and not found.colour
        and np.array_equal(found.values, grey)
        and raster.size(tmp_path / "any.name") == (7, 5)
    )


def test_sixteen_bits_are_five_or_as_the_masks_say():
    words = np.array([[0x7FFF, 0x7C00], [0x03E0, 0x001F]], "<u2")
    plain = stored(_bmp, bmp(words[::-1].tobytes(), (2, 2), 16)).values
    assert plain.tolist() == [[[255] * 3, [255, 0, 0]], [[0, 255, 0], [0, 0, 255]]]
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    fields = stored(
        _bmp,
        bmp(np.array([[0xFFFF, 0xF800]], "<u2").tobytes(), (1, 2), 16, compression=3, fields=masks),
    ).values
    assert fields.tolist() == [[[255] * 3, [255, 0, 0]]]


def test_a_fourth_byte_is_alpha_only_where_a_mask_says_so_and_it_is_used():
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    for alpha, expected in ((128, 128), (0, 255)):
        words = np.array([[0x00FFFFFF | alpha << 24, 0x00FFFFFF]], "<u4").tobytes()
        assert stored(_bmp, bmp(words, (1, 2), 32, compression=3, fields=masks, header=108)).values[
            0, 0
        ].tolist() == [255, 255, 255, expected]
        assert stored(_bmp, bmp(words, (1, 2), 32)).values.shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bmp(b"", (4, 4), 24, compression=5), "compressed by method 5"),
        (bmp(b"\0" * 8, (9, 9), 24), "broken or cut short"),
        (bmp(b"\7\0\0\0", (1, 1), 8, palette=np.zeros((2, 3), np.uint8)), "palette has 2 colours"),
        (
            bmp(
                bytes([9, 1, 0, 1]), (2, 2), 8, palette=np.zeros((256, 3), np.uint8), compression=1
            ),
            "beyond its row",
        ),
        (
            bmp(bytes([1, 1]), (2, 2), 8, palette=np.zeros((256, 3), np.uint8), compression=1),
            "end before its last row",
        ),
        (b"BMI,age\n21,5\n22,6\n", "is not a PNG"),
    ],
)
def test_broken_and_unread_bitmaps_are_refused_by_name(tmp_path, data, words):
    (tmp_path / "a.bmp").write_bytes(data)
    with pytest.raises(BadData, match=words) as fault:
        raster.read(tmp_path / "a.bmp")
    assert "a.bmp" in str(fault.value)


# --------------------------------------------------------------------------------------------- GIF


@SLOW
@given(
    size=SIZES,
    bits=st.integers(1, 8),
    interlaced=st.booleans(),
    local=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_numbers_and_palettes_of_a_gif_come_back(size, bits, interlaced, local, seed):
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 1 << bits, size).astype(np.uint8)
    palette = rng.integers(0, 256, (1 << bits, 3)).astype(np.uint8)
    found = stored(
        _gif, gif(numbers, palette, interlaced=interlaced, local=local, more=b"\x21\xfe\x03why\0")
    )
    assert np.array_equal(found.values, numbers) and np.array_equal(found.palette, palette)


def test_what_giflib_writes_is_read_as_it_was(tmp_path):
    grey = np.add.outer(np.arange(70), np.arange(90) // 7).astype(np.uint8)
    (tmp_path / "x.png").write_bytes(imagecodecs.gif_encode(grey))
    found = raster.read(tmp_path / "x.png")
    assert (
        found.kind == "GIF"
        and np.array_equal(found.values, grey)
        and raster.size(tmp_path / "x.png") == (70, 90)
    )


def test_a_frame_smaller_than_its_screen_lies_on_the_background():
    palette = np.array([[9, 9, 9], [1, 2, 3]], np.uint8)
    found = stored(
        _gif, gif(np.ones((2, 3), np.uint8), palette, screen=(5, 6), at=(1, 2), transparent=0)
    )
    expected = np.zeros((5, 6), np.uint8)
    expected[1:3, 2:5] = 1
    assert np.array_equal(found.values, expected) and found.transparent == {0}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda data: gif(np.zeros((4, 4), np.uint8), np.zeros((2, 3), np.uint8), frames=3),
            "animation of 3 images",
        ),
        (lambda data: data[:-20], "cut short"),
        (lambda data: data[:13], "broken or cut short"),
        (lambda data: data[:6] + b"\1\0\1\0" + data[10:], "outside of its screen"),
        (lambda data: data[:6] + b"\xff\xff\xff\xff" + data[10:], "shrink it"),
    ],
)
def test_broken_giant_and_animated_gifs_are_refused_by_name(tmp_path, spoil, words):
    whole = gif(RNG.integers(0, 256, (20, 20)).astype(np.uint8), np.zeros((256, 3), np.uint8))
    (tmp_path / "a.gif").write_bytes(spoil(whole))
    with pytest.raises(BadData, match=words) as fault:
        raster.read(tmp_path / "a.gif")
    assert "a.gif" in str(fault.value)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kind=st.sampled_from(["bmp", "rle", "gif"]), seed=st.integers(0, 2**31))
def test_no_damage_raises_anything_but_bad_data(tmp_path, kind, seed):
    rng = np.random.default_rng(seed)
    numbers, palette = (
        rng.integers(0, 16, (9, 11)).astype(np.uint8),
        rng.integers(0, 256, (16, 3)).astype(np.uint8),
    )
    whole = {
        "bmp": lambda: bmp(packed(numbers, 4, False), (9, 11), 4, palette=palette),
        "rle": lambda: bmp(
            run_lengths(numbers, 4, True), (9, 11), 4, palette=palette, compression=2
        ),
        "gif": lambda: gif(numbers, palette),
    }[kind]()
    spoilt = bytearray(whole[: rng.integers(1, len(whole) + 1)])
    for place in rng.integers(0, len(spoilt), rng.integers(0, 4)):
        spoilt[place] = rng.integers(0, 256)
    (tmp_path / "a").write_bytes(spoilt)
    try:
        values = raster.read(tmp_path / "a").values
    except BadData:
        return
    assert values.ndim == 2 and values.dtype == np.uint8
