"""Stored values out of every transfer syntax, what happens where header and image disagree, and
files that others wrote.
"""

import os
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from dicom_files import ENCODERS, JPEG, NATIVE, dataset, write
from pydicom import dcmread

from hilum.errors import BadData
from hilum.imaging.files import _dicom_parsing, _dicom_stream, dicom, image_file

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom"
real_files = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real radiographs of shared/data are not on this machine"
)
RLE = "1.2.840.10008.1.2.5"
EXPLICIT = "1.2.840.10008.1.2.1"


def smooth(bits: int, kind=np.uint16, size=(40, 56)) -> np.ndarray:
    """A soft hill that fills the bits, with a little noise: what a lossy encoder does not spoil
    much.
    """
    y, x = np.mgrid[: size[0], : size[1]]
    hill = np.exp(-(((y - size[0] / 2) / 15) ** 2) - ((x - size[1] / 2) / 20) ** 2) * (
        (1 << bits) - 9
    )
    return (hill + np.random.default_rng(3).integers(0, 8, size)).astype(kind)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("syntax", [*NATIVE, RLE])
def test_uncompressed_and_run_length_files_give_the_values_back(syntax, bits, tmp_path):
    stored = smooth(bits, np.uint8 if bits == 8 else np.uint16)
    file = dicom.read(write(tmp_path / "a.dcm", stored, bits=bits, syntax=syntax))
    assert file.values.dtype == stored.dtype and np.array_equal(file.values, stored)


@pytest.mark.parametrize("syntax", ENCODERS)
def test_compressed_files_give_the_values_back(syntax, tmp_path):
    bits = 8 if syntax == JPEG + "50" else 12
    stored = smooth(bits, np.uint8 if bits == 8 else np.uint16)
    values = dicom.read(write(tmp_path / "a.dcm", stored, bits=bits, syntax=syntax)).values
    assert (
        values.dtype == stored.dtype
        and np.abs(values.astype(int) - stored).max() <= ENCODERS[syntax][1]
    )


@pytest.mark.parametrize(
    "syntax", [*NATIVE, RLE, JPEG + "57 p5", JPEG + "70", JPEG + "80", JPEG + "90"]
)
def test_signed_values_of_12_bits_survive(syntax, tmp_path):
    stored = (smooth(12).astype(np.int16) - 2048).astype(np.int16)
    stream = (
        None
        if syntax in NATIVE or syntax == RLE
        else ENCODERS[syntax][0](
            stored if syntax == JPEG + "90" else (stored & 0xFFF).view(np.uint16)
        )
    )
    values = dicom.read(
        write(tmp_path / "a.dcm", stored, bits=12, signed=True, syntax=syntax, stream=stream)
    ).values
    assert np.array_equal(values.astype(int) - 2048, stored)


def test_a_frame_in_several_fragments_is_joined(tmp_path):
    whole = ENCODERS[JPEG + "90"][0](smooth(12))
    parts = [whole[:100], whole[100:300], whole[300:] + b"\0" * (len(whole) % 2)]
    assert np.array_equal(
        dicom.read(
            write(tmp_path / "a.dcm", smooth(12), bits=12, syntax=JPEG + "90", stream=parts)
        ).values,
        smooth(12),
    )


def test_a_deflated_frame(tmp_path):
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    stream = engine.compress(smooth(12).tobytes()) + engine.flush()
    path = write(
        tmp_path / "a.dcm", smooth(12), bits=12, syntax="1.2.840.10008.1.2.8.1", stream=stream
    )
    assert np.array_equal(dicom.read(path).values, smooth(12))


@pytest.mark.parametrize("syntax", [EXPLICIT, "1.2.840.10008.1.2"])
def test_a_file_without_preamble_is_read(syntax, tmp_path):
    path = write(tmp_path / "a.dcm", smooth(12), bits=12, syntax=syntax)
    path.write_bytes(path.read_bytes()[132:])
    assert dicom.is_one(path) and np.array_equal(image_file.read(path).values, smooth(12))
    made = dataset(smooth(12), bits=12)
    made.PixelData = smooth(12).tobytes()
    made["PixelData"].VR = "OW"
    bare = tmp_path / "bare.dcm"
    made.save_as(
        bare, implicit_vr=syntax != EXPLICIT, little_endian=True, enforce_file_format=False
    )
    assert (
        dicom.is_one(bare)
        and np.array_equal(dicom.read(bare).values, smooth(12))
        and dicom.header(bare).size == (40, 56)
    )


def test_text_and_images_of_other_kinds_are_no_dicom(tmp_path):
    for head in (
        b"hello, this is a text",
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        b"",
        b"\x08\x00rubbish that goes on",
        bytes(200),
    ):
        (tmp_path / "a").write_bytes(head)
        assert not dicom.is_one(tmp_path / "a")


# ------------------------------------------------------------------ header against compressed image


@pytest.mark.parametrize(
    ("said", "stored", "encoded", "bits", "words"),
    [
        (
            dict(bits=10),
            smooth(12),
            smooth(12),
            12,
            "Bits Stored says 10, the compressed image has 16",
        ),
        (
            dict(bits=12, Rows=7),
            smooth(12),
            smooth(12),
            12,
            "Rows and Columns say 7x56, the compressed image is 40x56",
        ),
        (
            dict(bits=13, signed=True),
            smooth(12),
            smooth(12),
            13,
            "taken as two's complement of 13 bits",
        ),
        (
            dict(bits=12),
            smooth(12),
            smooth(12).astype(np.int16) - 2048,
            16,
            "Pixel Representation says unsigned, the compressed image is signed",
        ),
    ],
)
def test_the_compressed_image_is_believed(said, stored, encoded, bits, words, tmp_path):
    file = dicom.read(
        write(
            tmp_path / "a.dcm",
            stored,
            syntax=JPEG + "90",
            stream=ENCODERS[JPEG + "90"][0](encoded),
            **said,
        )
    )
    assert any(words in line for line in file.processing_log), file.processing_log
    raised = (
        (1 << (file.lut.size.bit_length() - 2))
        if said.get("signed") or encoded.dtype.kind == "i"
        else 0
    )
    assert np.array_equal(file.values.astype(int) - raised, encoded)


def test_a_mislabelled_transfer_syntax_is_settled(tmp_path):
    file = dicom.read(
        write(
            tmp_path / "a.dcm",
            smooth(12),
            bits=12,
            syntax=JPEG + "90",
            stream=imagecodecs.jpegls_encode(smooth(12)),
        )
    )
    assert np.array_equal(file.values, smooth(12)) and any(
        "the image is jpegls" in line for line in file.processing_log
    )


def test_a_compressed_image_that_breaks_off_is_refused(tmp_path):
    path = write(
        tmp_path / "b.dcm",
        smooth(12),
        bits=12,
        syntax=JPEG + "90",
        stream=ENCODERS[JPEG + "90"][0](smooth(12))[:120],
    )
    with pytest.raises(
        BadData, match=r"b\.dcm: its pixels are MONOCHROME2 \(JPEG 2000.* broken or cut short"
    ):
        dicom.read(path)


@pytest.mark.parametrize(
    "syntax", [JPEG + "70", JPEG + "80", JPEG + "90", JPEG + "201", JPEG + "110"]
)
def test_what_a_compressed_image_says_of_itself(syntax):
    seen = _dicom_stream.parse_header(ENCODERS[syntax][0](smooth(12, size=(40, 57))))
    assert (seen.height, seen.width) == (40, 57)


def test_a_giant_is_refused_before_it_is_allocated(tmp_path):
    stream = bytearray(ENCODERS[JPEG + "90"][0](smooth(12)))
    stream[8:16] = (60_000).to_bytes(4) * 2
    for said in (
        {"Rows": 60_000, "Columns": 60_000},
        {"stream": bytes(stream), "syntax": JPEG + "90"},
    ):
        with pytest.raises(BadData, match="60000x60000 pixels are more than"):
            dicom.read(write(tmp_path / "a.dcm", smooth(12), bits=12, **said))


def test_a_jpeg_ls_whose_two_headers_disagree_makes_no_room_for_the_larger(tmp_path):
    stream = bytearray(imagecodecs.jpegls_encode(smooth(12)))
    assert bytes(stream[6:12]) == b"SPIFF\0"
    stream[20:24] = (4_000_000).to_bytes(4)
    with pytest.raises(BadData, match="SPIFF header says 40x4000000, its frame 40x56"):
        dicom.read(
            write(tmp_path / "a.dcm", smooth(12), bits=12, syntax=JPEG + "80", stream=bytes(stream))
        )


def test_a_jpeg_ls_without_its_end_is_refused_at_once(tmp_path):
    """The decoder alone searches for seconds in some of these."""
    whole = imagecodecs.jpegls_encode(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64))
    begun = time.monotonic()
    for length in range(90, 130):
        with pytest.raises(BadData, match="broken or cut short"):
            dicom.read(
                write(
                    tmp_path / "a.dcm",
                    np.zeros((48, 64), np.uint16),
                    bits=12,
                    syntax=JPEG + "80",
                    stream=whole[:length],
                )
            )
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("size", [(40, 56), (1200, 900)])
@pytest.mark.parametrize("private", [2, 4 << 20])
@pytest.mark.parametrize("behind", [b"", b"\0"])
def test_a_deflated_file_of_any_length_is_read(size, private, behind, tmp_path):
    """Short ones and long headers, which zlib inflates, and films, which libdeflate does."""
    stored = smooth(12, size=size)
    path = write(tmp_path / "a.dcm", stored, bits=12, syntax="1.2.840.10008.1.2.1.99")
    made = dcmread(path)
    made.add_new(0x00510010, "LO", "a")
    made.add_new(0x00511001, "OB", bytes(private))
    made.save_as(path)
    path.write_bytes(path.read_bytes() + behind)
    assert np.array_equal(dicom.read(path).values, stored)
    path.write_bytes(path.read_bytes()[: -len(behind) - 12])
    with pytest.raises(BadData, match="its deflated part breaks off"):
        dicom.read(path)


def test_a_deflated_file_may_end_with_a_chunk():
    """Where zlib has taken all input and still holds output, the file does not break off."""
    least, begun = (2 << 20) - 260, zlib.compressobj(wbits=-zlib.MAX_WBITS)
    head = begun.compress(bytes(least))
    for more in range(262):
        engine = begun.copy()
        deflated = memoryview(head + engine.compress(bytes(more)) + engine.flush())
        assert len(_dicom_parsing._inflated(deflated).getvalue()) == least + more


def test_a_deflated_bomb_is_refused(tmp_path):
    path = write(tmp_path / "a.dcm", smooth(12), bits=12, syntax="1.2.840.10008.1.2.1.99")
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    made = dataset(smooth(12), bits=12)
    small = tmp_path / "b.dcm"
    made.PixelData = b"\0" * (100 << 20)
    made["PixelData"].VR = "OW"
    made.save_as(small, implicit_vr=False, little_endian=True, enforce_file_format=False)
    whole = path.read_bytes()
    behind = 144 + int.from_bytes(whole[140:144], "little")
    path.write_bytes(whole[:behind] + engine.compress(small.read_bytes()) + engine.flush())
    with pytest.raises(BadData, match="it inflates to more than"):
        dicom.read(path)


# ------------------------------------------------------------------------------------------- colour


def test_grey_in_colours_clothes_is_read(tmp_path):
    grey = smooth(8, np.uint8)
    three = np.stack([grey] * 3, axis=2)
    flat = np.stack([grey, np.full_like(grey, 128), np.full_like(grey, 128)], axis=2)
    for name, stored, said in (
        ("rgb", three, {"PhotometricInterpretation": "RGB"}),
        ("ybr", flat, {"PhotometricInterpretation": "YBR_FULL"}),
    ):
        file = dicom.read(
            write(tmp_path / f"{name}.dcm", stored, bits=8, PlanarConfiguration=0, **said)
        )
        assert np.array_equal(file.values, grey) and any(
            "that is grey" in line for line in file.processing_log
        )
    by_plane = np.ascontiguousarray(three.transpose(2, 0, 1)).reshape((*grey.shape, 3))
    assert np.array_equal(
        dicom.read(
            write(
                tmp_path / "p.dcm",
                by_plane,
                bits=8,
                PlanarConfiguration=1,
                PhotometricInterpretation="RGB",
            )
        ).values,
        grey,
    )
    stream = imagecodecs.jpeg8_encode(three, level=98)
    values = dicom.read(
        write(
            tmp_path / "j.dcm",
            three,
            bits=8,
            PlanarConfiguration=0,
            PhotometricInterpretation="YBR_FULL",
            syntax=JPEG + "50",
            stream=stream,
        )
    ).values
    assert np.abs(values.astype(int) - grey).max() <= 4


def test_colour_is_refused_by_name(tmp_path):
    coloured = np.stack(
        [smooth(8, np.uint8), smooth(8, np.uint8)[::-1] // 2, smooth(8, np.uint8) // 3], axis=2
    )
    with pytest.raises(BadData, match=r"a\.dcm: its pixels are RGB, in colour"):
        dicom.read(
            write(
                tmp_path / "a.dcm",
                coloured,
                bits=8,
                PlanarConfiguration=0,
                PhotometricInterpretation="RGB",
            )
        )


@pytest.mark.parametrize("green", [1, 2])
def test_a_palette_of_greys_is_applied_and_one_of_colours_refused(green, tmp_path):
    ramp = np.arange(256, dtype=np.uint16)[::-1] * 257
    said = {
        f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16]
        for name in ("Red", "Green", "Blue")
    }
    said |= {
        f"{name}PaletteColorLookupTableData": (ramp // (green if name == "Green" else 1))
        .astype("<u2")
        .tobytes()
        for name in ("Red", "Green", "Blue")
    }
    path = write(
        tmp_path / "a.dcm",
        smooth(8, np.uint8),
        bits=8,
        PhotometricInterpretation="PALETTE COLOR",
        **said,
    )
    if green == 1:
        assert np.array_equal(dicom.read(path).values, ramp[smooth(8, np.uint8)])
    else:
        with pytest.raises(BadData, match="PALETTE COLOR, in colour"):
            dicom.read(path)


# ------------------------------------------------------------------------------------ others' files


def packaged() -> list[Path]:
    """pydicom's own test files, those inside the installed package: nothing is downloaded."""
    from pydicom import data

    return sorted(
        path
        for path in (Path(data.__file__).parent / "test_files").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    )


def test_each_of_pydicoms_files_is_read_or_refused_by_name():
    read, before = [], list(warnings.filters)
    for path in packaged():
        try:
            file = dicom.read(path)
            assert 0 <= file.lut.min() <= file.lut.max() <= 1 and file.processing_log
            read.append(path.name)
        except BadData as fault:
            assert str(fault).startswith(f"{path}: ") and len(str(fault)) < 600
    assert warnings.filters == before
    for name in (
        "J2K_pixelrep_mismatch.dcm",
        "JPEG-lossy.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "image_dfl.dcm",
        "JPGExtended.dcm",
        "693_J2KI.dcm",
        "JPEGLSNearLossless_16.dcm",
    ):
        assert name in read


def test_the_same_values_as_pydicoms_own_decoders():
    from pydicom import dcmread

    compared = 0
    for path in packaged():
        if path.suffix != ".dcm" or path.name.startswith(("SC_", "examples_")):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                plain = dcmread(path, force=True)
                theirs = plain.pixel_array.astype(int)
            except (
                AttributeError,
                RuntimeError,
                ValueError,
            ):  # no image, or none that pydicom reads without its plug-ins: it says nothing of us
                continue
        try:
            file = dicom.read(path)
        except BadData:
            continue
        raised = 1 << (plain.BitsStored - 1) if plain.PixelRepresentation else 0
        slack = (
            1 if file.header.syntax and file.header.syntax.endswith((".50", ".51")) else 0
        )  # lossy decoders may round otherwise
        assert np.abs(file.values.astype(int) - raised - theirs).max() <= slack, path.name
        compared += 1
    assert compared >= 8


def test_pydicoms_warnings_reach_the_account_and_not_the_terminal(tmp_path):
    path = write(tmp_path / "a.dcm", smooth(12), bits=12)
    path.write_bytes(
        path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0")
    )
    program = f"from hilum.imaging.files import dicom\nfrom pathlib import Path\nprint(*dicom.read(Path({str(path)!r})).processing_log, sep='\\n')\ndicom.header(Path({str(path)!r}))"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", program],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert (
        done.returncode == 0
        and done.stderr == ""
        and "pydicom: Expected implicit VR, but found explicit VR" in done.stdout
    )


@real_files
def test_real_files_against_an_independent_reader():
    """Values against pydicom with pylibjpeg or gdcm; the corrupt stream must fail cleanly."""
    pytest.importorskip(
        "libjpeg", reason="needs pylibjpeg-libjpeg and pylibjpeg-openjpeg as the independent reader"
    )
    from pydicom import dcmread

    for path in sorted(SHARED.glob("*.dcm")):
        if path.name == "966.dcm":
            continue
        file, slack = dicom.read(path), 0
        theirs = dcmread(path).pixel_array.astype(int)
        slack = 1 if file.header.syntax.endswith((".50", ".51")) else 0
        assert np.abs(file.pose.back(file.values).astype(int) - theirs).max() <= slack, path.name


@real_files
def test_the_corrupt_stream_fails_cleanly_and_the_window_beside_its_values_is_moved():
    with pytest.raises(BadData, match="966.dcm: its pixels .* broken or cut short"):
        dicom.read(SHARED / "966.dcm")
    file = dicom.read(SHARED / "JPEG2KLossless_1s_1f_u_16_16.dcm")
    assert any("shifted by +32768" in line for line in file.processing_log)
    assert 0.1 < np.median(file.radiograph().pixels) < 0.9


def test_an_htj2k_image_broken_within_is_refused_and_not_half_filled(tmp_path, capfd):
    """imagecodecs gives such an image back as if it were whole, with a traceback on the
    terminal.
    """
    stored = np.random.default_rng(1).integers(0, 4096, (200, 300)).astype(np.uint16)
    whole = imagecodecs.htj2k_encode(stored)
    hook, refused = sys.unraisablehook, 0
    for length in (len(whole) // 4, len(whole) // 2, len(whole) - 300):
        try:
            dicom.read(
                write(
                    tmp_path / "a.dcm",
                    stored,
                    bits=12,
                    syntax=JPEG + "201",
                    stream=whole[:length] + b"\xff\x90\xff\x4f" * ((len(whole) - length) // 4),
                )
            )
        except BadData as fault:
            refused += "broken or cut short" in str(fault)
    assert refused == 3 and sys.unraisablehook is hook and "Traceback" not in capfd.readouterr().err
