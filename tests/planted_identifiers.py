"""Made-up DICOM files with identifiers in every place where one can hide, and a reader of its own
that searches for them: it shares no code with the package.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from pathlib import Path

import numpy as np
from dicom_files import dataset
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

NAME, MAIDEN, KANJI, ARABIC = "Quillfeather^Ottoline", "Bramblewick", "山田^太郎", "قباني^لنزار"
MRN = "90417725"
IDENTIFIERS = {
    "name": "Quillfeather",
    "given name": "Ottoline",
    "Patient ID": MRN,
    "maiden name": MAIDEN,
    "other ID": "OLD-557713",
    "nested other ID": "NHS4471902",
    "birth date": "19610417",
    "address": "14 Marrowbone Passage",
    "telephone": "+44 1632 960983",
    "accession number": "ACC7731905",
    "study ID": "STU881200",
    "admission ID": "ADM-66190",
    "referrer": "Thistlewood",
    "performer": "Umberleigh",
    "operator": "Vanderquist",
    "institution": "Saint Crumpet Infirmary",
    "address of the institution": "1 Crumpet Hill",
    "station": "CRUMPETXR7",
    "serial number": "SN-8842-771",
    "study date": "20190305",
    "moment": "20190305142209",
    "study description": "XR for Quillfeather seen 2019",
    "comments": "call Ottoline on 960983",
    "history": "fell off Marrowbone Bridge",
    "derivation": "window by Vanderquist",
    "nested procedure": "RP-2291-A",
    "nested description": "chest film of Ottoline",
    "request comments": "neighbour of Lord Snodbury",
    "private text": "Quillfeather private note",
    "nested private text": "PRV-ID-339021",
    "private bytes": "PRVBYTES77120",
    "private UTF-16": "Snodbury",
    "overlay": "OVLY90417725",
    "overlay comments": "ovl by Umberleigh",
    "curve": "CURVE90417725",
    "source AE title": "CRUMPET_AE",
    "preamble": "PREAMBLE90417725",
    "behind the pixels": "BEHIND90417725",
    "padding": "PADDING90417725",
    "icon": "ICON90417725",
    "study UID": f"1.2.826.0.1.{MRN}.1",
    "referenced UID": f"1.2.826.0.1.{MRN}.77",
    "code meaning": "protocol Vanderquist",
    "unlisted element": "lent by Thistlewood",
    "original attributes": "FORMER-ID-12881",
    "name in kanji": "山田",
    "name in Arabic": "قباني",
    "spare bits": "SPARE90417725",
    "structured text": "said to Mr Snodbury",
    "person in structured text": "Wigglesworth",
    "UID in structured text": f"1.2.826.0.1.{MRN}.5",
}
ENCODINGS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "shift_jis", "iso2022_jp", "iso8859-6")


def radiograph(name: str = NAME, number: str = MRN, *, day: str = "20190305") -> Dataset:
    """A CR image that holds most of `IDENTIFIERS`, and states pixels of 12 bits in 16."""
    values = np.random.default_rng(7).integers(0, 4096, (64, 48)).astype(np.uint16)
    made = valid(values, name, number, day=day)
    made.SpecificCharacterSet = ["ISO 2022 IR 6", "ISO 2022 IR 87", "ISO 2022 IR 127"]
    made.OtherPatientIDs, made.PatientBirthDate = "OLD-557713", "19610417"
    made.OtherPatientNames = [f"{MAIDEN}^Ottoline", f"Yamada^Tarou={KANJI}", ARABIC]
    made.PatientBirthName = f"{MAIDEN}^Ottoline"
    made.OtherPatientIDsSequence = [item(PatientID="NHS4471902", TypeOfPatientID="TEXT")]
    made.PatientAddress, made.PatientTelephoneNumbers = "14 Marrowbone Passage", "+44 1632 960983"
    made.AccessionNumber, made.StudyID, made.AdmissionID = "ACC7731905", "STU881200", "ADM-66190"
    made.ReferringPhysicianName, made.PerformingPhysicianName = "Thistlewood^A", "Umberleigh^B"
    made.OperatorsName = "Vanderquist^C"
    made.InstitutionName, made.InstitutionAddress = "Saint Crumpet Infirmary", "1 Crumpet Hill"
    made.StationName, made.DeviceSerialNumber = "CRUMPETXR7", "SN-8842-771"
    made.AcquisitionDateTime = f"{day}142209"
    made.StudyDescription = "XR for Quillfeather seen 2019"
    made.SeriesDescription = "CHEST PA Ottoline"
    made.ImageComments, made.PatientComments = "call Ottoline on 960983", "call Ottoline on 960983"
    made.RequestedProcedureComments = "neighbour of Lord Snodbury"
    made.AdditionalPatientHistory = "fell off Marrowbone Bridge"
    made.DerivationDescription = "window by Vanderquist"
    made.AcquisitionDeviceProcessingCode = "THISTLEWOOD"
    made.ManufacturerModelName = "lent by Thistlewood"
    made.RequestAttributesSequence = [
        item(
            RequestedProcedureID="RP-2291-A",
            ScheduledProcedureStepDescription="chest film of Ottoline",
        )
    ]
    made.ProcedureCodeSequence = [
        item(CodeValue="1", CodingSchemeDesignator="99X", CodeMeaning="protocol Vanderquist")
    ]
    made.ReferencedImageSequence = [reference(f"1.2.826.0.1.{MRN}.77")]
    made.OriginalAttributesSequence = [
        item(ModifiedAttributesSequence=[item(PatientID="FORMER-ID-12881")])
    ]
    hide(made)
    return made


def valid(values: np.ndarray, name: str, number: str, *, day: str) -> Dataset:
    """A CR image in which dciodvfy finds no error."""
    made = dataset(values, bits=12, PatientName=name, PatientID=number)
    number = number if number.isdigit() else str(zlib.crc32(number.encode()))
    made.SOPInstanceUID = f"1.2.826.0.1.{number}.{day}.3"
    made.StudyInstanceUID, made.SeriesInstanceUID = (
        f"1.2.826.0.1.{number}.1" if day == "20190305" else f"1.2.826.0.1.{number}.{day}.1",
        f"1.2.826.0.1.{number}.{day}.2",
    )
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.ImageType, made.BurnedInAnnotation = ["ORIGINAL", "PRIMARY"], "NO"
    made.PatientBirthDate, made.PatientSex, made.PatientAge = "", "F", "057Y"
    made.StudyDate = made.SeriesDate = made.AcquisitionDate = made.ContentDate = day
    made.StudyTime = made.SeriesTime = made.AcquisitionTime = made.ContentTime = "142209"
    made.AccessionNumber = made.StudyID = made.ReferringPhysicianName = ""
    made.Manufacturer, made.SeriesNumber, made.InstanceNumber = "Acme", 1, 1
    made.BodyPartExamined, made.ViewPosition, made.PatientOrientation = "CHEST", "PA", ["L", "F"]
    made.Laterality, made.RescaleIntercept, made.RescaleSlope = "", 0, 1
    made.RescaleType, made.PixelSpacing, made.ImagerPixelSpacing = "US", [0.2, 0.2], [0.2, 0.2]
    made.PixelIntensityRelationship = "LIN"
    made.WindowCenter, made.WindowWidth = 2048, 4096
    del made.Laterality
    made.PixelData = values.tobytes()
    made["PixelData"].VR = "OW"
    return made


def hide(made: Dataset) -> None:
    """Add identifiers where no table has an attribute for them."""
    block = made.private_block(0x0029, "ACME 1.0", create=True)
    block.add_new(1, "LO", "Quillfeather private note")
    block.add_new(2, "UN", b"\x01\x02PRVBYTES77120\x00")
    block.add_new(3, "OB", "Lord Snodbury".encode("utf-16-le"))
    inner = item(CodeMeaning="x")
    inner.private_block(0x0011, "ACME 2.0", create=True).add_new(4, "SH", "PRV-ID-339021")
    made.AnatomicRegionSequence = [inner]
    made.add_new(0x60000010, "US", 8)
    made.add_new(0x60000011, "US", 12)
    made.add_new(0x60003000, "OW", b"OVLY90417725")
    made.add_new(0x60004000, "LT", "ovl by Umberleigh")
    made.add_new(0x50003000, "OW", b"CURVE90417725\0")
    made.IconImageSequence = [
        item(Rows=4, Columns=3, BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0)
    ]
    made.IconImageSequence[0].PixelData = b"ICON90417725"
    made.IconImageSequence[0]["PixelData"].VR = "OB"
    made.DataSetTrailingPadding = b"PADDING90417725\0"
    made.file_meta.SourceApplicationEntityTitle = "CRUMPET_AE"
    made.preamble = b"PREAMBLE90417725".ljust(128, b" ")
    pixels = np.frombuffer(made.PixelData, np.uint16).copy()
    spare = np.unpackbits(np.frombuffer(b"SPARE90417725", np.uint8)).reshape(-1, 4)
    nibbles = (spare @ np.array([8, 4, 2, 1])).astype(np.uint16)
    pixels[: len(nibbles)] |= nibbles << 12
    made.PixelData = pixels.tobytes() + b"BEHIND90417725\0\0"


def structured() -> Dataset:
    """A structured report of the same patient that names people and objects."""
    made = Dataset()
    made.file_meta = dataset(np.zeros((2, 2), np.uint16), bits=12).file_meta
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    made.SOPInstanceUID, made.StudyInstanceUID, made.SeriesInstanceUID = (
        f"1.2.826.0.1.{MRN}.8",
        f"1.2.826.0.1.{MRN}.1",
        f"1.2.826.0.1.{MRN}.9",
    )
    made.Modality, made.PatientName, made.PatientID = "SR", NAME, MRN
    made.StudyDate = made.ContentDate = "20190305"
    made.StudyTime = made.ContentTime = "142209"
    made.VerifyingObserverSequence = [
        item(VerifyingObserverName="Wigglesworth^Z", VerifyingOrganization="Saint Crumpet")
    ]
    made.ValueType = "CONTAINER"
    leaf = item(ValueType="TEXT", TextValue="said to Mr Snodbury")
    person = item(ValueType="PNAME", PersonName="Wigglesworth^Z")
    uid = item(ValueType="UIDREF", UID=f"1.2.826.0.1.{MRN}.5")
    when = item(ValueType="DATETIME", DateTime="20190305142209")
    image = item(
        ValueType="IMAGE", ReferencedSOPSequence=[reference(f"1.2.826.0.1.{MRN}.20190305.3")]
    )
    made.ContentSequence = [item(ValueType="CONTAINER", ContentSequence=[leaf, person, uid]), when]
    made.ContentSequence.append(image)
    return made


def item(**values) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, Sequence(value) if isinstance(value, list) else value)
    return made


def reference(uid: str) -> Dataset:
    return item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.1", ReferencedSOPInstanceUID=uid)


def save(made: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    dcmwrite(path, made, enforce_file_format=True)
    return path


def found_again(folder: Path) -> list[tuple[str, str]]:
    """Return which of `IDENTIFIERS` stand in a folder, and where: an independent search."""
    found = []
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        data, place = path.read_bytes(), path.relative_to(folder).as_posix()
        texts = [place, *(_values(path) if path.suffix == ".dcm" else ())]
        plain = [_plain(text) for text in texts]
        for what, value in IDENTIFIERS.items():
            spelt = {value.encode(one) for one in ENCODINGS if _fits(value, one)}
            spelt |= {one.upper() for one in spelt} | {one.lower() for one in spelt}
            if any(one in data for one in spelt) or any(_plain(value) in one for one in plain):
                found.append((what, place))
    return found


def _values(path: Path) -> list[str]:
    made = dcmread(path)
    texts = [
        element.value.decode("latin-1") if isinstance(element.value, bytes) else str(element.value)
        for element in made.iterall()
        if element.VR != "SQ"
    ]
    if "PixelData" in made and made.BitsAllocated == 16:
        spare = np.frombuffer(made.PixelData, np.uint16) >> made.BitsStored
        pairs = spare[: len(spare) // 2 * 2].reshape(-1, 2)
        texts.append(bytes((pairs[:, 0] << 4 | pairs[:, 1]).astype(np.uint8)).decode("latin-1"))
    return texts


def _plain(text: str) -> str:
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", text).casefold())


def _fits(text: str, encoding: str) -> bool:
    return text.encode(encoding, "ignore").decode(encoding) == text
