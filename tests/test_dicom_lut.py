"""LUTs mean what their descriptor and bytes say, whatever their VR; windows are pairs; decimals are
understood or not used.
"""

import numpy as np
import pytest
from dicom_bytes import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    data_set,
    element,
    image,
    item,
    meta,
    padded,
    words,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.errors import BadData
from hilum.imaging.files import dicom
from hilum.imaging.files._dicom_decimal import decimal, decimals

MODALITY, VOI = 0x00283000, 0x00283010
FORMS = {EXPLICIT: (False, "<"), IMPLICIT: (True, "<"), BIG_ENDIAN: (False, ">")}


def put(tmp_path, stored, bits, more, syntax=EXPLICIT):
    implicit, order = FORMS[syntax]
    path = tmp_path / "a"
    path.write_bytes(
        meta(syntax)
        + data_set(image(stored, bits, order=order, more=more), implicit=implicit, order=order)
    )
    return path


def lut(tag, descriptor, data, syntax=EXPLICIT, vrs=(b"US", b"OW")):
    """A sequence of one table; `descriptor` are three numbers, `data` bytes."""
    implicit, order = FORMS[syntax]
    parts = element(
        0x00283002, vrs[0], words(*descriptor, order=order), implicit=implicit, order=order
    )
    return (
        tag,
        b"SQ",
        item(
            parts + element(0x00283006, vrs[1], data, implicit=implicit, order=order), order=order
        ),
    )


def shown(path):
    return dicom.read(path).radiograph().pixels[0].astype(float)


def white(entries, bits):
    """The rule in words: the largest that the bits hold; the largest entry where that is two bits
    or more below.
    """
    largest, needed = max(entries), max(entries).bit_length()
    if needed > bits:
        return (1 << needed) - 1
    return largest if needed <= bits - 2 else (1 << bits) - 1


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.data(),
    syntax=st.sampled_from(list(FORMS)),
    signed=st.booleans(),
    tag=st.sampled_from([MODALITY, VOI]),
    bits=st.sampled_from([8, 10, 12, 14, 16]),
    packed=st.booleans(),
    descriptor_vr=st.sampled_from([b"US", b"SS"]),
    data_vr=st.sampled_from([b"US", b"SS", b"OW"]),
    count=st.integers(2, 40),
)
def test_a_lut_is_applied_by_its_descriptor_and_bytes(
    tmp_path, data, syntax, signed, tag, bits, packed, descriptor_vr, data_vr, count
):
    order = FORMS[syntax][1]
    first = data.draw(
        st.integers(-32768, 32767 - count) if signed else st.integers(0, 65535 - count)
    )
    entries = data.draw(
        st.lists(st.integers(0, (1 << bits) - 1), min_size=count, max_size=count, unique=True)
    )
    packed = packed and bits == 8
    if packed:
        cells = bytes(entries) + b"\0" * (count % 2)
        cells = (
            cells
            if order == "<"
            else b"".join(cells[at : at + 2][::-1] for at in range(0, len(cells), 2))
        )
    else:
        cells = words(*entries, order=order)
    stored = np.arange(first, first + count).astype(np.int16 if signed else np.uint16)
    path = put(
        tmp_path,
        np.stack([stored] * 2),
        16,
        [lut(tag, (count, first, bits), cells, syntax, (descriptor_vr, data_vr))],
        syntax,
    )
    low, high = (min(entries), max(entries)) if tag == MODALITY else (0, white(entries, bits))
    assert shown(path) == pytest.approx((np.array(entries) - low) / (high - low), abs=2e-6)


def test_values_beside_a_lut_take_its_first_or_last_entry(tmp_path):
    stored = np.array([[0, 9, 10, 11, 12, 13, 60000]] * 2, np.uint16)
    path = put(tmp_path, stored, 16, [lut(VOI, (3, 10, 8), words(0, 51, 255))])
    assert shown(path) == pytest.approx([0, 0, 0, 0.2, 1, 1, 1], abs=2e-6)


@pytest.mark.parametrize("signed", [False, True])
def test_a_descriptor_of_0_entries_means_65536(signed, tmp_path):
    entries = np.arange(65536, dtype=np.uint16)[::-1]
    stored = np.array([[0, 1, 32767]] * 2, np.int16 if signed else np.uint16)
    path = put(
        tmp_path,
        stored,
        16,
        [lut(VOI, (0, -32768 if signed else 0, 16), entries.astype("<u2").tobytes())],
    )
    assert shown(path) == pytest.approx(
        entries[stored[0].astype(int) + (32768 if signed else 0)] / 65535, abs=2e-6
    )


@pytest.mark.parametrize(
    ("largest", "bits", "top"),
    [
        (1023, 16, 1023),
        (4095, 16, 4095),
        (16383, 16, 16383),
        (900, 16, 900),
        (255, 12, 255),
        (40000, 16, 65535),
        (20000, 16, 65535),
        (3000, 12, 4095),
        (100, 8, 255),
        (4095, 8, 4095),
    ],
)
def test_bits_that_are_those_of_a_cell_are_not_the_range(largest, bits, top, tmp_path):
    stored = np.array([[0, 1, 2]] * 2, np.uint16)
    path = put(tmp_path, stored, 12, [lut(VOI, (3, 0, bits), words(0, largest // 2, largest))])
    assert shown(path) == pytest.approx([0, largest // 2 / top, largest / top], abs=2e-6)
    account = dicom.read(path).processing_log
    assert any("is white" in line or "are stated" in line for line in account) == (
        top != (1 << bits) - 1
    )


WRONG = {
    "too few words": ((5, 0, 12), words(0, 1, 2, 3)),
    "packed, but of more than 8 bits": ((6, 0, 12), bytes(6)),
    "too few bytes": ((6, 0, 8), bytes(4)),
    "neither words nor bytes": ((6, 0, 8), bytes(10)),
    "no entries": ((6, 0, 8), b""),
    "65536 stated": ((0, 0, 8), bytes(256)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_number_of_entries_is_refused_or_not_used(case, tmp_path):
    stored = np.array([[0, 5, 10]] * 2, np.uint16)
    descriptor, cells = WRONG[case]
    with pytest.raises(BadData, match="description of the grey values is broken"):
        dicom.read(put(tmp_path, stored, 12, [lut(MODALITY, descriptor, cells)]))
    file = dicom.read(put(tmp_path, stored, 12, [lut(VOI, descriptor, cells)]))
    assert any(line.startswith("VOI LUT not used: ") for line in file.processing_log)
    assert file.radiograph().pixels[0].tolist() == pytest.approx([0, 0.5, 1])


def test_entries_behind_those_stated_are_left_out_and_reported(tmp_path):
    stored = np.array([[0, 1, 2, 3]] * 2, np.uint16)
    path = put(tmp_path, stored, 12, [lut(VOI, (3, 0, 8), words(0, 51, 255, 7, 7))])
    assert shown(path) == pytest.approx([0, 0.2, 1, 1], abs=2e-6)
    assert any(
        "2 entries behind the 3 stated left out" in line for line in dicom.read(path).processing_log
    )


@pytest.mark.parametrize("vr", [b"US", b"SS"])
def test_a_palette_of_greys_is_applied_whatever_its_vr(vr, tmp_path):
    ramp = np.arange(256, dtype=np.uint16)[::-1] * 257
    tables = [(tag, vr, words(256, 0, 16)) for tag in (0x00281101, 0x00281102, 0x00281103)]
    tables += [(tag, b"OW", ramp.tobytes()) for tag in (0x00281201, 0x00281202, 0x00281203)]
    stored = np.array([[0, 100, 255]] * 2, np.uint8)
    path = tmp_path / "a"
    path.write_bytes(
        meta(EXPLICIT) + data_set(image(stored, 8, photometric=b"PALETTE COLOR", more=tables))
    )
    assert dicom.read(path).values[0].tolist() == ramp[stored[0]].tolist()


# ------------------------------------------------------------------------------------------ windows


def linear(values, centre, width):
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def exact(values, centre, width):
    return np.clip((values - centre) / width + 0.5, 0, 1)


def sigmoid(values, centre, width):
    return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))


ROW = np.array([0, 20, 40, 100, 200, 255])
STRETCHED = ROW / 255
WINDOWS = {  # centres, widths, VOI LUT Function: brightness, words of the account
    "128\\40 | \\80 |": (linear(ROW, 40, 80), "number 2 of 2"),
    "\\40 | 50\\80 |": (linear(ROW, 40, 80), "window 1 of 2 lacks its centre"),
    "100\\\\40 | 200\\80\\ |": (linear(ROW, 100, 200), "the first of 3"),
    "\\\\40 | 9\\80\\30 |": (linear(ROW, 40, 30), "number 3 of 3"),
    "100 | |": (STRETCHED, "window 1 of 1 lacks its width"),
    "| 80 |": (STRETCHED, "lacks its centre"),
    "100\\40 | 200 |": (linear(ROW, 100, 200), "the first of 2"),
    "\\ | \\ |": (STRETCHED, "the range in the image"),
    "100 | 0 |": (STRETCHED, "is implausible"),
    "100\\40 | -5\\80 |": (linear(ROW, 40, 80), "number 2 of 2"),
    "abc\\40 | 50\\80 |": (linear(ROW, 40, 80), "Window Center 'abc' is no decimal number"),
    "100,5 | 201 |": (linear(ROW, 100.5, 201), "window 100.5, 201"),
    "100 | 1,024 |": (STRETCHED, "Window Width '1,024' is no decimal number"),
    "100.5 | 0.5 |": (exact(ROW, 100.5, 0.5), "taken as LINEAR_EXACT"),
    "100 | 1 |": ((ROW > 99.5).astype(float), "window 100, 1"),
    "100 | 0.5 | LINEAR_EXACT": (exact(ROW, 100, 0.5), "LINEAR_EXACT"),
    "100 | 60.5 | linear_exact": (exact(ROW, 100, 60.5), "LINEAR_EXACT"),
    "100 | 60 | LINEAR EXACT": (exact(ROW, 100, 60), "LINEAR_EXACT"),
    "100 | 60.5 | SIGMOID": (sigmoid(ROW, 100, 60.5), "SIGMOID"),
    "100 | 0.5 | SIGMOID": (sigmoid(ROW, 100, 0.5), "SIGMOID"),
    "100 | 60 | LINEAR": (linear(ROW, 100, 60), "LINEAR"),
    "100 | 60 | OTHER": (linear(ROW, 100, 60), "OTHER is unknown: taken as LINEAR"),
}


@pytest.mark.parametrize("syntax", FORMS)
@pytest.mark.parametrize("case", WINDOWS)
def test_a_window_is_a_whole_pair_by_position_and_function(case, syntax, tmp_path):
    texts = [padded(part.strip().encode()) for part in case.split("|")]
    tags = zip((0x00281050, 0x00281051, 0x00281056), (b"DS", b"DS", b"CS"), texts, strict=True)
    path = put(
        tmp_path,
        np.stack([ROW.astype(np.uint8)] * 2),
        8,
        [(tag, vr, text) for tag, vr, text in tags if text],
        syntax,
    )
    brightness, said = WINDOWS[case]
    assert shown(path) == pytest.approx(brightness, abs=2e-6)
    assert any(said in line for line in dicom.read(path).processing_log), dicom.read(
        path
    ).processing_log


def test_a_rescale_that_is_not_understood_is_refused_because_values_mean_something_else_without_it(
    tmp_path,
):
    stored = np.array([[0, 5, 10]] * 2, np.uint16)
    with pytest.raises(BadData, match="RescaleIntercept '1,024' is no decimal number"):
        dicom.read(
            put(tmp_path, stored, 12, [(0x00281052, b"DS", b"1,024 "), (0x00281053, b"DS", b"1 ")])
        )
    path = put(
        tmp_path,
        stored,
        12,
        [
            (0x00281050, b"DS", b"5 "),
            (0x00281051, b"DS", b"11"),
            (0x00281052, b"DS", b"0 "),
            (0x00281053, b"DS", b"0,5 "),
        ],
    )
    assert shown(path) == pytest.approx(linear(stored[0] * 0.5, 5, 11), abs=2e-6)


# ----------------------------------------------------------------------------------------- decimals


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.143", 0.143),
        ("0,143", 0.143),
        (" 200,5 ", 200.5),
        ("-0,5", -0.5),
        (",5", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e-3", 0.001),
        ("1,5E2", 150.0),
        ("+7", 7.0),
        ("0,143,0,143", None),
        ("1,234.5", None),
        ("1.234,5", None),
        ("1,250", None),
        ("12,500", None),
        ("1,25", 1.25),
        ("0,250", 0.25),
        ("1250,125", 1250.125),
        ("1_000", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("0x10", None),
        ("5 mm", None),
        ("", None),
        (None, None),
        ("٣", None),
        ("1 2", None),
    ],
)
def test_a_decimal_is_understood_or_unknown_but_never_another_number(text, value):
    assert decimal(text) == value


def test_positions_of_several_decimals_are_kept():
    assert (
        decimals("1\\\\3") == (1.0, None, 3.0)
        and decimals("\\80 ") == (None, 80.0)
        and decimals(" ") == ()
        and decimals(None) == ()
    )


@settings(max_examples=300, deadline=None)
@given(st.floats(-1e6, 1e6), st.integers(0, 6))
def test_a_number_written_with_a_comma_is_that_number_or_unknown(number, places):
    written = f"{number:.{places}f}"
    assert decimal(written) == float(written) and decimal(written.replace(".", ",")) in (
        float(written),
        None,
    )


@pytest.mark.parametrize(
    ("text", "spacing"),
    [
        (b"0,143\\0,143", (0.143, 0.143)),
        (b"0.143\\0.143", (0.143, 0.143)),
        (b"0,143,0,143", None),
        (b"0,143", None),
        (b"1,000\\1,000", None),
        (b"0,15\\0.15", (0.15, 0.15)),
        (b"\\0.1", None),
        (b"0\\0.1", None),
        (b"-0.1\\0.1", None),
    ],
)
@pytest.mark.parametrize("tag", [0x00280030, 0x00181164])
def test_spacing_is_understood_or_unknown_in_the_header_and_in_the_image(
    text, spacing, tag, tmp_path
):
    path = put(
        tmp_path, np.arange(12, dtype=np.uint16).reshape(3, 4), 12, [(tag, b"DS", padded(text))]
    )
    assert (
        dicom.header(path).spacing_mm == spacing
        and dicom.read(path).radiograph().spacing_mm == spacing
    )
    assert any(
        "is not two decimal numbers above 0" in line for line in dicom.read(path).processing_log
    ) == (spacing is None)
