"""De-identify one DICOM file: bytes in, searched bytes out, and an account of tags without values.

Objects that no profile of attributes makes safe are refused by name: documents and raw data within
DICOM, waveforms, video, DICOMDIR, objects of unknown classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hilum import __version__
from hilum.errors import BadData
from hilum.imaging.files import dicom_dataset
from hilum.imaging.files.dicom_dataset import Opened
from hilum.privacy.dicom import identifiers, pixels, profile, search
from hilum.privacy.dicom.cleaning import Account, Cleaner
from hilum.privacy.dicom.keyed import Keyed
from hilum.privacy.dicom.pixels import Judged
from hilum.privacy.dicom.profile import Dates, Options

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset

_REFUSED = (
    "waveform",
    "raw data",
    "encapsulated",
    "DICOMDIR",
    "video",
    "image whose pixels are kept on a server",
)
_IMPLEMENTATION = "2.25.251893310485571338409113953541783391811"  # Hilum's, a random UUID
_VERSION_NAME = f"HILUM {__version__}"[:16]
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_NAMED_AFTER_PEOPLE = 3  # parts of a path: a file, its study's folder, its patient's
_LONGEST_METHOD = 64  # characters of a value of LO


@dataclass(frozen=True)
class Cleaned:
    """A file that may leave: its bytes, its place in the output, and what was done."""

    data: bytes
    place: str
    account: Account
    verdict: str  # on the pixels
    whole: frozenset[str]  # names and numbers of the persons, to be searched in other files too
    unsearchable: int  # identifiers too short to be searched in bytes


def deidentified(path: Path, data: bytes, keyed: Keyed, options: Options) -> Cleaned:
    """De-identify a file's bytes; `path` is what errors call it.

    Raises `BadData` where the file is broken, refused, or still holds an identifier afterwards.
    """
    opened = dicom_dataset.opened(path, data)
    _refuse_unfit(path, opened)
    actions = profile.actions(options)
    found, patient = dicom_dataset.understood(
        path, lambda: (identifiers.gathered(opened.dataset, actions), _patient(opened.dataset))
    )
    for name in path.parts[-_NAMED_AFTER_PEOPLE:]:
        found.add_text(name.replace("_", " "))
    judged = dicom_dataset.understood(path, lambda: pixels.judge(opened, path, data, options))
    cleaner = Cleaner(keyed, options, actions, found, keyed.shift_days(patient))
    written = dicom_dataset.understood(path, lambda: _written(opened, judged, cleaner, patient))
    place = _place(opened.dataset)
    own = own_texts(opened.dataset)
    if leaked := search.leaks(written, found, cleaner.dates, own, place):
        raise BadData(
            f"{path}: {' and '.join(leaked)} of the input was found again in what would have been "
            f"written, so nothing was; leave the file out, or report this as a fault of Hilum"
        )
    short = sum(len(one) < search.SHORTEST_WORD or one.isdigit() for one in found.short)
    return Cleaned(written, place, cleaner.account, judged.verdict, frozenset(found.whole), short)


def _refuse_unfit(path: Path, opened: Opened) -> None:
    kind = opened.object_kind or ""
    sop_class = opened.header.sop_class
    if any(kind.startswith(one) for one in _REFUSED):
        raise BadData(
            f"{path}: holds {kind}, whose content no profile of attributes makes safe; leave it out"
        )
    if not sop_class or not identifiers.registered(sop_class):
        raise BadData(
            f"{path}: its SOP Class UID is missing or not of the standard, so nobody knows what "
            f"it holds; leave it out"
        )
    if not opened.header.instance:
        raise BadData(f"{path}: has no SOP Instance UID; export it again from its source")


def _patient(dataset: Dataset) -> str:
    """Return by what the patient of a file is known: the ID, else name and birth date, the study.

    Whoever has none of these is not known to be one person with anybody.
    """
    number = str(dataset.get("PatientID") or "").strip(" \0")
    if number:
        return number
    name, born = (str(dataset.get(word) or "") for word in ("PatientName", "PatientBirthDate"))
    if identifiers.squeezed(name):
        return f"{identifiers.squeezed(name)}/{born}"
    return str(dataset.get("StudyInstanceUID") or dataset.SOPInstanceUID)


def _written(opened: Opened, judged: Judged, cleaner: Cleaner, patient: str) -> bytes:
    """Clean the data set and return it as a file (PS3.10) with an empty preamble."""
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset, write_file_meta_info

    dataset = opened.dataset
    structured = "ContentSequence" in dataset
    cleaner.clean(dataset)
    dataset.PatientID = dataset.PatientName = cleaner.keyed.patient(patient)
    _stamp(dataset, judged, cleaner.options, structured)
    stream = DicomBytesIO()
    stream.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(stream, _meta(dataset, judged.syntax))
    stream.is_little_endian, stream.is_implicit_VR = judged.syntax != _BIG_ENDIAN, False
    write_dataset(stream, dataset)
    if judged.pixels is not None:
        stream.write(judged.pixels.written())
    return stream.getvalue()


def _meta(dataset: Dataset, syntax: str) -> FileMetaDataset:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(_IMPLEMENTATION)
    meta.ImplementationVersionName = _VERSION_NAME
    return meta


def _stamp(dataset: Dataset, judged: Judged, options: Options, structured: bool) -> None:
    """State in the object what was done (PS3.15 E.1.1 step 6, PS3.3 C.12.1.1.1)."""
    from pydicom import Dataset as Item

    applied = profile.codes(options, pixels_cleaned=judged.cleaned, structured=structured)
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = [
        f"Hilum {__version__}",
        f"PS3.15 table E.1-1, edition {profile.EDITION}",
        f"Dates {options.dates}",
        f"Pixels {judged.verdict}"[:_LONGEST_METHOD],
    ]
    items = []
    for value, meaning in applied:
        item = Item()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.DeidentificationMethodCodeSequence = items
    dataset.LongitudinalTemporalInformationModified = (
        "MODIFIED" if options.dates is Dates.SHIFTED else "REMOVED"
    )
    if judged.cleaned:
        dataset.BurnedInAnnotation = "NO"


def own_texts(dataset: Dataset) -> set[str]:
    """Return the texts that stand in the object because it was de-identified."""
    method = dataset.DeidentificationMethod
    meanings = {item.CodeMeaning for item in dataset.DeidentificationMethodCodeSequence}
    own = {*method, "\\".join(method), *meanings, _VERSION_NAME}
    return own | {str(dataset.PatientID)}


def _place(dataset: Dataset) -> str:
    patient, study = str(dataset.PatientID), str(dataset.get("StudyInstanceUID") or "no-study")
    return f"{patient}/{study}/{dataset.SOPInstanceUID}.dcm"
