"""The source image of results: what they copy of its header, cleaned, and what they refer to.

    patient, study      attributes of the modules Patient, General Study and Patient Study (PS3.3
                        C.7.1.1, C.7.2.1, C.7.2.2); those of type 2 are there, empty where missing
    series, image       what identifies the source, its laterality, body part and orientation
    equipment           maker, model, station and institution of the acquisition

Names keep their script, and the results the character set of the source (PS3.3 C.12.1.1.2), unless
it is unknown or cannot hold them: then they are UTF-8. Bytes of a script whose character set is not
stated are read as Latin-1, as most archives read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dicom_out.clean_values import LONGEST, cleaned, is_uid
from hilum.errors import BadData
from hilum.imaging.files import dicom, raster
from hilum.imaging.geometry import Size

if TYPE_CHECKING:
    from pydicom import Dataset

UTF_8 = "ISO_IR 192"
_LONGEST_IDENTIFIER = 1024  # characters: longer than any system's, shorter than a DICOM element
# Empty where the source does not state them: type 2.
REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
OPTIONAL = (
    "IssuerOfPatientID",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "LongitudinalTemporalInformationModified",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)
_EQUIPMENT = (
    "Manufacturer",
    "InstitutionName",
    "InstitutionAddress",
    "StationName",
    "InstitutionalDepartmentName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)
_IMAGE = (
    "Modality",
    "BodyPartExamined",
    "Laterality",
    "ImageLaterality",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentDate",
    "ContentTime",
    "SeriesDate",
    "SeriesTime",
    "BurnedInAnnotation",
    "FrameOfReferenceUID",
)
_IDENTIFIERS = frozenset(
    ("PatientName", "PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyID")
)
_REFERENCES = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_SEXES = ("M", "F", "O")
_SIDES = ("R", "L")
_STANDARD = ("L", "F")  # of a frontal image: rows run to the patient's left, columns to the feet
_DIRECTIONS = "LRAPHF"
_OPPOSITE = dict(zip(_DIRECTIONS, "RLPAFH", strict=True))


@dataclass(frozen=True)
class Source:
    """A DICOM image that results are about.

    `header` has what results copy or refer to, every value valid for its VR; text of it is in
    Unicode. `character_set` is Specific Character Set as stored, "" where it is not stated.
    """

    path: Path
    file: dicom.Dicom
    header: Dataset
    character_set: tuple[str, ...]

    @property
    def size(self) -> Size:
        """(height, width) of its own pixels."""
        return self.file.pose.source

    @property
    def displayed_orientation(self) -> list[str]:
        """Patient Orientation of the image as displayed; empty where it is not known.

        Where the display was corrected, by a reader or since the image was found rotated, what the
        header states is refuted, and the correction says that the image is in the standard view.
        """
        if self.file.is_corrected:
            lateral = self.file.header.view == "LATERAL"
            return [] if lateral else list(_STANDARD)
        stated = list(self.header.get("PatientOrientation") or [])
        if len(stated) != 2:
            return []
        right, down = stated
        turns = self.file.pose.turns
        if turns.transposed:
            right, down = down, right
        return [_reversed(right, turns.mirrored), _reversed(down, turns.upended)]


def _reversed(direction: str, wanted: bool) -> str:
    return "".join(_OPPOSITE[one] for one in direction) if wanted else direction


def expected(path: Path, file: raster.Raster | dicom.Dicom) -> dicom.Dicom:
    """Return a file that is DICOM. Raises `BadData` for one that is not, saying what to do."""
    if isinstance(file, dicom.Dicom):
        return file
    raise BadData(
        f"{path} is {file.kind}: results as DICOM belong to the study of a DICOM image, and this "
        f"file states none; give the DICOM file that it was made of, or leave out --dicom"
    )


def read(path: Path, file: raster.Raster | dicom.Dicom) -> Source:
    """Read the header of a DICOM image that was decoded as `file`.

    Raises `BadData` for a file that is not DICOM, that changed since it was decoded, or that does
    not state which image of which study it is.
    """
    decoded = expected(path, file)
    stored, digest = dicom.dataset(path)
    if digest != decoded.file_digest:
        raise BadData(f"{path} changed while it was read; run the command again when it is written")
    with dicom.quietly():
        if faults := list(_missing(stored)):
            raise BadData.listing(
                f"{path} cannot have results as DICOM, since results refer to their image; leave "
                f"out --dicom, or get the file from its archive again",
                faults,
            )
        header = _header(stored, path, decoded.pose.source)
        return Source(path, decoded, header, _character_set(stored))


def _missing(stored: Dataset):
    from pydicom.uid import UID

    for keyword in _REFERENCES:
        value = text(stored, keyword)
        if not is_uid(value):
            yield f"{keyword} is {value[:80]!r}, expected a UID"
    named = UID(text(stored, "SOPClassUID")).keyword
    if is_uid(text(stored, "SOPClassUID")) and "ImageStorage" not in named:
        yield f"SOPClassUID is {text(stored, 'SOPClassUID')!r}, expected one of an image"


def text(stored: Dataset, keyword: str) -> str:
    """Return an attribute as text, several values separated by backslashes; "" where it is unread.

    A value that pydicom cannot convert counts as missing.
    """
    try:
        value = stored.get(keyword)
    except (ValueError, TypeError, OverflowError, UnicodeError, NotImplementedError):
        return ""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        return "\\".join(str(one) for one in value)
    return str(value)


def _header(stored: Dataset, path: Path, size: Size) -> Dataset:
    from pydicom import Dataset
    from pydicom.datadict import dictionary_VR

    header = Dataset()
    for keyword in (*REQUIRED, *OPTIONAL, *_EQUIPMENT, *_IMAGE, *_REFERENCES):
        vr = dictionary_VR(keyword)
        whole = keyword in _IDENTIFIERS
        value = cleaned(text(stored, keyword), vr, whole=whole)
        if len(value) > (_LONGEST_IDENTIFIER if whole or vr == "PN" else LONGEST.get(vr, 64)):
            raise BadData(
                f"{path}: {keyword} has {len(value):,} characters; expected at most "
                f"{_LONGEST_IDENTIFIER:,}; cut, it could be another patient's"
            )
        if value or keyword in REQUIRED:
            setattr(header, keyword, value)
    if header.PatientSex not in _SEXES:
        header.PatientSex = ""
    for keyword in ("Laterality", "ImageLaterality"):
        if header.get(keyword, "") not in _SIDES:
            header.pop(keyword, None)
    for keyword in ("PatientIdentityRemoved", "BurnedInAnnotation"):
        if header.get(keyword, "") not in ("YES", "NO"):
            header.pop(keyword, None)
    header.PatientOrientation = _orientation(stored)
    header.InstanceNumber = _instance_number(stored)
    header.Rows, header.Columns = size
    header.NumberOfFrames = header.SamplesPerPixel = 1
    return header


def _orientation(stored: Dataset) -> list[str]:
    parts = [part.strip().upper() for part in text(stored, "PatientOrientation").split("\\")]
    valid = len(parts) == 2 and all(
        part and len(part) <= 3 and set(part) <= set(_DIRECTIONS) for part in parts
    )
    return parts if valid else []


def _instance_number(stored: Dataset) -> int:
    number = text(stored, "InstanceNumber").strip()
    # A number from 1 on: highdicom writes no other, and a series needs no more than an order.
    valid = number.isascii() and number.isdecimal() and len(number) < 10
    return max(1, int(number)) if valid else 1


def _character_set(stored: Dataset) -> tuple[str, ...]:
    from pydicom.charset import python_encoding

    stated = text(stored, "SpecificCharacterSet")
    if not stated:
        return ()
    parts = tuple(part.strip() for part in stated.split("\\"))
    return parts if all(part in python_encoding for part in parts) else (UTF_8,)
