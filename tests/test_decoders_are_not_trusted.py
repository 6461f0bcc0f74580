"""No decoder is trusted: of every format, pixels that are missing, short or too many are a fault
that names the file, and none come from memory that was not written.
"""

import logging
import resource
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from dicom_files import JPEG, write
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import BadData
from hilum.imaging.files import (
    _decoder_warnings,
    _dicom_rle,
    _jpeg2k_complete,
    _tiff,
    _tiff_pixels,
    dicom,
    raster,
)

RNG = np.random.default_rng(3)
GREY = (np.add.outer(np.arange(40) * 2, np.arange(56)) + RNG.integers(0, 9, (40, 56))).astype(
    np.uint8
)
DEEP = GREY.astype(np.uint16) * 16
RLE, EXPLICIT, DEFLATED, DEFLATED_FRAME = (
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.8.1",
)


def refused(path, words: str = "broken or cut short") -> None:
    with pytest.raises(BadData, match=words) as fault:
        (dicom if path.suffix == ".dcm" else raster).read(path)
    assert path.name in str(fault.value)


# -------------------------------------------------------------------------------------------- TIFF

DEFLATE, LZW, PACKBITS, ZSTANDARD = 8, 5, 32773, 50000
ENCODERS = {
    1: bytes,
    LZW: imagecodecs.lzw_encode,
    DEFLATE: imagecodecs.zlib_encode,
    PACKBITS: imagecodecs.packbits_encode,
    ZSTANDARD: imagecodecs.zstd_encode,
}


def tiff(
    parts: list[bytes],
    compression: int,
    *,
    tile: int = 0,
    rows: int = 8,
    bits: int = 8,
    **more: int,
) -> bytes:
    """A TIFF of 40x56 pixels of these strips or tiles, as they are."""
    tags = {
        256: 56,
        257: 40,
        258: bits,
        259: compression,
        262: 1,
        277: 1,
        **({322: tile, 323: tile} if tile else {278: rows}),
        **{int(tag[1:]): value for tag, value in more.items()},
    }
    places = np.cumsum([8, *map(len, parts)])
    at, lists = (
        int(places[-1]),
        {324 if tile else 273: places[:-1], 325 if tile else 279: [len(part) for part in parts]},
    )
    count = len(tags) + 2
    beyond, entries = at + 2 + 12 * count + 4, []
    tail = b""
    for tag, values in sorted({**{tag: [value] for tag, value in tags.items()}, **lists}.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(packed) > 4:
            packed, tail = struct.pack("<I", beyond + len(tail)), tail + packed
        entries.append(struct.pack("<HHI", tag, 4, len(values)) + packed)
    return (
        b"II*\0"
        + struct.pack("<I", at)
        + b"".join(parts)
        + struct.pack("<H", count)
        + b"".join(entries)
        + bytes(4)
        + tail
    )


def strips(tile: int) -> list[bytes]:
    if not tile:
        return [GREY[top : top + 8].tobytes() for top in range(0, 40, 8)]
    padded = np.pad(GREY, ((0, -40 % tile), (0, -56 % tile)))
    return [
        padded[top : top + tile, left : left + tile].tobytes()
        for top in range(0, 40, tile)
        for left in range(0, 56, tile)
    ]


@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("compression", ENCODERS)
def test_each_strip_and_tile_of_a_tiff_must_hold_its_very_bytes(tmp_path, compression, tile):
    encode, raw = ENCODERS[compression], strips(tile)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff([encode(part) for part in raw], compression, tile=tile))
    assert np.array_equal(raster.read(path).values, GREY)
    for changed in (raw[2][:-7], raw[2] + bytes(500), raw[2] * 2, b""):
        for number in (0, 2, len(raw) - 1):
            parts = [encode(part) for part in raw]
            parts[number] = encode(changed) if changed else b""
            path.write_bytes(tiff(parts, compression, tile=tile))
            refused(path, rf"{'tile' if tile else 'strip'} {number + 1} of {len(raw)} ")


@pytest.mark.parametrize("damage", ["place", "fewer", "beyond"])
def test_a_strip_that_is_not_in_the_file_is_named(tmp_path, damage):
    path, parts = tmp_path / "a.tif", strips(0)
    whole = tiff(parts, 1)
    if damage == "fewer":
        path.write_bytes(tiff(parts[:-1], 1))
        refused(path, "places of 4 and the sizes of 4 strips; 5 make its image")
        return
    at = whole.rindex(struct.pack("<5I", *range(8, 8 + 5 * 448, 448)))
    path.write_bytes(
        whole[: at + 4] + struct.pack("<I", 0 if damage == "place" else 1 << 30) + whole[at + 8 :]
    )
    refused(path, "strip 2 of 5 " + ("is missing" if damage == "place" else "lies beyond the end"))


def test_the_last_strip_may_be_whole_and_an_uncompressed_one_padded_to_a_word(tmp_path):
    for compression, encode in ENCODERS.items():
        parts = [GREY[:24].tobytes(), np.pad(GREY[24:], ((0, 8), (0, 0))).tobytes()]
        (tmp_path / "a.tif").write_bytes(
            tiff([encode(part) for part in parts], compression, rows=24)
        )
        assert np.array_equal(raster.read(tmp_path / "a.tif").values, GREY)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 2**31),
    compression=st.sampled_from([1, LZW, DEFLATE, PACKBITS, ZSTANDARD]),
    predictor=st.booleans(),
    order=st.sampled_from("<>"),
    tile=st.booleans(),
    rows=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    bigtiff=st.booleans(),
)
def test_a_sound_tiff_gives_libtiffs_own_values(
    size, dtype, seed, compression, predictor, order, tile, rows, channels, bigtiff
):
    shape = size if channels == 1 else (*size, channels)
    values = np.random.default_rng(seed).integers(0, 900, shape).astype(dtype)
    data = imagecodecs.tiff_encode(
        values,
        compression=compression,
        predictor=predictor and compression in (LZW, DEFLATE, ZSTANDARD),
        byteorder=order,
        bigtiff=bigtiff,
        photometric="rgb" if channels == 3 else "minisblack",
        **({"tile": (16, 32)} if tile else {"rowsperstrip": rows}),
    )
    assert np.array_equal(
        _tiff_pixels.read(data, _tiff._chosen(data)), imagecodecs.tiff_decode(data)
    )


def test_a_broken_row_of_a_fax_is_a_fault_and_no_warning(tmp_path, caplog):
    path = tmp_path / "a.tif"
    for compression in (2, 3, 4):
        data = imagecodecs.tiff_encode(GREY > 60, compression=compression)
        path.write_bytes(data)
        assert np.array_equal(raster.read(path).values > 0, GREY > 60)
        tags = next(_tiff._directories(data))
        begin, length = tags[273][0], tags[279][0]
        for kept in (length // 4, length // 2, length - 6):
            path.write_bytes(data[: begin + kept] + bytes(length - kept) + data[begin + length :])
            refused(path)
    assert not caplog.records


def test_warnings_of_a_decoder_are_heard_whatever_logging_is_set_to():
    logger = logging.getLogger("imagecodecs")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with _decoder_warnings.collected() as heard:
            logger.warning("IDAT: %s", "too much")
        assert (
            heard == ["IDAT: too much"] and logger.level == logging.CRITICAL and not logger.filters
        )
        logging.disable(logging.CRITICAL)
        with pytest.raises(ValueError, match="switched off"), _decoder_warnings.collected():
            pass
    finally:
        logging.disable(logging.NOTSET)
        logger.setLevel(before)


def test_tiles_far_larger_than_their_image_make_no_room(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff([b"x"], 1, tile=8192, t256=1, t257=1))
    refused(tmp_path / "a.tif", "broken or cut short")


# ------------------------------------------------------------------------------------------- DICOM


def segments(planes: list[bytes]) -> bytes:
    encoded = [imagecodecs.packbits_encode(plane) for plane in planes]
    places = np.cumsum([64, *map(len, encoded)])[: len(planes)]
    return struct.pack("<16I", len(planes), *places, *[0] * (15 - len(planes))) + b"".join(encoded)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    width=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**31),
    top=st.sampled_from([3, 256]),
)
def test_run_lengths_come_back_whatever_they_are(size, width, seed, top):
    values = np.random.default_rng(seed).integers(0, top, (width, *size)).astype(np.uint8)
    cells = _dicom_rle.decode(
        memoryview(segments([plane.tobytes() for plane in values])), values[0].size, 1, width
    )
    assert np.array_equal(
        np.frombuffer(cells, np.uint8).reshape(-1, width)[:, ::-1].T, values.reshape(width, -1)
    )


@pytest.mark.parametrize(
    "changed",
    [lambda one: one[:-9], lambda one: one + bytes(2000), lambda one: one * 3, lambda one: b""],
)
def test_each_segment_of_run_lengths_must_hold_its_very_bytes(tmp_path, changed):
    planes = [(DEEP >> 8).astype(np.uint8).tobytes(), (DEEP & 255).astype(np.uint8).tobytes()]
    assert np.array_equal(
        dicom.read(
            write(tmp_path / "a.dcm", DEEP, bits=12, syntax=RLE, stream=segments(planes))
        ).values,
        DEEP,
    )
    for stream in (
        segments([changed(planes[0]), planes[1]]),
        segments([planes[0], changed(planes[1])]),
        segments(planes[:1]),
        segments(planes * 2),
        segments([GREY.tobytes()] * 15),
    ):
        refused(write(tmp_path / "b.dcm", DEEP, bits=12, syntax=RLE, stream=stream))


def test_run_lengths_are_never_decoded_beyond_their_image(tmp_path):
    bomb = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * 4_000_000  # half a gigabyte
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(write(tmp_path / "a.dcm", GREY, bits=8, syntax=RLE, stream=bomb))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_uncompressed_pixels_are_counted(tmp_path):
    whole = write(tmp_path / "a.dcm", DEEP, bits=12).read_bytes()
    at = whole.index(b"\xe0\x7f\x10\x00OW")
    head, pixels = whole[:at], DEEP.tobytes()
    for changed in (pixels[:-2], pixels + b"\1\0", pixels * 2, pixels + bytes(512), b""):
        (tmp_path / "b.dcm").write_bytes(
            head + struct.pack("<HH2s2xI", 0x7FE0, 0x10, b"OW", len(changed)) + changed
        )
        refused(tmp_path / "b.dcm")
    (tmp_path / "c.dcm").write_bytes(
        head + struct.pack("<HH2s2xI", 0x7FE0, 0x10, b"OW", len(pixels) + 8) + pixels
    )
    refused(tmp_path / "c.dcm", "c.dcm")


def test_fragments_are_accounted_for(tmp_path):
    stream = imagecodecs.jpegls_encode(DEEP)
    stream += b"\0" * (len(stream) % 2)
    parts = [stream[:200], stream[200:600], stream[600:]]
    path = write(tmp_path / "a.dcm", DEEP, bits=12, syntax=JPEG + "80", stream=parts)
    whole = path.read_bytes()
    assert np.array_equal(dicom.read(path).values, DEEP)
    path.write_bytes(whole[:-16])  # what pydicom adds is the second
    refused(path, "without their delimiter")
    path.write_bytes(whole[:-116])
    refused(path, "fragment 3 states")
    for fewer in (parts[:2], parts[1:], parts[:1] + parts[2:]):
        refused(write(path, DEEP, bits=12, syntax=JPEG + "80", stream=fewer))
    at = whole.index(b"\xfe\xff\x00\xe0")
    path.write_bytes(whole[: at + 4] + struct.pack("<3I", 8, 0, 600) + whole[at + 8 :])
    refused(path, "offset table")


def test_deflated_pixels_must_inflate_to_their_very_bytes(tmp_path):
    def deflated(data: bytes) -> bytes:
        engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return engine.compress(data) + engine.flush()

    pixels = DEEP.tobytes()
    for stream in (
        deflated(pixels[:-2]),
        deflated(pixels + bytes(2)),
        deflated(pixels)[:-9],
        deflated(pixels + bytes(1 << 24)),
    ):
        refused(write(tmp_path / "a.dcm", DEEP, bits=12, syntax=DEFLATED_FRAME, stream=stream))
    path = write(tmp_path / "b.dcm", DEEP, bits=12, syntax=DEFLATED)
    path.write_bytes(path.read_bytes()[:-20])
    refused(path)


CODESTREAMS = {
    "JPEG 2000": ("90", imagecodecs.jpeg2k_encode(GREY, codecformat="j2k", reversible=True)),
    "lossy": ("91", imagecodecs.jpeg2k_encode(GREY, codecformat="j2k", level=40)),
    "HTJ2K": ("201", imagecodecs.htj2k_encode(GREY)),
    "HTJ2K tiles": ("201", imagecodecs.htj2k_encode(GREY, tile=(16, 16))),
    "HTJ2K parts": ("201", imagecodecs.htj2k_encode(GREY, tile=(32, 32), tilepart=1, tlm=True)),
}


@pytest.mark.parametrize("kind", CODESTREAMS)
def test_a_codestream_cut_anywhere_is_refused(tmp_path, kind, capfd):
    syntax, stream = CODESTREAMS[kind]
    sound = dicom.read(
        write(tmp_path / "a.dcm", GREY, bits=8, syntax=JPEG + syntax, stream=stream)
    ).values
    assert kind == "lossy" or np.array_equal(sound, GREY)
    for kept in RNG.choice(np.arange(60, len(stream) - 1), 12, replace=False):
        for end in (b"", b"\xff\xd9"):
            with pytest.raises(Exception, match=r"\w"):
                _jpeg2k_complete.decode(stream[:kept] + end, high_throughput="HT" in kind)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("kind", CODESTREAMS)
def test_tiles_and_packets_that_are_left_out_are_missed_though_lengths_are_mended(kind):
    _, stream = CODESTREAMS[kind]
    parts = _jpeg2k_complete._parts(stream)
    for left_out in parts if len(parts) > 1 else ():
        with pytest.raises(_jpeg2k_complete.Missing):
            _jpeg2k_complete.decode(
                stream[: left_out.begin] + stream[left_out.end :], high_throughput="HT" in kind
            )
    last = parts[-1]
    sound, _ = _jpeg2k_complete.decode(stream, high_throughput="HT" in kind)
    for kept in range(last.begin + 15, last.end, 3):
        length = (kept - last.begin).to_bytes(4)
        mended = stream[: last.begin + 6] + length + stream[last.begin + 10 : kept] + b"\xff\xd9"
        try:
            values, _ = _jpeg2k_complete.decode(mended, high_throughput="HT" in kind)
        except (ValueError, RuntimeError):
            continue
        assert np.array_equal(values, sound), kept


# ------------------------------------------------------------------------------------ PNG, GIF, BMP


def png(rows: bytes, *, interlaced: int = 0) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", 56, 40, 16, 0, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def passes() -> bytes:
    """Unfiltered rows of the seven passes of an interlaced PNG (Adam7)."""
    steps = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    return b"".join(
        b"\0" + row.astype(">u2").tobytes()
        for top, left, down, across in steps
        for row in DEEP[top::down, left::across]
    )


@pytest.mark.parametrize("interlaced", [0, 1])
def test_a_png_of_too_few_or_too_many_rows_is_refused(tmp_path, interlaced):
    rows = passes() if interlaced else b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)
    (tmp_path / "a.png").write_bytes(png(rows, interlaced=interlaced))
    assert np.array_equal(raster.read(tmp_path / "a.png").values, DEEP)
    for changed in (
        rows[:-1],
        rows[: len(rows) // 2],
        rows + b"\0",
        rows * 2,
        rows + bytes(1 << 20),
    ):
        (tmp_path / "b.png").write_bytes(png(changed, interlaced=interlaced))
        refused(tmp_path / "b.png")


def test_a_gif_of_too_few_or_too_many_rows_is_refused(tmp_path):
    data = imagecodecs.gif_encode(GREY)
    (tmp_path / "a.gif").write_bytes(data)
    assert np.array_equal(raster.read(tmp_path / "a.gif").values, GREY)
    image = 13 + 768
    assert data[image] == 0x2C
    for height in (39, 41):
        changed = bytearray(data)
        changed[8:10] = changed[image + 7 : image + 9] = struct.pack("<H", height)
        (tmp_path / "b.gif").write_bytes(changed)
        refused(tmp_path / "b.gif")


@pytest.mark.parametrize("ending", [".png", ".gif", ".bmp", ".tif"])
def test_a_file_that_states_a_giant_and_holds_nothing_is_refused_by_its_head(tmp_path, ending):
    side = 60_000
    data = {
        ".png": png(b"")[:16] + struct.pack(">II", side, side) + png(b"")[24:],
        ".gif": b"GIF89a"
        + struct.pack("<HH", side, side)
        + b"\0\0\0"
        + b"\x2c"
        + bytes(4)
        + struct.pack("<HH", side, side)
        + b"\0\x02\0;",
        ".bmp": b"BM"
        + bytes(8)
        + struct.pack("<IIiiHHIIiiII", 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0),
        ".tif": tiff([b"x"], DEFLATE, t256=side, t257=side, t278=side),
    }[ending]
    (tmp_path / f"a{ending}").write_bytes(data)
    refused(tmp_path / f"a{ending}", "more than the")


def test_pixels_that_the_runs_of_a_bitmap_skip_are_said(tmp_path):
    palette = bytes(1024)
    runs = bytes([5, 3, 0, 0, 0, 2, 2, 1, 2, 1, 0, 1])
    head = struct.pack("<IiiHHIIiiII", 40, 6, 4, 1, 8, 1, 0, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(
        b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + head + palette + runs
    )
    assert any(
        "17 pixels that its runs skip" in line
        for line in raster.read(tmp_path / "a.bmp").processing_log
    )


def test_a_million_frames_are_refused_without_room_for_them(tmp_path):
    refused(write(tmp_path / "a.dcm", GREY, bits=8, NumberOfFrames=100_000), "multi-frame")
