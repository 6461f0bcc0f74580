"""DICOM is recognised by content, what is no single image is named from the header, and what is
broken is refused with the true reason.
"""

import os

import numpy as np
import pytest
from dicom_bytes import (
    EXPLICIT,
    IMPLICIT,
    UNKNOWN,
    data_set,
    element,
    image,
    item,
    meta,
    padded,
    sequence_end,
    words,
)

from hilum.errors import BadData
from hilum.imaging.files import dicom

STORED = np.arange(35 * 48, dtype=np.uint16).reshape(35, 48) % 4096
STORAGE = "1.2.840.10008.5.1.4.1.1."
SMALL = np.arange(16, dtype=np.uint8).reshape(4, 4)


def put(tmp_path, data, name="1.2.840.5"):
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


def plain(syntax=EXPLICIT, *, more=(), **options):
    return meta(syntax) + data_set(image(STORED, 12, more=more), **options)


# -------------------------------------------------------------------------------------- recognition


@pytest.mark.parametrize(
    "name", ["IM1", "1.2.840.5", "a.dcm", "a.DCM", "a.jpg", "no ending at all", "00000001"]
)
@pytest.mark.parametrize("bare", [False, True])
def test_dicom_is_recognised_by_its_bytes_whatever_the_name(name, bare, tmp_path):
    data = plain()
    path = put(tmp_path, data[132:] if bare else data, name)
    assert (
        dicom.is_one(path)
        and dicom.header(path).size == STORED.shape
        and np.array_equal(dicom.read(path).values, STORED)
    )


@pytest.mark.parametrize("options", [{}, {"implicit": True}])
def test_a_data_set_without_preamble_and_meta_information_is_recognised(options, tmp_path):
    path = put(tmp_path, data_set(image(STORED, 12), **options))
    assert dicom.is_one(path) and np.array_equal(dicom.read(path).values, STORED)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\x00",
        b"hello, this is a text",
        b"\x89PNG\r\n\x1a\n" + bytes(200),
        bytes(300),
        b"\x08\x00\x05\x00rubbish that goes on" * 9,
        np.arange(8, 200, dtype="<u4").tobytes(),
        np.array([8, 4, 7, 7] * 20, "<u4").tobytes(),
        np.array([2, 8, 1, 0] * 20, "<u4").tobytes(),
        b"DICM" * 31,
    ],
)
def test_what_only_begins_a_little_like_it_is_no_dicom(data, tmp_path):
    assert not dicom.is_one(put(tmp_path, data))


def test_a_pipe_is_no_dicom_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert (
        not dicom.is_one(tmp_path / "pipe")
        and not dicom.is_one(tmp_path)
        and not dicom.is_one(tmp_path / "absent")
    )
    for verb in (dicom.header, dicom.read):
        for path in (tmp_path / "pipe", tmp_path):
            with pytest.raises(BadData, match="is a (pipe|folder) and is never read"):
                verb(path)
    os.symlink(put(tmp_path, plain()), tmp_path / "link")
    assert dicom.is_one(tmp_path / "link")


# ------------------------------------------------------------------------------------------ objects


def described(
    sop_class: str, *, pixels: bool, frames: bytes = b"", syntax: str = EXPLICIT
) -> bytes:
    uid = sop_class.encode() + b"\0" * (len(sop_class) % 2)
    more = [(0x00080016, b"UI", uid), *([(0x00280008, b"IS", padded(frames))] if frames else [])]
    elements = image(STORED, 12, more=more)
    return meta(syntax, uid) + data_set(
        elements if pixels else [one for one in elements if one[0] >> 16 < 0x0028]
    )


OBJECTS = [
    (STORAGE + "1", True, b"", None),
    (STORAGE + "1.1", True, b"", None),
    (STORAGE + "7", True, b"1", None),
    (STORAGE + "2", True, b"", None),
    (STORAGE + "481.1", True, b"", None),
    ("1.2.3.4", True, b"", None),
    (STORAGE + "1", True, b"0", None),
    (STORAGE + "7.2", True, b"12", "multi-frame image of 12 frames"),
    (STORAGE + "1", False, b"", "no pixel data"),
    ("1.2.3.4", False, b"", "no pixel data"),
    (STORAGE + "88.11", False, b"", "structured report"),
    (STORAGE + "88.59", False, b"", "key object selection"),
    (STORAGE + "104.1", False, b"", "encapsulated PDF"),
    (STORAGE + "11.1", False, b"", "presentation state"),
    (STORAGE + "66.4", True, b"1", "segmentation"),
    (STORAGE + "66", False, b"", "raw data"),
    (STORAGE + "9.1.1", False, b"", "waveform"),
    (STORAGE + "481.3", False, b"", "radiotherapy structure set"),
    (STORAGE + "30", True, b"", "parametric map"),
    ("1.2.840.10008.1.3.10", False, b"", "DICOMDIR"),
    (STORAGE + "104.3", False, b"", "encapsulated 3D model"),
    (STORAGE + "11", False, b"", "presentation state"),
]


@pytest.mark.parametrize(("sop_class", "pixels", "frames", "reason"), OBJECTS)
def test_what_a_file_holds_is_recognised_from_its_header(
    sop_class, pixels, frames, reason, tmp_path
):
    path = put(tmp_path, described(sop_class, pixels=pixels, frames=frames))
    header = dicom.header(path)
    assert dicom.object_kind(header) == reason and header.sop_class == sop_class
    assert header.pixels == ("integer" if pixels else None) and header.frames == (
        int(frames) if frames else None
    )
    if reason:
        with pytest.raises(
            BadData, match=f"holds {reason} .*not a single image; expected one grey image"
        ):
            dicom.read(path)
    else:
        assert np.array_equal(dicom.read(path).values, STORED)


def test_a_dicomdir_is_named_by_its_meta_information(tmp_path):
    data = (
        meta(EXPLICIT, b"1.2.840.10008.1.3.10")
        + element(0x00041130, b"CS", b"DISK")
        + element(0x00041220, b"SQ", item(element(0x00041430, b"CS", b"IMAGE ")))
    )
    path = put(tmp_path, data, "DICOMDIR")
    assert dicom.is_one(path) and dicom.object_kind(dicom.header(path)) == "DICOMDIR"


def test_float_pixels_and_video_are_named(tmp_path):
    floats = [one for one in image(STORED, 12) if one[0] != 0x7FE00010] + [
        (0x7FE00008, b"OF", STORED.astype("<f4").tobytes())
    ]
    assert (
        dicom.object_kind(dicom.header(put(tmp_path, meta(EXPLICIT) + data_set(floats))))
        == "image of floating-point pixels"
    )
    for number in ("100", "102.1", "107"):
        assert (
            dicom.object_kind(dicom.header(put(tmp_path, plain(f"1.2.840.10008.1.2.4.{number}"))))
            == "video"
        )


def test_a_header_longer_than_what_is_read_at_first_finds_the_pixels(tmp_path):
    overlay = [(0x00291010, b"OB", bytes(20000)), (0x60003000, b"OW", bytes(90000))]
    header = dicom.header(put(tmp_path, plain(more=overlay)))
    assert (
        header.pixels == "integer"
        and header.size == STORED.shape
        and dicom.object_kind(header) is None
    )


# -------------------------------------------------------------- syntaxes that are not what they say


@pytest.mark.parametrize("size", [(3, 4), (35, 48), (100, 111), (200, 160), (2, 11176), (128, 66)])
@pytest.mark.parametrize(
    ("stated", "implicit"),
    [(IMPLICIT, False), (EXPLICIT, True), (IMPLICIT, True), (EXPLICIT, False)],
)
def test_a_data_set_is_read_as_it_is_written_whatever_its_syntax_says(
    stated, implicit, size, tmp_path
):
    stored = np.random.default_rng(0).integers(0, 4096, size).astype(np.uint16)
    more = [
        (0x00100020, b"LO", b"P7"),
        (0x00181164, b"DS", b"0.2\\0.2 "),
        (0x00185101, b"CS", b"PA"),
    ]
    path = put(tmp_path, meta(stated) + data_set(image(stored, 12, more=more), implicit=implicit))
    file, header = dicom.read(path), dicom.header(path)
    assert np.array_equal(file.values, stored) and file.header == header
    assert (header.patient, header.spacing_mm, header.view, header.size) == (
        "P7",
        (0.2, 0.2),
        "PA",
        size,
    )


@pytest.mark.parametrize("vr", [b"OW", b"OB", b"UN", b"OL"])
def test_pixels_are_found_whatever_vr_they_carry(vr, tmp_path):
    elements = [
        (tag, vr if tag == 0x7FE00010 else own, value) for tag, own, value in image(STORED, 12)
    ]
    assert np.array_equal(
        dicom.read(put(tmp_path, meta(EXPLICIT) + data_set(elements))).values, STORED
    )


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.113619.5.2", "private or unknown"),
        ("1.3.46.670589.33.1.4.1", "private or unknown"),
        ("1.2.3.4.5", "private or unknown"),
        ("1.2.840.10008.1.2.4.49", "private or unknown"),
        ("1.2.840.10008.1.2.1.98", ""),
        ("1.2.840.10008.1.20", "Papyrus"),
        ("1.2.840.10008.1.2.4", "private or unknown"),
    ],
)
@pytest.mark.parametrize("implicit", [False, True])
def test_an_unknown_transfer_syntax_is_refused_by_name_and_never_read_as_uncompressed(
    syntax, name, implicit, tmp_path
):
    path = put(tmp_path, plain(syntax, implicit=implicit))
    with pytest.raises(
        BadData,
        match=(
            rf"1\.2\.840\.5: its transfer syntax is {syntax} \(.*{name}.*\), which is not "
            rf"supported; expected .*uncompressed"
        ),
    ):
        dicom.read(path)
    assert dicom.header(path).syntax == syntax


def test_encapsulated_pixels_of_a_stated_length_are_read(tmp_path):
    import imagecodecs

    stream = imagecodecs.jpegls_encode(STORED)
    fragments = item(b"") + item(stream + b"\0" * (len(stream) % 2)) + sequence_end()
    elements = image(STORED, 12, more=[(0x7FE00010, b"OB", fragments)])
    assert np.array_equal(
        dicom.read(put(tmp_path, meta("1.2.840.10008.1.2.4.80") + data_set(elements))).values,
        STORED,
    )


# -------------------------------------------------------------------------- icons and wrong lengths


def icon(*, encapsulated: bool = False, item_length: int | None = None) -> bytes:
    """An item of Icon Image Sequence: a small image with pixels of its own."""
    parts = data_set(image(SMALL, 8)[3:-1])
    pixels = element(0x7FE00010, b"OB", SMALL.tobytes())
    if encapsulated:
        pixels = element(
            0x7FE00010,
            b"OB",
            item(b"") + item(b"\xff\xd8\xff\xe0" + bytes(8)) + sequence_end(),
            length=UNKNOWN,
        )
    return item(parts, pixels, length=item_length)


ICONS = {
    "lengths stated": element(0x00880200, b"SQ", icon()),
    "item of unknown length": element(0x00880200, b"SQ", icon(item_length=UNKNOWN)),
    "all of unknown length": element(
        0x00880200, b"SQ", icon(item_length=UNKNOWN) + sequence_end(), length=UNKNOWN
    ),
    "encapsulated": element(
        0x00880200,
        b"SQ",
        icon(encapsulated=True, item_length=UNKNOWN) + sequence_end(),
        length=UNKNOWN,
    ),
    "encapsulated, lengths stated": element(0x00880200, b"SQ", icon(encapsulated=True)),
    "not known to the writer": element(0x00880200, b"UN", icon()),
}


def with_icon(icon_element: bytes, *, pixels: bool = True) -> bytes:
    elements = image(STORED, 12)
    return (
        meta(EXPLICIT)
        + data_set(elements[:-1])
        + icon_element
        + (data_set(elements[-1:]) if pixels else b"")
    )


@pytest.mark.parametrize("kind", ICONS)
def test_the_pixels_of_an_icon_are_not_taken_for_those_of_the_image(kind, tmp_path):
    path = put(tmp_path, with_icon(ICONS[kind]))
    file = dicom.read(path)
    assert (
        np.array_equal(file.values, STORED)
        and dicom.header(path) == file.header
        and file.header.size == STORED.shape
    )
    path = put(tmp_path, with_icon(ICONS[kind], pixels=False))
    assert dicom.object_kind(dicom.header(path)) == "no pixel data"
    with pytest.raises(BadData, match="holds no pixel data"):
        dicom.read(path)


LAST = data_set(image(STORED, 12)[-1:])
ITEM_WITHOUT_END = element(
    0x00880200, b"SQ", icon(item_length=UNKNOWN)[:-8] + sequence_end(), length=UNKNOWN
)
BROKEN = {  # an element before the pixels: the true reason
    "a private length beyond the end": (
        element(0x00291010, b"OB", bytes(6), length=99_999),
        r"\(0029,1010\) behind \(0028,0103\) states 99,999 bytes, [\d,]+ are left",
    ),
    "a length that ends within the pixels": (
        element(0x00291010, b"OB", bytes(6), length=1000),
        r"\(\w{4},\w{4}\) behind \(0029,1010\) |\(\w{4},\w{4}\) cannot follow \(0029,1010\)",
    ),
    "a length that swallows the tag of the pixels": (
        element(0x00324000, b"LT", b"ab", length=6),
        r"\(574F,0000\) behind \(0032,4000\) has no VR",
    ),
    "an icon that swallows all": (
        element(0x00880200, b"SQ", icon(), length=len(icon()) + len(LAST)),
        r"\(0088,0200\) states [\d,]+ bytes, its items have not as many",
    ),
    "an icon whose item has no end": (ITEM_WITHOUT_END, r"the items of \(0088,0200\) are broken"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_pixels_that_are_lost_are_refused_with_the_true_reason(kind, tmp_path):
    path = put(tmp_path, with_icon(BROKEN[kind][0]))
    for verb in (dicom.read, dicom.header):
        with pytest.raises(
            BadData,
            match=(
                rf"1\.2\.840\.5: its (?:header|data set) is broken or cut short \(ValueError: "
                rf"(?:{BROKEN[kind][1]}).*Pixel Data seems to stand at byte"
            ),
        ):
            verb(path)


def test_a_stray_delimiter_is_named_unless_the_pixels_follow_it(tmp_path):
    delimiter = element(0xFFFEE00D, b"", b"", implicit=True)
    path = put(tmp_path, with_icon(delimiter))
    assert (
        np.array_equal(dicom.read(path).values, STORED)
        and dicom.header(path) == dicom.read(path).header
    )
    elements = image(STORED, 12)
    path = put(
        tmp_path, meta(EXPLICIT) + data_set(elements[:3]) + delimiter + data_set(elements[3:])
    )
    for verb in (dicom.read, dicom.header):
        with pytest.raises(
            BadData,
            match=(
                r"a delimiter \(FFFE,E00D\) of a sequence stands behind \(0008,0060\), outside of"
                r" any"
            ),
        ):
            verb(path)


def test_a_wrong_length_of_the_pixels_themselves(tmp_path):
    whole = plain()
    place = whole.rindex(words(0x7FE0, 0x0010)) + 8
    for stated in (STORED.nbytes + 500, 0xFFFFFFF0, STORED.nbytes // 2, 0):
        path = put(tmp_path, whole[:place] + stated.to_bytes(4, "little") + whole[place + 4 :])
        enough = (
            stated > STORED.nbytes
        )  # more than the file has: it was cut, or its length is wrong
        reported = (
            rf"states {stated:,} bytes"
            if enough
            else rf"{stated} bytes, {STORED.nbytes} are needed"
        )
        with pytest.raises(BadData, match=reported):
            dicom.read(path)
