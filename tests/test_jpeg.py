"""No JPEG of which values are missing is read as if it were whole, and no sound one is refused for
what is harmless.
"""

import cv2
import imagecodecs
import numpy as np
import pytest
from dicom_files import JPEG, write
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import BadData
from hilum.imaging.files import _jpeg_complete, _jpeg_stream, dicom, raster

END = b"\xff\xd9"


def scene(size=(61, 83)) -> np.ndarray:
    """A soft image with a black foot, as a collimated radiograph has."""
    rng = np.random.default_rng(4)
    soft = cv2.resize(
        rng.integers(0, 256, (9, 9)).astype(np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC
    )
    soft = np.clip(soft + rng.normal(0, 3, size), 0, 255).astype(np.uint8)
    soft[-7:] = 0
    return soft


def by_opencv(values: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".jpg", values, [cv2.IMWRITE_JPEG_QUALITY, 90, *options])[1].tobytes()


def in_colour(subsampling: str) -> bytes:
    return imagecodecs.jpeg8_encode(
        np.dstack([scene(), scene()[::-1], scene()]), level=90, subsampling=subsampling
    )


PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
DEEP = scene().astype(np.uint16) * 16
KINDS = {
    "baseline": imagecodecs.jpeg8_encode(scene(), level=90),
    "optimised": by_opencv(scene(), cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "progressive": by_opencv(scene(), *PROGRESSIVE),
    "progressive colour": by_opencv(np.dstack([scene()] * 3), *PROGRESSIVE),
    "restarts": by_opencv(scene(), cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
    "progressive with restarts": by_opencv(scene(), *PROGRESSIVE, cv2.IMWRITE_JPEG_RST_INTERVAL, 5),
    **{
        f"grey in colour {name}": imagecodecs.jpeg8_encode(
            np.dstack([scene()] * 3), level=90, subsampling=name
        )
        for name in ("420", "440")
    },
    **{f"colour {name}": in_colour(name) for name in ("444", "422", "420", "440")},
    "12 bits": imagecodecs.jpeg8_encode(DEEP, level=90, bitspersample=12),
    "lossless": imagecodecs.jpeg8_encode(scene(), lossless=True),
    "lossless of 16 bits": imagecodecs.jpeg8_encode(
        DEEP * 16, lossless=True, bitspersample=16, predictor=5
    ),
    "ends in mid-grey": imagecodecs.jpeg8_encode(np.full((64, 64), 128, np.uint8)),
}


def decode(data: bytes) -> np.ndarray:
    return _jpeg_complete.decode(data, _jpeg_stream.parse(data))


def read_wrong(data: bytes, truth: np.ndarray) -> bool:
    """Whether `data` is read, and not as `truth`."""
    try:
        return not np.array_equal(decode(data), truth)
    except (ValueError, imagecodecs.Jpeg8Error):
        return False


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_file_gives_the_decoders_own_values_to_the_bit(kind):
    assert np.array_equal(decode(KINDS[kind]), imagecodecs.jpeg8_decode(KINDS[kind]))


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    sampling=st.sampled_from(["420", "440", "422", "411"]),
    quality=st.integers(20, 100),
    tint=st.integers(0, 3),
)
def test_an_added_row_never_changes_the_last_row_of_a_colour_file(seed, sampling, quality, tint):
    rng = np.random.default_rng(seed)
    values = cv2.resize(
        rng.integers(0, 256, (6, 6)).astype(np.uint8), tuple(rng.integers(3, 70, 2).tolist())
    )
    values = np.dstack([values, values, np.minimum(values, 255 - tint) + np.uint8(tint)])
    data = imagecodecs.jpeg8_encode(values, level=quality, subsampling=sampling)
    for space in (None, ("YCBCR", "YCBCR")):
        options = {} if space is None else {"colorspace": space[0], "outcolorspace": space[1]}
        assert np.array_equal(
            _jpeg_complete.decode(data, _jpeg_stream.parse(data), space),
            imagecodecs.jpeg8_decode(data, **options),
        )


HARMLESS = {
    "bytes before the end marker": lambda data: data[:-2] + b"\x12\x34\x56" + END,
    "fill bytes before the end marker": lambda data: data[:-2] + b"\xff\xff" + END,
    "zeros behind the end": lambda data: data + bytes(9),
    "another image behind the end": lambda data: data + KINDS["baseline"][:200],
    "a comment": lambda data: data[:2] + b"\xff\xfe\x00\x06\xff\xda\xff\xd9" + data[2:],
    "bytes between two segments": lambda data: (
        data[:2]
        + data[2 : 4 + int.from_bytes(data[4:6])]
        + b"\x00\x01"
        + data[4 + int.from_bytes(data[4:6]) :]
    ),
}


@pytest.mark.parametrize("change", HARMLESS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_harmless_is_no_reason_to_refuse(kind, change):
    assert np.array_equal(
        decode(HARMLESS[change](KINDS[kind])), imagecodecs.jpeg8_decode(KINDS[kind])
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_and_ended_again_is_never_read_with_wrong_pixels(kind):
    data, rng = KINDS[kind], np.random.default_rng(1)
    truth = imagecodecs.jpeg8_decode(data)
    first = _jpeg_stream.parse(data).scans[0].begin
    places = {
        *rng.integers(first, len(data) - 2, 200).tolist(),
        *range(len(data) - 14, len(data) - 2),
    }
    assert [place for place in places if read_wrong(data[:place] + END, truth)] == []


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(["grey", "420", "progressive"]),
    quality=st.integers(40, 100),
    cut=st.integers(1, 40),
)
def test_a_file_cut_near_its_end_is_never_read_with_wrong_pixels(seed, kind, quality, cut):
    rng = np.random.default_rng(seed)
    values = cv2.resize(
        rng.integers(0, 256, (5, 5)).astype(np.uint8), tuple(rng.integers(9, 60, 2).tolist())
    )
    if rng.random() < 0.3:
        values[-9:] = rng.choice([0, 128, 255])
    if kind == "420":
        data = imagecodecs.jpeg8_encode(
            np.dstack([values, values // 2, 255 - values]), level=quality, subsampling="420"
        )
    else:
        data = by_opencv(
            values,
            cv2.IMWRITE_JPEG_QUALITY,
            quality,
            *(PROGRESSIVE if kind == "progressive" else ()),
        )
    assert not read_wrong(data[: -2 - cut] + END, imagecodecs.jpeg8_decode(data))


def test_missing_scans_and_restart_intervals_are_named():
    data = KINDS["progressive"]
    scans = _jpeg_stream.parse(data).scans
    for scan in scans[:-1]:
        with pytest.raises(
            _jpeg_complete.Missing, match="scans are missing: .* of 64 coefficients of component 1"
        ):
            decode(data[: scan.end] + END)
    data = KINDS["restarts"]
    scan = _jpeg_stream.parse(data).scans[0]
    places = _jpeg_stream.restarts(data, scan)
    for place, behind in zip(places, places[1:], strict=False):
        with pytest.raises(_jpeg_complete.Missing, match="of 30 restart intervals are missing"):
            decode(data[:place] + END)
        with pytest.raises(_jpeg_complete.Missing, match="1 of 30 restart intervals are missing"):
            decode(data[:place] + data[behind:])


def test_the_refusal_names_the_rows(tmp_path):
    whole = np.random.default_rng(0).integers(0, 256, (256, 256)).astype(np.uint8)
    data = imagecodecs.jpeg8_encode(whole)
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2] + END)
    with pytest.raises(
        BadData,
        match=(
            r"a\.jpg: .*broken or cut short \(its values end too soon: rows \d+ to \d+ of 256 are"
            r" incomplete\); copy"
        ),
    ):
        raster.read(tmp_path / "a.jpg")


def test_arithmetic_coding_is_refused_by_name(tmp_path):
    """Of it a whole stream cannot be distinguished from a cut one."""
    data = bytearray(KINDS["baseline"])
    data[_jpeg_stream.parse(bytes(data)).place + 1] = 0xC9
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(BadData, match=r"a\.jpg: is a JPEG with arithmetic coding.*save it again"):
        raster.read(tmp_path / "a.jpg")
    with pytest.raises(BadData, match=r"b\.dcm: is a JPEG with arithmetic coding"):
        dicom.read(
            write(tmp_path / "b.dcm", scene(), bits=8, syntax=JPEG + "50", stream=bytes(data))
        )


@pytest.mark.parametrize(
    ("kind", "syntax", "bits"),
    [("baseline", "50", 8), ("progressive", "50", 8), ("12 bits", "51", 12), ("lossless", "70", 8)],
)
def test_a_jpeg_inside_dicom_is_held_to_the_same(kind, syntax, bits, tmp_path):
    data, stored = KINDS[kind], scene() if bits == 8 else DEEP
    assert (
        dicom.read(
            write(tmp_path / "a.dcm", stored, bits=bits, syntax=JPEG + syntax, stream=data)
        ).values.shape
        == stored.shape
    )
    for place in (len(data) * 6 // 10, len(data) * 9 // 10, len(data) - 6):
        for end in (b"", END):
            with pytest.raises(
                BadData, match=r"b\.dcm: its pixels are MONOCHROME2 .* broken or cut short"
            ):
                dicom.read(
                    write(
                        tmp_path / "b.dcm",
                        stored,
                        bits=bits,
                        syntax=JPEG + syntax,
                        stream=data[:place] + end,
                    )
                )


def test_no_other_decoder_is_used_to_fill_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pydicom.pixels.get_decoder", lambda syntax: pytest.fail("pydicom's decoder is used")
    )
    data = KINDS["baseline"]
    with pytest.raises(BadData, match="end too soon"):
        dicom.read(
            write(
                tmp_path / "a.dcm",
                scene(),
                bits=8,
                syntax=JPEG + "50",
                stream=data[: len(data) // 2] + END,
            )
        )


TIFFS = {
    "strips": {"rowsperstrip": 16},
    "one strip": {},
    "tiles": {"tile": (32, 48)},
    "big": {"bigtiff": True},
    "colour": {"photometric": "rgb"},
}


@pytest.mark.parametrize("kind", TIFFS)
def test_a_jpeg_inside_tiff_is_held_to_the_same(kind, tmp_path):
    values = np.dstack([scene(), scene()[::-1], scene()]) if kind == "colour" else scene()
    data = imagecodecs.tiff_encode(values, compression=7, **TIFFS[kind])
    (tmp_path / "a.tif").write_bytes(data)
    assert raster.read(tmp_path / "a.tif").values.shape == scene().shape
    begin, end = data.rindex(b"\xff\xda") + 20, data.rindex(END)
    for place in (begin + 3, (begin + end) // 2, end - 4):
        (tmp_path / "b.tif").write_bytes(data[:place] + END + data[place + 2 :])
        with pytest.raises(
            BadData,
            match=(
                r"b\.tif: the TIFF stream is broken or cut short \((strip|tile) \d+ of \d+: its "
                r"values end too soon"
            ),
        ):
            raster.read(tmp_path / "b.tif")
