"""Raster images: every kind is read with all its bits, its colours, its orientation, and giants are
refused from their head.
"""

import struct
import tracemalloc
import zlib
from importlib.util import find_spec

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.errors import BadData
from hilum.imaging import radiograph
from hilum.imaging.files import _png, raster

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (70, 90)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (70, 90)).astype(np.uint16)
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = [(kind, bits) for kind, all_bits in _png._DEPTHS.items() for bits in all_bits]


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(
    width: int,
    height: int,
    bits: int,
    kind: int,
    rows: bytes,
    *extra: bytes,
    interlaced: int = 0,
    level: int = 6,
) -> bytes:
    """A PNG of rows that are filtered already; the stream comes in two chunks, as it may."""
    stream = zlib.compress(rows, level)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced))
    pixels = chunk(b"IDAT", stream[:5]) + chunk(b"IDAT", stream[5:])
    return b"".join([b"\x89PNG\r\n\x1a\n", head, *extra, pixels, chunk(b"IEND", b"")])


def tiff(
    tags: dict[int, tuple[str, tuple[int, ...]]],
    pixels: bytes,
    *,
    order: str = "<",
    more: bytes = b"",
) -> bytes:
    """A TIFF of one strip: header, pixels, one directory of {tag: (format, values)}, then the
    values that do not fit in it.
    """
    tags = {273: ("I", (8,)), 279: ("I", (len(pixels),)), **tags}
    at = 8 + len(pixels) + len(pixels) % 2
    beyond, entries = at + 2 + 12 * len(tags) + 4, []
    tail = b""
    for tag, (form, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{form}", *values)
        if len(packed) > 4:
            packed, tail = struct.pack(f"{order}I", beyond + len(tail)), tail + packed
        entries.append(
            struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[form], len(values))
            + packed.ljust(4, b"\0")
        )
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", at)
    return (
        head
        + pixels.ljust(at - 8, b"\0")
        + struct.pack(f"{order}H", len(tags))
        + b"".join(entries)
        + struct.pack(f"{order}I", 0)
        + tail
        + more
    )


def described(
    values: np.ndarray, photometric: int = 1, **more
) -> dict[int, tuple[str, tuple[int, ...]]]:
    channels = values.shape[2] if values.ndim == 3 else 1
    tags = {
        256: values.shape[1],
        257: values.shape[0],
        259: 1,
        262: photometric,
        277: channels,
        278: values.shape[0],
    }
    tags = {tag: ("H", (value,)) for tag, value in tags.items()}
    return (
        tags
        | {258: ("H", (8 * values.itemsize,) * channels)}
        | {int(tag[1:]): ("H", tuple(np.atleast_1d(value).tolist())) for tag, value in more.items()}
    )


def read(folder, data: bytes, name: str = "a.png") -> raster.Raster:
    (folder / name).write_bytes(data)
    found = raster.read(folder / name)
    assert raster.size(folder / name) == found.values.shape
    return found


# ---------------------------------------------------------------------------------------------- PNG


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.data(),
    form=st.sampled_from(DEPTHS),
    width=st.integers(1, 40),
    height=st.integers(1, 12),
    level=st.sampled_from([0, 1, 9]),
    plain=st.booleans(),
)
def test_the_fast_way_equals_libpng_on_every_filter_colour_type_and_depth(
    monkeypatch, data, form, width, height, level, plain
):
    kind, bits = form
    width = max(width, 8) if kind == 3 else width
    length = (width * bits * CHANNELS[kind] + 7) // 8
    seed = data.draw(st.integers(0, 2**31))
    noise = (
        np.random.default_rng(seed)
        .integers(0, 2 if plain else 256, (height, length))
        .astype(np.uint8)
    )
    filters = data.draw(st.lists(st.sampled_from(range(5)), min_size=height, max_size=height))
    rows = b"".join(bytes([one]) + row.tobytes() for one, row in zip(filters, noise, strict=True))
    palette = (
        [
            chunk(
                b"PLTE",
                np.random.default_rng(seed).integers(0, 256, 3 << bits).astype(np.uint8).tobytes(),
            )
        ]
        if kind == 3
        else []
    )
    file = png(width, height, bits, kind, rows, *palette, level=level)
    assert _png.inflated_size(file) == len(rows)
    seen = []
    monkeypatch.setattr(_png, "_PAYS_BELOW", 2000)
    monkeypatch.setattr(
        _png, "stored_in", lambda *given, way=_png.stored_in: seen.append(1) or way(*given)
    )
    values, _ = _png.decode(file, _png.read_header(file))
    monkeypatch.undo()
    assert (
        seen
        and values.dtype == (np.uint16 if bits == 16 else np.uint8)
        and np.array_equal(values, imagecodecs.png_decode(file))
    )


def quickly(values: np.ndarray, used: list) -> dict:
    """What the extra [fast] would give: decoders that return `values`, and note their use."""

    def decode(plain: bytes, size: tuple[int, int], form: str) -> np.ndarray:
        assert np.array_equal(imagecodecs.png_decode(plain), np.squeeze(values))
        used.append((size, form))
        return values.copy()

    return {8 * values.dtype.itemsize: decode}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("form", "channels"), [("mono", 1), ("rgb", 3), ("rgba", 4)])
def test_the_extra_fast_decodes_what_libpng_does_where_no_other_thread_decodes(
    tmp_path, monkeypatch, dtype, form, channels
):
    values = RNG.integers(0, 256, (20, 30, channels)).astype(dtype)
    file, used = imagecodecs.png_encode(np.squeeze(values)), []
    monkeypatch.setattr(_png, "_quick_decoders", lambda: quickly(values, used))
    found = _png.decode(file, _png.read_header(file))[0]
    assert used == [((20, 30), form)] and np.array_equal(found, np.squeeze(values))
    with _png._counted():  # as another thread does
        assert np.array_equal(_png.decode(file, _png.read_header(file))[0], np.squeeze(values))
    assert len(used) == 1 and _png._decoding == 0
    rows = bytes([5, *bytes(30 * channels * values.itemsize)]) * 20  # no such filter
    kind = {1: 0, 3: 2, 4: 6}[channels]
    with pytest.raises(BadData, match="bad adaptive filter"):
        read(tmp_path, png(30, 20, 8 * values.itemsize, kind, rows))
    assert len(used) == 1


@pytest.mark.skipif(not find_spec("kornia_rs"), reason="the extra [fast] is not installed")
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31), kind=st.sampled_from([0, 2, 6]), bits=st.sampled_from([8, 16]))
def test_the_extra_fast_equals_libpng_on_every_filter(seed, kind, bits):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 30, 2)
    rows = rng.integers(0, 256, (height, 1 + width * CHANNELS[kind] * bits // 8)).astype(np.uint8)
    rows[:, 0] = rng.integers(0, 5, height)
    file = png(int(width), int(height), bits, kind, rows.tobytes())
    assert np.array_equal(
        _png.decode(file, _png.read_header(file))[0], imagecodecs.png_decode(file)
    )


@pytest.mark.parametrize(
    "extra",
    [False, pytest.param(True, marks=pytest.mark.skipif(not find_spec("isal"), reason="[fast]"))],
)
@pytest.mark.parametrize("size", [(1, 1), (70, 64), (300, 257)])
def test_a_quickly_encoded_png_keeps_every_pixel_with_the_extra_fast_and_without(
    monkeypatch, extra, size
):
    monkeypatch.setattr(_png, "find_spec", find_spec if extra else lambda name: None)
    monkeypatch.setattr(_png, "_compressor", _png._compressor.__wrapped__)
    noise = RNG.integers(0, 256, size, np.uint8)
    for pixels in (noise, noise[::-1], noise > 200, np.ones(size, bool)):
        wanted = pixels * np.uint8(255) if pixels.dtype == bool else pixels
        assert np.array_equal(imagecodecs.png_decode(raster.png(pixels, quick=True)), wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_all_bits_of_grey_and_equal_channels_are_kept(tmp_path, dtype, channels):
    grey = GREY if dtype == np.uint8 else DEEP
    planes = [grey] * (channels if channels in (1, 3) else channels - 1) + [
        np.full_like(grey, np.iinfo(dtype).max)
    ] * (channels in (2, 4))
    found = read(tmp_path, imagecodecs.png_encode(np.squeeze(np.stack(planes, -1))))
    assert found.values.dtype == dtype and np.array_equal(found.values, grey) and not found.colour
    assert ("alpha dropped" in found.processing_log) == (channels in (2, 4)) and (
        "three equal channels taken as one" in found.processing_log
    ) == (channels > 2)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    channels=st.sampled_from([3, 4]),
    alpha=st.sampled_from([255, 254, 0]),
    spot=st.sampled_from([None, 0, 1, 2, 3]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
def test_equal_channels_are_found_in_the_filtered_rows_and_no_others(
    seed, channels, alpha, spot, height, width
):
    rng = np.random.default_rng(seed)
    image = np.repeat(rng.integers(0, 256, (height, width, 1)).astype(np.uint8), channels, axis=2)
    image[..., 3:] = alpha
    if spot is not None and spot < channels:
        image[rng.integers(height), rng.integers(width), spot] ^= 1
    before = np.zeros((height + 1, width + 1, channels), np.int32)
    before[1:, 1:] = image
    left, above, corner = before[1:, :-1], before[:-1, 1:], before[:-1, :-1]
    away = np.stack([abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)])
    nearest = np.choose(away.argmin(0), [left, above, corner])  # as Paeth predicts
    predicted = np.stack([0 * left, left, above, (left + above) // 2, nearest])
    filters = rng.integers(0, 5, height)
    rows = (image - predicted[filters, np.arange(height)]).astype(np.uint8)
    lines = np.column_stack([filters.astype(np.uint8), rows.reshape(height, -1)])
    file = png(width, height, 8, {3: 2, 4: 6}[channels], lines.tobytes())
    head = _png.read_header(file)
    assert np.array_equal(_png.decode(file, head)[0], image)
    merged = _png.decode(file, head, merge=True)[0]
    grey = np.ptp(image[..., :3], axis=2).max() == 0 and image[..., 3:].min(initial=255) == 255
    assert np.array_equal(merged, image[..., 0] if grey else image)


def test_a_long_image_of_many_stored_blocks_is_read(tmp_path):
    values = RNG.integers(0, 65536, (300, 400)).astype(np.uint16)
    assert np.array_equal(read(tmp_path, imagecodecs.png_encode(values)).values, values)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_is_read_by_its_colours(tmp_path, bits):
    inverted = np.repeat(np.linspace(255, 0, 1 << bits).astype(np.uint8), 3).tobytes()
    indices = (np.arange(8) % (1 << bits)).astype(np.uint8)
    row = np.packbits(np.unpackbits(indices[:, None], axis=1)[:, -bits:].ravel()).tobytes()
    found = read(tmp_path, png(8, 1, bits, 3, b"\0" + row, chunk(b"PLTE", inverted)))
    assert np.array_equal(found.values[0], np.linspace(255, 0, 1 << bits).astype(np.uint8)[indices])


def test_an_interlaced_image_is_read(tmp_path):
    starts = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]  # row, column, steps: Adam7
    passes = [GREY[row::down, column::across] for row, column, down, across in starts]
    rows = b"".join(b"\0" + line.tobytes() for one in passes for line in one)
    assert np.array_equal(read(tmp_path, png(90, 70, 8, 0, rows, interlaced=1)).values, GREY)


def test_an_animation_is_refused_and_transparent_colours_are_said(tmp_path):
    rows = b"".join(b"\0" + line.tobytes() for line in GREY)
    with pytest.raises(BadData, match=r"a\.png: is an animation of 3 images; expected one"):
        read(tmp_path, png(90, 70, 8, 0, rows, chunk(b"acTL", struct.pack(">II", 3, 0))))
    assert (
        "transparent colours shown as they are"
        in read(tmp_path, png(90, 70, 8, 0, rows, chunk(b"tRNS", b"\0\7"))).processing_log
    )


def test_a_stream_longer_than_the_image_is_refused_and_not_inflated_further(tmp_path):
    bomb = png(
        90,
        70,
        8,
        0,
        b"".join(b"\0" + line.tobytes() for line in GREY) + bytes(200 << 20),
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 << 20))),
    )
    (tmp_path / "a.png").write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(BadData, match="Too much image data"):
            raster.read(tmp_path / "a.png")
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 8 * len(bomb) + (1 << 20)


def test_a_head_that_promises_more_than_the_stream_can_hold_is_refused(tmp_path):
    with pytest.raises(
        BadData,
        match=r"a\.png: the PNG stream is broken or cut short \(.* cannot hold its 9000x9000 pixels",
    ):
        read(tmp_path, png(9000, 9000, 8, 0, bytes(1000)))


@pytest.mark.parametrize("place", [20, 45, -30, -20])
def test_a_flipped_bit_is_found_by_the_checksums(tmp_path, place):
    data = bytearray(imagecodecs.png_encode(GREY))
    data[place] ^= 4
    with pytest.raises(BadData, match=r"a\.png: "):
        read(tmp_path, bytes(data))


# ----------------------------------------------------------------------------------- colour, giants


def test_unequal_channels_are_averaged_and_said(tmp_path):
    image = np.stack([GREY] * 3, -1)
    image[3, 4] = (255, 0, 10)
    found = read(tmp_path, imagecodecs.png_encode(image))
    assert (
        found.colour
        and found.values[3, 4] == 88
        and np.array_equal(np.delete(found.values, 3, 0), np.delete(GREY, 3, 0))
    )
    assert any(
        text.startswith(
            "three channels averaged, which differ by up to 255 of 255 in 0.02% of the "
            "pixels: colour"
        )
        for text in found.processing_log
    )
    slight = np.stack([np.minimum(GREY, 250)] * 3, -1)
    slight[..., 2] += 2
    found = read(tmp_path, imagecodecs.png_encode(slight))
    assert not found.colour and any(
        "differ by up to 2 of 255 in 100.00% of the pixels: a tint" in text
        for text in found.processing_log
    )


@settings(max_examples=50, deadline=None)
@given(dtype=st.sampled_from([np.uint8, np.uint16]), seed=st.integers(0, 2**31))
def test_the_average_is_the_rounded_mean(dtype, seed):
    image = (
        np.random.default_rng(seed)
        .integers(0, np.iinfo(dtype).max, (9, 7, 3), endpoint=True)
        .astype(dtype)
    )
    values, _, _ = raster._grey(image, [])
    assert values.dtype == dtype and np.array_equal(
        values, np.round(image.astype(np.float64).mean(axis=2))
    )


def jpeg_head(width: int, height: int, channels: int = 1) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, channels) + b"".join(
        bytes([one, 0x11, 0]) for one in range(channels)
    )
    return (
        b"\xff\xd8\xff\xc0"
        + struct.pack(">H", len(frame) + 2)
        + frame
        + b"\xff\xda\x00\x08\x01\x00\x00\x00\x3f\x00"
        + bytes(9)
        + b"\xff\xd9"
    )


GIANTS = {
    "png": png(60000, 60000, 8, 0, bytes(1 << 22)),
    "jpeg": jpeg_head(60000, 60000),
    "tiff": tiff({**described(GREY), 256: ("I", (60000,)), 257: ("I", (60000,))}, GREY.tobytes()),
    "big": struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, 2)
    + b"".join(struct.pack("<HHQQ", tag, 4, 1, 60000) for tag in (256, 257))
    + bytes(8),
    "colour": png(9800, 9800, 8, 2, bytes(1 << 22)),
}


@pytest.mark.parametrize("kind", GIANTS)
def test_a_giant_is_refused_by_its_head_before_it_is_allocated(tmp_path, kind):
    (tmp_path / kind).write_bytes(GIANTS[kind])
    tracemalloc.start()
    try:
        with pytest.raises(
            BadData,
            match=(
                rf"{kind}: (60000x60000 pixels are more than the 100,000,000|9800x9800 pixels of "
                rf"3 channels are more)"
            ),
        ):
            raster.read(tmp_path / kind)
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 1 << 20


# --------------------------------------------------------------------------------------------- JPEG


def exif(orientation: int) -> bytes:
    content = b"Exif\0\0" + tiff({274: ("H", (orientation,))}, b"")
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


AS_SHOWN = {
    1: lambda v: v,
    2: np.fliplr,
    3: lambda v: np.rot90(v, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda v: np.rot90(v, -1),
    7: lambda v: np.rot90(v, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", AS_SHOWN)
def test_an_image_is_rotated_as_its_orientation_says(tmp_path, orientation):
    coded = imagecodecs.jpeg8_encode(GREY, level=95)
    stored = imagecodecs.jpeg8_decode(coded)
    found = read(tmp_path, coded[:2] + exif(orientation) + coded[2:])
    assert np.array_equal(found.values, AS_SHOWN[orientation](stored))
    assert (f"rotated as its orientation {orientation} says" in found.processing_log) == (
        orientation > 1
    )
    found = read(tmp_path, tiff(described(GREY, t274=orientation), GREY.tobytes()))
    assert np.array_equal(found.values, AS_SHOWN[orientation](GREY))


def test_a_jpeg_of_twelve_bits_has_the_range_it_states(tmp_path):
    values = (DEEP >> 8).astype(np.uint16)  # 0 to 255: by the values alone it would be 10 bits
    found = read(tmp_path, imagecodecs.jpeg8_encode(values, bitspersample=12, level=100))
    assert (found.values.dtype, found.bits, found.top) == (
        np.uint16,
        12,
        4095,
    ) and "stated to have 12 bits" in found.processing_log
    assert np.abs(found.values.astype(int) - values).max() <= 8
    assert np.allclose(found.radiograph().pixels, found.values / np.float32(4095))


def test_a_lossless_jpeg_keeps_its_sixteen_bits(tmp_path):
    assert np.array_equal(
        read(tmp_path, imagecodecs.jpeg8_encode(DEEP, lossless=True)).values, DEEP
    )


def test_a_grey_image_in_a_colour_jpeg_is_no_colour_and_a_coloured_one_is(tmp_path):
    smooth = np.add.outer(np.arange(70), np.arange(90)).astype(np.uint8)
    assert not read(tmp_path, imagecodecs.jpeg8_encode(np.stack([smooth] * 3, -1), level=90)).colour
    assert read(
        tmp_path, imagecodecs.jpeg8_encode(np.stack([smooth, smooth // 2, smooth], -1), level=90)
    ).colour


def test_a_jpeg_that_was_cut_short_or_is_cmyk_is_refused(tmp_path):
    coded = imagecodecs.jpeg8_encode(GREY)
    for cut in (len(coded) - 2, len(coded) // 2, 40, 3):
        with pytest.raises(BadData, match=r"a\.png: the JPEG stream is broken or cut short"):
            read(tmp_path, coded[:cut])
    with pytest.raises(BadData, match=r"a\.png: holds CMYK; expected grey or colour"):
        read(
            tmp_path,
            imagecodecs.jpeg8_encode(
                np.stack([GREY] * 4, -1), colorspace="CMYK", outcolorspace="CMYK"
            ),
        )


def test_a_jpeg_of_endless_scans_is_refused(tmp_path):
    head = jpeg_head(9000, 9000)
    with pytest.raises(BadData, match=r"a\.png: .*its 41 scans would take too long"):
        read(tmp_path, head[:-2] + b"\xff\xda\x00\x08\x01\x00\x00\x00\x3f\x00" * 40 + head[-2:])


# --------------------------------------------------------------------------------------------- TIFF


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("values", [GREY, DEEP], ids=["8", "16"])
def test_a_tiff_of_either_byte_order_keeps_all_bits(tmp_path, order, values):
    stored = values.astype(values.dtype.newbyteorder(order)).tobytes()
    assert np.array_equal(
        read(tmp_path, tiff(described(values), stored, order=order)).values, values
    )
    inverted_image = read(tmp_path, tiff(described(values, 0), stored, order=order))
    assert (
        np.array_equal(inverted_image.values, np.iinfo(values.dtype).max - values)
        and "MinIsWhite inverted" in inverted_image.processing_log
    )


def test_white_is_zero_is_inverted_within_the_range_of_twelve_bits(tmp_path):
    values = DEEP >> 4
    assert np.array_equal(
        read(tmp_path, tiff(described(values, 0), values.tobytes())).values, 4095 - values
    )


STORED = [
    {"compression": 8, "predictor": True},
    {"compression": 5},
    {"tile": (32, 32)},
    {"compression": 50000, "rowsperstrip": 16},
    {"bigtiff": True},
]


@pytest.mark.parametrize("options", STORED)
def test_a_tiff_in_strips_tiles_and_compressed_is_read(tmp_path, options):
    assert np.array_equal(read(tmp_path, imagecodecs.tiff_encode(DEEP, **options)).values, DEEP)


def test_colour_planes_palette_and_one_bit_of_a_tiff_are_read(tmp_path):
    colours = RNG.integers(0, 256, (70, 90, 3)).astype(np.uint8)
    mean = np.round(colours.mean(axis=2))
    assert np.array_equal(
        read(tmp_path, tiff(described(colours, 2), colours.tobytes())).values, mean
    )
    ramp = np.tile(np.arange(255, -1, -1) * 257, 3)
    assert np.array_equal(
        read(tmp_path, tiff(described(GREY, 3, t320=ramp), GREY.tobytes())).values, 255 - GREY
    )
    bits = GREY > 100
    tags = {**described(GREY), 258: ("H", (1,))}
    assert np.array_equal(
        read(tmp_path, tiff(tags, np.packbits(bits, axis=1).tobytes())).values, bits * np.uint8(255)
    )


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        ({339: ("H", (2,))}, "holds signed values of 8 bits; expected 8- or 16-bit whole numbers"),
        ({258: ("H", (12,))}, "holds unsigned values of 12 bits"),
        (
            {262: ("H", (5,)), 277: ("H", (4,)), 258: ("H", (8,) * 4)},
            "holds CMYK in 4 channels; expected grey, RGB or a palette",
        ),
        ({259: ("H", (6,))}, "is compressed by method 6, which is not supported"),
        ({322: ("I", (60000,)), 323: ("I", (60000,))}, "its tiles are larger than any image"),
    ],
)
def test_a_tiff_that_is_no_image_of_ours_is_refused_by_name(tmp_path, change, reported):
    with pytest.raises(BadData, match=rf"a\.tif: .*{reported}"):
        read(tmp_path, tiff({**described(GREY), **change}, GREY.tobytes()), "a.tif")


def paged(subfile: int) -> bytes:
    """GREY, and behind it a second directory of the same strip."""
    first = tiff(described(GREY), GREY.tobytes())
    at = struct.unpack_from("<I", first, 4)[0]
    end = at + 2 + 12 * struct.unpack_from("<H", first, at)[0]
    entries = struct.pack("<HHII", 254, 4, 1, subfile) + first[at + 2 : end]
    return (
        first[:end]
        + struct.pack("<I", end + 4)
        + struct.pack("<H", (end - at - 2) // 12 + 1)
        + entries
        + bytes(4)
    )


def test_several_images_are_refused_and_a_thumbnail_is_passed_over(tmp_path):
    with pytest.raises(BadData, match=r"a\.tif: holds 2 images; expected one"):
        read(tmp_path, paged(0), "a.tif")
    assert np.array_equal(read(tmp_path, paged(1), "a.tif").values, GREY)


def test_directories_in_a_circle_are_refused(tmp_path):
    data = bytearray(paged(0))
    data[-4:] = data[4:8]
    with pytest.raises(BadData, match=r"run in a circle"):
        read(tmp_path, bytes(data), "a.tif")


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 3000) | st.integers(16_000, 40_000),
    whole=st.booleans(),
)
def test_the_percentiles_of_the_window_are_numpys_to_the_bit(seed, count, whole):
    values = np.random.default_rng(seed).random(count, dtype=np.float32)
    values = np.round(values * 255).astype(np.float32) / 255 if whole else values
    assert np.array_equal(
        radiograph.percentiles(values, np.array([0.5, 99.5])), np.percentile(values, (0.5, 99.5))
    )
