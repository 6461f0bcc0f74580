"""Text in images and people in headers: each rule on planted files; what is written is never
reported.
"""

from __future__ import annotations

import importlib.util

import cv2
import numpy as np
import pytest
from dicom_files import write

from hilum.audit.checks import burned_in_text as text_check
from hilum.config import Pixels
from hilum.dataset.manifest import COLUMNS, Manifest
from hilum.errors import MissingExtra
from hilum.imaging import burned_in_text
from hilum.imaging.files import raster
from hilum.pipeline import cache

PIXELS = (np.arange(64 * 48, dtype=np.uint16) % 4096).reshape(64, 48)
NAME, NUMBER = "Musterfrau^Erika", "4711081519"


def checked(tmp_path, *paths, read=False):
    rows = [
        dict.fromkeys(COLUMNS)
        | {
            "image_id": f"set/{path.stem}",
            "dataset": "set",
            "source": "set",
            "patient_id": path.stem,
            "path": path.name,
        }
        for path in paths
    ]
    manifest = Manifest.of(tmp_path, rows, [], [])
    filled = cache.fill(manifest, Pixels(size=64, ocr=read), tmp_path / "cache")
    return list(text_check.check(manifest, filled.index)), filled


def said(tmp_path, **header):
    found, _ = checked(tmp_path, write(tmp_path / "a.dcm", PIXELS, bits=12, **header))
    assert all(part not in one.message for one in found for part in (*NAME.split("^"), NUMBER))
    return [(one.rule, one.severity, one.image_id) for one in found]


@pytest.mark.parametrize(
    ("header", "rule", "severity"),
    [
        (dict(BurnedInAnnotation="YES"), "text-burned-in", "warning"),
        (dict(RecognizableVisualFeatures="YES"), "features-recognizable", "warning"),
        (dict(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), "text-likely", "info"),
        (dict(ConversionType="WSD"), "text-likely", "info"),
        (dict(ImageType=["DERIVED", "SECONDARY", "AXIAL"]), "text-likely", "info"),
        (dict(PatientIdentityRemoved="NO", PatientName=NAME), "identity-in-header", "warning"),
        (dict(PatientIdentityRemoved="NO", PatientID=NUMBER), "identity-in-header", "warning"),
    ],
)
def test_what_a_header_states_is_the_one_finding(header, rule, severity, tmp_path):
    assert said(tmp_path, **header) == [(rule, severity, "set/a")]


@pytest.mark.parametrize(
    "header",
    [
        dict(),
        dict(BurnedInAnnotation="NO", RecognizableVisualFeatures="NO"),
        dict(ConversionType="DI", ImageType=["DERIVED", "PRIMARY"]),
        dict(PatientName=NAME),
        dict(PatientIdentityRemoved="YES", PatientName=NAME),
        dict(PatientIdentityRemoved="NO"),
        dict(PatientIdentityRemoved="NO", PatientName="Anonymous^Patient", PatientID="case 17"),
        dict(PatientIdentityRemoved="NO", PatientName="Subject^0017"),
    ],
)
def test_headers_that_name_nobody_are_left_alone(header, tmp_path):
    assert said(tmp_path, **header) == []


def test_a_source_of_captures_is_one_issue(tmp_path):
    paths = [
        write(tmp_path / f"{n}.dcm", PIXELS + n, bits=12, ConversionType="WSD") for n in range(4)
    ]
    found, _ = checked(tmp_path, *paths, write(tmp_path / "own.dcm", PIXELS, bits=12))
    assert [(one.rule, one.image_id) for one in found] == [("text-likely", None)] and found[
        0
    ].message.startswith("4 of 5 images of set: ")


def test_what_is_read_in_the_images_is_counted_and_not_kept(tmp_path, monkeypatch):
    box = np.array([[10, 10], [29, 10], [29, 19], [10, 19]], float)
    written = {
        1: [("R", 0.99, box)],
        2: [("SUPINE", 0.99, box), ("PA", 0.9, box), ("OG", 0.9, box), ("R", 0.9, box)],
        3: [("Musterfrau", 0.9, box)],
        4: [("a b c", 0.99, box)],
        5: [("Musterfrau", 0.5, box)],
    }
    monkeypatch.setattr(burned_in_text, "reader", lambda: lambda image: written[int(image[0, 0])])
    paths = [tmp_path / f"{n}.png" for n in written]
    for n, path in zip(written, paths, strict=True):
        image = np.full((50, 40), n, np.uint8)
        image[0, 1:3] = 0, 255
        raster.write_png(path, image)
    found, filled = checked(tmp_path, *paths, read=True)
    assert [(one.rule, one.image_id) for one in found] == [
        ("text-seen", "set/3"),
        ("text-seen", "set/4"),
    ]
    assert found[0].message == (
        "3.png: 1 word(s) beside side markers, the longest of 10 letters, cover 10.0 % of the image"
    )
    assert filled.index["text_words"].to_list() == [0, 1, 1, 3, 0]
    everything = b"".join(path.read_bytes() for path in filled.folder.iterdir())
    assert b"Musterfrau" not in everything


def test_images_are_not_read_unless_requested_and_caches_are_apart(tmp_path):
    raster.write_png(
        tmp_path / "a.png", np.arange(2000, dtype=np.uint16).reshape(50, 40).astype(np.uint8)
    )
    _, filled = checked(tmp_path, tmp_path / "a.png")
    assert filled.index["text_words"].to_list() == [None] and cache.name(Pixels()) != cache.name(
        Pixels(ocr=True)
    )


real = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr") is None, reason="the extra ocr is not installed"
)


@real
def test_the_real_reader_reads():
    image = np.full((600, 800), 40, np.uint8)
    assert burned_in_text.read(image) == burned_in_text.TextCounts(0, 0, 0.0)
    cv2.putText(image, "HOSPITAL 12.03.1961", (60, 80), cv2.FONT_HERSHEY_SIMPLEX, 1.5, 255, 3)
    seen = burned_in_text.read(image)
    assert seen.words >= 2 and seen.longest == 8 and 0.01 < seen.covered < 0.2


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rapidocr", None)
    burned_in_text.reader.cache_clear()
    with pytest.raises(MissingExtra, match=r"rapidocr.*pip install .*\[ocr\]"):
        checked(tmp_path, read=True)
    burned_in_text.reader.cache_clear()
