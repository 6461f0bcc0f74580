"""The quick header index against pydicom, and what headers mean: view, orientation, spacing."""

import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from dicom_files import NATIVE, write
from pydicom import Dataset
from pydicom.valuerep import PersonName
from test_dicom_pixels import SHARED, packaged, real_files

from hilum.errors import BadData
from hilum.imaging.files import _dicom_facts, _dicom_header, _dicom_parsing, _dicom_tags, dicom
from hilum.pipeline import reference_masks
from hilum.safety.untrusted_files import Folder

KEYWORDS = {
    0x00020010: "TransferSyntaxUID",
    0x00080018: "SOPInstanceUID",
    0x00080060: "Modality",
    0x0008103E: "SeriesDescription",
    0x00100020: "PatientID",
    0x00100040: "PatientSex",
    0x00101010: "PatientAge",
    0x00180015: "BodyPartExamined",
    0x00181030: "ProtocolName",
    0x00181114: "EstimatedRadiographicMagnificationFactor",
    0x00181164: "ImagerPixelSpacing",
    0x00181400: "AcquisitionDeviceProcessingDescription",
    0x00185101: "ViewPosition",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
    0x00200020: "PatientOrientation",
    0x00080008: "ImageType",
    0x00080016: "SOPClassUID",
    0x00080064: "ConversionType",
    0x00100010: "PatientName",
    0x00120062: "PatientIdentityRemoved",
    0x00280301: "BurnedInAnnotation",
    0x00280302: "RecognizableVisualFeatures",
    0x00200060: "Laterality",
    0x00200062: "ImageLaterality",
    0x00280010: "Rows",
    0x00280011: "Columns",
    0x00280030: "PixelSpacing",
}
PIXELS = np.arange(48, dtype=np.uint16).reshape(6, 8)


def reported(tmp_path, **said) -> dicom.Header:
    return dicom.header(write(tmp_path / "a.dcm", PIXELS, bits=12, **said))


def as_pydicom_states(path: Path) -> dict[int, list[str]]:
    """The same attributes by pydicom's public reading alone."""
    from pydicom import dcmread

    plain = dcmread(path, stop_before_pixels=True, force=True)
    found = {}
    for tag, keyword in KEYWORDS.items():
        value = (plain.file_meta if tag >> 16 == 2 else plain).get(keyword)
        values = (
            []
            if value is None
            else [value]
            if isinstance(value, str | int | float | PersonName)
            else list(value)
        )
        found[tag] = [
            str(
                one if isinstance(one, PersonName) else getattr(one, "original_string", one)
            ).strip()
            for one in values
            if str(one).strip()
        ]
    return found


def by_pydicom(path: Path) -> dicom.Header:
    with _dicom_parsing.quietly():
        return _dicom_header.header(
            _dicom_facts.of_parsed(_dicom_parsing.parsed(path.read_bytes()))
        )


def same_as_pydicom(path: Path) -> bool:
    """Whether the walker did it; fails where it states anything else than pydicom."""
    facts = _dicom_tags.walked(path)
    if facts is None:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = as_pydicom_states(path)
    for tag, values in theirs.items():
        mine = facts.get(tag)
        parts = (
            [str(mine)]
            if isinstance(mine, int)
            else [part for one in (mine or "").split("\\") if (part := one.strip(" \0"))]
        )
        assert parts == values, f"{path.name} {KEYWORDS[tag]}: {parts} {values}"
    assert _dicom_header.header(facts) == by_pydicom(path), path.name
    return True


def test_the_quick_index_states_the_same_as_pydicom_of_its_own_files():
    assert sum(same_as_pydicom(path) for path in packaged()) >= 155


@real_files
def test_the_quick_index_states_the_same_as_pydicom_of_real_files():
    assert all(same_as_pydicom(path) for path in sorted(SHARED.glob("*.dcm")))


SAID = dict(
    PatientID="Q 7",
    PatientSex="F",
    PatientAge="041Y",
    ViewPosition="PA",
    SeriesDescription="Thorax",
    ImagerPixelSpacing=[0.15, 0.15],
    PatientOrientation=["L", "F"],
    ImageLaterality="U",
    BodyPartExamined="CHEST",
)


@pytest.mark.parametrize("syntax", NATIVE)
def test_each_encoding_gives_one_header(syntax, tmp_path):
    path = write(tmp_path / "a.dcm", PIXELS, bits=12, syntax=syntax, **SAID)
    header = dicom.header(path)
    assert (
        header.patient,
        header.sex,
        header.age_years,
        header.view,
        header.size,
        header.spacing_mm,
    ) == ("Q 7", "female", 41.0, "PA", (6, 8), (0.15, 0.15))
    assert (
        header.orientation,
        header.laterality,
        header.body_part,
        header.modality,
        header.syntax,
    ) == (("L", "F"), "U", "CHEST", "CR", syntax)
    assert _dicom_tags.walked(path) is not None and same_as_pydicom(path)


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("unknown_length", [False, True])
def test_sequences_are_walked_over_and_view_codes_read(syntax, unknown_length, tmp_path):
    inner, code = Dataset(), Dataset()
    inner.PurposeOfReferenceCodeSequence = [Dataset()]
    inner.ReferencedSOPInstanceUID = "1.2.3"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = (
        "399348003",
        "SCT",
        "antero-posterior",
    )
    path = write(
        tmp_path / "a.dcm",
        PIXELS,
        bits=12,
        syntax=syntax,
        SourceImageSequence=[inner, inner],
        ViewCodeSequence=[code],
        ImageComments="x" * 10000,
    )
    if unknown_length:
        from pydicom import dcmread

        whole = dcmread(path)
        for name in ("SourceImageSequence", "ViewCodeSequence"):
            whole[name].is_undefined_length = True
            for item in whole[name]:
                item.is_undefined_length_sequence_item = True
        whole.save_as(path)
    assert same_as_pydicom(path)
    assert (dicom.header(path).view, dicom.header(path).view_from) == ("AP", "View Code Sequence")


def test_names_beside_ascii_are_read_as_pydicom_does(tmp_path):
    for charset, walked in (
        ("ISO_IR 100", True),
        ("ISO_IR 192", True),
        ("ISO_IR 144", False),
        ("ISO_IR 126", False),
    ):
        name = {"ISO_IR 144": "Ж7", "ISO_IR 126": "Ω7"}.get(charset, "Ü7")
        path = write(
            tmp_path / "a.dcm", PIXELS, bits=12, SpecificCharacterSet=charset, PatientID=name
        )
        assert (
            dicom.header(path).patient == name and (_dicom_tags.walked(path) is not None) == walked
        )
        assert dicom.read(path).header == dicom.header(path)


def test_headers_cut_or_spoilt_are_refused_or_reported_as_pydicom_does(tmp_path):
    whole = write(tmp_path / "a.dcm", PIXELS, bits=12, **SAID).read_bytes()
    rng, spoilt = np.random.default_rng(5), tmp_path / "spoilt.dcm"
    for _ in range(150):
        data = bytearray(whole[: rng.integers(100, len(whole))])
        for place in rng.integers(0, len(data), rng.integers(0, 4)):
            data[place] = rng.integers(256)
        spoilt.write_bytes(bytes(data))
        try:
            header = dicom.header(spoilt)
            assert isinstance(header, dicom.Header)
        except BadData as fault:
            assert "spoilt.dcm" in str(fault)


def test_a_giant_length_reads_no_giant(tmp_path):
    whole = write(
        tmp_path / "a.dcm", PIXELS, bits=12, syntax="1.2.840.10008.1.2", **SAID
    ).read_bytes()
    place = whole.index(struct.pack("<HH", 0x0008, 0x0060)) + 4
    (tmp_path / "b.dcm").write_bytes(whole[:place] + b"\xf0\xff\xff\xff" + whole[place + 4 :])
    os.truncate(tmp_path / "b.dcm", 1 << 30)  # a hole: takes no room
    assert _dicom_tags.walked(tmp_path / "b.dcm") is None


# ------------------------------------------------------------------------------------------ meaning


VIEWS = [
    (dict(ViewPosition="AP"), "AP", "View Position"),
    (dict(ViewPosition="LL"), "LATERAL", "View Position"),
    (dict(ViewPosition="AP SUPINE"), "AP", "View Position"),
    (dict(SeriesDescription="W033 Chest p.a."), "PA", "Series Description"),
    (dict(SeriesDescription="Thorax seitlich"), "LATERAL", "Series Description"),
    (dict(SeriesDescription="CHEST PA & LAT"), None, None),
    (
        dict(SeriesDescription="CHEST PA & LAT", ProtocolName="Chest Lat"),
        "LATERAL",
        "Protocol Name",
    ),
    (
        dict(AcquisitionDeviceProcessingDescription="CHEST,FRN AP"),
        "AP",
        "Acquisition Device Processing Description",
    ),
    (dict(ProtocolName="Postero-Anterior"), "PA", "Protocol Name"),
    (dict(SeriesDescription="PAPER MAP"), None, None),
    (dict(PatientOrientation=["A", "F"]), "LATERAL", "Patient Orientation"),
    (dict(PatientOrientation=["L", "F"]), None, None),
    (dict(), None, None),
]


@pytest.mark.parametrize(("said", "view", "source"), VIEWS)
def test_the_view_is_found_where_it_hides(said, view, source, tmp_path):
    header = reported(tmp_path, **said)
    assert (header.view, header.view_from) == (view, source)


SPACINGS = [
    (dict(PixelSpacing=[0.2, 0.3]), (0.2, 0.3), "calibration not stated"),
    (dict(PixelSpacing=[0.2, 0.2], ImagerPixelSpacing=[0.2, 0.2]), (0.2, 0.2), "at the detector"),
    (
        dict(
            PixelSpacing=[0.18, 0.18],
            ImagerPixelSpacing=[0.2, 0.2],
            PixelSpacingCalibrationType="FIDUCIAL",
        ),
        (0.18, 0.18),
        "calibrated: FIDUCIAL",
    ),
    (dict(ImagerPixelSpacing=[0.2, 0.2]), (0.2, 0.2), "at the detector"),
    (
        dict(ImagerPixelSpacing=[0.3, 0.3], EstimatedRadiographicMagnificationFactor=1.5),
        (0.2, 0.2),
        "Magnification Factor 1.5",
    ),
    (
        dict(ImagerPixelSpacing=[0.3, 0.3], EstimatedRadiographicMagnificationFactor=0),
        (0.3, 0.3),
        "at the detector",
    ),
    (dict(NominalScannedPixelSpacing=[0.1, 0.1]), (0.1, 0.1), "on the film"),
    (dict(PixelSpacing=[0, 0], ImagerPixelSpacing=[0.2, 0.2]), (0.2, 0.2), "at the detector"),
    (dict(PixelSpacing=[0, 0]), None, None),
]


@pytest.mark.parametrize(("said", "spacing", "words"), SPACINGS)
def test_spacing_and_what_it_was_measured_at(said, spacing, words, tmp_path):
    header = reported(tmp_path, **said)
    assert header.spacing_mm == (pytest.approx(spacing) if spacing else None) and (
        words in header.spacing_from if words else header.spacing_from is None
    )


IMAGE = np.arange(2 * 3, dtype=np.uint16).reshape(2, 3)  # 0 1 2 / 3 4 5
POSES = [
    ("L\\F", [[0, 1, 2], [3, 4, 5]], "L\\F is the standard view"),
    ("R\\F", [[2, 1, 0], [5, 4, 3]], "mirrored"),
    ("L\\H", [[3, 4, 5], [0, 1, 2]], "upside down"),
    ("R\\H", [[5, 4, 3], [2, 1, 0]], "rotated by half"),
    ("F\\L", [[0, 3], [1, 4], [2, 5]], "rows lead to the feet"),
    ("F\\R", [[3, 0], [4, 1], [5, 2]], "a quarter turn"),
    ("H\\L", [[2, 5], [1, 4], [0, 3]], "the other quarter"),
    ("LP\\FA", [[0, 1, 2], [3, 4, 5]], "the first letter counts"),
    ("A\\F", [[0, 1, 2], [3, 4, 5]], "lateral: left as it is"),
    ("P\\F", [[0, 1, 2], [3, 4, 5]], "lateral: the other side is customary too"),
    ("A\\H", [[5, 4, 3], [2, 1, 0]], "lateral upside down: rotated, not mirrored"),
    ("F\\A", [[3, 0], [4, 1], [5, 2]], "lateral: a quarter turn"),
    ("H\\A", [[2, 5], [1, 4], [0, 3]], "lateral: the other quarter"),
    ("L\\R", [[0, 1, 2], [3, 4, 5]], "cannot be"),
    ("X\\Y", [[0, 1, 2], [3, 4, 5]], "cannot be"),
]


@pytest.mark.parametrize(("orientation", "expected", "why"), POSES)
def test_images_are_rotated_to_the_standard_view_and_back(orientation, expected, why, tmp_path):
    file = dicom.read(
        write(
            tmp_path / "a.dcm",
            IMAGE,
            bits=12,
            PatientOrientation=orientation.split("\\"),
            ImagerPixelSpacing=[0.2, 0.2],
        )
    )
    assert file.values.tolist() == expected, why
    assert np.array_equal(file.pose.back(file.values), IMAGE) and np.array_equal(
        file.pose.forward(IMAGE, labels=True), file.values
    )
    assert file.header.size == IMAGE.shape and file.pose.target == file.values.shape
    assert any(f"Patient Orientation {orientation}" in line for line in file.processing_log) == (
        orientation not in ("L\\F", "LP\\FA", "A\\F", "P\\F")
    )


@pytest.mark.parametrize(
    ("said", "size", "spacing"),
    [
        (dict(PixelAspectRatio=[2, 1]), (12, 8), None),
        (dict(PixelAspectRatio=[1, 2]), (6, 16), None),
        (dict(ImagerPixelSpacing=[0.2, 0.1]), (12, 8), (0.1, 0.1)),
        (dict(ImagerPixelSpacing=[0.2, 0.1], PatientOrientation=["F", "L"]), (8, 12), (0.1, 0.1)),
        (dict(PixelSpacing=[1.2, 1.201]), (6, 8), (1.2, 1.201)),
        (dict(PixelAspectRatio=[90, 1]), (6, 8), None),
    ],
)
def test_pixels_that_are_not_square_are_made_so(said, size, spacing, tmp_path):
    file = dicom.read(write(tmp_path / "a.dcm", PIXELS, bits=12, **said))
    assert file.radiograph().size == size and file.radiograph().spacing_mm == (
        pytest.approx(spacing) if spacing else None
    )
    assert file.pose.back(file.values).shape == PIXELS.shape
    assert (file.pose.stretched is not None) == any(
        "made square" in line for line in file.processing_log
    )


def test_masks_drawn_on_a_file_follow_its_turn_in_the_cache_and_come_back(tmp_path):
    """A mirrored image with a mask of both lungs: the patient's right must be on the image's left,
    and named right.
    """
    from hilum.annotations import lung_masks
    from hilum.imaging.files import image_file, raster
    from hilum.imaging.files.label_image import Consensus

    stored, drawn = np.full((40, 60), 100, np.uint16), np.zeros((40, 60), bool)
    stored[5:35, 6:20], drawn[5:35, 6:20], drawn[10:30, 38:55] = 900, True, True
    file = dicom.read(
        write(
            tmp_path / "a.dcm",
            stored,
            bits=12,
            PatientOrientation=["R", "F"],
            ImagerPixelSpacing=[0.2, 0.2],
        )
    )
    raster.write_png(tmp_path / "m.png", drawn)
    labels, *_ = reference_masks.from_mask_files(
        Folder(tmp_path),
        {"lung_mask": "m.png", "right_lung_mask": None, "left_lung_mask": None},
        file,
        lambda place: Consensus(),
    )
    assert (
        labels[20, 10] == lung_masks.RIGHT
        and labels[7, 45] == lung_masks.LEFT
        and file.values[7, 45] == 900
    )
    assert (
        np.array_equal(image_file.to_native(file, file.radiograph().pixels), file.lut[stored])
        and image_file.own_size(file) == stored.shape
    )
    assert np.array_equal(
        image_file.to_native(file, image_file.to_display(file, drawn), labels=True), drawn
    )


def test_padding_does_not_bleed_where_pixels_are_drawn_out(tmp_path):
    stored = np.full((6, 8), 100, np.uint16)
    stored[:, :4], stored[0, 6] = 4095, 200
    file = dicom.read(
        write(tmp_path / "a.dcm", stored, bits=12, PixelAspectRatio=[1, 2], PixelPaddingValue=4095)
    )
    assert set(np.unique(file.values[1:]).tolist()) <= {4095, *range(100, 201)}


def test_bytes_that_begin_as_a_data_set_does():
    assert _dicom_parsing.is_bare_dataset(
        struct.pack("<HH2sH", 8, 5, b"CS", 10) + bytes(8)
    ) and _dicom_parsing.is_bare_dataset(struct.pack(">HH2sH", 8, 5, b"CS", 10) + bytes(8))
    assert not _dicom_parsing.is_bare_dataset(
        b"%PDF-1.7 and more"
    ) and not _dicom_parsing.is_bare_dataset(b"\x08\x00")
