"""What is shown of each stored value, worked out by hand from PS3.3: each row of the table is a
small file.
"""

import numpy as np
import pytest
from dicom_files import lut, write

from hilum.imaging.files import dicom

U8, U16, I16 = np.uint8, np.uint16, np.int16
NONE = "Patient Orientation is not stated"


def shown(tmp_path, stored, **said):
    """Brightness of the first row, and the account."""
    file = dicom.read(
        write(tmp_path / "a.dcm", np.array([stored] * 2, said.pop("kind", U16)), **said)
    )
    return file.radiograph().pixels[0].tolist(), file.processing_log


# stored values, what the header says, brightness worked by hand
TABLE = {
    "8 bit, LINEAR over all": (
        [0, 51, 255],
        dict(kind=U8, bits=8, WindowCenter=128, WindowWidth=256),
        [0, 0.2, 1],
    ),
    # (x - (c - 0.5)) / (w - 1) + 0.5 with c 500, w 101: 450 and below are 0, 549 is 0.995, 550 and
    # above 1
    "10 bit, LINEAR": (
        [0, 450, 499, 500, 550, 1023],
        dict(bits=10, WindowCenter=500, WindowWidth=101),
        [0, 0.005, 0.495, 0.505, 1, 1],
    ),
    "12 bit, LINEAR_EXACT": (
        [0, 900, 1000, 1050, 4095],
        dict(bits=12, WindowCenter=1000, WindowWidth=200, VOILUTFunction="LINEAR_EXACT"),
        [0, 0, 0.5, 0.75, 1],
    ),
    # 1 / (1 + exp(-4 (x - c) / w)): at c + w / 4, 1 / (1 + e ** -1)
    "14 bit, SIGMOID": (
        [0, 8000, 9000, 16383],
        dict(bits=14, WindowCenter=8000, WindowWidth=4000, VOILUTFunction="SIGMOID"),
        [0.000335, 0.5, 0.731059, 0.999772],
    ),
    "LINEAR of width 1 is a step": ([9, 10], dict(bits=12, WindowCenter=10, WindowWidth=1), [0, 1]),
    "16 bit, no window": ([1000, 2000, 3000], dict(bits=16), [0, 0.5, 1]),
    "16 bit signed, no window": (
        [-100, 0, 300],
        dict(bits=16, signed=True, kind=I16),
        [0, 0.25, 1],
    ),
    "12 bit signed in 16": (
        [-2048, 0, 2047],
        dict(bits=12, signed=True, kind=I16, WindowCenter=0, WindowWidth=4096),
        [0, 0.500122, 1],
    ),
    "MONOCHROME1": (
        [0, 51, 255],
        dict(
            kind=U8,
            bits=8,
            PhotometricInterpretation="MONOCHROME1",
            WindowCenter=128,
            WindowWidth=256,
        ),
        [1, 0.8, 0],
    ),
    "rescale before the window": (
        [0, 100, 200],
        dict(bits=12, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=100.5, WindowWidth=401),
        [0, 0.5, 1],
    ),
    "a falling rescale": (
        [0, 1000, 4000],
        dict(bits=12, RescaleSlope=-1, RescaleIntercept=4000),
        [1, 0.75, 0],
    ),
    "a falling rescale of MONOCHROME1": (
        [0, 1000, 4000],
        dict(
            bits=12, RescaleSlope=-1, RescaleIntercept=4000, PhotometricInterpretation="MONOCHROME1"
        ),
        [0, 0.25, 1],
    ),
    "slope 0 is not used": (
        [0, 5, 10],
        dict(bits=12, RescaleSlope=0, RescaleIntercept=3),
        [0, 0.5, 1],
    ),
    "modality LUT, not rescale": (
        [0, 1, 2, 9],
        dict(bits=12, ModalityLUTSequence=[lut([0, 10, 40], 0, 12)], RescaleSlope=7),
        [0, 0.25, 1, 1],
    ),
    "modality LUT from below 0": (
        [-2, -1, 0],
        dict(bits=12, signed=True, kind=I16, ModalityLUTSequence=[lut([0, 30, 40], -2, 12)]),
        [0, 0.75, 1],
    ),
    "VOI LUT of 8 bits": (
        [0, 100, 101, 102, 500],
        dict(bits=12, VOILUTSequence=[lut([0, 51, 255], 100, 8)]),
        [0, 0, 0.2, 1, 1],
    ),
    "VOI LUT before a window": (
        [100, 101, 102],
        dict(bits=12, VOILUTSequence=[lut([255, 51, 0], 100, 8)], WindowCenter=101, WindowWidth=3),
        [1, 0.2, 0],
    ),
    "VOI LUT over rescaled values below 0": (
        [0, 50, 100],
        dict(
            bits=12,
            RescaleSlope=1,
            RescaleIntercept=-50,
            VOILUTSequence=[lut(list(range(256)), -50, 8)],
        ),
        [0, 50 / 255, 100 / 255],
    ),
    "VOI LUT that states too few bits": (
        [0, 1, 2],
        dict(bits=12, VOILUTSequence=[lut([0, 2047, 4095], 0, 8)]),
        [0, 2047 / 4095, 1],
    ),
    "the first of two windows": (
        [0, 100, 200],
        dict(bits=12, WindowCenter=[100.5, 9], WindowWidth=[201, 9]),
        [0, 0.5, 1],
    ),
    "a window beside the values": (
        [1000, 1500, 2000],
        dict(bits=12, WindowCenter=10, WindowWidth=5),
        [0, 0.5, 1],
    ),
    "a window of width 0": (
        [1000, 1500, 2000],
        dict(bits=12, WindowCenter=1500, WindowWidth=0),
        [0, 0.5, 1],
    ),
    "a window half the range away": (
        [32768, 33268, 33768],
        dict(bits=16, WindowCenter=500.5, WindowWidth=1001),
        [0, 0.5, 1],
    ),
    "padding": ([4095, 0, 1000, 500], dict(bits=12, PixelPaddingValue=4095), [0, 0, 1, 0.5]),
    "padding of MONOCHROME1": (
        [4095, 0, 1000, 500],
        dict(bits=12, PixelPaddingValue=4095, PhotometricInterpretation="MONOCHROME1"),
        [0, 1, 0, 0.5],
    ),
    "padding range": (
        [4000, 4050, 4095, 100, 300],
        dict(bits=12, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095),
        [0, 0, 0, 0, 1],
    ),
    "signed padding": (
        [-2000, 0, 1000],
        dict(bits=16, signed=True, kind=I16, PixelPaddingValue=-2000),
        [0, 0, 1],
    ),
    "signed padding written unsigned": (
        [-2000, 0, 1000],
        dict(bits=16, signed=True, kind=I16, PixelPaddingValue=63536),
        [0, 0, 1],
    ),
    "signed padding range": (
        [-2000, -1500, 0, 1000],
        dict(bits=16, signed=True, kind=I16, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1001),
        [0, 0, 0, 1],
    ),
    "nothing but padding": ([7, 7], dict(bits=12, PixelPaddingValue=7), [0, 0]),
    "overlay in a high bit": (
        [0x1000, 0x1800, 0x0FFF],
        dict(bits=12, WindowCenter=2048, WindowWidth=4096),
        [0, 2048 / 4095, 1],
    ),
    "high bit is not the last stored": (
        [0, 0x8000, 0xFFF0],
        dict(bits=12, HighBit=15, WindowCenter=2048, WindowWidth=4096),
        [0, 2048 / 4095, 1],
    ),
    "a high bit that cannot be": (
        [0, 2048, 4095],
        dict(bits=12, HighBit=3, WindowCenter=2048, WindowWidth=4096),
        [0, 2048 / 4095, 1],
    ),
    "INVERSE is the turn of MONOCHROME1, not a second one": (
        [0, 10],
        dict(bits=12, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"),
        [1, 0],
    ),
    "IDENTITY of MONOCHROME2": ([0, 10], dict(bits=12, PresentationLUTShape="IDENTITY"), [0, 1]),
    "a shape that contradicts": ([0, 10], dict(bits=12, PresentationLUTShape="INVERSE"), [0, 1]),
    "a shape that contradicts, and a sign that sides with it": (
        [0, 10],
        dict(bits=12, PresentationLUTShape="INVERSE", PixelIntensityRelationshipSign=1),
        [1, 0],
    ),
    "a shape that contradicts, and a sign that does not": (
        [0, 10],
        dict(bits=12, PresentationLUTShape="INVERSE", PixelIntensityRelationshipSign=-1),
        [0, 1],
    ),
    "for processing the sign rules": (
        [0, 10],
        dict(bits=12, PresentationIntentType="FOR PROCESSING", PixelIntensityRelationshipSign=1),
        [1, 0],
    ),
    "for processing the sign agrees": (
        [0, 10],
        dict(bits=12, PresentationIntentType="FOR PROCESSING", PixelIntensityRelationshipSign=-1),
        [0, 1],
    ),
    "for presentation the sign does not": (
        [0, 10],
        dict(bits=12, PresentationIntentType="FOR PRESENTATION", PixelIntensityRelationshipSign=1),
        [0, 1],
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_brightness_is_as_worked_out_by_hand(case, tmp_path):
    stored, said, expected = TABLE[case]
    assert shown(tmp_path, stored, **said)[0] == pytest.approx(expected, abs=2e-6)


ACCOUNTS = {
    "the first of two windows": "the first of 2",
    "a window beside the values": "shows no contrast",
    "a window half the range away": "shifted by +32768",
    "a window of width 0": "is implausible",
    "slope 0 is not used": "Rescale Slope 0",
    "padding": "padding excluded",
    "overlay in a high bit": "bits above the 12 stored cleared",
    "a high bit that cannot be": "High Bit 3 is impossible",
    "a shape that contradicts": "Presentation LUT Shape INVERSE contradicts MONOCHROME2: the latter counts",
    "a shape that contradicts, and a sign that sides with it": "the former counts",
    "for processing the sign rules": "Sign +1 overrides MONOCHROME2",
    "for presentation the sign does not": "check that bright is dense",
    "MONOCHROME1": "inverted, so that",
    "modality LUT, not rescale": "modality LUT applied",
    "VOI LUT before a window": "VOI LUT applied",
}


@pytest.mark.parametrize("case", ACCOUNTS)
def test_the_account_says_what_was_done(case, tmp_path):
    stored, said, _ = TABLE[case]
    assert any(ACCOUNTS[case] in line for line in shown(tmp_path, stored, **said)[1])


def test_what_is_not_reported_is_said_too(tmp_path):
    account = shown(tmp_path, [0, 10], bits=12)[1]
    assert (
        any("no window stated" in line for line in account)
        and any(NONE in line for line in account)
        and "spacing is not stated" in account
    )


def test_signed_values_are_raised_by_half_of_their_range(tmp_path):
    file = dicom.read(
        write(tmp_path / "a.dcm", np.array([[-2048, 0, 2047]], I16), bits=12, signed=True)
    )
    assert (
        file.values.dtype == U16
        and file.values.tolist() == [[0, 2048, 4095]]
        and file.lut.shape == (4096,)
    )


def test_against_pydicoms_own_transforms(tmp_path):
    """An independent reader of the same headers: windows, LUTs and rescale over a full ramp."""
    from pydicom import dcmread
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    ramp = np.arange(4096, dtype=U16).reshape(64, 64)
    for said in (
        {"WindowCenter": 700, "WindowWidth": 900},
        {"WindowCenter": 700, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
        {"RescaleSlope": -3, "RescaleIntercept": 90, "WindowCenter": -5000, "WindowWidth": 6000},
    ):
        path = write(tmp_path / "a.dcm", ramp, bits=12, **said)
        plain = dcmread(path)
        theirs = apply_windowing(apply_modality_lut(ramp, plain), plain).astype(float)
        low, high = (
            (0, 4095) if "RescaleSlope" not in said else (90, 90 - 3 * 4095)
        )  # pydicom puts the ends of a falling rescale the other way round
        assert np.allclose(
            dicom.read(path).radiograph().pixels, (theirs - low) / (high - low), atol=2e-3
        ), said
    path = write(
        tmp_path / "a.dcm",
        ramp,
        bits=12,
        VOILUTSequence=[lut([int(4095 * (x / 4095) ** 0.5) for x in range(4096)], 0, 12)],
    )
    assert np.allclose(
        dicom.read(path).radiograph().pixels, apply_voi(ramp, dcmread(path)) / 4095, atol=1e-6
    )
